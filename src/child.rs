//! Programs of the system that work for this one.

use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::time::Deadline;

/// How long a killed process may take to be gone; one in an uninterruptible wait stays longer.
const REAP_LIMIT: Duration = Duration::from_millis(200);

/// Kills `child`, which leads a process group of its own, with all that it started and that is
/// still in that group.
pub fn end(child: &mut Child) {
    // Its number is ours until it has been waited for.
    let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    let until = Deadline::after(REAP_LIMIT);
    while matches!(child.try_wait(), Ok(None)) {
        if until.pause(Duration::from_millis(1)).is_err() {
            return;
        }
    }
}
