//! `start` of both hooks: the new primary comes into service.

use hookbox::db::server::Server;
use hookbox::db::{Database, Writes};
use hookbox::error::{Error, Kind, Result};
use hookbox::link::Vip;
use hookbox::procedure::demote::demote;
use hookbox::procedure::establish::establish;
use hookbox::procedure::lossless::{self, NOTE};
use hookbox::run::{Outcome, Run};
use hookbox::switch::Reason;

use super::{Site, addresses, ask_through, remote, server, vips_on};

/// Brings the new primary into service. It goes forward only: MHA turns the replicas round next.
///
/// # Errors
/// When MHA or the configuration does not say what is needed.
pub fn start(site: &Site, reason: Reason) -> Result<Outcome> {
    let _lock = site.lock()?;
    let (context, call, side) = (&site.context, &site.call, site.new_side()?);
    let vips = vips_on(&context.config, side)?;
    let host = match vips.is_empty() {
        true => None,
        false => Some(remote(context, side, context.config.ssh.connect)?),
    };
    let addresses = addresses(host.as_ref(), vips);
    let login = site.new_login()?;
    let db = server(context, side, login.clone());
    let old_login = call.orig_login.clone().unwrap_or(login.clone());
    let old = server(context, &call.orig, old_login);
    Ok(context.run(|run| {
        let record = site.register.open().unwrap_or_default();
        let mut old_answers = false;
        match (reason, &record) {
            (Reason::OnlineChange, _) => old_answers = must_be_closed(run, site, &old)?,
            (Reason::Failover, Some(_)) => {}
            (Reason::Failover, None) => {
                run.note("no stop is written down; MHA says the old primary is put away");
            }
        }
        note_unapplied(run, &db);
        let asked = old_answers.then_some(&old as &dyn Database);
        run.note(format!("{NOTE}{}", lossless::of_switch(&db, asked)));
        let ask = |vip: &Vip| ask_through(vip, side.port, &login, &context.deadline);
        let mut established = establish(run, &db, &addresses, site.closing(), Some(&ask));
        let before = record.map(|record| record.before).unwrap_or_default();
        for account in &before.locked {
            let step = format!("let {account} in on {} again", old.name());
            let unlocked = run.act(&step, || old.set_account_lock(account, false));
            established = established.and(unlocked);
        }
        site.finish(run, &db, &before, established)
    }))
}

/// Nothing is made writable before the other side is closed. Gives whether that answers.
fn must_be_closed<'a>(run: &mut Run<'a>, site: &'a Site, old: &'a Server) -> Result<bool> {
    let name = old.name();
    match old.state() {
        Ok(state) if state.writes == Writes::Open => {
            run.note(format!("{name} takes writes again"));
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
