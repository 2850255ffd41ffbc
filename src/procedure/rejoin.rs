//! A server that was the primary becomes a replica of the new one, losing and inventing nothing.

use std::time::Duration;

use self::arrive::verify;
use self::compare::{Side, beyond, fits, lacks_nothing, named, only_channel};
use super::demote::{Demotion, close};
use super::drain::apply_received;
use super::fitness::applies;
use super::promote::Promotion;
use crate::config::{OnLag, OnWritablePeer, Require, SemiSyncAt};
use crate::db::{Channel, Database, Gtids, History, Receiver, Source, Thread, Writes};
use crate::error::{Error, Kind, Result};
use crate::run::{Changed, Run};

mod arrive;
mod compare;

/// How a server is to become a replica.
#[derive(Clone, Copy)]
pub struct Rejoin<'a> {
    /// Of whom, and by which account.
    pub source: Source<'a>,
    /// How it is closed for writes.
    pub closing: Demotion<'a>,
    /// How long applying what another source had sent may take, and replicating to begin.
    pub limit: Duration,
    /// Somebody vouches that `db` has written nothing since its replication from `source` stopped,
    /// which nothing shows where there are no GTIDs.
    pub wrote_nothing: bool,
    /// Hears every statement before its time, the password hidden, and why it is safe.
    pub explain: &'a dyn Fn(&str, &str),
}

/// Closes `db` and makes it a replica of `source`.
///
/// # Errors
/// [`Kind::Refused`] when `source` is not fit, when `db` has transactions that `source` lacks, or
/// when nothing proves from where it must go on. Writes that were closed stay so.
pub fn rejoin<'a>(
    run: &mut Run<'a>,
    db: &'a dyn Database,
    source: &'a dyn Database,
    how: Rejoin<'a>,
) -> Result<()> {
    let address = how.source.name();
    let (own, theirs) = (Side::of(db)?, Side::of(source)?);
    run.check(
        &format!("{address} can be the source of {}", own.name),
        || fits(&own, &theirs, &address),
    )?;
    let only = only_channel(&own)?;
    run.check(&format!("{} applies without error", own.name), || {
        own.channels
            .iter()
            .try_for_each(|c| applies(c, OnLag::Abort))
    })?;
    let following = own.channel_of(&theirs, &address);
    let usable = following.filter(|c| c.receiver_error.is_none());
    if usable.is_none() && how.source.login.is_none() {
        return Err(Error::new(Kind::Config, "no account for replication")
            .advise("give [rejoin] user and one of defaults_file, password_file, password_env"));
    }
    close_own(run, db, &own, how)?;
    if following.is_some_and(|c| c.receiver == Receiver::Connected && c.applying) {
        run.note(format!("{} is a replica of {address} already", own.name));
        if let Some(beyond) = beyond(db, &own, &theirs)? {
            run.note(format!("BUT it has what {address} lacks: {beyond}"));
        }
        return Ok(());
    }
    if let Some(other) = only.filter(|_| following.is_none()) {
        finish_other(run, db, other, how)?;
    }
    // Again, since `db` takes no writes any more and `source` may.
    let was_open = own.state.writes == Writes::Open;
    let (own, theirs) = (Side::of(db)?, Side::of(source)?);
    match named(&own, &theirs) {
        true => lacks_nothing(run, db, &own, &theirs)?,
        false => run.note("without GTIDs on both nothing can be compared"),
    }
    let channel = only.map_or("", |channel| &channel.name);
    match usable {
        Some(_) if was_open && !named(&own, &theirs) => return Err(unproven(&address)),
        Some(_) if !how.wrote_nothing && !named(&own, &theirs) => return Err(unsure(&address)),
        Some(channel) => run.note(format!(
            "it goes on where it stopped in the binary log of {address}, {}",
            channel.applied
        )),
        None => set_up(run, db, &own, &theirs, only, how)?,
    }
    start(run, db, &own, channel, how)?;
    verify(run, db, source, channel, (&address, how.limit))
}

fn close_own(run: &mut Run<'_>, db: &dyn Database, own: &Side, how: Rejoin<'_>) -> Result<()> {
    if own.state.is_closed() && !how.closing.resume {
        run.note(format!("{} takes no writes already", own.name));
        return Ok(());
    }
    let variable = match own.state.has_super_read_only {
        true => "super_read_only",
        false => "read_only",
    };
    (how.explain)(
        &format!("SET GLOBAL {variable} = 1"),
        "what is written from here on would be on this server alone; it ends the sessions of \
         applications too, and is not taken back",
    );
    if db.runs_events()? {
        (how.explain)(
            "SET GLOBAL event_scheduler = OFF",
            "an event whose definer may write in spite of read_only would go on; the next \
             promotion starts it where it ran on the primary",
        );
    }
    close(run, db, how.closing)
}

/// What another source has sent is applied before its relay log is gone.
fn finish_other<'a>(
    run: &mut Run<'a>,
    db: &'a dyn Database,
    channel: &Channel,
    how: Rejoin<'a>,
) -> Result<()> {
    let version = db.identity()?.version;
    for thread in [Thread::Receiver, Thread::Applier] {
        (how.explain)(
            &version.dialect().stop(thread, &channel.name),
            "what that source has sent is applied in between, and counts in the comparison",
        );
    }
    let drain = Promotion {
        limit: how.limit,
        on_lag: OnLag::Abort,
        on_writable_peer: OnWritablePeer::Refuse,
        receive_limit: Duration::ZERO,
        require: Require::Any,
        semi_sync: SemiSyncAt::Keep,
        forget_source: false,
        resume: false,
        fence: how.closing,
    };
    let mut seen = db.see()?;
    apply_received(run, db, &mut seen, &channel.name, false, drain).map(drop)
}

/// Makes `db` a replica that goes on after its own last transaction.
fn set_up<'a>(
    run: &mut Run<'a>,
    db: &'a dyn Database,
    own: &Side,
    theirs: &Side,
    existing: Option<&Channel>,
    how: Rejoin<'a>,
) -> Result<()> {
    let address = how.source.name();
    go_on_after(run, db, own, theirs, existing, how)?;
    stop(run, db, existing, how)?;
    let channel = existing.map(|c| c.name.clone()).unwrap_or_default();
    (how.explain)(
        &how.source.statement(own.identity.version, &channel, "***"),
        "replication goes on after the last transaction that this server has, by name and not by a \
         place in a file; the source was seen to have all of them",
    );
    let step = format!("make {address} the source");
    let undone = channel.clone();
    match existing {
        None => run.change(
            &step,
            || db.set_source(&channel, &how.source),
            &format!("forget the source {address}"),
            move || db.forget_source(&undone),
        ),
        // What it was before cannot be put back: nobody shows its password.
        Some(_) => run.commit(&step, || db.set_source(&channel, &how.source)),
    }
}

/// Sees to it that replication goes on after the last transaction that `own` has, and that
/// `theirs` can send what follows.
fn go_on_after(
    run: &mut Run<'_>,
    db: &dyn Database,
    own: &Side,
    theirs: &Side,
    existing: Option<&Channel>,
    how: Rejoin<'_>,
) -> Result<()> {
    let address = how.source.name();
    match (&own.identity.gtids, &theirs.identity.gtids) {
        (
            Gtids::Sets { executed, .. },
            Gtids::Sets {
                purged,
                executed: known,
            },
        ) => {
            knows_what_it_has(run, executed, known.is_empty())?;
            let step = format!("{address} still has all that is missing here");
            run.check(&step, || match db.gtids_beyond(purged, executed)? {
                gone if gone.is_empty() => Ok(()),
                gone => Err(rebuild(format!(
                    "its binary logs do not hold {gone} any more"
                ))),
            })
        }
        (
            Gtids::Positions {
                history,
                current,
                received,
                ..
            },
            Gtids::Positions { history: known, .. },
        ) => {
            knows_what_it_has(run, current, *known == History::default())?;
            if let Some(passed) = known.passed_by(history, theirs.state.server_id) {
                run.note(format!(
                    "{address} wrote {passed}, which this server has only if it was built from a \
                     copy that had it; it will not be sent"
                ));
            }
            set_position(run, db, existing, (current, received), how)
        }
        _ => Err(unproven(&address)),
    }
}

/// A server that has data and no GTIDs, after RESET MASTER say, would be sent everything again.
fn knows_what_it_has(run: &mut Run<'_>, gtids: &str, nothing_there: bool) -> Result<()> {
    run.check("this server knows which transactions it has", || {
        match gtids.is_empty() && !nothing_there {
            true => Err(rebuild(
                "it names none (gtid_executed, gtid_current_pos)".to_owned(),
            )),
            false => Ok(()),
        }
    })
}

fn rebuild(why: String) -> Error {
    Error::new(Kind::Refused, why)
        .advise("rebuild this server from a copy of the source: mariabackup, xtrabackup, CLONE")
}

fn unproven(address: &str) -> Error {
    let what = "without GTIDs nothing proves from where in its binary log to go on";
    Error::new(Kind::Refused, what).advise(format!(
        "rebuild this server from a copy of {address}, and set gtid_mode = ON and \
         enforce_gtid_consistency = ON on both for the next time"
    ))
}

fn unsure(address: &str) -> Error {
    let what = "without GTIDs nothing shows whether this server wrote while it did not replicate";
    Error::new(Kind::Refused, what).advise(format!(
        "if it certainly did not: hookbox rejoin --source {address} --wrote-nothing; else rebuild \
         it from a copy of {address}"
    ))
}

/// What a primary wrote itself is not in `gtid_slave_pos`. It never was wrong to have said so: no
/// way back is needed.
fn set_position(
    run: &mut Run<'_>,
    db: &dyn Database,
    existing: Option<&Channel>,
    (current, received): (&str, &str),
    how: Rejoin<'_>,
) -> Result<()> {
    if current == received {
        return Ok(());
    }
    stop(run, db, existing, how)?;
    (how.explain)(
        &format!("SET GLOBAL gtid_slave_pos = '{current}'"),
        "the last transaction of each domain that this server has, its own ones too \
         (gtid_current_pos): nothing is applied twice, nothing is left out",
    );
    run.act(&format!("go on after {current}"), || {
        db.set_gtid_position(current)
    })
}

/// Both threads, which CHANGE MASTER wants stopped.
fn stop(
    run: &mut Run<'_>,
    db: &dyn Database,
    existing: Option<&Channel>,
    how: Rejoin<'_>,
) -> Result<()> {
    let Some(channel) = existing else {
        return Ok(());
    };
    let now = db.channels()?.into_iter().find(|c| c.name == channel.name);
    if now.is_none_or(|now| now.receiver == Receiver::Stopped && !now.applying) {
        return Ok(());
    }
    let version = db.identity()?.version;
    let threads = [Thread::Receiver, Thread::Applier];
    for thread in threads {
        (how.explain)(
            &version.dialect().stop(thread, &channel.name),
            "what it has fetched and not applied is fetched again",
        );
    }
    run.act(&format!("stop replicating from {}", channel.source), || {
        stop_both(db, &channel.name)
    })
}

fn stop_both(db: &dyn Database, channel: &str) -> Result<Changed> {
    let receiver = db.set_thread(Thread::Receiver, channel, false)?;
    let applier = db.set_thread(Thread::Applier, channel, false)?;
    Ok(match (receiver, applier) {
        (Changed::AlreadySo, Changed::AlreadySo) => Changed::AlreadySo,
        _ => Changed::Yes,
    })
}

fn start<'a>(
    run: &mut Run<'a>,
    db: &'a dyn Database,
    own: &Side,
    channel: &str,
    how: Rejoin<'a>,
) -> Result<()> {
    let address = how.source.name();
    let threads = [Thread::Applier, Thread::Receiver];
    for thread in threads {
        (how.explain)(
            &own.identity.version.dialect().start(thread, channel),
            "read_only keeps everybody but replication from writing",
        );
    }
    let undone = channel.to_owned();
    run.change(
        &format!("replicate from {address}"),
        || {
            for thread in threads {
                db.set_thread(thread, channel, true)?;
            }
            Ok(Changed::Yes)
        },
        &format!("stop replicating from {address}"),
        move || stop_both(db, &undone),
    )
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Failure, Fake, World};
    use super::*;
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
}
