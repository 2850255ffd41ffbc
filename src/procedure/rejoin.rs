//! A server that was the primary becomes a replica of the new one, losing and inventing nothing.

use std::time::Duration;

use self::arrive::verify;
use self::compare::{Side, beyond, fits, lacks_nothing, named, only_channel};
use super::demote::{Demotion, close};
use super::drain::apply_received;
use super::fitness::applies;
use super::or_note;
use super::promote::Promotion;
use super::semisync::after_closing;
use crate::config::{OnLag, OnWritablePeer, Require, SemiSyncAt};
use crate::db::{Channel, Database, Gtids, History, Receiver, Source, Thread, Writes, semisync};
use crate::error::{Error, Kind, Result};
use crate::run::{Changed, Run};

mod arrive;
mod compare;
#[cfg(test)]
mod tests;

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
    /// What becomes of semi-sync.
    pub semi_sync: SemiSyncAt,
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
    if how.semi_sync == SemiSyncAt::Switch {
        turn_semi_sync_round(run, db, how)?;
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

/// A server whose commits waited for replicas acknowledges to the new primary. It says so when its
/// receiver connects, so this comes before.
fn turn_semi_sync_round(run: &mut Run<'_>, db: &dyn Database, how: Rejoin<'_>) -> Result<()> {
    let semi = or_note(run, "semi-sync", db.semi_sync())?;
    if semi.and_then(|semi| semi.source) != Some(true) {
        return Ok(());
    }
    let turns = [
        (
            semisync::Side::Replica,
            true,
            "commits waited here for replicas; now this server acknowledges to the new primary",
        ),
        (
            semisync::Side::Source,
            false,
            "what it applies would wait for replicas that it does not have",
        ),
    ];
    for (side, on, why) in turns {
        if let Some(sql) = db.semi_sync_statement(side, on)? {
            (how.explain)(&sql, why);
        }
    }
    after_closing(run, db)
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
