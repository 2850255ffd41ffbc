//! A server stops taking writes.

use std::collections::HashSet;
use std::time::Duration;

use super::drain::keeps_alone;
use super::events;
use super::replicate_again;
use crate::db::Database;
use crate::error::{Error, Kind, Result};
use crate::run::{Changed, Run};
use crate::time::Deadline;

/// Between two looks whether ended sessions are gone.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long those that are on their way out are waited for.
const SEE_OUT: Duration = Duration::from_millis(200);

/// Most time for sessions to go: a KILL can stall for 2 s in a statement that cannot be
/// interrupted.
const SESSIONS_LIMIT: Duration = Duration::from_secs(3);

/// How a server is to be closed.
#[derive(Clone, Copy, Debug)]
pub struct Demotion<'a> {
    /// How long running statements may hold up read_only before their sessions are ended.
    pub grace: Duration,
    /// Accounts whose sessions are left alone.
    pub spare: &'a [String],
    /// The run before was cut short: end sessions even on a server that is closed already, and
    /// let it replicate again, as a promotion may have been about to stop that.
    pub resume: bool,
}

/// Closes `db` for writes and ends the sessions of applications.
///
/// A server that is closed already is left as it is, with its readers: keepalived calls
/// notify_backup at every start.
///
/// # Errors
/// When writes cannot be closed in time, or sessions do not end. Writes that were closed stay so.
pub fn demote(run: &mut Run<'_>, db: &dyn Database, how: Demotion<'_>) -> Result<()> {
    let name = db.name();
    if db.state()?.is_closed() && !how.resume {
        run.note(format!("{name} takes no writes already"));
        return Ok(());
    }
    close(run, db, how)?;
    if how.resume {
        for channel in db.channels()?.iter().filter(|c| c.applier_error.is_none()) {
            match keeps_alone(db, channel)? {
                true => run.note(format!("the relay log of {} is kept", channel.source)),
                false => replicate_again(run, db, channel)?,
            }
        }
    }
    Ok(())
}

/// Closes `db` for writes, stops its events and ends the sessions of applications; never taken back.
pub(super) fn close(run: &mut Run<'_>, db: &dyn Database, how: Demotion<'_>) -> Result<()> {
    let was_open = match db.state() {
        Err(error) if error.kind() == Kind::Overtaken => return Err(error),
        state => !state.is_ok_and(|state| state.is_closed()),
    };
    let step = format!("close writes on {}", db.name());
    let closing = run.commit(&step, || db.close_writes(how.grace, how.spare));
    if closing.is_err() && db.state().is_ok_and(|state| state.is_closed()) {
        run.happened(&step); // so that the next run ends the sessions
    }
    closing?;
    if was_open || how.resume {
        events::stop_on_closed(run, db)?;
    }
    end_sessions(run, db, how.spare)
}

/// Ends the sessions of applications that there are now.
pub(super) fn end_sessions(run: &mut Run<'_>, db: &dyn Database, spare: &[String]) -> Result<()> {
    let name = db.name();
    let limit = run.deadline().at_most(SESSIONS_LIMIT);
    run.act(&format!("end application sessions on {name}"), || {
        // Not those that come later, as some do at once and for ever: they meet a closed server.
        let sessions = db.sessions(spare)?;
        let mut left = sessions.clone();
        while !left.is_empty() {
            let count = left.len();
            let stay = |error| do_not_end(count, error);
            db.end_sessions(&left, limit.left()).map_err(stay)?;
            let there: HashSet<u64> = db.sessions(spare)?.into_iter().collect();
            left.retain(|id| there.contains(id));
            if !left.is_empty() {
                limit.pause(LOOK_AGAIN).map_err(stay)?;
            }
        }
        see_out(db, &sessions, &limit.at_most(SEE_OUT))?;
        Ok(match sessions.is_empty() {
            true => Changed::AlreadySo,
            false => Changed::Yes,
        })
    })
}

/// Waits for sessions that were ended to be gone: their clients are to hear of it while the address
/// is here. One that has a long transaction to undo is ended all the same.
fn see_out(db: &dyn Database, sessions: &[u64], limit: &Deadline) -> Result<()> {
    while db.remaining(sessions)? > 0 {
        match limit.pause(LOOK_AGAIN) {
            Err(error) if error.kind() == Kind::Timeout => break,
            paused => paused?,
        }
    }
    Ok(())
}

fn do_not_end(count: usize, error: Error) -> Error {
    match error.kind() {
        Kind::Timeout => Error::new(Kind::Timeout, format!("{count} sessions do not end"))
            .advise("look at SHOW PROCESSLIST; they cannot write unless privileged"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Failure, Fake, World};
    use super::*;
    use crate::db::{Receiver, Writes};
    use crate::run::{Mode, Outcome};
    use crate::time::Deadline;

    const HOW: Demotion<'static> = Demotion {
        grace: Duration::ZERO,
        spare: &[],
        resume: false,
    };

    fn carry_out(fake: &Fake, how: Demotion<'_>) -> Outcome {
        let run = Run::new(Deadline::after(Duration::from_secs(5)), Mode::Real, |_| {});
        run.carry_out(|run| demote(run, fake, how))
    }

    #[test]
    fn writes_are_closed_before_sessions_are_ended() {
        let fake = Fake::new(World::primary());
        assert!(matches!(carry_out(&fake, HOW), Outcome::Done));
        let world = fake.world.borrow();
        assert_eq!((world.writes, world.sessions.len()), (Writes::Closed, 0));
    }

    #[test]
    fn readers_of_a_closed_server_are_left_alone_unless_the_run_before_was_cut_short() {
        let world = World {
            writes: Writes::Closed,
            ..World::primary()
        };
        let fake = Fake::new(world.clone());
        assert!(matches!(carry_out(&fake, HOW), Outcome::Done));
        assert_eq!(*fake.world.borrow(), world);
        let resume = Demotion {
            resume: true,
            ..HOW
        };
        assert!(matches!(carry_out(&fake, resume), Outcome::Done));
        assert!(fake.world.borrow().sessions.is_empty());
    }

    #[test]
    fn a_standby_whose_promotion_was_cut_short_replicates_again() {
        let mut cut_short = World::replica(0);
        if let Some(channel) = &mut cut_short.channel {
            channel.applying = false;
            channel.receiver = Receiver::Stopped;
        }
        let fake = Fake::new(cut_short.clone());
        assert!(matches!(carry_out(&fake, HOW), Outcome::Done));
        assert_eq!(*fake.world.borrow(), cut_short);
        let resume = Demotion {
            resume: true,
            ..HOW
        };
        assert!(matches!(carry_out(&fake, resume), Outcome::Done));
        assert_eq!(*fake.world.borrow(), World::replica(0));
    }

    #[test]
    fn whichever_call_fails_doing_it_again_ends_well() {
        let primary = World {
            events: true,
            ..World::primary()
        };
        let calls = {
            let fake = Fake::new(primary.clone());
            carry_out(&fake, HOW);
            fake.calls.get()
        };
        for call in 0..calls {
            for failure in [Failure::Before, Failure::After] {
                let fake = Fake::failing(primary.clone(), call, failure);
                if matches!(carry_out(&fake, HOW), Outcome::Done) {
                    // It was something that a closed server can do without.
                    let world = fake.world.borrow();
                    assert_eq!((world.writes, world.sessions.len()), (Writes::Closed, 0));
                }
                let again = Demotion {
                    resume: true,
                    ..HOW
                };
                assert!(
                    matches!(carry_out(&fake, again), Outcome::Done),
                    "{call} {failure:?}"
                );
                let world = fake.world.borrow();
                assert!(world.sessions.is_empty() && !world.events);
            }
        }
    }

    #[test]
    fn a_standby_that_is_closed_already_goes_on_with_its_own_events() {
        let standby = World {
            events: true,
            ..World::replica(0)
        };
        let fake = Fake::new(standby.clone());
        carry_out(&fake, HOW);
        assert_eq!(*fake.world.borrow(), standby);
    }
}
