//! A server takes writes, the virtual addresses come to its host, and whoever answers there is it.

use std::time::Duration;

use super::bring::in_few_words;
use super::demote::Demotion;
use crate::db::{Database, State, Writes};
use crate::error::{Error, Kind, Result, uninterrupted};
use crate::link::{Link, Vip};
use crate::run::{Changed, Run};

/// How long the neighbours have to learn where an address is.
const LEARNING: Duration = Duration::from_secs(1);

/// A virtual address, and the host that it is put on or taken off.
#[derive(Clone)]
pub struct Address<'a> {
    /// The host.
    pub link: &'a dyn Link,
    /// The address, on the interface that it has there.
    pub vip: Vip,
}

/// Asks the server that answers at an address who it is and whether it takes writes.
pub type AskThrough<'a> = dyn Fn(&Vip) -> Result<State> + 'a;

/// Makes `db` writable, puts its addresses on and announces them.
///
/// It goes forward: what fails is told in the end and keeps nothing else from being done, since a
/// caller that has come here has replicas to turn round. The one way back is when another server
/// that takes writes answers at an address.
///
/// # Errors
/// The first failure; [`Kind::Refused`] with everything taken back when two servers would take
/// writes.
pub fn establish<'a>(
    run: &mut Run<'a>,
    db: &'a dyn Database,
    addresses: &'a [Address<'a>],
    closing: Demotion<'a>,
    ask_through: Option<&AskThrough<'_>>,
) -> Result<()> {
    let mut failure = None;
    let opened = open(run, db, closing);
    unless_overtaken(&mut failure, opened)?;
    let there = put_on(run, addresses);
    unless_overtaken(&mut failure, there)?;
    if let (None, Some(ask)) = (&failure, ask_through) {
        for Address { vip, .. } in addresses {
            match verify(run, db, vip, ask) {
                Err(error) if error.kind() == Kind::Refused => return Err(error),
                verified => unless_overtaken(&mut failure, verified)?,
            }
        }
    }
    run.no_way_back();
    failure.map_or(Ok(()), Err)
}

fn unless_overtaken(failure: &mut Option<Error>, done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.kind() == Kind::Overtaken => return Err(error),
        Err(error) => drop(failure.get_or_insert(error)),
        Ok(()) => {}
    }
    Ok(())
}

/// Makes `db` writable; taken back by closing it again.
pub fn open<'a>(run: &mut Run<'a>, db: &'a dyn Database, closing: Demotion<'a>) -> Result<()> {
    let name = db.name();
    run.change(
        &format!("make {name} writable"),
        || db.open_writes(),
        &format!("close writes on {name} again"),
        move || db.close_writes(closing.grace, closing.spare),
    )
}

/// Puts addresses on their hosts and announces them: on each host all of them, or none.
pub fn put_on<'a>(run: &mut Run<'a>, addresses: &'a [Address<'a>]) -> Result<()> {
    let mut failure = None;
    for on_host in addresses.chunk_by(|a, b| a.link.name() == b.link.name()) {
        let there = put_on_host(run, on_host[0].link, on_host);
        unless_overtaken(&mut failure, there)?;
    }
    failure.map_or(Ok(()), Err)
}

fn put_on_host<'a>(
    run: &mut Run<'a>,
    link: &'a dyn Link,
    addresses: &'a [Address<'a>],
) -> Result<()> {
    let vips: Vec<Vip> = addresses.iter().map(|a| a.vip.clone()).collect();
    let (host, what) = (link.name(), in_few_words(vips.iter().map(Vip::to_string)));
    // While an address is nowhere nobody can write: a host that did not answer is asked again.
    let add = || match link.add_all(&vips) {
        Err(error) if matches!(error.kind(), Kind::Timeout | Kind::Unreachable) => {
            link.add_all(&vips).map(|_| Changed::Yes) // the first may have done it
        }
        added => added,
    };
    let to_take_off = vips.clone();
    let added = run.change(
        &format!("put {what} on {host}"),
        add,
        &format!("take {what} off {host} again"),
        move || link.del_all(&to_take_off),
    );
    run.splice(&host, link.timeline());
    added?;
    let announced = run.act(&format!("announce {what} from {host}"), || {
        link.announce_all(&vips)
    });
    run.splice(&host, link.timeline());
    announced
}

/// Through the address, it must be `db` that answers, and it must take writes.
fn verify(run: &mut Run<'_>, db: &dyn Database, vip: &Vip, ask: &AskThrough<'_>) -> Result<()> {
    let (name, address) = (db.name(), vip.address);
    let expected = db.state()?.server_id;
    let mut other_primary = None;
    let step = format!("{name} answers at {address} and takes writes");
    let verified = run.wait(&step, LEARNING, || {
        other_primary = None;
        Ok(match uninterrupted(ask(vip))? {
            Ok(seen) if seen.server_id != expected => {
                let id = seen.server_id;
                other_primary = (seen.writes == Writes::Open).then_some(id);
                Some(format!("answered by the server with server_id {id}"))
            }
            Ok(seen) if seen.writes != Writes::Open => Some("read-only".to_owned()),
            Ok(_) => None,
            Err(error) => Some(error.chain()),
        })
    });
    match other_primary {
        Some(id) if verified.is_err() => {
            let what =
                format!("another server (server_id {id}) answers at {address} and takes writes");
            Err(Error::new(Kind::Refused, what)
                .advise("take the address off that host, or stop that server"))
        }
        _ => verified.map_err(|error| {
            error.advise(format!(
                "hookbox vip show on the host, and from here: ping {address}"
            ))
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::super::fake::{Fake, FakeLink, World};
    use super::*;
    use crate::run::{Mode, Outcome};
    use crate::time::Deadline;

    const CLOSING: Demotion<'static> = Demotion {
        grace: Duration::ZERO,
        spare: &[],
        resume: false,
    };

    fn vip() -> Vip {
        "10.0.0.100/24 dev eth0".parse().unwrap()
    }

    fn carry_out(fake: &Fake, link: &FakeLink, ask: Option<&AskThrough<'_>>) -> Outcome {
        let addresses = [Address { link, vip: vip() }];
        let run = Run::new(Deadline::after(Duration::from_secs(5)), Mode::Real, |_| {});
        run.carry_out(|run| establish(run, fake, &addresses, CLOSING, ask))
    }

    fn closed() -> World {
        World {
            writes: Writes::Closed,
            ..World::primary()
        }
    }

    fn state(server_id: u32, writes: Writes) -> State {
        State {
            server_id,
            writes,
            has_super_read_only: false,
        }
    }

    #[test]
    fn a_server_that_answers_at_its_address_and_takes_writes_is_established() {
        let (fake, link) = (Fake::new(closed()), FakeLink::without());
        let outcome = carry_out(&fake, &link, Some(&|_| Ok(state(2, Writes::Open))));
        assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
        assert_eq!(fake.world.borrow().writes, Writes::Open);
        assert!(link.has(&vip()).unwrap());
    }

    #[test]
    fn a_host_that_did_not_answer_at_first_gets_the_address_all_the_same() {
        use super::super::fake::Failure;
        for failure in [Failure::Before, Failure::After] {
            let fake = Fake::new(closed());
            let link = FakeLink::without().failing(0, failure);
            let outcome = carry_out(&fake, &link, None);
            assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
            assert!(link.has(&vip()).unwrap());
        }
    }

    #[test]
    fn when_another_primary_answers_all_is_taken_back() {
        let (fake, link) = (Fake::new(closed()), FakeLink::without());
        let outcome = carry_out(&fake, &link, Some(&|_| Ok(state(1, Writes::Open))));
        assert!(matches!(outcome, Outcome::RolledBack(_)), "{outcome:?}");
        assert_eq!(fake.world.borrow().writes, Writes::Closed);
        assert!(!link.has(&vip()).unwrap());
    }

    #[test]
    fn a_late_answer_is_waited_for() {
        let (fake, link) = (Fake::new(closed()), FakeLink::without());
        let answers = RefCell::new(vec![
            Ok(state(2, Writes::Open)),
            Ok(state(1, Writes::Open)),
            Err(Error::new(Kind::Unreachable, "no route to host")),
        ]);
        let ask = |_: &Vip| answers.borrow_mut().pop().unwrap();
        let outcome = carry_out(&fake, &link, Some(&ask));
        assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    }

    #[test]
    fn what_cannot_be_verified_or_added_stands_and_is_told() {
        let silent = |_: &Vip| Err(Error::new(Kind::Unreachable, "no route to host"));
        let (fake, link) = (Fake::new(closed()), FakeLink::without());
        let outcome = carry_out(&fake, &link, Some(&silent));
        assert!(matches!(outcome, Outcome::Partial { .. }), "{outcome:?}");
        assert_eq!(fake.world.borrow().writes, Writes::Open);

        let (fake, link) = (Fake::new(closed()), FakeLink::broken());
        let outcome = carry_out(&fake, &link, Some(&silent));
        assert!(matches!(outcome, Outcome::Partial { .. }), "{outcome:?}");
        assert_eq!(fake.world.borrow().writes, Writes::Open);
    }

    #[test]
    fn an_address_comes_also_to_a_server_that_could_not_be_opened() {
        let fake = Fake::failing(closed(), 0, super::super::fake::Failure::Before);
        let link = FakeLink::without();
        let outcome = carry_out(&fake, &link, None);
        assert!(matches!(outcome, Outcome::Partial { .. }), "{outcome:?}");
        assert!(link.has(&vip()).unwrap());
    }
}
