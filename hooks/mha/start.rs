//! `start` of both hooks: the new primary comes into service.

use std::time::Duration;

use hookbox::db::server::Server;
use hookbox::db::{Database, Writes};
use hookbox::error::{Error, Kind, Result};
use hookbox::link::Vip;
use hookbox::procedure::demote::demote;
use hookbox::procedure::establish::{Address, establish};
use hookbox::procedure::lossless::{self, NOTE};
use hookbox::procedure::release::take_off;
use hookbox::run::{Outcome, Run};
use hookbox::switch::Reason;

use super::{Site, addresses_on, ask_through, remote, server, vips_on};

/// How long an old primary may take to say whether it takes writes. After `stop` it has nothing
/// else to do; one whose host is gone says nothing, and meanwhile there is no primary.
const ANSWER: Duration = Duration::from_secs(2);

/// Brings the new primary into service. It goes forward only: MHA turns the replicas round next.
///
/// In an online change the old primary works and is asked first whether it takes writes. In a
/// failover that would cost time, and `stop` has seen to it; if none is written down, as when a
/// person calls `start`, the old primary is asked too, and its addresses are taken off.
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
    let record = site.register.open().unwrap_or_default();
    let record = record.filter(|record| record.old.is(&call.orig));
    let left = match record {
        Some(_) => Vec::new(),
        None => vips_on(&context.config, &call.orig)?,
    };
    let left_host = remote(context, &call.orig, &left, connect.min(ANSWER))?;
    let left = addresses_on(left_host.as_ref(), left);
    let login = site.new_login()?;
    let db = server(context, side, login.clone());
    let old_login = call.orig_login.clone().unwrap_or(login.clone());
    let old = server(context, &call.orig, old_login);
    let patient_old = old.another().patient(ANSWER);
    Ok(context.run(|run| {
        if record.is_none() {
            run.note(format!("no stop of {} is written down", old.name()));
        }
        let mut old_answers = false;
        if record.is_none() || reason == Reason::OnlineChange {
            old_answers = must_be_closed(run, site, &old)?;
        }
        for address in &left {
            clear_away(run, address)?;
        }
        note_unapplied(run, &db);
        let asked = old_answers.then_some(&patient_old as &dyn Database);
        run.note(format!("{NOTE}{}", lossless::of_switch(&db, asked)));
        let ask = |vip: &Vip| ask_through(vip, side.port, &login, &context.deadline);
        let mut established = establish(run, &db, &addresses, site.closing(), Some(&ask));
        let before = record.map(|record| record.before).unwrap_or_default();
        for account in &before.locked {
            let step = format!("let {account} in on {} again", old.name());
            let unlocked = run.act(&step, || patient_old.set_account_lock(account, false));
            established = established.and(unlocked);
        }
        site.finish(run, &db, &before, established)
    }))
}

/// Takes an address off the old primary's host, if that can be reached.
fn clear_away<'a>(run: &mut Run<'a>, address: &'a Address<'a>) -> Result<()> {
    match take_off(run, address) {
        Err(error) if error.kind() == Kind::Overtaken => Err(error),
        // Whoever answers at the address is asked in the end.
        Err(error) => {
            run.note(format!("going on: {}", error.chain()));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Nothing is made writable before the other side is closed. Gives whether that answers.
fn must_be_closed<'a>(run: &mut Run<'a>, site: &'a Site, old: &'a Server) -> Result<bool> {
    let name = old.name();
    match old.another().patient(ANSWER).state() {
        Ok(state) if state.writes == Writes::Open => {
            run.note(format!("{name} takes writes"));
            demote(run, old, site.closing())?;
        }
        Ok(_) => run.check(&format!("{name} takes no writes"), || Ok(()))?,
        Err(error) if !error.is_silence() => {
            run.check(&format!("{name} takes no writes"), || {
                Err(Error::new(Kind::Refused, error.chain())
                    .advise("let MHA's account log in there, or close that server"))
            })?
        }
        Err(error) => {
            run.note(format!("going on without {name}: {}", error.chain()));
            return Ok(false);
        }
    }
    Ok(true)
}

/// MHA has applied what could be had, from other replicas too; what it left is for people to know.
fn note_unapplied(run: &Run<'_>, db: &dyn Database) {
    for channel in db.channels().unwrap_or_default() {
        if let Ok(Some(left)) = db.unapplied(&channel.name) {
            let source = channel.source;
            run.note(format!(
                "NOT APPLIED of what was received from {source}: {left}"
            ));
        }
    }
}
