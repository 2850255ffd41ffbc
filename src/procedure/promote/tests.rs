//! On servers that exist only in memory.

use super::super::fake::{Failure, Fake, World};
use super::*;
use crate::db::{History, PeerState, Position, Receiver, State};
use crate::error::{Error, Kind};
use crate::run::{Mode, Outcome};
use crate::time::Deadline;

mod replaced;

const HOW: Promotion<'static> = Promotion {
    limit: Duration::from_secs(5),
    on_lag: OnLag::Abort,
    on_writable_peer: OnWritablePeer::Fence,
    receive_limit: Duration::ZERO,
    require: Require::Any,
    semi_sync: SemiSyncAt::Switch,
    forget_source: true,
    resume: false,
    fence: Demotion {
        grace: Duration::ZERO,
        spare: &[],
        resume: false,
    },
};

fn carry_out(fake: &Fake, peers: &[Peer<'_>], mode: Mode, how: Promotion<'_>) -> Outcome {
    let run = Run::new(Deadline::after(Duration::from_secs(5)), mode, |_| {});
    run.carry_out(|run| promote(run, fake, &Evidence::of(peers, &[]), None, how))
}

fn promoted(fake: &Fake, how: Promotion<'_>) -> Outcome {
    carry_out(fake, &[], Mode::Real, how)
}

#[test]
fn everything_received_is_applied_before_the_server_becomes_writable() {
    let fake = Fake::new(World::replica(50));
    assert!(matches!(promoted(&fake, HOW), Outcome::Done));
    let world = fake.world.borrow();
    assert_eq!((world.writes, &world.channel), (Writes::Open, &None));
}

#[test]
fn an_applier_that_only_looked_done_is_started_again() {
    for unapplied in [0, 50] {
        let fake = Fake::seeming_idle(World::replica(unapplied));
        assert!(matches!(promoted(&fake, HOW), Outcome::Done));
        let world = fake.world.borrow();
        assert_eq!((world.writes, &world.channel), (Writes::Open, &None));
    }
    let fake = Fake::seeming_idle(World::replica(900));
    let slow = Promotion {
        limit: Duration::from_millis(30),
        ..HOW
    };
    assert!(matches!(promoted(&fake, slow), Outcome::RolledBack(_)));
    let world = fake.world.borrow();
    let channel = world.channel.as_ref().unwrap();
    assert_eq!(world.writes, Writes::Closed);
    assert!(channel.applying && channel.receiver == Receiver::Connected);
}

#[test]
fn in_a_circle_replication_goes_on() {
    let fake = Fake::new(World::replica(50));
    let circle = Promotion {
        forget_source: false,
        ..HOW
    };
    assert!(matches!(promoted(&fake, circle), Outcome::Done));
    let world = fake.world.borrow();
    let channel = world.channel.as_ref().unwrap();
    assert_eq!(world.writes, Writes::Open);
    assert!(channel.applying && channel.receiver == Receiver::Connected);
}

/// The heart of it: no single failure, with or without effect, leaves anything behind that
/// was not so before, unless the outcome says so; and doing it again ends well.
#[test]
fn whichever_call_fails_all_is_as_before_or_the_outcome_says_what_stands() {
    let calls = {
        let fake = Fake::new(World::replica(0));
        promoted(&fake, HOW);
        fake.calls.get()
    };
    for call in 0..calls {
        for failure in [Failure::Before, Failure::After] {
            let start = World::replica(0);
            let fake = Fake::failing(start.clone(), call, failure);
            let outcome = promoted(&fake, HOW);
            let world = fake.world.borrow().clone();
            match outcome {
                // It was something that a primary can do without.
                Outcome::Done => {
                    assert_eq!((world.writes, &world.channel), (Writes::Open, &None));
                }
                Outcome::Partial { .. } => assert_eq!(world.writes, Writes::Open),
                _ => assert_eq!(world, start, "call {call} failed {failure:?}"),
            }
            assert!(matches!(promoted(&fake, HOW), Outcome::Done));
            assert_eq!(fake.world.borrow().channel, None);
        }
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let fake = Fake::new(World::replica(0));
    let outcome = carry_out(&fake, &[], Mode::Dry, HOW);
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    assert_eq!(*fake.world.borrow(), World::replica(0));
}

#[test]
fn what_cannot_be_applied_in_time_keeps_the_server_a_replica_unless_forced() {
    let slow = Promotion {
        limit: Duration::from_millis(30),
        ..HOW
    };
    let fake = Fake::new(World::replica(900));
    assert!(matches!(promoted(&fake, slow), Outcome::RolledBack(_)));
    assert_eq!(fake.world.borrow().writes, Writes::Closed);
    assert_eq!(
        fake.world.borrow().channel.as_ref().unwrap().receiver,
        Receiver::Connected
    );
}

#[test]
fn a_stopped_applier_with_an_error_is_refused() {
    let mut world = World::replica(0);
    if let Some(channel) = &mut world.channel {
        channel.applying = false;
        channel.applier_error = Some("Duplicate entry".to_owned());
    }
    let fake = Fake::new(world.clone());
    assert!(matches!(promoted(&fake, HOW), Outcome::Refused(_)));
    assert_eq!(*fake.world.borrow(), world);
}

#[test]
fn a_member_of_a_replication_group_is_refused_even_when_forced() {
    let mut world = World::replica(0);
    if let Some(channel) = &mut world.channel {
        channel.name = "group_replication_recovery".to_owned();
    }
    let fake = Fake::new(world.clone());
    let forced = Promotion {
        on_lag: OnLag::Force,
        ..HOW
    };
    assert!(matches!(promoted(&fake, forced), Outcome::Refused(_)));
    assert_eq!(*fake.world.borrow(), world);
}

#[test]
fn a_peer_that_took_over_and_wrote_is_a_reason_to_refuse_before_it_is_touched() {
    let peer = Fake::new(World::primary());
    let seen = seen_having("0-2-1000,0-3-1704", &World::primary(), 3);
    let peers = [Peer {
        db: &peer,
        seen: &seen,
    }];
    let stale = World {
        writes: Writes::Closed,
        history: Some(History::read(["0-2-1000", ""])),
        ..World::primary()
    };
    let fake = Fake::new(stale.clone());
    let outcome = carry_out(&fake, &peers, Mode::Real, HOW);
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    assert_eq!(*fake.world.borrow(), stale);
    assert_eq!(peer.world.borrow().writes, Writes::Open);
}

#[test]
fn a_peer_that_takes_writes_is_closed_first_or_is_a_reason_to_refuse() {
    let peer = Fake::new(World::primary());
    let seen = peer.state().map(|state| PeerState {
        state,
        sources: vec![],
        history: None,
    });
    let peers = [Peer {
        db: &peer,
        seen: &seen,
    }];
    let fake = Fake::new(World::replica(0));
    let refuse = Promotion {
        on_writable_peer: OnWritablePeer::Refuse,
        ..HOW
    };
    let outcome = carry_out(&fake, &peers, Mode::Real, refuse);
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    assert_eq!(peer.world.borrow().writes, Writes::Open);
    let outcome = carry_out(&fake, &peers, Mode::Real, HOW);
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    assert_eq!(peer.world.borrow().writes, Writes::Closed);
}

#[test]
fn a_peer_that_is_alive_but_says_nothing_is_a_reason_to_refuse_and_a_dead_one_is_not() {
    let peer = Fake::new(World::primary());
    let fake = Fake::new(World::replica(0));
    for denied in [
        Error::new(Kind::Denied, "error 1045").answered(1045),
        Error::new(Kind::Denied, "its certificate has expired"),
        Error::new(Kind::Config, "/etc/mysql/ca.pem: no such file"),
    ] {
        let peers = [Peer {
            db: &peer,
            seen: &Err(denied),
        }];
        let outcome = carry_out(&fake, &peers, Mode::Real, HOW);
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    let dead = Err(Error::new(Kind::Unreachable, "connection refused"));
    let peers = [Peer {
        db: &peer,
        seen: &dead,
    }];
    let outcome = carry_out(&fake, &peers, Mode::Real, HOW);
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
}

fn seen_of(world: &World, id: u32) -> Result<PeerState> {
    Ok(PeerState {
        state: State {
            server_id: id,
            writes: world.writes,
            has_super_read_only: false,
        },
        sources: vec![],
        history: None,
    })
}

fn seen_having(gtids: &str, world: &World, id: u32) -> Result<PeerState> {
    seen_of(world, id).map(|seen| PeerState {
        history: Some(History::read([gtids, ""])),
        ..seen
    })
}

#[test]
fn no_peer_is_closed_when_another_one_is_a_reason_to_refuse() {
    let (old, mute) = (Fake::new(World::primary()), Fake::new(World::primary()));
    let open = seen_of(&World::primary(), 1);
    let denied = Err(Error::new(Kind::Denied, "error 1045").answered(1045));
    let (old, mute) = (
        Peer {
            db: &old,
            seen: &open,
        },
        Peer {
            db: &mute,
            seen: &denied,
        },
    );
    let fake = Fake::new(World::replica(0));
    let outcome = carry_out(&fake, &[old, mute], Mode::Real, HOW);
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
}

#[test]
fn a_peer_that_dies_while_it_is_closed_is_gone_on_without() {
    for calls in 0..4 {
        let peer = Fake::dying(World::primary(), calls);
        let seen = seen_of(&World::primary(), 1);
        let peers = [Peer {
            db: &peer,
            seen: &seen,
        }];
        let fake = Fake::new(World::replica(0));
        let outcome = carry_out(&fake, &peers, Mode::Real, HOW);
        assert!(matches!(outcome, Outcome::Done), "{calls} {outcome:?}");
        assert_eq!(fake.world.borrow().writes, Writes::Open);
    }
}

#[test]
fn a_source_that_answers_is_received_from_though_its_server_id_is_not_known_yet() {
    let closed = World {
        writes: Writes::Closed,
        written: Some(Position {
            file: "b.000001".to_owned(),
            offset: 1200,
        }),
        ..World::primary()
    };
    let source = Fake::new(closed.clone());
    let seen = seen_of(&closed, 1);
    let peers = [Peer {
        db: &source,
        seen: &seen,
    }];
    let mut restarted = World::replica(0);
    if let Some(channel) = &mut restarted.channel {
        channel.source = source.name();
        channel.source_id = 0;
        channel.receiver = Receiver::Connecting;
    }
    // Nothing more arrives, up to 1200.
    let fake = Fake::new(restarted.clone());
    let outcome = carry_out(&fake, &peers, Mode::Real, HOW);
    assert!(!matches!(outcome, Outcome::Done), "{outcome:?}");
    assert_eq!(fake.world.borrow().writes, Writes::Closed);
}

#[test]
fn a_peer_that_was_promoted_meanwhile_is_a_reason_to_stay_closed() {
    let peer = Fake::new(World {
        id: 3,
        ..World::primary()
    });
    let was_closed = World {
        writes: Writes::Closed,
        ..World::primary()
    };
    let seen = seen_of(&was_closed, 3);
    let peers = [Peer {
        db: &peer,
        seen: &seen,
    }];
    let fake = Fake::new(World::replica(20));
    let outcome = carry_out(&fake, &peers, Mode::Real, HOW);
    assert!(matches!(outcome, Outcome::RolledBack(_)), "{outcome:?}");
    assert_eq!(fake.world.borrow().writes, Writes::Closed);
    assert_eq!(peer.world.borrow().writes, Writes::Open);
}

/// It was promoted a moment ago, and has acknowledged more since it was asked.
#[test]
fn what_a_peer_wrote_between_being_asked_and_being_closed_is_a_reason_to_refuse() {
    for (wrote, suffices) in [("0-2-1000", true), ("0-2-1000,0-3-1003", false)] {
        let peer = Fake::new(World {
            id: 3,
            history: Some(History::read([wrote, ""])),
            ..World::primary()
        });
        let seen = seen_having("0-2-1000", &World::primary(), 3);
        let peers = [Peer {
            db: &peer,
            seen: &seen,
        }];
        let fake = Fake::new(World {
            writes: Writes::Closed,
            history: Some(History::read(["0-2-1000", ""])),
            ..World::primary()
        });
        let outcome = carry_out(&fake, &peers, Mode::Real, HOW);
        assert_eq!(matches!(outcome, Outcome::Done), suffices, "{outcome:?}");
        assert_eq!(fake.world.borrow().writes == Writes::Open, suffices);
        assert_eq!(peer.world.borrow().writes, Writes::Closed);
    }
}

/// A server that crashed is back while the last of what it had sent is applied here.
#[test]
fn a_peer_that_was_down_and_takes_writes_by_now_is_a_reason_to_stay_closed() {
    let was_down = Err(Error::new(Kind::Unreachable, "connection refused"));
    for (writes, suffices) in [(Writes::Open, false), (Writes::Closed, true)] {
        let peer = Fake::new(World {
            id: 1,
            writes,
            ..World::primary()
        });
        let peers = [Peer {
            db: &peer,
            seen: &was_down,
        }];
        let fake = Fake::new(World::replica(20));
        let outcome = carry_out(&fake, &peers, Mode::Real, HOW);
        assert_eq!(matches!(outcome, Outcome::Done), suffices, "{outcome:?}");
        assert_eq!(fake.world.borrow().writes == Writes::Open, suffices);
        assert_eq!(peer.world.borrow().writes, writes);
    }
}

#[test]
fn a_primary_that_is_told_again_closes_a_peer_that_takes_writes_too_unless_that_took_over() {
    let open = World {
        id: 3,
        ..World::primary()
    };
    for (theirs, closes) in [("0-2-1000", true), ("0-2-1000,0-3-1704", false)] {
        let peer = Fake::new(open.clone());
        let seen = seen_having(theirs, &open, 3);
        let peers = [Peer {
            db: &peer,
            seen: &seen,
        }];
        let fake = Fake::new(World {
            history: Some(History::read(["0-2-1000", ""])),
            ..World::primary()
        });
        let outcome = carry_out(&fake, &peers, Mode::Real, HOW);
        assert_eq!(matches!(outcome, Outcome::Done), closes, "{outcome:?}");
        let is_closed = peer.world.borrow().writes == Writes::Closed;
        assert_eq!(is_closed, closes, "{theirs}");
        assert_eq!(fake.world.borrow().writes, Writes::Open);
    }
}
