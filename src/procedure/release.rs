//! A primary gives up its writes, its sessions and its virtual addresses, for another to take over.

use std::time::Duration;

use super::demote::{Demotion, end_sessions};
use super::establish::Address;
use super::events;
use super::or_note;
use crate::db::{Database, Position, Writes};
use crate::error::{Error, Kind, Result};
use crate::run::{Changed, Run};
use crate::time::Stopwatch;

/// How long privileged sessions that come again and again are ended, once the address is gone.
const SILENCE: Duration = Duration::from_secs(1);

/// Between two looks whether anything was written.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How a primary is to be released.
#[derive(Clone, Copy, Debug)]
pub struct Release<'a> {
    /// How long transactions that are open may go on, while writes still flow.
    pub finish: Duration,
    /// Accounts that are locked out.
    pub accounts: &'a [String],
    /// How writes are closed.
    pub closing: Demotion<'a>,
}

/// Releases `old` for `new` to take over. Writes flow until nothing but closing them is left; the
/// addresses go last, so that every client whose session ends hears of it.
///
/// # Errors
/// When writes or addresses cannot be had in time; then everything is taken back.
pub fn release<'a>(
    run: &mut Run<'a>,
    old: &'a dyn Database,
    new: &'a dyn Database,
    addresses: &'a [Address<'a>],
    how: Release<'a>,
) -> Result<()> {
    keep_closed(run, new, how.closing)?;
    let name = old.name();
    for account in how.accounts {
        run.change(
            &format!("lock {account} out of {name}"),
            || old.set_account_lock(account, true),
            &format!("let {account} in on {name} again"),
            || old.set_account_lock(account, false),
        )?;
    }
    events::stop(run, old)?;
    let_finish(run, old, how)?;
    close(run, old, how.closing)?;
    for address in addresses {
        take_off(run, address)?;
    }
    fall_silent(run, old, how.closing)
}

/// Takes writes, sessions and addresses from what is left of a primary. `old` is None when its
/// server does not answer.
///
/// # Errors
/// As [`release`].
pub fn fence<'a>(
    run: &mut Run<'a>,
    old: Option<&'a dyn Database>,
    addresses: &'a [Address<'a>],
    closing: Demotion<'a>,
) -> Result<()> {
    if let Some(old) = old {
        // A sick server is closed all the same: its events meet a closed one.
        let stopped = events::stop(run, old);
        or_note(run, "events", stopped)?;
        close(run, old, closing)?;
    }
    for address in addresses {
        take_off(run, address)?;
    }
    Ok(())
}

/// A server that takes writes before it is the primary is closed for good: that was a fault, not
/// a state to come back to.
fn keep_closed<'a>(run: &mut Run<'a>, new: &'a dyn Database, closing: Demotion<'a>) -> Result<()> {
    let name = new.name();
    let step = format!("{name} takes no writes yet");
    if new.state()?.writes != Writes::Open {
        return run.check(&step, || Ok(()));
    }
    run.note(format!("{name} takes writes although it is no primary"));
    run.act(&format!("close writes on {name}"), || {
        new.close_writes(closing.grace, closing.spare)
    })
}

/// Not an outage: transactions that begin meanwhile go on as well, and only those that are open
/// now are waited for.
fn let_finish(run: &mut Run<'_>, old: &dyn Database, how: Release<'_>) -> Result<()> {
    let spare = how.closing.spare;
    let mut open = match how.finish.is_zero() {
        true => return Ok(()),
        false => old.transactions(spare)?,
    };
    let since = Stopwatch::start();
    let step = format!("let open transactions on {} finish", old.name());
    // The limit is for a server that stops answering; that some go on is no failure.
    run.wait(&step, how.finish * 2, || {
        if !open.is_empty() {
            let now = old.transactions(spare)?;
            open.retain(|transaction| now.contains(transaction));
        }
        let done = open.is_empty() || since.elapsed() >= how.finish;
        Ok((!done).then(|| format!("{} of them open", open.len())))
    })?;
    if !open.is_empty() && !run.is_dry() {
        run.note(format!(
            "{} transactions go on and will be ended",
            open.len()
        ));
    }
    Ok(())
}

/// Closes writes and ends the sessions while the address is still there: then their clients get a
/// reset at once instead of waiting for packets that nobody answers.
fn close<'a>(run: &mut Run<'a>, old: &'a dyn Database, closing: Demotion<'a>) -> Result<()> {
    let name = old.name();
    // One that is read_only and not super_read_only, as MHA leaves it, is closed further.
    let was_open = old.state()?.writes == Writes::Open;
    run.change(
        &format!("close writes on {name}"),
        || old.close_writes(closing.grace, closing.spare),
        &match was_open {
            true => format!("make {name} writable again"),
            false => format!("leave {name} closed, as it was"),
        },
        move || match was_open {
            true => old.open_writes(),
            false => Ok(Changed::AlreadySo),
        },
    )?;
    match end_sessions(run, old, closing.spare) {
        Err(error) if error.kind() == Kind::Timeout && !run.deadline().passed() => {
            run.note(format!("going on: {}", error.chain()));
            Ok(())
        }
        ended => ended,
    }
}

/// Takes an address off its host; taken back by putting it on and announcing it.
pub fn take_off<'a>(run: &mut Run<'a>, address: &'a Address<'a>) -> Result<()> {
    let Address { link, vip } = address;
    let host = link.name();
    let gone = run.change(
        &format!("take {vip} off {host}"),
        || link.del(vip),
        &format!("put {vip} on {host} again"),
        || {
            let added = link.add(vip)?;
            link.announce(vip)?;
            Ok(added)
        },
    );
    run.splice(&host, link.timeline());
    gone
}

/// Privileged accounts may write in spite of read_only, on MariaDB and MySQL 5.6; MHA 0.58 takes no
/// FLUSH TABLES WITH READ LOCK when its own SET read_only succeeds (MHA::DBHelper). So they are
/// ended until the binary log stands still.
fn fall_silent(run: &mut Run<'_>, old: &dyn Database, closing: Demotion<'_>) -> Result<()> {
    let deadline = run.deadline().at_most(SILENCE);
    let step = format!("nothing is written on {} any more", old.name());
    run.act(&step, || {
        let mut changed = Changed::AlreadySo;
        loop {
            let before = old.written()?;
            let sessions = old.sessions(closing.spare)?;
            if old.end_sessions(&sessions, deadline.left())? == Changed::Yes {
                changed = Changed::Yes;
            }
            let paused = deadline.pause(LOOK_AGAIN);
            match old.written()? {
                // Sessions may come again and again, as of a pool; that nobody writes counts.
                after if after == before => return Ok(changed),
                after => paused.map_err(|error| match error.kind() {
                    Kind::Timeout => Error::new(Kind::Refused, still_written(after))
                        .advise("stop whoever writes with privileges there: SHOW PROCESSLIST"),
                    _ => error,
                })?,
            }
        }
    })
}

fn still_written(place: Option<Position>) -> String {
    let place = place.map_or("an unknown place".to_owned(), |place| place.to_string());
    format!("it is at {place} of its binary log, and goes on")
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Failure, Fake, FakeLink, World};
    use super::*;
    use crate::link::Vip;
    use crate::run::{Mode, Outcome};
    use crate::time::Deadline;

    const ACCOUNTS: &[String] = &[];

    const HOW: Release<'static> = Release {
        finish: Duration::ZERO,
        accounts: ACCOUNTS,
        closing: Demotion {
            grace: Duration::ZERO,
            spare: &[],
            resume: false,
        },
    };

    fn vip() -> Vip {
        "10.0.0.100/24 dev eth0".parse().unwrap()
    }

    fn primary() -> World {
        World {
            events: true,
            ..World::primary()
        }
    }

    fn carry_out(old: &Fake, new: &Fake, link: &FakeLink, mode: Mode, how: Release<'_>) -> Outcome {
        let addresses = [Address { link, vip: vip() }];
        let run = Run::new(Deadline::after(Duration::from_secs(5)), mode, |_| {});
        run.carry_out(|run| release(run, old, new, &addresses, how))
    }

    #[test]
    fn in_the_end_nothing_is_left_of_the_primary() {
        let (old, new) = (Fake::new(primary()), Fake::new(World::replica(50)));
        let link = FakeLink::with(&vip());
        let accounts = ["app@%".to_owned()];
        let how = Release {
            accounts: &accounts,
            ..HOW
        };
        let outcome = carry_out(&old, &new, &link, Mode::Real, how);
        assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
        let world = old.world.borrow();
        assert_eq!((world.writes, world.events), (Writes::Closed, false));
        assert_eq!(
            (world.sessions.len(), &world.locked[..]),
            (0, &accounts[..])
        );
        assert!(link.vips.borrow().is_empty());
        assert_eq!(*new.world.borrow(), World::replica(50));
    }

    #[test]
    fn a_dry_run_changes_nothing() {
        let (old, new) = (Fake::new(primary()), Fake::new(World::replica(0)));
        let link = FakeLink::with(&vip());
        let outcome = carry_out(&old, &new, &link, Mode::Dry, HOW);
        assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
        assert_eq!(*old.world.borrow(), primary());
        assert_eq!(*link.vips.borrow(), [vip()]);
    }

    #[test]
    fn a_new_primary_that_takes_writes_already_is_closed_and_stays_so() {
        let (old, new) = (Fake::new(primary()), Fake::new(World::primary()));
        let link = FakeLink::broken();
        let outcome = carry_out(&old, &new, &link, Mode::Real, HOW);
        assert!(!matches!(outcome, Outcome::Done), "{outcome:?}");
        assert_eq!(new.world.borrow().writes, Writes::Closed);
        assert_eq!(old.world.borrow().writes, Writes::Open);
    }

    /// Sessions that were ended cannot be given back; everything else is.
    #[test]
    fn whichever_call_to_the_server_fails_the_primary_serves_as_before() {
        let calls = {
            let old = Fake::new(primary());
            let new = Fake::new(World::replica(0));
            carry_out(&old, &new, &FakeLink::with(&vip()), Mode::Real, HOW);
            old.calls.get()
        };
        for call in 0..calls {
            for failure in [Failure::Before, Failure::After] {
                let old = Fake::failing(primary(), call, failure);
                let new = Fake::new(World::replica(0));
                let link = FakeLink::with(&vip());
                let outcome = carry_out(&old, &new, &link, Mode::Real, HOW);
                let world = old.world.borrow();
                assert!(!matches!(outcome, Outcome::Done), "{call} {failure:?}");
                assert!(!matches!(outcome, Outcome::Partial { .. }), "{call}");
                assert_eq!((world.writes, world.events), (Writes::Open, true));
                assert_eq!(*link.vips.borrow(), [vip()], "{call} {failure:?}");
            }
        }
    }

    #[test]
    fn an_address_that_cannot_be_taken_off_leaves_the_primary_serving_as_before() {
        for failure in [Failure::Before, Failure::After] {
            let (old, new) = (Fake::new(primary()), Fake::new(World::replica(0)));
            let link = FakeLink::with(&vip()).failing(0, failure);
            let outcome = carry_out(&old, &new, &link, Mode::Real, HOW);
            assert!(matches!(outcome, Outcome::RolledBack(_)), "{outcome:?}");
            assert_eq!(old.world.borrow().writes, Writes::Open);
            assert_eq!(*link.vips.borrow(), [vip()]);
        }
    }

    #[test]
    fn a_server_that_does_not_answer_loses_its_addresses_all_the_same() {
        let link = FakeLink::with(&vip());
        let addresses = [Address {
            link: &link,
            vip: vip(),
        }];
        let run = Run::new(Deadline::after(Duration::from_secs(5)), Mode::Real, |_| {});
        let outcome = run.carry_out(|run| fence(run, None, &addresses, HOW.closing));
        assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
        assert!(link.vips.borrow().is_empty());
    }

    #[test]
    fn a_primary_that_took_no_writes_before_takes_none_when_all_is_taken_back() {
        // MHA leaves its old primary so: read_only and not super_read_only.
        let closed = World {
            writes: Writes::Closed,
            ..primary()
        };
        let (old, new) = (Fake::new(closed), Fake::new(World::replica(0)));
        let link = FakeLink::with(&vip()).failing(0, Failure::Before);
        let outcome = carry_out(&old, &new, &link, Mode::Real, HOW);
        assert!(matches!(outcome, Outcome::RolledBack(_)), "{outcome:?}");
        assert_eq!(old.world.borrow().writes, Writes::Closed);
    }

    #[test]
    fn a_dead_primary_is_closed_though_its_events_cannot_be_stopped() {
        for call in 0..2 {
            let old = Fake::failing(primary(), call, Failure::Before);
            let link = FakeLink::with(&vip());
            let addresses = [Address {
                link: &link,
                vip: vip(),
            }];
            let run = Run::new(Deadline::after(Duration::from_secs(5)), Mode::Real, |_| {});
            let outcome = run.carry_out(|run| fence(run, Some(&old), &addresses, HOW.closing));
            assert!(matches!(outcome, Outcome::Done), "{call} {outcome:?}");
            assert_eq!(old.world.borrow().writes, Writes::Closed);
            assert!(link.vips.borrow().is_empty());
        }
    }
}
