//! What the source of this replica was last seen to be: all that is known of it once it is silent.
//!
//! The source itself could write that down, but its disk is out of reach when it matters. So the
//! standby looks, and keeps it in `[paths] run`: it ages in seconds and means nothing after a
//! reboot, and no disk is written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::db::{Position, SemiSync};
use crate::files;
use crate::memory::since_boot;

/// How old a look may be before the next one: a login at the source every 2 s.
pub const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// One look at a source that answered.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Look {
    /// When it began, in milliseconds since boot.
    pub at: u64,
    /// The end of its binary log.
    pub written: Position,
    /// How semi-sync stood there.
    pub semi_sync: SemiSync,
    /// Whether this replica acknowledged what it received from it.
    pub acknowledged: bool,
    /// Whether its event scheduler ran; of one that was closed, whether it had run before.
    pub ran_events: bool,
}

/// The last looks at one source.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct LastSeen {
    /// Its `server_id`.
    pub source_id: u32,
    /// The last look and the one before, in this order. By the time of the last one its newest
    /// transactions may have been on their way.
    pub looks: Vec<Look>,
    /// The events that were enabled there, as `` `schema`.`name` ``; `None` when it did not tell.
    pub events: Option<Vec<String>>,
}

impl LastSeen {
    /// What is written down in the directory `run`, if anything is.
    pub fn recall(run: &Path) -> Vec<LastSeen> {
        let text = files::read(&place(run)).unwrap_or_default();
        let mut all: Vec<LastSeen> = serde_json::from_str(&text).unwrap_or_default();
        // Of another boot, where the directory outlives one.
        all.retain(|one| one.looks.iter().all(|look| look.at <= since_boot()));
        all
    }

    /// Writes `all` down in the directory `run`. What cannot be kept changes nothing but what is
    /// known later.
    pub fn keep(all: &[LastSeen], run: &Path) {
        let text = serde_json::to_string(all).unwrap_or_default();
        if let Err(error) = files::replace_unsynced(&place(run), text.as_bytes(), 0o644) {
            log::debug!("{}: {error}", place(run).display());
        }
    }

    /// How old what is written down is, by the file's own word.
    pub fn is_due(run: &Path) -> bool {
        let newest = LastSeen::recall(run)
            .iter()
            .filter_map(|one| one.looks.first().map(|look| look.at))
            .max();
        let age = newest.map(|at| Duration::from_millis(since_boot().saturating_sub(at)));
        age.is_none_or(|age| age >= LOOK_AGAIN)
    }

    /// Whether its event scheduler ran. One look is not enough for no: a scheduler is stopped a moment
    /// before writes are closed.
    pub fn ran_events(&self) -> bool {
        self.looks.iter().any(|look| look.ran_events)
    }

    /// The same source, looked at once more.
    pub fn and(&self, look: Look) -> Vec<Look> {
        std::iter::once(look)
            .chain(self.looks.first().cloned())
            .collect()
    }
}

fn place(run: &Path) -> PathBuf {
    run.join("source")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_last_two_looks_are_kept_and_garbage_is_nothing() {
        let dir = Scratch::new();
        assert!(LastSeen::is_due(dir.path()));
        let look = |at| Look {
            at,
            ..Look::default()
        };
        let mut seen = LastSeen::default();
        for at in [1, 2, since_boot()] {
            seen.looks = seen.and(look(at));
        }
        assert_eq!(seen.looks.len(), 2);
        assert_eq!(seen.looks[1].at, 2);
        LastSeen::keep(std::slice::from_ref(&seen), dir.path());
        assert_eq!(LastSeen::recall(dir.path()), [seen.clone()]);
        assert!(!LastSeen::is_due(dir.path()));
        seen.looks[0].at = since_boot() + 60_000;
        LastSeen::keep(&[seen], dir.path());
        assert_eq!(LastSeen::recall(dir.path()), []);
        std::fs::write(place(dir.path()), "{").unwrap();
        assert_eq!(LastSeen::recall(dir.path()), []);
        LastSeen::keep(&[], &dir.path().join("missing"));
    }

    #[test]
    fn a_scheduler_that_stopped_between_two_looks_may_have_been_stopped_for_whoever_follows() {
        let mut seen = LastSeen::default();
        let mut look = |ran_events| {
            seen.looks = seen.and(Look {
                ran_events,
                ..Look::default()
            });
            seen.ran_events()
        };
        assert!(!look(false) && look(true) && look(false) && !look(false));
    }
}
