//! A server that is the primary no longer gives up by itself: writes, sessions, addresses.

use std::time::Duration;

use super::demote::{Demotion, close};
use super::establish::Address;
use crate::db::Database;
use crate::error::Result;
use crate::run::Run;

/// What taking addresses off gets, whatever closing has used up.
const ADDRESSES_LIMIT: Duration = Duration::from_secs(1);

/// Closes writes on `db`, ends its sessions and takes `addresses` off, in this order, so that a
/// client hears the end of its session by the address it knows. The addresses go even if the
/// server cannot be closed. Nothing of it is ever taken back. `db` is None when the server does not
/// answer.
///
/// # Errors
/// The first thing that could not be done; everything after it was tried all the same.
pub fn withdraw(
    run: &mut Run<'_>,
    db: Option<&dyn Database>,
    addresses: &[Address<'_>],
    how: Demotion<'_>,
) -> Result<()> {
    let mut result = db.map_or(Ok(()), |db| close(run, db, how));
    if run.deadline().left() < ADDRESSES_LIMIT {
        run.deadline().renew(ADDRESSES_LIMIT);
    }
    for Address { link, vip } in addresses {
        let step = format!("take {vip} off {}", link.name());
        let gone = run.commit(&step, || link.del(vip));
        result = result.and(gone);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Failure, Fake, FakeLink, World};
    use super::*;
    use crate::db::Writes;
    use crate::link::Vip;
    use crate::run::{Mode, Outcome};
    use crate::time::Deadline;

    const HOW: Demotion<'static> = Demotion {
        grace: Duration::ZERO,
        spare: &[],
        resume: false,
    };

    fn vip() -> Vip {
        "10.0.0.100/24 dev eth0".parse().unwrap()
    }

    fn carry_out(db: Option<&Fake>, link: &FakeLink, limit: Duration) -> Outcome {
        let addresses = [Address { link, vip: vip() }];
        let db = db.map(|fake| fake as &dyn Database);
        let run = Run::new(Deadline::after(limit), Mode::Real, |_| {});
        run.carry_out(|run| withdraw(run, db, &addresses, HOW))
    }

    const ENOUGH: Duration = Duration::from_secs(5);

    #[test]
    fn in_the_end_there_are_no_writes_no_sessions_and_no_addresses() {
        let (fake, link) = (Fake::new(World::primary()), FakeLink::with(&vip()));
        let outcome = carry_out(Some(&fake), &link, ENOUGH);
        assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
        let world = fake.world.borrow();
        assert_eq!((world.writes, world.sessions.len()), (Writes::Closed, 0));
        assert!(link.vips.borrow().is_empty());
    }

    #[test]
    fn whichever_call_fails_the_addresses_go_and_doing_it_again_ends_well() {
        let calls = {
            let fake = Fake::new(World::primary());
            carry_out(Some(&fake), &FakeLink::with(&vip()), ENOUGH);
            fake.calls.get()
        };
        for call in 0..calls {
            for failure in [Failure::Before, Failure::After] {
                let link = FakeLink::with(&vip());
                let fake = Fake::failing(World::primary(), call, failure);
                match carry_out(Some(&fake), &link, ENOUGH) {
                    // It was something that a closed server can do without.
                    Outcome::Done => assert_eq!(fake.world.borrow().writes, Writes::Closed),
                    outcome => assert!(matches!(outcome, Outcome::Partial { .. }), "{outcome:?}"),
                }
                assert!(link.vips.borrow().is_empty(), "{call} {failure:?}");
                let outcome = carry_out(Some(&fake), &link, ENOUGH);
                assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
                assert!(fake.world.borrow().sessions.is_empty());
            }
        }
    }

    #[test]
    fn the_addresses_go_though_closing_has_used_up_the_time_or_the_server_does_not_answer() {
        let (fake, link) = (Fake::new(World::primary()), FakeLink::with(&vip()));
        let outcome = carry_out(Some(&fake), &link, Duration::ZERO);
        assert!(matches!(outcome, Outcome::Partial { .. }), "{outcome:?}");
        assert!(link.vips.borrow().is_empty());
        let link = FakeLink::with(&vip());
        let outcome = carry_out(None, &link, ENOUGH);
        assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
        assert!(link.vips.borrow().is_empty());
    }
}
