//! `start` of both hooks: the new primary comes into service.

use std::time::Duration;

use hookbox::db::server::Server;
use hookbox::db::{Channel, Database, Writes};
use hookbox::error::{Error, Kind, Result};
use hookbox::link::Vip;
use hookbox::procedure::establish::{Address, establish};
use hookbox::procedure::lossless::{self, NOTE};
use hookbox::procedure::release::{fence, take_off};
use hookbox::run::{Outcome, Run};
use hookbox::switch::Reason;

use super::{Site, addresses_on, ask_through, remote, server, vips_on};

/// How long a server may take to say how it is. An old primary has nothing else to do after `stop`;
/// one whose host is gone says nothing, and meanwhile there is no primary. Of a new one that says
/// nothing not more is asked than it takes to know that.
const ANSWER: Duration = Duration::from_secs(2);

/// Brings the new primary into service. It goes forward only: MHA turns the replicas round next.
///
/// In an online change the old primary works and is asked first whether it takes writes. In a
/// failover that would cost time, and `stop` has seen to it. If none came to its end, as when a person
/// calls `start`, what it would have done is done now.
///
/// # Errors
/// When MHA or the configuration does not say what is needed.
pub fn start(site: &Site, reason: Reason) -> Result<Outcome> {
    let _lock = site.lock()?;
    let (context, call, side) = (&site.context, &site.call, site.new_side()?);
    let connect = context.config.ssh.connect;
    let vips = vips_on(&context.config, side)?;
    let host = remote(context, side, &vips, connect)?;
    let addresses = addresses_on(host.as_ref(), vips);
    let is_put_away = site.switch().is_some_and(|switch| switch.put_away);
    let left = match is_put_away {
        true => Vec::new(),
        false => vips_on(&context.config, &call.orig)?,
    };
    let left_host = remote(context, &call.orig, &left, connect)?;
    let left = addresses_on(left_host.as_ref(), left);
    let began_before = site.has_begun();
    let login = site.new_login()?;
    let db = server(context, side, login.clone());
    let hasty = db.another().patient(ANSWER);
    let old_login = call.orig_login.clone().unwrap_or(login.clone());
    let old = server(context, &call.orig, old_login);
    let patient_old = old.another().patient(ANSWER);
    let outcome = context.run(|run| {
        if !is_put_away {
            run.note(format!("no stop of {} came to its end", old.name()));
        }
        let old_answers = match (reason, is_put_away) {
            (Reason::Failover, true) => false,
            _ => put_away(run, site, reason, (&old, &db), &left)?,
        };
        let asked = old_answers.then_some(&patient_old as &dyn Database);
        let db = match hasty.state() {
            Err(error) if error.kind() == Kind::Overtaken => return Err(error),
            Err(error) if error.is_silence() => {
                run.note(format!("{} does not answer: {}", db.name(), error.chain()));
                &hasty
            }
            _ => {
                lossless::note_unapplied(run, &db)?;
                run.note(format!("{NOTE}{}", lossless::of_switch(&db, asked)?));
                &db
            }
        };
        let ask = |vip: &Vip| ask_through(vip, side.port, &login, &context.deadline);
        let mut established = establish(run, db, &addresses, site.closing(), Some(&ask));
        let before = site
            .switch()
            .map(|switch| switch.before)
            .unwrap_or_default();
        for account in &before.locked {
            let step = format!("let {account} in on {} again", old.name());
            let unlocked = run.act(&step, || patient_old.set_account_lock(account, false));
            established = established.and(unlocked);
        }
        site.finish(run, db, &before, established)
    });
    if !is_put_away {
        site.after_stop(&outcome, began_before);
    }
    Ok(outcome)
}

/// Nothing is made writable before the other side is closed, and nothing is closed for a new primary
/// that is dead. Gives whether the old one answers.
fn put_away<'a>(
    run: &mut Run<'a>,
    site: &'a Site,
    reason: Reason,
    (old, new): (&'a Server, &'a Server),
    left: &'a [Address<'a>],
) -> Result<bool> {
    let name = old.name();
    let step = format!("{name} takes no writes");
    let begun = site.switch();
    // Between its own `stop` and `start` MHA sees to what the new one lacks.
    let is_first = !begun.as_ref().is_some_and(|switch| switch.put_away);
    let id = match old.another().patient(ANSWER).state() {
        Ok(state) if state.writes == Writes::Open => {
            run.note(format!("{name} takes writes"));
            if is_first {
                run.check(&format!("{} replicates from {name}", new.name()), || {
                    channel_from(&new.another().patient(ANSWER), state.server_id).map(drop)
                })?;
            }
            for Address { link, vip } in left {
                let can = format!("{} on {} can have {}", vip.link, link.name(), vip.address);
                run.check(&can, || link.ready(vip))?;
            }
            site.write_down_if_possible(run, reason, Some(old), left)?;
            fence(run, Some(old), left, site.closing())?;
            Some(state.server_id)
        }
        Ok(state) => {
            run.check(&step, || Ok(()))?;
            clear_away(run, left)?;
            begun.is_some().then_some(state.server_id)
        }
        Err(error) if error.is_silence() => {
            run.note(format!("going on without {name}: {}", error.chain()));
            clear_away(run, left)?;
            return Ok(false);
        }
        Err(error) if error.kind() == Kind::Overtaken => return Err(error),
        Err(error) => {
            return run
                .check(&step, || {
                    Err(Error::new(Kind::Refused, error.chain())
                        .advise("let MHA's account log in there, or close that server"))
                })
                .map(|()| false);
        }
    };
    if let (true, Some(id)) = (is_first, id) {
        catch_up(run, site, (old, new), id)?;
    }
    // What clients write on the new one from here on would be missing on the old one.
    run.no_way_back();
    Ok(true)
}

/// Replication on `new` from the server with this `server_id`.
fn channel_from(new: &Server, id: u32) -> Result<Channel> {
    let mut channels = new.channels()?.into_iter();
    channels
        .find(|channel| channel.source_id == id)
        .ok_or_else(|| {
            Error::new(Kind::Refused, "it does not: its data may be others")
                .advise("hookbox rejoin there, or close the old primary if it is none")
        })
}

/// Waits until the new primary has all that the old one wrote, which takes no more writes.
fn catch_up(run: &mut Run<'_>, site: &Site, (old, new): (&Server, &Server), id: u32) -> Result<()> {
    let limit = site.context.config.promote.limit;
    let end = old.written()?;
    let step = format!("{} has all that {} wrote", new.name(), old.name());
    run.wait(&step, limit, || {
        let applied = channel_from(new, id)?.applied;
        Ok(match &end {
            Some(end) if !applied.reaches(end) => Some(format!("at {applied} of {end}")),
            _ => None,
        })
    })
    .map_err(|error| error.advise(format!("see how replication stands on {}", new.name())))
}

/// Takes addresses off the old primary's host, if that can be reached.
fn clear_away<'a>(run: &mut Run<'a>, addresses: &'a [Address<'a>]) -> Result<()> {
    for address in addresses {
        match take_off(run, address) {
            Err(error) if error.kind() == Kind::Overtaken => return Err(error),
            // Whoever answers at the address is asked in the end.
            Err(error) => run.note(format!("going on: {}", error.chain())),
            Ok(()) => {}
        }
    }
    Ok(())
}
