use std::cell::RefCell;
use std::time::Duration;

use super::*;
use crate::link::{Link, Vip};
use crate::procedure::fake::{Failure, Fake, FakeLink, World};
use crate::run::{Mode, Outcome};
use crate::time::Deadline;

const OLD: u32 = 1;

fn vip() -> Vip {
    "10.0.0.100/24 dev eth0".parse().unwrap()
}

/// What `stop` leaves of a primary.
fn put_away() -> World {
    World {
        id: OLD,
        writes: Writes::Closed,
        locked: vec!["app@%".to_owned()],
        ..World::primary()
    }
}

fn before() -> Before {
    Before {
        old_writes: Some(Writes::Open),
        new_writes: Some(Writes::Closed),
        events: Some(true),
        enabled: None,
        vips: vec![vip().to_string()],
        locked: vec!["app@%".to_owned()],
    }
}

struct Site {
    old: Fake,
    new: Option<Fake>,
    peers: Vec<Fake>,
    link: FakeLink,
    elsewhere: FakeLink,
    before: Before,
    force: bool,
    mode: Mode,
    answers: Box<dyn Fn() -> Result<State>>,
}

fn site() -> Site {
    Site {
        old: Fake::new(put_away()),
        new: Some(Fake::new(World::replica(0))),
        peers: vec![],
        link: FakeLink::without(),
        elsewhere: FakeLink::without(),
        before: before(),
        force: false,
        mode: Mode::Real,
        answers: Box::new(silence),
    }
}

fn silence() -> Result<State> {
    Err(Error::new(Kind::Unreachable, "no route to host"))
}

fn unreachable() -> Fake {
    Fake::failing(World::replica(0), 0, Failure::Before)
}

impl Site {
    /// The outcome, and the notes of the run.
    fn restore(&self) -> (Outcome, Vec<String>) {
        let addresses = [Address {
            link: &self.link,
            vip: vip(),
        }];
        let elsewhere = [Address {
            link: &self.elsewhere,
            vip: vip(),
        }];
        let peers: Vec<&dyn Database> = self.peers.iter().map(|peer| peer as _).collect();
        let notes = RefCell::new(Vec::new());
        let closing = Demotion {
            grace: Duration::ZERO,
            spare: &[],
            resume: false,
        };
        // At the address answers the old one as soon as it has it and takes writes.
        let ask = |vip: &Vip| match self.link.has(vip) {
            Ok(true) => self.old.state(),
            Err(error) if error.kind() == Kind::Overtaken => Err(error),
            _ => (self.answers)(),
        };
        let outcome = {
            let observe = |entry: &crate::run::Entry| {
                if entry.mark == crate::run::Mark::Note {
                    notes.borrow_mut().push(entry.step.clone());
                }
            };
            let limit = Deadline::after(Duration::from_secs(5));
            Run::new(limit, self.mode, observe).carry_out(|run| {
                let how = Restore {
                    old: &self.old,
                    new: self.new.as_ref().map(|new| new as _),
                    peers: &peers,
                    addresses: &addresses,
                    elsewhere: &elsewhere,
                    before: &self.before,
                    closing,
                    force: self.force,
                };
                restore(run, how, &ask)
            })
        };
        (outcome, notes.into_inner())
    }

    #[track_caller]
    fn refuses(&self, why: &str) {
        let (outcome, _) = self.restore();
        let Outcome::Refused(error) = &outcome else {
            panic!("{outcome:?}");
        };
        assert!(error.chain().contains(why), "{}", error.chain());
        assert!(error.advice().is_some());
        assert_eq!(*self.old.world.borrow(), put_away());
        assert!(self.link.vips.borrow().is_empty());
    }

    #[track_caller]
    fn serves_as_before(&self) {
        let world = self.old.world.borrow();
        assert_eq!((world.writes, world.events), (Writes::Open, true));
        assert!(world.locked.is_empty());
        assert_eq!(*self.link.vips.borrow(), [vip()]);
    }
}

#[test]
fn the_old_primary_serves_as_before() {
    let site = site();
    let (outcome, notes) = site.restore();
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    assert_eq!(notes, [] as [&str; 0]);
    site.serves_as_before();
    assert_eq!(
        site.new.as_ref().unwrap().world.borrow().writes,
        Writes::Closed
    );
    let (outcome, _) = site.restore();
    assert!(matches!(outcome, Outcome::Done), "twice: {outcome:?}");
    site.serves_as_before();
}

#[test]
fn a_dry_run_changes_nothing() {
    let site = Site {
        mode: Mode::Dry,
        ..site()
    };
    let (outcome, _) = site.restore();
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    assert_eq!(*site.old.world.borrow(), put_away());
    assert!(site.link.vips.borrow().is_empty());
}

#[test]
fn another_server_that_takes_writes_is_left_the_primary() {
    let primary = |id| {
        Fake::new(World {
            id,
            ..World::primary()
        })
    };
    Site {
        new: Some(primary(2)),
        ..site()
    }
    .refuses("it takes writes");
    Site {
        peers: vec![primary(3)],
        ..site()
    }
    .refuses("it takes writes");
    Site {
        new: Some(primary(2)),
        force: true,
        ..site()
    }
    .refuses("it takes writes");
}

#[test]
fn what_only_the_new_primary_has_is_not_lost() {
    let history = |text| Some(History::read([text, ""]));
    let new = Fake::new(World {
        history: history("0-1-1000,0-2-1001"),
        ..World::replica(0)
    });
    let old = Fake::new(World {
        history: history("0-1-1000"),
        ..put_away()
    });
    let (outcome, _) = Site {
        old,
        new: Some(new),
        ..site()
    }
    .restore();
    let chain = outcome.error().unwrap().chain();
    assert!(chain.contains("it has 0-2-1001 and more"), "{chain}");
}

#[test]
fn an_old_primary_that_replicates_from_the_new_one_stays_its_replica() {
    let mut world = put_away();
    world.channel = World::replica(0).channel;
    world.channel.as_mut().unwrap().source_id = 2;
    let site = Site {
        old: Fake::new(world.clone()),
        ..site()
    };
    let (outcome, _) = site.restore();
    assert!(
        outcome
            .error()
            .unwrap()
            .chain()
            .contains("replicates from it")
    );
    assert_eq!(*site.old.world.borrow(), world);
}

#[test]
fn an_address_that_is_elsewhere_is_not_put_on_twice() {
    Site {
        elsewhere: FakeLink::with(&vip()),
        ..site()
    }
    .refuses("it is");
    let id = |server_id| State {
        server_id,
        writes: Writes::Closed,
        has_super_read_only: false,
    };
    let answers = Box::new(move || Ok(id(9)));
    Site { answers, ..site() }.refuses("with server_id 9");
    let site = Site {
        elsewhere: FakeLink::broken(),
        ..site()
    };
    site.restore();
    site.serves_as_before();
}

#[test]
fn nothing_is_opened_while_the_host_of_the_old_primary_does_not_answer() {
    let site = Site {
        link: FakeLink::broken(),
        ..site()
    };
    let (outcome, _) = site.restore();
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    assert_eq!(*site.old.world.borrow(), put_away());
}

#[test]
fn who_cannot_be_asked_stops_it_unless_forced() {
    Site {
        new: Some(unreachable()),
        ..site()
    }
    .refuses("the connection broke");
    Site {
        new: None,
        ..site()
    }
    .refuses("no other server answers");
    let site = Site {
        new: Some(unreachable()),
        force: true,
        ..site()
    };
    let (outcome, notes) = site.restore();
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    assert!(notes[0].starts_with("going on without db"), "{notes:?}");
    site.serves_as_before();
}

#[test]
fn a_peer_that_does_not_answer_is_noted_and_one_that_is_the_old_primary_is_not_asked() {
    let peers = vec![
        unreachable(),
        Fake::new(World {
            id: OLD,
            ..World::primary()
        }),
    ];
    let site = Site { peers, ..site() };
    let (outcome, notes) = site.restore();
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    assert_eq!(notes.len(), 1, "{notes:?}");
    site.serves_as_before();
}

#[test]
fn replicas_that_mha_has_stopped_are_named() {
    let mut world = World::replica(0);
    world.channel.as_mut().unwrap().receiver = Receiver::Stopped;
    let (_, notes) = Site {
        new: Some(Fake::new(world)),
        ..site()
    }
    .restore();
    assert!(
        notes[0].contains("has stopped replicating from db; on it: START"),
        "{notes:?}"
    );
}

#[test]
fn a_server_that_took_no_writes_before_is_not_opened() {
    let before = Before {
        old_writes: Some(Writes::ClosedToAll),
        ..before()
    };
    let site = Site { before, ..site() };
    site.restore();
    assert_eq!(site.old.world.borrow().writes, Writes::Closed);
    assert_eq!(*site.link.vips.borrow(), [vip()]);
}

#[test]
fn whichever_call_fails_a_second_run_ends_as_one() {
    let calls = {
        let site = site();
        site.restore();
        site.old.calls.get()
    };
    for call in 0..calls {
        for failure in [Failure::Before, Failure::After] {
            let old = Fake::failing(put_away(), call, failure);
            let site = Site { old, ..site() };
            site.restore();
            let (outcome, _) = site.restore();
            assert!(
                matches!(outcome, Outcome::Done),
                "{call} {failure:?}: {outcome:?}"
            );
            site.serves_as_before();
        }
    }
}

#[test]
fn whenever_it_is_interrupted_all_is_taken_back_or_told_and_a_second_run_ends_it() {
    let calls = {
        let site = site();
        site.restore();
        [
            site.old.calls.get(),
            site.new.as_ref().unwrap().calls.get(),
            site.link.calls.get(),
            site.elsewhere.calls.get(),
        ]
    };
    let how = Failure::Interrupted;
    for (place, calls) in calls.into_iter().enumerate() {
        for call in 0..calls {
            let mut site = site();
            match place {
                0 => site.old = Fake::failing(put_away(), call, how),
                1 => site.new = Some(Fake::failing(World::replica(0), call, how)),
                2 => site.link = FakeLink::without().failing(call, how),
                _ => site.elsewhere = FakeLink::without().failing(call, how),
            }
            let (outcome, _) = site.restore();
            let all = format!("call {call} of {place}: {outcome:?}");
            match outcome {
                Outcome::Refused(_) | Outcome::RolledBack(_) => {
                    let World { writes, locked, .. } = &*site.old.world.borrow();
                    assert_eq!((*writes, locked.len()), (Writes::Closed, 1), "{all}");
                    assert!(site.link.vips.borrow().is_empty(), "{all}");
                }
                Outcome::Partial { .. } => {}
                Outcome::Done => panic!("{all}"),
            }
            let (outcome, _) = site.restore();
            assert!(matches!(outcome, Outcome::Done), "{all}, then {outcome:?}");
            site.serves_as_before();
        }
    }
}
