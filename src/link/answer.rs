//! What `hookbox vip --json` says: one line that the other end of ssh reads back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Vip;
use crate::error::{Error, Kind};
use crate::run::{Entry, Mark, Outcome};

/// The number of this form. Fields may be added; a new word for an old field, or a change of
/// meaning, counts up.
pub const FORM: u32 = 1;

/// How `hookbox vip` ended.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Answer {
    /// The number of this form.
    pub v: u32,
    /// Version of the program.
    pub hookbox: String,
    /// [`Outcome::word`].
    pub outcome: String,
    /// Whether an address came or went.
    pub changed: bool,
    /// Those of the addresses asked about that the host has; None when that is not known.
    pub vips: Option<Vec<String>>,
    /// What was done, step by step.
    #[serde(default)]
    pub timeline: Vec<Step>,
    /// What stands although it failed.
    #[serde(default)]
    pub left: Vec<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// What sort of failure.
    pub kind: Option<Kind>,
    /// What to do about it.
    pub advice: Option<String>,
}

/// A line of the timeline.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Step {
    /// Time since the program began, in ms.
    pub at_ms: f64,
    /// How the step stands.
    pub mark: Mark,
    /// The step in words.
    pub step: String,
    /// What was seen, or why it failed.
    pub note: Option<String>,
}

impl Answer {
    /// What to say of `outcome`.
    pub fn new(
        outcome: &Outcome,
        changed: bool,
        vips: Option<&[Vip]>,
        timeline: Vec<Step>,
    ) -> Answer {
        let error = outcome.error();
        let left = match outcome {
            Outcome::Partial { left, .. } => left.clone(),
            _ => Vec::new(),
        };
        Answer {
            v: FORM,
            hookbox: env!("CARGO_PKG_VERSION").to_owned(),
            outcome: outcome.word().to_owned(),
            changed: changed && !matches!(outcome, Outcome::RolledBack(_)),
            vips: vips.map(|vips| vips.iter().map(Vip::to_string).collect()),
            timeline,
            left,
            error: error.map(Error::chain),
            kind: error.map(Error::kind),
            advice: error.and_then(Error::advice).map(str::to_owned),
        }
    }
}

impl From<&Entry> for Step {
    fn from(entry: &Entry) -> Step {
        Step {
            at_ms: entry.at.as_secs_f64() * 1000.0,
            mark: entry.mark,
            step: entry.step.clone(),
            note: entry.note.clone(),
        }
    }
}

impl From<Step> for Entry {
    fn from(step: Step) -> Entry {
        let at = Duration::try_from_secs_f64(step.at_ms / 1000.0);
        Entry {
            at: at.unwrap_or_default(),
            mark: step.mark,
            step: step.step,
            note: step.note,
        }
    }
}
