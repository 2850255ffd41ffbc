//! What the last check saw, for the next one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::check::Seen;
use crate::files;
use crate::verdict::Class;

/// What a check saw, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// In one word.
    pub class: Class,
    /// In one line.
    pub text: String,
    /// Whether the check passed.
    pub passed: bool,
    /// Milliseconds since boot.
    at: u64,
    /// How many checks in a row have failed.
    pub failures: u32,
    /// Since when, in milliseconds since boot, the server is read-only with the VIP here.
    pub read_only_since: Option<u64>,
}

impl Memory {
    /// What was just seen, after `failures` failed checks before it.
    pub fn of(seen: &Seen, passed: bool, failures: u32, read_only_since: Option<u64>) -> Memory {
        Memory {
            failures: if passed {
                0
            } else {
                failures.saturating_add(1)
            },
            class: seen.class,
            text: seen.text.clone(),
            passed,
            at: since_boot(),
            read_only_since,
        }
    }

    /// What the last check left in the directory `run`, if there was one since boot.
    pub fn recall(run: &Path) -> Option<Memory> {
        let text = files::read(&place(run)).ok()?;
        let memory: Memory = serde_json::from_str(&text).ok()?;
        (memory.at <= since_boot()).then_some(memory)
    }

    /// Leaves this in the directory `run`. A memory that cannot be kept changes no verdict.
    pub fn keep(&self, run: &Path) {
        let text = serde_json::to_string(self).unwrap_or_default();
        if let Err(error) = files::replace_unsynced(&place(run), text.as_bytes(), 0o644) {
            log::debug!("{}: {error}", place(run).display());
        }
    }

    /// How old it is.
    pub fn age(&self) -> Duration {
        Duration::from_millis(since_boot().saturating_sub(self.at))
    }
}

fn place(run: &Path) -> PathBuf {
    run.join("verdict")
}

/// Milliseconds since boot, sleep included: comparable between processes, which the monotonic
/// clock's points of this language are not.
pub fn since_boot() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    now.unwrap_or_default().as_millis() as u64
}
