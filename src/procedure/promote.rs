//! A replica becomes the primary, losing nothing it has received.

use std::time::Duration;

use super::demote::{Demotion, demote};
use crate::config::{OnLag, OnWritablePeer};
use crate::db::{Channel, Database, Position, Receiver, State, Thread, Writes};
use crate::error::{Error, Kind, Result};
use crate::run::Run;

/// Another server that may be primary, and what it said of itself.
pub struct Peer<'a> {
    /// For fencing it.
    pub db: &'a dyn Database,
    /// Its answer, or why there is none.
    pub state: &'a Result<State>,
}

/// How a replica is to be promoted.
#[derive(Clone, Copy, Debug)]
pub struct Promotion<'a> {
    /// How long applying what was received may take.
    pub limit: Duration,
    /// What then.
    pub on_lag: OnLag,
    /// What to do when a peer takes writes.
    pub on_writable_peer: OnWritablePeer,
    /// How long to go on receiving from a source that answers.
    pub receive_limit: Duration,
    /// Whether the new primary forgets its source.
    pub forget_source: bool,
    /// How a peer that takes writes is closed.
    pub fence: Demotion<'a>,
}

/// Makes `db` writable once it has applied everything it received, and no peer takes writes.
///
/// # Errors
/// When it cannot be done without losing something, unless `how` says to do it anyway; then the
/// timeline says what was lost.
pub fn promote<'a>(
    run: &mut Run<'a>,
    db: &'a dyn Database,
    peers: &[Peer<'_>],
    how: Promotion<'_>,
) -> Result<()> {
    let name = db.name();
    let writes = db.state()?.writes;
    let channels = db.channels()?;
    if writes == Writes::Open && (channels.is_empty() || !how.forget_source) {
        run.note(format!("{name} is the primary already"));
        return Ok(());
    }
    run.check(&format!("{name} applies without error"), || {
        channels.iter().try_for_each(|c| applies(c, how.on_lag))
    })?;
    for peer in peers {
        close_peer(run, peer, how)?;
        receive_rest(run, db, peer, &channels, how.receive_limit)?;
    }
    for channel in &channels {
        apply_received(run, db, channel, how)?;
    }
    run.commit(&format!("make {name} writable"), || db.open_writes())?;
    for channel in &channels {
        let source = &channel.source;
        if how.forget_source {
            let step = format!("forget the source {source}");
            run.act(&step, || db.forget_source(&channel.name))?;
        } else {
            let step = format!("replicate from {source} again");
            run.act(&step, || {
                db.set_thread(Thread::Applier, &channel.name, true)?;
                db.set_thread(Thread::Receiver, &channel.name, true)
            })?;
        }
    }
    Ok(())
}

/// A stopped applier with an error will not apply the rest by being waited for.
fn applies(channel: &Channel, on_lag: OnLag) -> Result<()> {
    match &channel.applier_error {
        Some(error) if !channel.applying && on_lag == OnLag::Abort => {
            Err(
                Error::new(Kind::Refused, format!("the applier stopped: {error}")).advise(
                    "mend it and START SLAVE SQL_THREAD, or promote another server; \
                 [promote] on_lag = \"force\" gives up what is not applied",
                ),
            )
        }
        _ => Ok(()),
    }
}

/// Sees to it that `peer` takes no writes, as far as it can be reached.
fn close_peer(run: &mut Run<'_>, peer: &Peer<'_>, how: Promotion<'_>) -> Result<()> {
    let name = peer.db.name();
    let step = format!("{name} takes no writes");
    match peer.state {
        Ok(state) if state.writes != Writes::Open => run.check(&step, || Ok(())),
        Ok(_) if how.on_writable_peer == OnWritablePeer::Fence => {
            run.note(format!("{name} takes writes"));
            demote(run, peer.db, how.fence)
        }
        Ok(_) => run.check(&step, || {
            Err(Error::new(Kind::Refused, "it does")
                .advise("close it by hand, or set [promote] on_writable_peer = \"fence\""))
        }),
        // It is alive, and nobody can tell whether it takes writes.
        Err(error) if error.server_code().is_some() => run.check(&step, || {
            Err(Error::new(Kind::Refused, error.chain())
                .advise("let the account of [[peer]] log in there, or close that server"))
        }),
        Err(error) => {
            run.note(format!("going on without {name}: {}", error.chain()));
            Ok(())
        }
    }
}

/// What a source that still answers has written is worth receiving before it is left.
fn receive_rest(
    run: &mut Run<'_>,
    db: &dyn Database,
    peer: &Peer<'_>,
    channels: &[Channel],
    limit: Duration,
) -> Result<()> {
    let Ok(state) = peer.state else {
        return Ok(());
    };
    let Some(channel) = channels.iter().find(|c| c.source_id == state.server_id) else {
        return Ok(());
    };
    let source = peer.db.name();
    if channel.receiver != Receiver::Connected {
        // It may be asleep until its next try, a minute by default.
        run.act(&format!("connect to {source} again"), || {
            db.set_thread(Thread::Receiver, &channel.name, false)?;
            db.set_thread(Thread::Receiver, &channel.name, true)
        })?;
    }
    let mut end: Option<Position> = None;
    let received = run.wait(&format!("receive the rest from {source}"), limit, || {
        if end.is_none() {
            end = peer.db.written()?;
        }
        let Some(end) = &end else {
            return Ok(None); // it writes no binary log, so there is nothing to receive
        };
        let now = db.channels()?.into_iter().find(|c| c.name == channel.name);
        Ok(now
            .filter(|now| !now.received.reaches(end))
            .map(|now| format!("at {} of {end}", now.received)))
    });
    match received {
        // It may die in the middle of this; then there is no more to be had from it.
        Err(error) if error.kind() != Kind::Overtaken => {
            run.note(format!("not everything was received: {}", error.chain()));
            Ok(())
        }
        received => received,
    }
}

/// Stops receiving, applies the rest, stops applying.
fn apply_received<'a>(
    run: &mut Run<'a>,
    db: &'a dyn Database,
    channel: &Channel,
    how: Promotion<'_>,
) -> Result<()> {
    let source = &channel.source;
    switch_off(run, db, Thread::Receiver, channel)?;
    if !channel.applying && channel.applier_error.is_none() {
        let name = channel.name.clone();
        run.change(
            &format!("start applying from {source}"),
            || db.set_thread(Thread::Applier, &channel.name, true),
            &format!("stop applying from {source}"),
            move || db.set_thread(Thread::Applier, &name, false),
        )?;
    }
    let step = format!("apply what was received from {source}");
    let applied = run.wait(&step, how.limit, || db.unapplied(&channel.name));
    match applied {
        Err(error) if error.kind() == Kind::Timeout && how.on_lag == OnLag::Force => {
            run.note(format!("GIVING UP what was not applied: {}", error.chain()));
        }
        applied => applied?,
    }
    switch_off(run, db, Thread::Applier, channel)
}

fn switch_off<'a>(
    run: &mut Run<'a>,
    db: &'a dyn Database,
    thread: Thread,
    channel: &Channel,
) -> Result<()> {
    let doing = match thread {
        Thread::Receiver => "receiving",
        Thread::Applier => "applying",
    };
    let name = channel.name.clone();
    run.change(
        &format!("stop {doing} from {}", channel.source),
        || db.set_thread(thread, &channel.name, false),
        &format!("start {doing} from {}", channel.source),
        move || db.set_thread(thread, &name, true),
    )
}
