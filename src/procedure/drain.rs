//! A replica applies what it has received, and then replicates no more.

use super::fitness::stopped;
use super::promote::Promotion;
use crate::config::OnLag;
use crate::db::{Channel, Database, Halted, Receiver, Seen, Thread};
use crate::error::{Kind, Result};
use crate::run::Run;

/// Stops receiving by the channel called `name`, applies the rest, stops applying; whether that was
/// all. `seen` is what `db` was just seen to be, and is so again afterwards.
pub fn apply_received<'a>(
    run: &mut Run<'a>,
    db: &'a dyn Database,
    seen: &mut Seen,
    name: &str,
    source_answers: bool,
    how: Promotion<'_>,
) -> Result<bool> {
    let Some(channel) = seen.channel(name).cloned() else {
        return Ok(true);
    };
    // First the applier: when neither runs, starting it may delete what it is to apply.
    start_applier(run, db, &channel)?;
    stop_receiver(run, db, seen, &channel, source_answers)?;
    let mut applied = wait_for_applier(run, db, seen, &channel, how, Applied::LooksAll)?;
    let is_on_its_way_out = |c: &Channel| !run.is_dry() && c.receiver != Receiver::Stopped;
    if applied == Applied::All
        && !source_answers
        && seen.channel(name).is_some_and(is_on_its_way_out)
    {
        // It would have to wait for the receiver, and there is nothing left to apply.
        run.note("the receiver still looks for its source: both threads are stopped afterwards");
        seen.history = db.history()?;
        return Ok(true);
    }
    stop_applier(run, db, seen, &channel, applied)?;
    if applied == Applied::LooksAll && is_behind(db, seen.channel(name))? {
        run.note("the applier was not done yet");
        let again = format!("start applying from {} again", channel.source);
        run.act(&again, || db.set_thread(Thread::Applier, name, true))?;
        seen.channels = db.channels()?;
        applied = wait_for_applier(run, db, seen, &channel, how, Applied::All)?;
        stop_applier(run, db, seen, &channel, applied)?;
    }
    Ok(applied != Applied::Part)
}

/// What an applier has applied of what was received.
#[derive(Clone, Copy, PartialEq)]
enum Applied {
    /// Everything, which is proven.
    All,
    /// Everything, as it looks. When the applier has stopped that can be proven.
    LooksAll,
    /// Not everything, and the rest is given up.
    Part,
}

fn start_applier<'a>(run: &mut Run<'a>, db: &'a dyn Database, channel: &Channel) -> Result<()> {
    if channel.applying || channel.applier_error.is_some() || keeps_alone(db, channel)? {
        return Ok(());
    }
    let name = channel.name.clone();
    run.change(
        &format!("start applying from {}", channel.source),
        || db.set_thread(Thread::Applier, &channel.name, true),
        &format!("stop applying from {}", channel.source),
        move || db.set_thread(Thread::Applier, &name, false),
    )
}

fn stop_receiver<'a>(
    run: &mut Run<'a>,
    db: &'a dyn Database,
    seen: &mut Seen,
    channel: &Channel,
    source_answers: bool,
) -> Result<()> {
    let name = channel.name.clone();
    let mut halted = None;
    let stopped = run.change(
        &format!("stop receiving from {}", channel.source),
        || {
            let seen = match source_answers {
                true => db.halt(Thread::Receiver, channel)?,
                false => db.let_go(channel)?,
            };
            Ok(halted.insert(seen).changed)
        },
        &format!("start receiving from {}", channel.source),
        move || match look(db, &name)? {
            Some(now) if !source_answers && keeps_alone(db, &now)? => Err(stopped(&now)),
            _ => db.set_thread(Thread::Receiver, &name, true),
        },
    );
    // One that is stuck on its way to a source that is gone receives nothing more either.
    let is_cut_off = || {
        let now = look(db, &channel.name)?;
        Ok(now.is_none_or(|now| now.receiver != Receiver::Connected))
    };
    go_on_if(run, stopped, is_cut_off)?;
    see_again(run, db, seen, halted)
}

fn stop_applier<'a>(
    run: &mut Run<'a>,
    db: &'a dyn Database,
    seen: &mut Seen,
    channel: &Channel,
    applied: Applied,
) -> Result<()> {
    let now = seen.channel(&channel.name).unwrap_or(channel);
    let name = channel.name.clone();
    let mut halted = None;
    let stopped = run.change(
        &format!("stop applying from {}", channel.source),
        || Ok(halted.insert(db.halt(Thread::Applier, now)?).changed),
        &format!("start applying from {}", channel.source),
        move || db.set_thread(Thread::Applier, &name, true),
    );
    go_on_if(run, stopped, || Ok(applied == Applied::All))?;
    see_again(run, db, seen, halted)
}

/// Takes in what was seen when a thread was stopped.
fn see_again(
    run: &Run<'_>,
    db: &dyn Database,
    seen: &mut Seen,
    halted: Option<Halted>,
) -> Result<()> {
    match halted {
        Some(halted) => (seen.channels, seen.history) = (halted.channels, halted.history),
        None if run.is_dry() => {}
        None => *seen = db.see()?,
    }
    Ok(())
}

/// Waits for the applier of `channel`, which is in `seen` as it is now.
fn wait_for_applier(
    run: &mut Run<'_>,
    db: &dyn Database,
    seen: &mut Seen,
    channel: &Channel,
    how: Promotion<'_>,
    enough: Applied,
) -> Result<Applied> {
    let source = &channel.source;
    let dry = run.is_dry();
    let step = format!("apply what was received from {source}");
    let mut applied = Applied::All;
    let mut is_seen = true;
    let missing = || {
        if !std::mem::take(&mut is_seen) {
            seen.channels = db.channels()?;
        }
        let Some(now) = seen.channel(&channel.name) else {
            return Ok(None);
        };
        let unapplied = db.unapplied(now)?;
        if unapplied.is_none() || dry {
            return Ok(unapplied);
        }
        if !now.applying {
            return Err(stopped(now));
        }
        if enough == Applied::LooksAll && db.seems_idle()? {
            applied = Applied::LooksAll;
            return Ok(None);
        }
        Ok(unapplied)
    };
    let hear = |patience| db.hear(&channel.name, patience);
    let waited = run.wait_or_hear(&step, how.limit, missing, hear);
    let gives_up =
        |kind| how.on_lag == OnLag::Force && matches!(kind, Kind::Timeout | Kind::Refused);
    match waited {
        Err(error) if gives_up(error.kind()) => {
            let now = look(db, &channel.name)?.unwrap_or_else(|| channel.clone());
            let (left, relay) = (db.unapplied(&now)?.unwrap_or_default(), &now.relay);
            run.note(format!(
                "GIVING UP what was not applied from {source}, {left}; \
                 this server's relay log has it from {relay} on: {}",
                error.chain()
            ));
            Ok(Applied::Part)
        }
        waited => waited.map(|()| applied),
    }
}

fn look(db: &dyn Database, name: &str) -> Result<Option<Channel>> {
    Ok(db.channels()?.into_iter().find(|c| c.name == name))
}

fn is_behind(db: &dyn Database, channel: Option<&Channel>) -> Result<bool> {
    match channel {
        Some(channel) => Ok(db.unapplied(channel)?.is_some()),
        None => Ok(false),
    }
}

/// A thread that takes its time to stop need not hold up the rest.
pub fn go_on_if(
    run: &Run<'_>,
    stopped: Result<()>,
    harmless: impl FnOnce() -> Result<bool>,
) -> Result<()> {
    match stopped {
        Err(error) if error.kind() == Kind::Timeout && harmless()? => {
            run.note(format!("going on: {}", error.chain()));
            Ok(())
        }
        stopped => stopped,
    }
}

/// Whether `channel` has what is nowhere else and would be deleted by starting a thread.
pub fn keeps_alone(db: &dyn Database, channel: &Channel) -> Result<bool> {
    let neither_runs = channel.receiver == Receiver::Stopped && !channel.applying;
    Ok(channel.fragile && neither_runs && db.unapplied(channel)?.is_some())
}
