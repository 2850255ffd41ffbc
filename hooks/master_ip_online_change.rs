//! `master_ip_online_change`: what MHA calls when a healthy primary is replaced by another server.

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use hookbox::db::Database;
use hookbox::error::{Error, Kind, Result};
use hookbox::procedure::establish::Address;
use hookbox::procedure::events;
use hookbox::procedure::release::{Release, release};
use hookbox::run::Outcome;
use hookbox::switch::{Before, Reason};

use crate::contract::Caller;
use crate::mha::{self, Site, addresses_on, present, remote, server, vips_on};
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
        Order::Start => mha::start(site, Reason::OnlineChange),
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
    if !vips.is_empty() {
        site.warm_up(new);
    }
    let host = remote(context, &call.orig, &vips, connect)?;
    let addresses = addresses_on(host.as_ref(), vips);
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
                enabled: events::enabled(&old),
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
