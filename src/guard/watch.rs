//! What the last look of the guard came to, for the next one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::files;

/// What looks have come to, and for how long. Times are milliseconds since boot.
///
/// A timer can be late and a host can be suspended, so what is between two looks is not known: it
/// is no company, and it is no proof of being alone either. So the time between two looks that
/// came to the same counts, but at most three quarters of the grace period: giving up takes at least
/// three looks, however late they come, and a gap alone never leads to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// What the last look came to.
    pub verdict: Verdict,
    /// Whether giving up has begun and not ended.
    pub unfinished: bool,
    /// Whether this host was alone for the grace period, and not all peers have answered since
    /// with none of them a rival.
    pub cut_off: bool,
    /// When the last look began.
    at: u64,
    /// When the first look began that came to this.
    first: u64,
    /// How long it has been so, as far as it counts.
    lasted: u64,
}

impl Watch {
    /// What is known after a look that began at `now` and came to `verdict`. What was unfinished
    /// or cut off before still is.
    pub fn after(before: Option<&Watch>, verdict: Verdict, now: u64, grace: Duration) -> Watch {
        let same = before.filter(|before| before.verdict == verdict);
        Watch {
            verdict,
            unfinished: before.is_some_and(|before| before.unfinished),
            cut_off: before.is_some_and(|before| before.cut_off),
            at: now,
            first: same.map_or(now, |before| before.first),
            lasted: same.map_or(0, |before| {
                before.lasted_until(now, grace).as_millis() as u64
            }),
        }
    }

    /// Whether this host was alone `before` a look that began at `now`, for so long that it may
    /// have been replaced.
    pub fn was_cut_off(before: Option<&Watch>, now: u64, grace: Duration) -> bool {
        before.is_some_and(|before| {
            let long = u128::from(now.saturating_sub(before.first)) >= grace.as_millis();
            before.cut_off || before.verdict == Verdict::Alone && long
        })
    }

    /// How long it has been so, as far as it counts.
    pub fn lasted(&self) -> Duration {
        Duration::from_millis(self.lasted)
    }

    /// How long it will have been so if a look that begins at `now` comes to the same.
    pub fn lasted_until(&self, now: u64, grace: Duration) -> Duration {
        let gap = Duration::from_millis(now.saturating_sub(self.at));
        self.lasted() + gap.min(grace * 3 / 4)
    }

    /// What the last look left in the directory `run`, if there was one since boot at `now`.
    pub fn recall(run: &Path, now: u64) -> Option<Watch> {
        let text = files::read(&place(run)).ok()?;
        let watch: Watch = serde_json::from_str(&text).ok()?;
        (watch.at <= now).then_some(watch)
    }

    /// Leaves this in the directory `run`. Without it every look is the first.
    pub fn keep(&self, run: &Path) {
        let text = serde_json::to_string(self).unwrap_or_default();
        if let Err(error) = files::replace_unsynced(&place(run), text.as_bytes(), 0o644) {
            log::warn!("{}: {error}", place(run).display());
        }
    }

    /// There is nothing to guard any more.
    pub fn forget(run: &Path) {
        let _ = std::fs::remove_file(place(run));
    }
}

fn place(run: &Path) -> PathBuf {
    run.join("guard.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(3);

    /// Looks at these times, in ms, that all come to the same; gives for how long it has been so.
    fn lasted(looks: &[u64]) -> u64 {
        let mut watch = None;
        for now in looks {
            watch = Some(Watch::after(watch.as_ref(), Verdict::Alone, *now, GRACE));
        }
        watch.unwrap().lasted
    }

    #[test]
    fn time_between_looks_counts_but_a_gap_alone_is_no_proof() {
        assert_eq!(lasted(&[70_000]), 0);
        assert_eq!(lasted(&[70_000, 71_000, 72_000, 73_000]), 3000);
        assert_eq!(lasted(&[70_000, 900_000]), 2250);
        assert_eq!(lasted(&[70_000, 900_000, 900_500, 900_750]), 3000);
    }

    #[test]
    fn one_look_that_comes_to_something_else_begins_anew() {
        let alone = Watch::after(None, Verdict::Alone, 1000, GRACE);
        let fine = Watch::after(Some(&alone), Verdict::Fine, 2000, GRACE);
        let again = Watch::after(Some(&fine), Verdict::Alone, 3000, GRACE);
        assert_eq!(again.lasted(), Duration::ZERO);
    }

    #[test]
    fn who_was_alone_for_long_was_cut_off_though_nobody_looked() {
        let alone = Watch::after(None, Verdict::Alone, 1000, GRACE);
        assert!(!Watch::was_cut_off(Some(&alone), 3999, GRACE));
        assert!(Watch::was_cut_off(Some(&alone), 4000, GRACE));
        let undecided = Watch {
            cut_off: true,
            ..Watch::after(Some(&alone), Verdict::Undecided, 9000, GRACE)
        };
        assert!(Watch::was_cut_off(Some(&undecided), 9001, GRACE));
        let fine = Watch {
            cut_off: false,
            ..Watch::after(Some(&undecided), Verdict::Fine, 9002, GRACE)
        };
        assert!(!Watch::was_cut_off(Some(&fine), 99_000, GRACE));
        assert!(!Watch::was_cut_off(None, 99_000, GRACE));
    }

    #[test]
    fn it_is_there_for_the_next_look_unless_the_machine_was_started_anew() {
        let dir = crate::scratch::Scratch::new();
        assert_eq!(Watch::recall(dir.path(), 5000), None);
        let watch = Watch::after(None, Verdict::Alone, 5000, GRACE);
        watch.keep(dir.path());
        assert_eq!(Watch::recall(dir.path(), 6000), Some(watch));
        assert_eq!(Watch::recall(dir.path(), 4000), None);
        Watch::forget(dir.path());
        assert_eq!(Watch::recall(dir.path(), 6000), None);
    }
}
