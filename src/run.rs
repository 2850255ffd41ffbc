//! One procedure being carried out: timeline, dry run, time limit and undo, written once.
//!
//! A procedure is plain code that touches the world only through five calls:
//! [`Run::check`] and [`Run::wait`] ask; [`Run::act`], [`Run::change`] and [`Run::commit`] do.
//! None of them gives back a value, so a dry run takes the same path as a real one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::time::Deadline;

/// How often a [`Run::wait`] asks: 50 times a second.
const POLL: Duration = Duration::from_millis(20);

/// How long taking back may last, in new time: a rollback cut short is worse than none.
const UNDO_LIMIT: Duration = Duration::from_secs(10);

/// Whether deeds are done or only named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Deeds are done.
    Real,
    /// Questions are asked, deeds are only named.
    Dry,
}

/// What a deed found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It was not so before.
    Yes,
    /// It was so already; nothing was changed.
    AlreadySo,
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// It begins now.
    Started,
    /// It was done, or holds.
    Done,
    /// It was so before.
    AlreadySo,
    /// A dry run stopped short of it.
    WouldDo,
    /// It failed.
    Failed,
    /// It was taken back.
    Undone,
    /// Taking it back failed.
    NotUndone,
    /// A fact worth keeping; not a step.
    Note,
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Time since the invocation began.
    pub at: Duration,
    /// How the step stands.
    pub mark: Mark,
    /// The step in words.
    pub step: String,
    /// What was seen, or why it failed.
    pub note: Option<String>,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// Everything was done, or was so already.
    Done,
    /// It failed before anything was changed.
    Refused(Error),
    /// It failed, and all that it had changed was taken back.
    RolledBack(Error),
    /// It failed, and something stands that was not so before.
    Partial {
        /// Why it failed.
        error: Error,
        /// What stands, in words that a person can act on.
        left: Vec<String>,
    },
}

impl Outcome {
    /// Why the run failed, if it did.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Outcome::Done => None,
            Outcome::Refused(error) | Outcome::RolledBack(error) => Some(error),
            Outcome::Partial { error, .. } => Some(error),
        }
    }

    /// The outcome in one word, for the journal.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Refused(_) => "refused",
            Outcome::RolledBack(_) => "rolled-back",
            Outcome::Partial { .. } => "partial",
        }
    }
}

struct Undo<'a> {
    deed: String,
    step: String,
    take_back: Box<dyn FnOnce() -> Result<Changed> + 'a>,
}

/// One procedure being carried out.
pub struct Run<'a> {
    deadline: Deadline,
    mode: Mode,
    observe: Box<dyn Fn(&Entry) + 'a>,
    undos: Vec<Undo<'a>>,
    stands: Vec<String>,
}

impl<'a> Run<'a> {
    /// A run that ends at `deadline`; `observe` sees every entry of the timeline as it happens.
    pub fn new(deadline: Deadline, mode: Mode, observe: impl Fn(&Entry) + 'a) -> Self {
        Run {
            deadline,
            mode,
            observe: Box::new(observe),
            undos: Vec::new(),
            stands: Vec::new(),
        }
    }

    /// Carries out `procedure`; on failure, or on a panic, takes back what can be taken back.
    pub fn carry_out(mut self, procedure: impl FnOnce(&mut Self) -> Result<()>) -> Outcome {
        let result = catch_unwind(AssertUnwindSafe(|| procedure(&mut self))).unwrap_or_else(|_| {
            Err(Error::new(Kind::Bug, "a step panicked")
                .advise("please report this with the journal's last lines"))
        });
        match result {
            Ok(()) => Outcome::Done,
            Err(error) => self.take_back(error),
        }
    }

    /// The deadline of the whole invocation.
    pub fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// Whether deeds are only named.
    pub fn is_dry(&self) -> bool {
        self.mode == Mode::Dry
    }

    /// Records a fact that decisions hang on.
    pub fn note(&self, fact: impl Into<String>) {
        self.tell(Mark::Note, &fact.into(), None);
    }

    /// Puts the timeline of another host into this one, as part of the step that was done there.
    pub fn splice(&self, host: &str, timeline: impl IntoIterator<Item = Entry>) {
        for entry in timeline {
            (self.observe)(&Entry {
                at: self.deadline.elapsed(),
                step: format!("{host}: {}", entry.step),
                ..entry
            });
        }
    }

    /// `step` must hold. Asked in a dry run too.
    ///
    /// # Errors
    /// What `holds` says, or that time is up.
    pub fn check(&mut self, step: &str, holds: impl FnOnce() -> Result<()>) -> Result<()> {
        self.begin(step)?;
        match holds() {
            Ok(()) => {
                self.tell(Mark::Done, step, None);
                Ok(())
            }
            Err(error) => {
                self.tell(Mark::Failed, step, Some(error.chain()));
                Err(error.during(format!("check that {step}")))
            }
        }
    }

    /// Waits, at most `limit`, until nothing is `missing`. A dry run asks once.
    ///
    /// # Errors
    /// [`Kind::Timeout`] naming what was still missing, or what `missing` says.
    pub fn wait(
        &mut self,
        step: &str,
        limit: Duration,
        missing: impl FnMut() -> Result<Option<String>>,
    ) -> Result<()> {
        self.wait_or_hear(step, limit, missing, |_| Ok(false))
    }

    /// The same, asking again as soon as `hear`, which may take so long, has heard that it is worth
    /// it.
    ///
    /// # Errors
    /// As [`Run::wait`], or what `hear` says.
    pub fn wait_or_hear(
        &mut self,
        step: &str,
        limit: Duration,
        mut missing: impl FnMut() -> Result<Option<String>>,
        mut hear: impl FnMut(Duration) -> Result<bool>,
    ) -> Result<()> {
        self.begin(step)?;
        let patience = self.deadline.at_most(limit);
        loop {
            let what = match missing() {
                Ok(None) => {
                    self.tell(Mark::Done, step, None);
                    return Ok(());
                }
                Ok(Some(what)) => what,
                Err(error) => return Err(self.failed(step, error)),
            };
            if self.is_dry() {
                self.tell(Mark::WouldDo, step, Some(what));
                return Ok(());
            }
            let round = patience.at_most(POLL);
            let paused = match hear(round.left()) {
                Ok(true) => patience.pause(Duration::ZERO),
                Ok(false) => patience.pause(round.left()),
                Err(error) => Err(error),
            };
            if let Err(error) = paused {
                let error = match error.kind() {
                    Kind::Timeout => Error::new(Kind::Timeout, format!("still {what}")),
                    _ => error,
                };
                return Err(self.failed(step, error));
            }
        }
    }

    /// A deed that leaves nothing to take back: to announce, to end a session.
    ///
    /// # Errors
    /// What `apply` says, or that time is up.
    pub fn act(&mut self, step: &str, apply: impl FnOnce() -> Result<Changed>) -> Result<()> {
        self.apply(step, apply).map(drop)
    }

    /// A deed that is taken back, by `take_back`, if a later step fails.
    ///
    /// The way back is kept before the deed is tried, since a deed whose answer was lost may have
    /// happened; it is dropped when things were so already, since that is not ours to take back.
    ///
    /// # Errors
    /// What `apply` says, or that time is up.
    pub fn change(
        &mut self,
        step: &str,
        apply: impl FnOnce() -> Result<Changed>,
        undo_step: &str,
        take_back: impl FnOnce() -> Result<Changed> + 'a,
    ) -> Result<()> {
        self.begin(step)?;
        if self.is_dry() {
            self.tell(Mark::WouldDo, step, None);
            return Ok(());
        }
        self.undos.push(Undo {
            deed: step.to_owned(),
            step: undo_step.to_owned(),
            take_back: Box::new(take_back),
        });
        match apply() {
            Ok(Changed::Yes) => self.tell(Mark::Done, step, None),
            Ok(Changed::AlreadySo) => {
                self.undos.pop();
                self.tell(Mark::AlreadySo, step, None);
            }
            Err(error) => {
                if let Some(undo) = self.undos.last_mut() {
                    undo.deed = format!("perhaps: {step}");
                }
                return Err(self.failed(step, error));
            }
        }
        Ok(())
    }

    /// From here on nothing that was changed so far is taken back.
    pub fn no_way_back(&mut self) {
        let deeds = self.undos.drain(..).map(|undo| undo.deed);
        self.stands.extend(deeds);
    }

    /// A deed with no way back: once it is done, earlier changes are not taken back either.
    ///
    /// # Errors
    /// What `apply` says, or that time is up.
    pub fn commit(&mut self, step: &str, apply: impl FnOnce() -> Result<Changed>) -> Result<()> {
        if self.apply(step, apply)? {
            self.no_way_back();
            self.stands.push(step.to_owned());
        }
        Ok(())
    }

    /// `deed` happened although its step failed: its answer was lost.
    pub fn happened(&mut self, deed: &str) {
        self.no_way_back();
        self.stands.push(deed.to_owned());
    }

    fn apply(&mut self, step: &str, apply: impl FnOnce() -> Result<Changed>) -> Result<bool> {
        self.begin(step)?;
        if self.is_dry() {
            self.tell(Mark::WouldDo, step, None);
            return Ok(false);
        }
        match apply() {
            Ok(changed) => {
                let mark = match changed {
                    Changed::Yes => Mark::Done,
                    Changed::AlreadySo => Mark::AlreadySo,
                };
                self.tell(mark, step, None);
                Ok(true)
            }
            Err(error) => Err(self.failed(step, error)),
        }
    }

    /// The gate before every step: is there time, and is this run still wanted?
    fn begin(&mut self, step: &str) -> Result<()> {
        self.tell(Mark::Started, step, None);
        let gate = match self.deadline.ask_watch() {
            Ok(()) if self.deadline.passed() => Err(Error::new(Kind::Timeout, "out of time")),
            gate => gate,
        };
        gate.map_err(|error| self.failed(step, error))
    }

    fn failed(&self, step: &str, error: Error) -> Error {
        self.tell(Mark::Failed, step, Some(error.chain()));
        error.during(step)
    }

    fn take_back(mut self, error: Error) -> Outcome {
        if self.undos.is_empty() && self.stands.is_empty() {
            return Outcome::Refused(error);
        }
        self.deadline.renew(UNDO_LIMIT);
        let mut left = std::mem::take(&mut self.stands);
        while let Some(undo) = self.undos.pop() {
            let result = catch_unwind(AssertUnwindSafe(undo.take_back))
                .unwrap_or_else(|_| Err(Error::new(Kind::Bug, "taking back panicked")));
            match result {
                Ok(Changed::Yes) => self.tell(Mark::Undone, &undo.step, None),
                Ok(Changed::AlreadySo) => {
                    self.tell(Mark::Undone, &undo.step, Some("was so".to_owned()));
                }
                Err(error) => {
                    self.tell(Mark::NotUndone, &undo.step, Some(error.chain()));
                    left.push(format!("to do by hand: {}", undo.step));
                }
            }
        }
        if left.is_empty() {
            Outcome::RolledBack(error)
        } else {
            Outcome::Partial { error, left }
        }
    }

    fn tell(&self, mark: Mark, step: &str, note: Option<String>) {
        (self.observe)(&Entry {
            at: self.deadline.elapsed(),
            mark,
            step: step.to_owned(),
            note,
        });
    }
}

#[cfg(test)]
mod tests;
