//! Programs of the system that work for this one.

use std::fs;
use std::os::fd::RawFd;
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, close};

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

/// Closes what this process was born with besides its standard streams: one that outlives its
/// caller would hold the caller's lock, or keep open a pipe that somebody reads to its end. To be
/// called before anything is opened.
pub fn let_go_of_inherited() {
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    let inherited: Vec<RawFd> = open
        .filter_map(|entry| name(entry)?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in inherited {
        // The directory's own is closed already.
        let _ = close(fd);
    }
}
