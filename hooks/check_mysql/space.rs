//! How much space is left on a disk that may be stuck.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use hookbox::error::{Error, Kind, Result};
use hookbox::time::Deadline;
use hookbox::turn::Meeting;
use nix::poll::PollFlags;

use super::say;

/// Asks for the free space in a process of its own, which can be left behind: nothing ends a
/// process that waits for a stuck disk.
pub fn start_asking(dir: &Path, run: &Path) -> Result<Child> {
    Command::new("/proc/self/exe")
        .arg0("hookbox")
        .args(["check_mysql", "--free-mib"])
        .args([dir, run])
        .env_clear() // there may be passwords in it
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| Error::new(Kind::Bug, "ask for the free space").because(error))
}

/// What that process said, in MiB.
pub fn heard(mut child: Child, deadline: &Deadline) -> Result<u64> {
    let Some(mut answer) = child.stdout.take() else {
        return Err(Error::new(
            Kind::Bug,
            "no pipe to the process that asks for the free space",
        ));
    };
    if let Err(error) = deadline.ready(answer.as_fd(), PollFlags::POLLIN) {
        let _ = child.kill();
        return Err(error.during("ask for the free space"));
    }
    // One read: it may stop between its answer and its end.
    let mut line = [0; 1024];
    let length = answer.read(&mut line).unwrap_or(0);
    let text = String::from_utf8_lossy(&line[..length]);
    let unknown = || {
        Error::new(
            Kind::Refused,
            format!("ask for the free space: {}", text.trim()),
        )
    };
    text.trim().parse().map_err(|_| unknown())
}

/// What that process does.
pub fn print(dir: &Path, run: &Path) -> ExitCode {
    // One at a time waits for a disk that is stuck, not one more with every check.
    let turn = Meeting::at(run).and_then(|meeting| meeting.try_turn("disk"));
    if let Ok(None) = turn {
        say("the question before is still unanswered");
        return ExitCode::FAILURE;
    }
    match nix::sys::statvfs::statvfs(dir) {
        Ok(space) => {
            say(&(space.blocks_available() * space.fragment_size() / (1 << 20)).to_string());
            ExitCode::SUCCESS
        }
        Err(errno) => {
            say(&format!("{}: {errno}", dir.display()));
            ExitCode::FAILURE
        }
    }
}
