//! What is said: answers on standard output, all else through the log.

use std::io::{ErrorKind, Write};

use hookbox::error::{Error, Kind, Result};
use hookbox::run::{Entry, Mark, Outcome};

/// Prints a line on standard output; a reader that has gone does not matter.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints what was asked for; whether there is still somebody who reads.
///
/// # Errors
/// When it cannot be written, say into a file on a full file system.
pub fn answer(text: &str) -> Result<bool> {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::new(Kind::Denied, "write to standard output").because(error)),
    }
}

/// Logs a failure and what to do about it.
pub fn complain(error: &Error) {
    log::error!("{}", error.chain());
    let as_root = || {
        let may_help = error.is_lack_of_rights() && !nix::unistd::geteuid().is_root();
        may_help.then_some("run it as root")
    };
    // What was advised for a question is wrong when it was only cut short.
    if error.kind() != Kind::Overtaken
        && let Some(advice) = error.advice().or_else(as_root)
    {
        log::error!("try: {advice}");
    }
}

/// Logs a step of a run.
pub fn log_entry(entry: &Entry) {
    let word = match entry.mark {
        Mark::Started => return,
        Mark::Done => "done",
        Mark::AlreadySo => "was so",
        Mark::WouldDo => "would do",
        Mark::Failed => "FAILED",
        Mark::Undone => "undone",
        Mark::NotUndone => "NOT UNDONE",
        Mark::Note => "note",
    };
    let at = entry.at.as_secs_f64();
    let note = match &entry.note {
        Some(note) => format!("  ({note})"),
        None => String::new(),
    };
    log::info!("{at:7.3}s  {word:10}  {}{note}", entry.step);
}

/// Logs how a run ended, if it did not end well.
pub fn log_outcome(outcome: &Outcome) {
    if let Some(error) = outcome.error() {
        complain(error);
    }
    if let Outcome::Partial { left, .. } = outcome {
        for stands in left {
            log::error!("stands: {stands}");
        }
    }
}
