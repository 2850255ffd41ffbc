//! What can be said, of servers that exist only in memory.

use super::super::fake::{Failure, Fake, World};
use super::*;
use crate::db::{PeerState, Position, SemiSync, State, Writes};
use crate::run::{Mode, Outcome};
use crate::time::Deadline;

const NOW: u64 = 100_000;

/// A look `ago` ms before now, when the source had written up to `written`; the replica has
/// received 1000.
fn look(ago: u64, written: u64) -> Look {
    Look {
        at: NOW - ago,
        written: Position {
            file: "b.000001".to_owned(),
            offset: written,
        },
        semi_sync: SemiSync {
            source: Some(true),
            waits: true,
            clients: 1,
            needed: 1,
            timeout: Duration::from_secs(10),
            waits_for_nobody: true,
            ..SemiSync::default()
        },
        acknowledged: true,
        ran_events: false,
    }
}

fn verdict_after(looks: &[Look]) -> Verdict {
    let seen = [LastSeen {
        source_id: 1,
        looks: looks.to_vec(),
        ..LastSeen::default()
    }];
    let evidence = Evidence {
        peers: &[],
        last_seen: &seen,
        asked_at: NOW,
    };
    evidence.verdict(&Fake::new(World::replica(0)).see().unwrap(), &[])
}

#[track_caller]
fn is(looks: &[Look], lossless: Lossless, why: &str) {
    let verdict = verdict_after(looks);
    assert_eq!(verdict.lossless, lossless, "{verdict}");
    assert!(verdict.why.contains(why), "{verdict}");
}

#[test]
fn semi_sync_proves_as_long_as_no_commit_can_have_gone_on_alone() {
    is(&[look(2_000, 1000)], Lossless::Proven, "2.0 s");
    is(&[look(10_000, 1000)], Lossless::Unknown, "wait 10.0 s");
    is(&[], Lossless::Unknown, "no check here had seen it");
    // The newest had not arrived: what was acknowledged before the older look has.
    let pair = [look(2_000, 1001), look(4_000, 900)];
    is(&pair, Lossless::Proven, "4.0 s");
    let pair = [look(9_000, 1001), look(11_000, 900)];
    is(&pair, Lossless::Unknown, "wait 10.0 s");
    is(&[look(2_000, 1001)], Lossless::Unknown, "not all");
}

#[test]
fn semi_sync_proves_nothing_where_others_may_have_acknowledged_or_nobody_had_to() {
    let with = |change: fn(&mut Look)| {
        let mut look = look(2_000, 1000);
        change(&mut look);
        [look]
    };
    let two = with(|look| look.semi_sync.clients = 2);
    is(&two, Lossless::Unknown, "another may have more");
    let both = with(|look| (look.semi_sync.clients, look.semi_sync.needed) = (2, 2));
    is(&both, Lossless::Proven, "");
    let timed_out = with(|look| look.semi_sync.waits = false);
    is(&timed_out, Lossless::Unknown, "stopped waiting");
    let mute = with(|look| look.acknowledged = false);
    is(&mute, Lossless::Unknown, "acknowledged nothing");
    let off = with(|look| look.semi_sync.source = Some(false));
    is(&off, Lossless::Unknown, "semi-sync is off");
    let hasty = with(|look| look.semi_sync.waits_for_nobody = false);
    is(&hasty, Lossless::Unknown, "go on alone as soon as");
    // In any look since.
    let [off] = off;
    is(
        &[off, look(4_000, 900)],
        Lossless::Unknown,
        "semi-sync is off",
    );
}

#[test]
fn what_was_written_without_semi_sync_and_has_not_arrived_is_lost() {
    let mut look = look(2_000, 1001);
    look.semi_sync.source = None;
    is(&[look], Lossless::Violated, "b.000001:1001");
}

fn seen(id: u32, sources: &[u32], executed: &str) -> Result<PeerState> {
    Ok(PeerState {
        state: State {
            server_id: id,
            writes: Writes::Closed,
            has_super_read_only: false,
        },
        sources: sources.to_vec(),
        history: History::of_sets("a", executed),
    })
}

fn with(executed: &str, world: World) -> Fake {
    Fake::new(of_sets(executed, world))
}

fn of_sets(executed: &str, world: World) -> World {
    World {
        history: History::of_sets("a", executed),
        ..world
    }
}

fn verdict_beside(own: &Fake, other: &Fake, seen: &Result<PeerState>) -> Verdict {
    let peers = [Peer { db: other, seen }];
    Evidence::of(&peers, &[]).verdict(&own.see().unwrap(), &[])
}

#[test]
fn a_source_that_answers_is_compared_itself() {
    let own = with("a:1-10", World::replica(0));
    for (theirs, lossless) in [("a:1-10", Lossless::Proven), ("a:1-11", Lossless::Violated)] {
        let source = with(theirs, World::primary());
        let verdict = verdict_beside(&own, &source, &seen(1, &[], theirs));
        assert_eq!(verdict.lossless, lossless, "{verdict}");
    }
}

#[test]
fn another_replica_that_has_more_is_a_violation_and_a_stray_write_on_ones_own_is_not() {
    let own = with("a:1-10", World::replica(0));
    let other = with("a:1-11", World::replica(0));
    let verdict = verdict_beside(&own, &other, &seen(3, &[1], "a:1-11"));
    assert_eq!(verdict.lossless, Lossless::Violated, "{verdict}");
    let own = with("a:1-10", World::primary());
    let verdict = verdict_beside(&own, &other, &seen(3, &[2], "a:1-10,c:1"));
    assert_eq!(verdict.lossless, Lossless::Proven, "{verdict}");
    let verdict = verdict_beside(&own, &other, &seen(3, &[], "a:1-10,c:1"));
    assert_eq!(verdict.lossless, Lossless::Violated, "{verdict}");
}

#[test]
fn what_was_given_up_is_a_violation_and_who_is_alone_knows_nothing() {
    let evidence = Evidence::of(&[], &[]);
    let seen = |world| Fake::new(world).see().unwrap();
    let given_up = evidence.verdict(&seen(World::replica(0)), &[""]);
    assert_eq!(given_up.lossless, Lossless::Violated);
    let alone = evidence.verdict(&seen(World::primary()), &[]);
    assert_eq!(alone.lossless, Lossless::Unknown);
}

#[test]
fn what_must_be_proven_and_is_not_is_refused_with_advice() {
    let settled = |verdict: Verdict| {
        let limit = Deadline::after(Duration::from_secs(5));
        let run = Run::new(limit, Mode::Real, |_| {});
        run.carry_out(|run| settle(run, &verdict, Require::Proven))
    };
    assert!(matches!(settled(proven(String::new())), Outcome::Done));
    let Outcome::Refused(error) = settled(unknown("why".to_owned())) else {
        panic!("it is not refused");
    };
    assert!(error.chain().contains("unknown: why") && error.advice().is_some());
}

/// What MHA's `start` asks to write down, and how that ended.
fn noted_of_switch(new: &Fake, old: &Fake) -> (Vec<String>, Outcome) {
    let notes = std::cell::RefCell::new(Vec::new());
    let limit = Deadline::after(Duration::from_secs(5));
    let run = Run::new(limit, Mode::Real, |entry| {
        notes.borrow_mut().push(entry.step.clone())
    });
    let outcome = run.carry_out(|run| {
        note_unapplied(run, new)?;
        run.note(of_switch(new, Some(old))?.to_string());
        Ok(())
    });
    (notes.into_inner(), outcome)
}

#[test]
fn of_what_a_switch_writes_down_an_interruption_ends_it_and_a_silence_does_not() {
    let new = |call, how| Fake::failing(of_sets("a:1-10", World::replica(20)), call, how);
    let old = || with("a:1-10", World::primary());
    for call in 0..3 {
        let (_, outcome) = noted_of_switch(&new(call, Failure::Interrupted), &old());
        assert!(
            matches!(outcome, Outcome::Refused(_)),
            "{call}: {outcome:?}"
        );
        let (notes, outcome) = noted_of_switch(&new(call, Failure::Before), &old());
        assert!(matches!(outcome, Outcome::Done), "{call}: {outcome:?}");
        assert!(!notes.is_empty());
    }
    let old = Fake::failing(World::primary(), 0, Failure::Interrupted);
    let (_, outcome) = noted_of_switch(&Fake::new(World::replica(0)), &old);
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
}
