//! On servers that exist only in memory.

use super::super::fake::{Failure, Fake, World};
use super::*;
use crate::db::Position;
use crate::run::{Mode, Outcome};
use crate::secret::{Login, Password};
use crate::time::Deadline;

fn carry_out(fake: &Fake, source: &Fake, mode: Mode) -> (Outcome, Vec<String>) {
    let told = std::cell::RefCell::new(Vec::new());
    let login = Login {
        user: "repl".to_owned(),
        password: Password::new("secret"),
        ..Login::default()
    };
    let explain = |sql: &str, _: &str| told.borrow_mut().push(sql.to_owned());
    let how = Rejoin {
        source: Source {
            host: "10.0.0.13",
            port: 3306,
            login: Some(&login),
            tls: None,
            tls_ca: None,
        },
        wrote_nothing: false,
        semi_sync: SemiSyncAt::Switch,
        closing: Demotion {
            grace: Duration::ZERO,
            spare: &[],
            resume: false,
        },
        limit: Duration::from_secs(2),
        explain: &explain,
    };
    let run = Run::new(Deadline::after(Duration::from_secs(5)), mode, |_| {});
    let outcome = run.carry_out(|run| rejoin(run, fake, source, how));
    (outcome, told.take())
}

fn history(text: &str) -> Option<History> {
    Some(History::read([text, ""]))
}

fn end(offset: u64) -> Position {
    Position {
        file: "b.000001".to_owned(),
        offset,
    }
}

/// The old primary still takes writes.
fn old_primary() -> World {
    World {
        history: history("0-2-1000"),
        ..World::primary()
    }
}

fn new_primary() -> World {
    World {
        id: 3,
        history: history("0-2-1000"),
        written: Some(end(1000)),
        ..World::primary()
    }
}

#[test]
fn an_old_primary_is_closed_and_goes_on_after_its_own_last_transaction() {
    let (fake, source) = (Fake::new(old_primary()), Fake::new(new_primary()));
    let (outcome, told) = carry_out(&fake, &source, Mode::Real);
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    let world = fake.world.borrow();
    assert_eq!(world.writes, Writes::Closed);
    assert_eq!(world.gtid_position, "0-2-1000");
    let channel = world.channel.as_ref().unwrap();
    assert!(channel.applying && channel.receiver == Receiver::Connected);
    assert!(told.iter().any(|sql| sql.contains("'***'")), "{told:?}");
    assert!(!told.iter().any(|sql| sql.contains("secret")), "{told:?}");
    assert_eq!(*source.world.borrow(), new_primary());
}

#[test]
fn semi_sync_turns_round_before_it_replicates_where_it_is_in_use() {
    for (source, replica) in [(Some(true), Some(false)), (Some(false), Some(false))] {
        let mut own = old_primary();
        (own.semi_sync.source, own.semi_sync.replica) = (source, replica);
        let (fake, theirs) = (Fake::new(own), Fake::new(new_primary()));
        let (outcome, told) = carry_out(&fake, &theirs, Mode::Real);
        assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
        let semi = fake.world.borrow().semi_sync.clone();
        assert_eq!((semi.source, semi.replica), (Some(false), source));
        let place = |word| told.iter().position(|sql| sql.contains(word));
        assert!(place("semi-sync") < place("START"), "{told:?}");
        assert_eq!(
            place("semi-sync").is_some(),
            source == Some(true),
            "{told:?}"
        );
    }
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    let (fake, source) = (Fake::new(old_primary()), Fake::new(new_primary()));
    let (_, really) = carry_out(&Fake::new(old_primary()), &source, Mode::Real);
    let (outcome, told) = carry_out(&fake, &source, Mode::Dry);
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    assert_eq!((told, fake.world.borrow().clone()), (really, old_primary()));
}

#[test]
fn transactions_that_the_source_lacks_are_named_and_nothing_but_closing_is_done() {
    let own = World {
        history: history("0-2-1005"),
        ..old_primary()
    };
    let (fake, source) = (Fake::new(own), Fake::new(new_primary()));
    let (outcome, _) = carry_out(&fake, &source, Mode::Real);
    let error = outcome.error().unwrap();
    assert!(error.chain().contains("0-2-1001..0-2-1005"), "{error:?}");
    let advice = error.advice().unwrap();
    assert!(
        advice.contains("--start-position=0-2-1000 --stop-position=0-2-1005 "),
        "{advice}"
    );
    let world = fake.world.borrow();
    assert_eq!((world.writes, &world.channel), (Writes::Closed, &None));
    assert_eq!(world.gtid_position, "");
}

#[test]
fn what_is_no_source_for_this_server_is_refused_before_anything_is_changed() {
    let twin = World {
        id: 2,
        ..new_primary()
    };
    let closed = World {
        writes: Writes::Closed,
        ..new_primary()
    };
    let mut follower = World {
        id: 3,
        ..World::replica(0)
    };
    if let Some(channel) = &mut follower.channel {
        channel.source_id = 2;
    }
    for theirs in [twin, closed, follower] {
        let (fake, source) = (Fake::new(old_primary()), Fake::new(theirs));
        let (outcome, _) = carry_out(&fake, &source, Mode::Real);
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        assert_eq!(*fake.world.borrow(), old_primary());
    }
}

#[test]
fn a_source_of_which_nothing_arrives_is_left_again() {
    let theirs = World {
        written: Some(end(1001)),
        ..new_primary()
    };
    let (fake, source) = (Fake::new(old_primary()), Fake::new(theirs));
    let (outcome, _) = carry_out(&fake, &source, Mode::Real);
    let error = outcome.error().unwrap().chain();
    assert!(error.contains("nothing has arrived"), "{error}");
    assert_eq!(fake.world.borrow().channel, None);
}

#[test]
fn a_replica_of_another_source_applies_the_rest_of_it_first() {
    let own = World {
        history: history("0-2-1000"),
        ..World::replica(50)
    };
    let (fake, source) = (Fake::new(own), Fake::new(new_primary()));
    let (outcome, _) = carry_out(&fake, &source, Mode::Real);
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    let source = fake.world.borrow().channel.as_ref().unwrap().source.clone();
    assert_eq!(source, "10.0.0.13:3306");
}

/// No single failure, with or without effect, leaves half a replica behind, and doing it again
/// ends well.
#[test]
fn whichever_call_fails_it_is_a_replica_or_none_and_doing_it_again_ends_well() {
    let source = Fake::new(new_primary());
    let calls = {
        let fake = Fake::new(old_primary());
        carry_out(&fake, &source, Mode::Real);
        fake.calls.get()
    };
    for call in 0..calls {
        for failure in [Failure::Before, Failure::After] {
            let fake = Fake::failing(old_primary(), call, failure);
            let (outcome, _) = carry_out(&fake, &source, Mode::Real);
            // Looking again while it waits is one call more.
            if !matches!(outcome, Outcome::Done) {
                let world = fake.world.borrow();
                assert_eq!(world.channel, None, "{call} {failure:?} {outcome:?}");
            }
            let (outcome, _) = carry_out(&fake, &source, Mode::Real);
            assert!(
                matches!(outcome, Outcome::Done),
                "{call} {failure:?} {outcome:?}"
            );
            assert_eq!(fake.world.borrow().writes, Writes::Closed);
        }
    }
}
