//! `master_ip_online_change`: what MHA calls when a healthy primary is replaced by another server.

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use hookbox::db::{Database, Writes};
use hookbox::error::{Error, Kind, Result};
use hookbox::link::Vip;
use hookbox::procedure::demote::demote;
use hookbox::procedure::establish::{Address, establish};
use hookbox::procedure::release::{Release, release};
use hookbox::run::{Outcome, Run};
use hookbox::switch::{Before, Reason};

use crate::contract::Caller;
use crate::mha::{self, Site, ask_through, present, remote, server, vips_on};
use crate::mha_args::{self, Order};

/// `master_ip_online_change`
pub fn command() -> Command {
    mha_args::command("master_ip_online_change").after_help(
        "In MHA's configuration, [server default]:\n    \
         master_ip_online_change_script = /usr/sbin/hookbox master_ip_online_change\n\
         Exit status of stop: 0 done; 1 not done, and everything is as before. \
         Of start: 0 done; 10 done but for something that MHA may go on without; 1 refused.",
    )
}

/// `master_ip_online_change`
pub fn main(name: &str, matches: &ArgMatches) -> ExitCode {
    let caller = |order, _| match order {
        Order::Start => Caller::MhaStart,
        Order::Status | Order::Stop | Order::StopSsh => Caller::MhaOnlineStop,
    };
    mha::main(name, matches, caller, |site| match site.call.order {
        Order::Stop => stop(site),
        Order::Start => start(site),
        Order::Status | Order::StopSsh => Err(Error::new(
            Kind::Usage,
            "an online change knows --command=stop and --command=start",
        )),
    })
}

/// Takes writes, sessions and addresses from the old primary, or leaves it as it was.
fn stop(site: &Site) -> Result<Outcome> {
    let _lock = site.lock()?;
    let (context, call, new) = (&site.context, &site.call, site.new_side()?);
    let vips = vips_on(&context.config, &call.orig)?;
    let connect = context.config.ssh.connect;
    let host = match vips.is_empty() {
        true => None,
        false => {
            site.warm_up(new);
            Some(remote(context, &call.orig, connect)?)
        }
    };
    let addresses = mha::addresses(host.as_ref(), vips);
    let (old_login, new_login) = (site.old_login()?, site.new_login()?);
    let accounts = &context.config.mha.lock_accounts;
    must_not_lock_out(&old_login.user, accounts)?;
    let old = server(context, &call.orig, old_login.clone());
    let new = server(context, new, new_login);
    let how = Release {
        finish: context.config.mha.finish,
        accounts,
        closing: site.closing(),
    };
    let began_before = site.has_begun();
    let outcome = context.run(|run| {
        // Found out later, it would cost the sessions that are ended before.
        for Address { link, vip } in &addresses {
            let can = format!("{} on {} can have {}", vip.link, link.name(), vip.address);
            run.check(&can, || link.ready(vip))?;
        }
        site.write_down(run, Reason::OnlineChange, || {
            let mut locked = Vec::new();
            for account in accounts {
                if !old.account_is_locked(account)? {
                    locked.push(account.clone());
                }
            }
            Ok(Before {
                old_writes: Some(old.state()?.writes),
                new_writes: Some(new.state()?.writes),
                events: Some(old.runs_events()?),
                vips: present(&addresses)?,
                locked,
            })
        })?;
        release(run, &old, &new, &addresses, how)?;
        let again = server(context, &call.orig, old_login.clone());
        run.check(&format!("MHA can log in to {} again", old.name()), || {
            again.state().map(drop)
        })
    });
    site.after_stop(&outcome, began_before);
    Ok(outcome)
}

/// MHA logs in to the old primary after `stop`, and gives up the switch if it cannot.
fn must_not_lock_out(user: &str, accounts: &[String]) -> Result<()> {
    let is_mha = |account: &&String| account.split('@').next() == Some(user);
    match accounts.iter().find(is_mha) {
        Some(account) => {
            let what = format!("[mha] lock_accounts has {account}, which MHA itself uses");
            Err(Error::new(Kind::Config, what).advise("take it out"))
        }
        None => Ok(()),
    }
}

/// Brings the new primary into service. It goes forward only: MHA turns the replicas round next.
fn start(site: &Site) -> Result<Outcome> {
    let _lock = site.lock()?;
    let (context, call, new) = (&site.context, &site.call, site.new_side()?);
    let vips = vips_on(&context.config, new)?;
    let host = match vips.is_empty() {
        true => None,
        false => Some(remote(context, new, context.config.ssh.connect)?),
    };
    let addresses = mha::addresses(host.as_ref(), vips);
    let login = site.new_login()?;
    let old = server(context, &call.orig, site.old_login()?);
    let db = server(context, new, login.clone());
    Ok(context.run(|run| {
        let record = site.register.open().unwrap_or_default();
        must_be_closed(run, site, &old)?;
        let ask = |vip: &Vip| ask_through(vip, new.port, &login, &context.deadline);
        let mut established = establish(run, &db, &addresses, site.closing(), Some(&ask));
        let before = record.map(|record| record.before).unwrap_or_default();
        for account in before.locked {
            let step = format!("let {account} in on {} again", old.name());
            let unlocked = run.act(&step, || old.set_account_lock(&account, false));
            established = established.and(unlocked);
        }
        site.finish(run, &db, before.events, established)
    }))
}

/// Nothing is made writable before the other side is closed.
fn must_be_closed<'a>(run: &mut Run<'a>, site: &'a Site, old: &'a dyn Database) -> Result<()> {
    let name = old.name();
    match old.state() {
        Ok(state) if state.writes == Writes::Open => {
            run.note(format!("{name} takes writes again"));
            demote(run, old, site.closing())
        }
        Ok(_) => run.check(&format!("{name} takes no writes"), || Ok(())),
        Err(error) if !error.is_silence() => run.check(&format!("{name} takes no writes"), || {
            Err(Error::new(Kind::Refused, error.chain())
                .advise("let MHA's account log in there, or close that server"))
        }),
        Err(error) => {
            run.note(format!("going on without {name}: {}", error.chain()));
            Ok(())
        }
    }
}
