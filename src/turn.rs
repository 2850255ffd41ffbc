//! One run at a time on a host, and the newest wish wins.
//!
//! Keepalived neither waits for its notify scripts nor keeps them in order: a MASTER, BACKUP,
//! MASTER within milliseconds starts three of them, and any may come first on the processor. So
//! each run writes down its wish, unless a younger process has written one, and waits its turn. A
//! run whose wish is no longer the newest ends before its next step.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::files;
use crate::run::{Outcome, Run};
use crate::time::Deadline;

/// Between two tries to get the turn.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// In the turn's file while nothing is unfinished. Not nothing: the file keeps its block that way,
/// so that the next run can write although the file system is full by then.
const BLANK: &[u8] = b"\n";

/// What an orchestrator wants this server to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// Writable.
    Primary,
    /// Closed for writes.
    Standby,
}

/// A wish and the age of the process that has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wished {
    /// What is wanted.
    pub wish: Wish,
    /// The kernel's name for this boot; ages of another boot say nothing.
    boot: String,
    /// When the process started, in clock ticks since boot, then its pid: of two processes that
    /// started in the same tick the kernel numbered the younger one higher.
    age: (u64, i32),
}

impl Wished {
    /// This process's wish.
    pub fn now(wish: Wish) -> Wished {
        let ticks = std::fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|stat| start_ticks(&stat))
            .unwrap_or(u64::MAX);
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        Wished {
            wish,
            boot: boot.unwrap_or_default().trim().to_owned(),
            age: (ticks, std::process::id() as i32),
        }
    }

    /// One that gives way to whatever else is wanted, whenever that began.
    pub fn before_all(wish: Wish) -> Wished {
        Wished {
            age: (0, 0),
            ..Wished::now(wish)
        }
    }

    fn is_younger_than(&self, other: &Wished) -> bool {
        self.boot == other.boot && self.age > other.age
    }
}

/// Field 22 of `/proc/PID/stat` (proc(5)), counted after the command's name, which may hold
/// anything.
fn start_ticks(stat: &str) -> Option<u64> {
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// The directory in which runs of one instance meet.
#[derive(Clone, Debug)]
pub struct Meeting {
    dir: PathBuf,
}

impl Meeting {
    /// Makes the directory when it is not there.
    ///
    /// # Errors
    /// When it cannot be made: without it two runs could work against each other.
    pub fn at(dir: &Path) -> Result<Meeting> {
        let is_ours =
            |there: Metadata| there.is_dir() && there.permissions().mode() & 0o700 == 0o700;
        if std::fs::metadata(dir).is_ok_and(is_ours) {
            return Ok(Meeting {
                dir: dir.to_owned(),
            });
        }
        let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
        // The caller's umask may have taken away the right to enter; keepalived's is 0177.
        let made = made
            .and_then(|()| std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)));
        made.map_err(|error| {
            Error::new(
                Kind::Refused,
                format!("make the directory {}", dir.display()),
            )
            .because(error)
            .advise("run as root, or set [paths] run to a directory of this account")
        })?;
        Ok(Meeting {
            dir: dir.to_owned(),
        })
    }

    /// Writes down this process's wish, unless a younger process has written one.
    ///
    /// # Errors
    /// [`Kind::Overtaken`] when a younger process wants something else.
    pub fn announce(&self, wished: &Wished) -> Result<()> {
        let file = self.open("wish")?;
        // Held for a read or a write of a few bytes in memory, so waiting for it is not bounded.
        file.lock().map_err(|error| self.trouble("wish", error))?;
        if let Some(newest) = read_wish(&file)
            && newest.is_younger_than(wished)
        {
            return contradicts(&newest, wished);
        }
        let text = serde_json::to_string(wished).unwrap_or_default();
        files::overwrite(&file, text.as_bytes()).map_err(|e| self.trouble("wish", e))
    }

    /// The newest wish, if anybody had one since boot. Asking leaves no file behind.
    pub fn newest(&self) -> Option<Wished> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(self.dir.join("wish"))
            .ok()?;
        file.lock_shared().ok()?;
        read_wish(&file)
    }

    /// Whether `wished` is still what is wanted.
    ///
    /// # Errors
    /// [`Kind::Overtaken`] when a younger process wants something else.
    pub fn still_wanted(&self, wished: &Wished) -> Result<()> {
        match self.newest() {
            Some(newest) if newest.is_younger_than(wished) => contradicts(&newest, wished),
            _ => Ok(()),
        }
    }

    /// Takes the right called `name` if nobody has it.
    ///
    /// # Errors
    /// When the file behind it cannot be used.
    pub fn try_turn(&self, name: &str) -> Result<Option<File>> {
        let file = self.open(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(self.trouble(name, error)),
        }
    }

    /// Whether a run is at work.
    pub fn is_busy(&self) -> bool {
        matches!(self.try_turn("turn"), Ok(None))
    }

    /// Waits until no other run is at work.
    ///
    /// # Errors
    /// [`Kind::Timeout`] when the other run does not end, or what the deadline's watch says.
    pub fn take_turn(&self, doing: &str, deadline: &Deadline) -> Result<Turn> {
        let mut lock = loop {
            if let Some(lock) = self.try_turn("turn")? {
                break lock;
            }
            deadline
                .pause(TRY_AGAIN)
                .map_err(|error| match error.kind() {
                    Kind::Timeout => Error::new(Kind::Timeout, "another run does not end")
                        .advise("see `hookbox status`"),
                    _ => error,
                })?;
        };
        let mut unfinished = String::new();
        let _ = lock.read_to_string(&mut unfinished);
        files::overwrite(&lock, doing.as_bytes()).map_err(|e| self.trouble("turn", e))?;
        let unfinished = unfinished.trim();
        Ok(Turn {
            lock,
            unfinished: (!unfinished.is_empty()).then(|| unfinished.to_owned()),
        })
    }

    fn open(&self, name: &str) -> Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(self.dir.join(name))
            .map_err(|e| self.trouble(name, e))
    }

    fn trouble(&self, name: &str, error: std::io::Error) -> Error {
        Error::new(
            Kind::Refused,
            format!("use {}", self.dir.join(name).display()),
        )
        .advise(match error.kind() {
            ErrorKind::StorageFull => "make room there, or set [paths] run",
            _ => "run as root, or set [paths] run to a directory of this account",
        })
        .because(error)
    }
}

/// The right to work alone, until it is dropped.
pub struct Turn {
    lock: File,
    /// What the run before was doing when it was cut short.
    pub unfinished: Option<String>,
}

impl Turn {
    /// Ends the turn. What was left half done, by this run or the one before, is told to the next
    /// run until one is done; a turn that is dropped, by SIGKILL too, counts as half done.
    pub fn end(self, outcome: &Outcome) {
        let nothing_left = match outcome {
            Outcome::Done => true,
            Outcome::Refused(_) | Outcome::RolledBack(_) => self.unfinished.is_none(),
            Outcome::Partial { .. } => false,
        };
        if nothing_left {
            let _ = files::overwrite(&self.lock, BLANK);
        }
    }
}

/// What a run that closes writes makes of a wish or a turn that it cannot have because of the file
/// behind it: it goes on without. A server left open is worse than two runs at once.
///
/// # Errors
/// That another run goes before this one, or does not end.
pub fn or_without<T>(run: &Run<'_>, result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(had) => Ok(Some(had)),
        Err(error) if error.kind() == Kind::Refused => {
            run.note(format!("going on all the same: {}", error.chain()));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn contradicts(newest: &Wished, wished: &Wished) -> Result<()> {
    if newest.wish == wished.wish {
        return Ok(());
    }
    let word = match newest.wish {
        Wish::Primary => "primary",
        Wish::Standby => "standby",
    };
    Err(Error::new(
        Kind::Overtaken,
        format!("a newer state change wants this server to be {word}"),
    ))
}

fn read_wish(mut file: &File) -> Option<Wished> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn meeting() -> (Scratch, Meeting) {
        let dir = Scratch::new();
        let meeting = Meeting::at(&dir.path().join("run")).unwrap();
        (dir, meeting)
    }

    fn wished(wish: Wish, ticks: u64, pid: i32) -> Wished {
        Wished {
            wish,
            boot: "this".to_owned(),
            age: (ticks, pid),
        }
    }

    #[test]
    fn the_youngest_process_wins_whoever_comes_first() {
        let (_dir, meeting) = meeting();
        let (master, backup) = (wished(Wish::Primary, 7, 30), wished(Wish::Standby, 7, 31));
        meeting.announce(&backup).unwrap();
        assert_eq!(
            meeting.announce(&master).unwrap_err().kind(),
            Kind::Overtaken
        );
        assert_eq!(meeting.newest(), Some(backup.clone()));
        let again = wished(Wish::Primary, 8, 2);
        meeting.announce(&again).unwrap();
        assert_eq!(
            meeting.still_wanted(&backup).unwrap_err().kind(),
            Kind::Overtaken
        );
        meeting.still_wanted(&again).unwrap();
    }

    #[test]
    fn a_wish_from_before_the_last_boot_is_nobodys() {
        let (_dir, meeting) = meeting();
        let before = Wished {
            boot: "before".to_owned(),
            ..wished(Wish::Standby, 900, 30)
        };
        meeting.announce(&before).unwrap();
        meeting.still_wanted(&wished(Wish::Primary, 7, 31)).unwrap();
        meeting.announce(&wished(Wish::Primary, 7, 31)).unwrap();
    }

    #[test]
    fn a_younger_process_with_the_same_wish_does_not_end_an_older_one() {
        let (_dir, meeting) = meeting();
        let (first, second) = (wished(Wish::Primary, 7, 30), wished(Wish::Primary, 9, 31));
        meeting.announce(&first).unwrap();
        meeting.announce(&second).unwrap();
        meeting.still_wanted(&first).unwrap();
    }

    #[test]
    fn a_turn_that_was_not_finished_tells_the_next_one() {
        let (_dir, meeting) = meeting();
        let deadline = Deadline::after(Duration::from_millis(30));
        drop(meeting.take_turn("notify_backup", &deadline).unwrap());
        let turn = meeting.take_turn("notify_master", &deadline).unwrap();
        assert_eq!(turn.unfinished.as_deref(), Some("notify_backup"));
        assert!(meeting.take_turn("x", &deadline).is_err());
        turn.end(&Outcome::Refused(Error::new(Kind::Unreachable, "down")));
        let deadline = Deadline::after(Duration::from_millis(30));
        let turn = meeting.take_turn("x", &deadline).unwrap();
        assert_eq!(turn.unfinished.as_deref(), Some("notify_master"));
        turn.end(&Outcome::Done);
        assert_eq!(meeting.take_turn("x", &deadline).unwrap().unfinished, None);
    }

    #[test]
    fn start_time_is_found_behind_a_hostile_name() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_ticks(stat), Some(4242));
        assert!(start_ticks(&std::fs::read_to_string("/proc/self/stat").unwrap()).is_some());
    }
}
