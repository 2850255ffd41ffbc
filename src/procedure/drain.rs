//! A replica applies what it has received, and then replicates no more.

use super::fitness::stopped;
use super::promote::Promotion;
use crate::config::OnLag;
use crate::db::{Channel, Database, Receiver, Thread};
use crate::error::{Kind, Result};
use crate::run::Run;

/// Stops receiving, applies the rest, stops applying; whether that was all.
pub fn apply_received<'a>(
    run: &mut Run<'a>,
    db: &'a dyn Database,
    channel: &Channel,
    source_answers: bool,
    how: Promotion<'_>,
) -> Result<bool> {
    // First the applier: when neither runs, starting it may delete what it is to apply.
    start_applier(run, db, channel)?;
    stop_receiver(run, db, channel, source_answers)?;
    let mut applied = wait_for_applier(run, db, channel, how, Applied::LooksAll)?;
    let name = channel.name.clone();
    let stop = format!("stop applying from {}", channel.source);
    let set_applier = |run| db.set_thread(Thread::Applier, &channel.name, run);
    let stopped = run.change(
        &stop,
        || set_applier(false),
        &format!("start applying from {}", channel.source),
        move || db.set_thread(Thread::Applier, &name, true),
    );
    go_on_if(run, stopped, || Ok(applied == Applied::All))?;
    if applied == Applied::LooksAll && left(db, &channel.name)?.is_some() {
        run.note("the applier was not done yet");
        let again = format!("start applying from {} again", channel.source);
        run.act(&again, || set_applier(true))?;
        applied = wait_for_applier(run, db, channel, how, Applied::All)?;
        let stopped = run.act(&stop, || set_applier(false));
        go_on_if(run, stopped, || Ok(applied == Applied::All))?;
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
    let Some(now) = look(db, &channel.name)? else {
        return Ok(());
    };
    if now.applying || now.applier_error.is_some() || keeps_alone(db, &now)? {
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
    channel: &Channel,
    source_answers: bool,
) -> Result<()> {
    let name = channel.name.clone();
    let stopped_receiving = run.change(
        &format!("stop receiving from {}", channel.source),
        || db.set_thread(Thread::Receiver, &channel.name, false),
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
    go_on_if(run, stopped_receiving, is_cut_off)
}

fn wait_for_applier(
    run: &mut Run<'_>,
    db: &dyn Database,
    channel: &Channel,
    how: Promotion<'_>,
    enough: Applied,
) -> Result<Applied> {
    let source = &channel.source;
    let dry = run.is_dry();
    let step = format!("apply what was received from {source}");
    let mut applied = Applied::All;
    let missing = || {
        let Some(now) = look(db, &channel.name)? else {
            return Ok(None);
        };
        let unapplied = db.unapplied(&now)?;
        if unapplied.is_none() || dry {
            return Ok(unapplied);
        }
        match now.applying {
            false => Err(stopped(&now)),
            true if enough == Applied::LooksAll && db.seems_idle()? => {
                applied = Applied::LooksAll;
                Ok(None)
            }
            true => Ok(unapplied),
        }
    };
    let hear = |patience| db.hear(&channel.name, patience);
    let waited = run.wait_or_hear(&step, how.limit, missing, hear);
    let gives_up =
        |kind| how.on_lag == OnLag::Force && matches!(kind, Kind::Timeout | Kind::Refused);
    match waited {
        Err(error) if gives_up(error.kind()) => {
            let left = left(db, &channel.name)?.unwrap_or_default();
            let relay = look(db, &channel.name)?
                .map(|now| now.relay)
                .unwrap_or_default();
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

fn left(db: &dyn Database, name: &str) -> Result<Option<String>> {
    match look(db, name)? {
        Some(now) => db.unapplied(&now),
        None => Ok(None),
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
