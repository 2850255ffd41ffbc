//! A server that another one took over from.

use std::path::Path;

use super::*;
use crate::scratch::Scratch;

/// On a server that `successor` took over from.
fn carry_out_replaced(
    fake: &Fake,
    peers: &[Peer<'_>],
    successor: &Successor,
    how: Promotion<'_>,
) -> Outcome {
    let dir = Scratch::new();
    successor.write(dir.path()).unwrap();
    carry_out_recorded(fake, peers, (successor, dir.path()), how)
}

/// The same as is written down in a directory.
fn carry_out_recorded(
    fake: &Fake,
    peers: &[Peer<'_>],
    successor: (&Successor, &Path),
    how: Promotion<'_>,
) -> Outcome {
    let run = Run::new(Deadline::after(Duration::from_secs(5)), Mode::Real, |_| {});
    run.carry_out(|run| promote(run, fake, &Evidence::of(peers, &[]), Some(successor), how))
}

#[test]
fn a_replaced_primary_is_promoted_again_only_as_a_replica_of_its_successor() {
    let successor = Successor::now("10.0.0.11:3306", 1);
    let replaced = |fake: &Fake, how| carry_out_replaced(fake, &[], &successor, how);
    let stale = World {
        writes: Writes::Closed,
        ..World::primary()
    };
    let fake = Fake::new(stale.clone());
    assert!(matches!(replaced(&fake, HOW), Outcome::Refused(_)));
    assert_eq!(*fake.world.borrow(), stale);
    let forced = Promotion {
        on_lag: OnLag::Force,
        ..HOW
    };
    assert!(matches!(replaced(&fake, forced), Outcome::Done));
    let rejoined = Fake::new(World::replica(0)); // of server 1
    assert!(matches!(replaced(&rejoined, HOW), Outcome::Done));
}

/// Else a promotion that was overtaken in between could not be done again.
#[test]
fn who_took_over_before_is_forgotten_before_the_source_and_by_no_replica() {
    let successor = Successor::now("10.0.0.11:3306", 1);
    let calls = {
        let fake = Fake::new(World::replica(0));
        carry_out_replaced(&fake, &[], &successor, HOW);
        fake.calls.get()
    };
    for call in 0..calls {
        for failure in [Failure::Before, Failure::After] {
            let dir = Scratch::new();
            successor.write(dir.path()).unwrap();
            let fake = Fake::failing(World::replica(0), call, failure);
            carry_out_recorded(&fake, &[], (&successor, dir.path()), HOW);
            let is_known = Successor::read(dir.path()).unwrap().is_some();
            let is_replica = fake.world.borrow().channel.is_some();
            assert!(is_known <= is_replica, "{call} {failure:?}");
            let is_primary = fake.world.borrow().writes == Writes::Open;
            assert_eq!(is_known, !is_primary, "{call} {failure:?}");
        }
    }
}

/// As one is whose server was started again without read_only.
#[test]
fn a_replaced_primary_that_takes_writes_already_is_closed_and_not_taken_for_the_primary() {
    let successor = Successor::now("10.0.0.11:3306", 1);
    let fake = Fake::new(World::primary());
    let outcome = carry_out_replaced(&fake, &[], &successor, HOW);
    assert!(matches!(outcome, Outcome::Partial { .. }), "{outcome:?}");
    assert_eq!(fake.world.borrow().writes, Writes::Closed);
}

#[test]
fn a_successor_that_is_closed_and_has_nothing_more_need_not_be_followed() {
    let successor = Successor::now("10.0.0.11:3306", 1);
    let closed = World {
        writes: Writes::Closed,
        ..World::primary()
    };
    for (theirs, suffices) in [("0-2-1000", true), ("0-2-1000,0-1-7", false)] {
        let peer = Fake::new(closed.clone());
        let seen = seen_having(theirs, &closed, 1);
        let peers = [Peer {
            db: &peer,
            seen: &seen,
        }];
        let fake = Fake::new(World {
            history: Some(History::read(["0-2-1000", ""])),
            ..closed.clone()
        });
        let outcome = carry_out_replaced(&fake, &peers, &successor, HOW);
        assert_eq!(matches!(outcome, Outcome::Done), suffices, "{outcome:?}");
    }
}
