//! What every run did, as JSON lines: for people and `status`, never an input for decisions.
//!
//! Nothing that goes wrong here changes how a run ends: it is told once, by a warning.

use std::cell::Cell;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use crate::files::{self, Opened};
use crate::run::{Entry, Mark, Outcome};
use crate::time::{Stopwatch, now_rfc3339, unix_millis};

/// Readable for a group of people that an administrator gives it to.
const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;

/// How much of the end is read back: thousands of lines.
const TAIL: u64 = 1 << 20;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A run begins.
    Begin,
    /// A step of it begins or ends, or a fact is noted.
    Step,
    /// The run ended.
    End,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Wall clock, RFC 3339 with milliseconds.
    pub at: String,
    /// `<applet>-<pid>-<start in ms since 1970>`: the same on all lines of a run.
    pub run: String,
    /// Which program.
    pub applet: String,
    /// Which MySQL instance, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// What the line is about.
    pub event: Event,
    /// How a step stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// The step in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What was seen, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How the run ended: [`Outcome::word`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// How long the step, or the whole run, took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
}

/// The journal, open for one run.
pub struct Journal {
    path: PathBuf,
    file: Option<File>,
    /// Whether the file may end in the middle of a line: a full disk or a crash tears one.
    torn: Cell<bool>,
    warned: Cell<bool>,
    run: String,
    applet: String,
    instance: Option<String>,
    started: Stopwatch,
    step_started: Cell<Duration>,
}

impl Journal {
    /// Opens the journal at `path` for one run of `applet`, making it where it is missing.
    pub fn open(path: &Path, applet: &str, instance: Option<&str>) -> Journal {
        let opened = open_to_append(path);
        let mut journal = Journal {
            file: None,
            path: path.to_owned(),
            torn: Cell::new(opened.as_ref().is_ok_and(|(_, torn)| *torn)),
            warned: Cell::new(false),
            run: format!("{applet}-{}-{}", std::process::id(), unix_millis()),
            applet: applet.to_owned(),
            instance: instance.map(str::to_owned),
            started: Stopwatch::start(),
            step_started: Cell::new(Duration::ZERO),
        };
        match opened {
            Ok((file, _)) => journal.file = Some(file),
            Err(error) => journal.warn_once(&error),
        }
        journal
    }

    /// Records that the run begins.
    pub fn begin(&self) {
        self.write(&self.record(Event::Begin));
    }

    /// Records an entry of the timeline.
    pub fn step(&self, entry: &Entry) {
        let took = match entry.mark {
            Mark::Started => {
                self.step_started.set(entry.at);
                None
            }
            Mark::Done | Mark::AlreadySo | Mark::Failed => {
                Some(entry.at.saturating_sub(self.step_started.get()))
            }
            Mark::WouldDo | Mark::Undone | Mark::NotUndone | Mark::Note => None,
        };
        self.write(&Record {
            mark: Some(entry.mark),
            step: Some(entry.step.clone()),
            note: entry.note.clone(),
            took_ms: took.map(millis),
            ..self.record(Event::Step)
        });
    }

    /// Records how the run ended.
    pub fn end(&self, outcome: &Outcome) {
        let mut note = outcome.error().map(|error| error.chain());
        if let (Outcome::Partial { left, .. }, Some(note)) = (outcome, &mut note) {
            note.push_str("; stands: ");
            note.push_str(&left.join(", "));
        }
        self.write(&Record {
            outcome: Some(outcome.word().to_owned()),
            note,
            took_ms: Some(millis(self.started.elapsed())),
            ..self.record(Event::End)
        });
    }

    fn record(&self, event: Event) -> Record {
        Record {
            at: now_rfc3339(),
            run: self.run.clone(),
            applet: self.applet.clone(),
            instance: self.instance.clone(),
            event,
            mark: None,
            step: None,
            note: None,
            outcome: None,
            took_ms: None,
        }
    }

    /// One write(2) a line, so that lines of runs that overlap do not mix.
    fn write(&self, record: &Record) {
        let Some(mut file) = self.file.as_ref() else {
            return;
        };
        let mut line = Vec::new();
        if self.torn.get() {
            line.push(b'\n');
        }
        let written = serde_json::to_writer(&mut line, record)
            .map_err(io::Error::from)
            .and_then(|()| {
                line.push(b'\n');
                match file.write(&line)? {
                    n if n == line.len() => Ok(()),
                    _ => Err(io::Error::other("only part of a line was written")),
                }
            });
        self.torn.set(written.is_err());
        if let Err(error) = written {
            self.warn_once(&error);
        }
    }

    fn warn_once(&self, error: &io::Error) {
        if !self.warned.replace(true) {
            log::warn!(
                "the journal is not written: {}: {error}",
                self.path.display()
            );
        }
    }
}

fn millis(took: Duration) -> u64 {
    took.as_millis().try_into().unwrap_or(u64::MAX)
}

/// The file, and whether it ends in the middle of a line.
fn open_to_append(path: &Path) -> io::Result<(File, bool)> {
    if let Some(dir) = path.parent() {
        files::make_dir(dir, DIR_MODE)?;
    }
    // O_NONBLOCK: a FIFO in its place must not hold the run.
    let mut options = OpenOptions::new();
    options
        .read(true)
        .append(true)
        .mode(FILE_MODE)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    let file = match options.clone().create_new(true).open(path) {
        Ok(file) => {
            // The umask took its part of the mode.
            file.set_permissions(Permissions::from_mode(FILE_MODE))?;
            file
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path)?,
        Err(error) => return Err(error),
    };
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut end = *b"\n";
    if let Some(last) = about.len().checked_sub(1) {
        file.read_exact_at(&mut end, last)?;
    }
    Ok((file, end != *b"\n"))
}

/// The last `n` records at `path`, oldest first; lines that are torn or foreign are left out.
///
/// # Errors
/// When the journal is there and cannot be read.
pub fn tail(path: &Path, n: usize) -> io::Result<Vec<Record>> {
    let mut records = read_end(path)?;
    records.drain(..records.len().saturating_sub(n));
    Ok(records)
}

/// The records of the run that began last, oldest first; none if there is none.
///
/// # Errors
/// As [`tail`].
pub fn last_run(path: &Path) -> io::Result<Vec<Record>> {
    let mut records = read_end(path)?;
    let begin = records
        .iter()
        .rev()
        .find(|record| record.event == Event::Begin);
    let run = begin.map(|record| record.run.clone());
    records.retain(|record| Some(&record.run) == run.as_ref());
    Ok(records)
}

fn read_end(path: &Path) -> io::Result<Vec<Record>> {
    let Opened { mut file, metadata } = match files::open(path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let start = metadata.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::error::{Error, Kind};
    use crate::scratch::Scratch;

    fn entry(at: u64, mark: Mark, step: &str) -> Entry {
        Entry {
            at: Duration::from_millis(at),
            mark,
            step: step.to_owned(),
            note: None,
        }
    }

    #[test]
    fn a_run_is_read_back_as_it_was_written() {
        let dir = Scratch::new();
        let path = dir.path().join("deep/er/journal.jsonl");
        let journal = Journal::open(&path, "notify_master", Some("orders"));
        journal.begin();
        journal.step(&entry(5, Mark::Started, "a"));
        journal.step(&entry(12, Mark::Done, "a"));
        // Another run in between is not part of it.
        Journal::open(&path, "vip", None).step(&entry(0, Mark::Note, "x"));
        journal.end(&Outcome::Partial {
            error: Error::new(Kind::Timeout, "out of time"),
            left: vec!["b".to_owned()],
        });

        let run = last_run(&path).unwrap();
        let events: Vec<Event> = run.iter().map(|record| record.event).collect();
        assert_eq!(events, [Event::Begin, Event::Step, Event::Step, Event::End]);
        assert!(
            run.iter()
                .all(|record| record.instance.as_deref() == Some("orders"))
        );
        assert_eq!((run[1].mark, run[1].took_ms), (Some(Mark::Started), None));
        assert_eq!((run[2].mark, run[2].took_ms), (Some(Mark::Done), Some(7)));
        assert_eq!(run[3].outcome.as_deref(), Some("partial"));
        assert_eq!(run[3].note.as_deref(), Some("out of time; stands: b"));
        assert!(run[3].took_ms.is_some());
        let start = format!("notify_master-{}-", std::process::id());
        assert!(run[0].run.starts_with(&start), "{}", run[0].run);

        assert_eq!(tail(&path, 2).unwrap()[0].applet, "vip");
        assert_eq!(tail(&path, 100).unwrap().len(), 5);
    }

    #[test]
    fn torn_and_foreign_lines_are_left_out_and_spoil_nothing() {
        let dir = Scratch::new();
        let path = dir.path().join("j");
        fs::write(&path, b"{\"foreign\":1}\n\xff\xfe\n\n{\"at\":\"20").unwrap();
        Journal::open(&path, "vip", None).begin();
        assert_eq!(tail(&path, 9).unwrap().len(), 1);
        assert_eq!(last_run(&path).unwrap().len(), 1);
    }

    #[test]
    fn there_is_no_last_run_where_there_is_no_journal() {
        assert_eq!(last_run(Path::new("/nonexistent/j")).unwrap(), []);
    }

    #[test]
    fn what_stands_in_its_place_is_left_alone_and_changes_nothing() {
        let dir = Scratch::new();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "").unwrap();
        fs::create_dir(at("directory")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink(at("file"), at("link")).unwrap();
        symlink("/dev/full", at("full")).unwrap();
        for name in ["directory", "fifo", "link", "full", "file/below"] {
            let journal = Journal::open(&at(name), "vip", None);
            journal.begin();
            journal.step(&entry(0, Mark::Started, "a"));
            journal.end(&Outcome::Done);
        }
        assert_eq!(fs::read(at("file")).unwrap(), b"");
    }
}
