//! A switch that was given up is put back: the old primary serves again, unless another server
//! has taken over meanwhile.

use super::demote::Demotion;
use super::establish::{Address, AskThrough, establish, put_on};
use crate::db::{Channel, Database, History, Receiver, State, Writes};
use crate::error::{Error, Kind, Result};
use crate::run::Run;
use crate::switch::Before;

/// What is put back, and who is asked before.
#[derive(Clone, Copy)]
pub struct Restore<'a> {
    /// The primary that was to be left.
    pub old: &'a dyn Database,
    /// The one that was to follow, where that is known.
    pub new: Option<&'a dyn Database>,
    /// The other servers.
    pub peers: &'a [&'a dyn Database],
    /// The addresses that the old primary had, on its host.
    pub addresses: &'a [Address<'a>],
    /// The same on the host of the one that was to follow.
    pub elsewhere: &'a [Address<'a>],
    /// What was so before.
    pub before: &'a Before,
    /// How the old primary is closed again if another one turns up.
    pub closing: Demotion<'a>,
    /// Go on although somebody cannot be asked.
    pub force: bool,
}

/// Looks whether anybody has taken over, then lets the old primary serve as before.
///
/// The new one stays closed whatever it was: two primaries are never made.
///
/// # Errors
/// [`Kind::Refused`] before anything is changed when it is not safe; otherwise as [`establish`].
pub fn restore<'a>(
    run: &mut Run<'a>,
    how: Restore<'a>,
    ask_through: &AskThrough<'_>,
) -> Result<()> {
    let name = how.old.name();
    let mut own = None;
    run.check(&format!("{name} answers"), || {
        let answered = Answered::of(how.old);
        own = Some(answered.map_err(|e| e.advise("start it, or make another server the primary"))?);
        Ok(())
    })?;
    let Some(own) = own else {
        return Ok(());
    };
    let others = nobody_took_over(run, &how, &own)?;
    for address in how.addresses {
        let Address { link, vip } = address;
        let step = format!("{} can have {vip}", link.name());
        run.check(&step, || match link.has(vip)? {
            true => Ok(()),
            false => link.ready(vip),
        })?;
        nobody_answers_at(run, address, &own, ask_through)?;
    }
    for account in &how.before.locked {
        run.act(&format!("let {account} in on {name} again"), || {
            how.old.set_account_lock(account, false)
        })?;
    }
    match how.before.old_writes {
        Some(Writes::Closed | Writes::ClosedToAll) => {
            run.note(format!("{name} took no writes before, so it stays closed"));
            put_on(run, how.addresses)?;
        }
        Some(Writes::Open) | None => {
            establish(run, how.old, how.addresses, how.closing, Some(ask_through))?;
        }
    }
    if how.before.events == Some(true) {
        run.act(
            &format!("start the event scheduler of {name} again"),
            || how.old.set_events(true),
        )?;
    }
    for other in &others {
        other.note_stopped_threads(run, &own);
    }
    Ok(())
}

/// What a server says of itself.
struct Answered {
    name: String,
    state: State,
    channels: Vec<Channel>,
    history: Option<History>,
}

impl Answered {
    fn of(db: &dyn Database) -> Result<Answered> {
        Ok(Answered {
            name: db.name(),
            state: db.state()?,
            channels: db.channels()?,
            history: db.history()?,
        })
    }

    fn is(&self, other: &Answered) -> bool {
        self.state.server_id == other.state.server_id
    }

    fn replicates_from(&self, source: &Answered) -> bool {
        let is = |channel: &Channel| {
            channel.source_id == source.state.server_id || channel.source == source.name
        };
        self.channels.iter().any(is)
    }

    /// The last transaction that it wrote as the primary after `own` was, if that can be known.
    fn wrote_after(&self, own: &Answered) -> Option<String> {
        let (theirs, ours) = (self.history.as_ref()?, own.history.as_ref()?);
        let ids = (own.state.server_id, self.state.server_id);
        History::taken_over((ours, ids.0), (theirs, ids.1))
    }

    /// MHA stops the receivers, and in an online change the new primary's applier, and starts
    /// neither again when it gives up (MasterFailover.pm, MasterRotate.pm).
    fn note_stopped_threads(&self, run: &Run<'_>, source: &Answered) {
        let id = source.state.server_id;
        for channel in self.channels.iter().filter(|c| c.source_id == id) {
            if channel.receiver == Receiver::Stopped || !channel.applying {
                run.note(format!(
                    "{} has stopped replicating from {}; on it: START SLAVE (START REPLICA)",
                    self.name, source.name
                ));
            }
        }
    }
}

/// Asks the one that was to follow, and all peers; gives those that answered.
fn nobody_took_over(run: &mut Run<'_>, how: &Restore<'_>, own: &Answered) -> Result<Vec<Answered>> {
    let mut others: Vec<Answered> = Vec::new();
    let new = how.new.map(|new| (new, !how.force));
    let peers = how.peers.iter().map(|peer| (*peer, false));
    for (db, must_answer) in new.into_iter().chain(peers) {
        let step = format!("{} has not taken over", db.name());
        match Answered::of(db) {
            // As a rule all servers are peers, the two of the switch as well.
            Ok(other) if others.iter().chain([own]).any(|known| known.is(&other)) => {}
            Ok(other) => {
                run.check(&step, || has_not_taken_over(&other, own))?;
                others.push(other);
            }
            Err(error) if error.is_silence() && !must_answer => {
                run.note(format!("going on without {}: {}", db.name(), error.chain()));
            }
            Err(error) => run.check(&step, || Err(unknown(error)))?,
        }
    }
    for address in how.elsewhere {
        is_not_there(run, address)?;
    }
    match others.is_empty() && !how.force {
        true => Err(Error::new(Kind::Refused, "no other server answers")
            .because("nobody can say whether another one has taken over")
            .advise(
                "name the others as [[peer]], or see to it that none takes writes and use --force",
            )),
        false => Ok(others),
    }
}

fn is_not_there(run: &mut Run<'_>, Address { link, vip }: &Address<'_>) -> Result<()> {
    let host = link.name();
    match link.list() {
        Ok(list) => run.check(&format!("{} is not on {host}", vip.address), || match list
            .iter()
            .any(|there| there.address == vip.address)
        {
            true => Err(Error::new(Kind::Refused, "it is")
                .advise(format!("on {host}: hookbox vip del {vip}"))),
            false => Ok(()),
        }),
        // Whoever answers at the address is asked as well.
        Err(error) => {
            run.note(format!("going on without {host}: {}", error.chain()));
            Ok(())
        }
    }
}

/// Nobody can tell whether a server has taken over that does not say.
fn unknown(error: Error) -> Error {
    let advice = match error.is_silence() {
        false => "let the account of [mha] log in there, or stop that server",
        true => "start it, read-only; --force goes on, and makes a second primary if it is one",
    };
    error.advise(advice)
}

fn has_not_taken_over(other: &Answered, own: &Answered) -> Result<()> {
    let refuse = |what: String, advice: String| Err(Error::new(Kind::Refused, what).advise(advice));
    let name = &other.name;
    if other.state.writes == Writes::Open {
        let advice = "if it is not the primary, close it: SET GLOBAL read_only = 1";
        return refuse("it takes writes".to_owned(), format!("on {name}: {advice}"));
    }
    if own.replicates_from(other) {
        let what = format!("{} replicates from it", own.name);
        let advice = format!(
            "if it is not the primary, on {}: STOP SLAVE, RESET SLAVE ALL",
            own.name
        );
        return refuse(what, advice);
    }
    match other.wrote_after(own) {
        Some(gtid) => {
            let what = format!("it has {gtid} and more that {} lacks", own.name);
            refuse(what, format!("make {name} the primary, or these are lost"))
        }
        None => Ok(()),
    }
}

/// Whoever has an address, known or not, answers at it.
fn nobody_answers_at(
    run: &mut Run<'_>,
    address: &Address<'_>,
    own: &Answered,
    ask_through: &AskThrough<'_>,
) -> Result<()> {
    let vip = &address.vip;
    let step = format!("no other server answers at {}", vip.address);
    run.check(&step, || match ask_through(vip) {
        Ok(seen) if seen.server_id != own.state.server_id => {
            let what = format!("one does, with server_id {}", seen.server_id);
            Err(Error::new(Kind::Refused, what)
                .advise(format!("on its host: hookbox vip del {vip}")))
        }
        Err(error) if !error.is_silence() => Err(error
            .during("one answers, but not what is asked")
            .advise(format!("on its host: hookbox vip del {vip}"))),
        Ok(_) | Err(_) => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::super::fake::{Failure, Fake, FakeLink, World};
    use super::*;
    use crate::link::{Link, Vip};
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
}
