//! The sessions of applications end, also where to end one of them takes its time.

use std::time::{Duration, Instant};

use crate::played::Played;
use crate::{pairs, site};

/// A primary with 300 sessions, the first of which takes `long` to end.
fn stalling(long: Duration) -> Played {
    let (mut own, _) = pairs().next().unwrap();
    own.state().sessions = (1..=300).collect();
    own.stalls = Some((1, long));
    own
}

#[test]
fn a_session_that_takes_its_time_to_end_holds_up_no_other() {
    let own = stalling(Duration::from_secs(1));
    let site = site(&own, "", "");
    let seen = site.run("notify_backup", &[]);
    assert_eq!(seen.status, Some(0), "{}", seen.log);
    assert!(own.state().sessions.is_empty());
    let changes = own.changes();
    let ended = |id: u64| {
        let kill = format!("KILL CONNECTION {id}");
        changes.iter().position(|sql| *sql == kill).unwrap()
    };
    // They are written down when they are answered.
    assert!((2..=300).all(|id| ended(id) < ended(1)), "{changes:?}");
}

#[test]
fn sessions_that_do_not_end_are_given_up_in_time() {
    let own = stalling(Duration::from_secs(20));
    let site = site(&own, "", "[demote]\nlimit = '15s'");
    let began = Instant::now();
    let seen = site.run("notify_backup", &[]);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(seen.status, Some(1));
    assert!(seen.log.contains("1 sessions do not end"), "{}", seen.log);
    assert_eq!(own.state().sessions, [1]);
    assert_eq!(own.get("super_read_only"), "ON");
}
