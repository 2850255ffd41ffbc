//! Maintenance: for a while the check passes and the notify scripts only log. It ends by itself.
//!
//! It is one file, since hooks that live for milliseconds have nothing else in common.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use humantime::{format_rfc3339_seconds, parse_rfc3339};
use serde::{Deserialize, Serialize};

use crate::config::Paths;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::run::Changed;

/// Longer than that, and somebody forgot it.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Everybody may see it.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

/// A maintenance that is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// When it ends by itself, on the wall clock: it must outlive a reboot.
    pub until: SystemTime,
    /// When it was switched on.
    pub since: SystemTime,
    /// Who switched it on.
    pub by: String,
}

/// The same in its file.
#[derive(Serialize, Deserialize)]
struct Line {
    until: String,
    since: String,
    by: String,
}

/// When the maintenance that is on ends; `None` when none is on.
///
/// A file that has expired or cannot be understood means none: to be checked is the safer state.
pub fn until(paths: &Paths) -> Option<SystemTime> {
    show(paths).map(|maintenance| maintenance.until)
}

/// The maintenance that is on; `None` as for [`until`].
pub fn show(paths: &Paths) -> Option<Maintenance> {
    let path = file(paths);
    match read(&path) {
        Ok(Some(maintenance)) if maintenance.until > SystemTime::now() => Some(maintenance),
        Ok(_) => None,
        Err(error) => {
            log::warn!(
                "no maintenance: {}: {error}; hookbox maintenance off removes it",
                path.display()
            );
            None
        }
    }
}

/// Whether it may last `length`.
///
/// # Errors
/// [`Kind::Usage`] for nothing or more than a day.
pub fn check(length: Duration) -> Result<()> {
    if length <= LONGEST && !length.is_zero() {
        return Ok(());
    }
    let what = "maintenance lasts more than nothing and at most 24h";
    Err(Error::new(Kind::Usage, what).advise("hookbox maintenance on --for 30m"))
}

/// Switches it on for `length` from now, whether or not it is on.
///
/// # Errors
/// As [`check`], or [`Kind::Denied`] when the file cannot be put there.
pub fn on(paths: &Paths, length: Duration, by: &str) -> Result<Maintenance> {
    check(length)?;
    let since = SystemTime::now();
    let maintenance = Maintenance {
        until: since + length,
        since,
        by: by.to_owned(),
    };
    let line = Line {
        until: format_rfc3339_seconds(maintenance.until).to_string(),
        since: format_rfc3339_seconds(since).to_string(),
        by: by.to_owned(),
    };
    let path = file(paths);
    files::make_dir(&paths.state, DIR_MODE)
        .and_then(|()| Ok(serde_json::to_vec(&line)?))
        .and_then(|line| files::replace(&path, &line, FILE_MODE))
        .map_err(|error| denied(&path, error))?;
    Ok(maintenance)
}

/// Switches it off.
///
/// # Errors
/// [`Kind::Denied`] when the file cannot be taken away.
pub fn off(paths: &Paths) -> Result<Changed> {
    let path = file(paths);
    let was_on = read(&path).is_ok_and(|old| old.is_some_and(|old| old.until > SystemTime::now()));
    match fs::remove_file(&path) {
        Ok(()) if was_on => Ok(Changed::Yes),
        Ok(()) => Ok(Changed::AlreadySo),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Changed::AlreadySo),
        Err(error) => Err(denied(&path, error)),
    }
}

fn file(paths: &Paths) -> PathBuf {
    paths.state.join("maintenance")
}

fn denied(path: &Path, error: io::Error) -> Error {
    Error::new(Kind::Denied, path.display().to_string()).because(error)
}

fn read(path: &Path) -> io::Result<Option<Maintenance>> {
    let text = match files::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let line: Line = serde_json::from_str(&text)?;
    let time = |text: &str| parse_rfc3339(text).map_err(io::Error::other);
    let (since, until) = (time(&line.since)?, time(&line.until)?);
    // Also when the clock was put back: it must not last longer than was ever asked for.
    if until > since + LONGEST || until > SystemTime::now() + LONGEST {
        return Err(io::Error::other("it would last more than a day"));
    }
    Ok(Some(Maintenance {
        until,
        since,
        by: line.by,
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::scratch::Scratch;

    const HALF_HOUR: Duration = Duration::from_secs(1800);

    fn paths(dir: &Scratch) -> Paths {
        Paths {
            state: dir.path().join("lib/hookbox"),
            ..Paths::default()
        }
    }

    fn write(paths: &Paths, until: SystemTime, since: SystemTime) {
        let (until, since) = (format_rfc3339_seconds(until), format_rfc3339_seconds(since));
        let line = format!("{{\"until\":\"{until}\",\"since\":\"{since}\",\"by\":\"x\"}}");
        fs::create_dir_all(&paths.state).unwrap();
        fs::write(file(paths), line).unwrap();
    }

    #[test]
    fn it_goes_on_and_off_and_both_can_be_done_twice() {
        let dir = Scratch::new();
        let paths = paths(&dir);
        assert_eq!(until(&paths), None);
        assert_eq!(off(&paths).unwrap(), Changed::AlreadySo);
        on(&paths, HALF_HOUR, "root").unwrap();
        let on = on(&paths, 2 * HALF_HOUR, "alice").unwrap();
        let shown = show(&paths).unwrap();
        assert_eq!(shown.by, "alice");
        let rounding = on.until.duration_since(shown.until).unwrap();
        assert!(rounding < Duration::from_secs(1));
        assert_eq!(until(&paths), Some(shown.until));
        let mode = file(&paths).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, FILE_MODE);
        assert_eq!(off(&paths).unwrap(), Changed::Yes);
        assert_eq!(off(&paths).unwrap(), Changed::AlreadySo);
        assert_eq!(until(&paths), None);
    }

    #[test]
    fn it_ends_by_itself() {
        let dir = Scratch::new();
        let paths = paths(&dir);
        let now = SystemTime::now();
        write(&paths, now - Duration::from_secs(1), now - HALF_HOUR);
        assert_eq!(until(&paths), None);
        assert_eq!(off(&paths).unwrap(), Changed::AlreadySo);
    }

    #[test]
    fn what_cannot_be_understood_is_no_maintenance() {
        let dir = Scratch::new();
        let paths = paths(&dir);
        let now = SystemTime::now();
        write(&paths, now + 50 * HALF_HOUR, now + 20 * HALF_HOUR);
        assert_eq!(until(&paths), None, "the clock was put back");
        write(&paths, now + HALF_HOUR, now - 50 * HALF_HOUR);
        assert_eq!(until(&paths), None, "longer than a day");
        for garbled in [
            "",
            "{",
            "{}",
            "{\"until\":\"soon\",\"since\":\"now\",\"by\":\"x\"}",
        ] {
            fs::write(file(&paths), garbled).unwrap();
            assert_eq!(until(&paths), None, "{garbled}");
        }
        fs::remove_file(file(&paths)).unwrap();
        fs::create_dir(file(&paths)).unwrap();
        assert_eq!(until(&paths), None);
        assert_eq!(off(&paths).unwrap_err().kind(), Kind::Denied);
    }

    #[test]
    fn more_than_a_day_is_refused() {
        let dir = Scratch::new();
        let paths = paths(&dir);
        for length in [LONGEST + Duration::from_secs(1), Duration::ZERO] {
            assert_eq!(on(&paths, length, "x").unwrap_err().kind(), Kind::Usage);
        }
        assert!(!paths.state.exists());
    }
}
