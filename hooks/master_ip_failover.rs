//! `master_ip_failover`: what MHA calls when a primary is dead, and before it begins to watch one.

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Command};
use hookbox::config::{Unfenced, VipMissing};
use hookbox::db::Database;
use hookbox::db::server::Server;
use hookbox::error::{Error, Kind, Result};
use hookbox::link::{Host, Link, Remote, Vip};
use hookbox::procedure::release::fence;
use hookbox::run::{Outcome, Run};
use hookbox::switch::Reason;
use hookbox::time::Deadline;
use hookbox::witness::{Asked, Witness};

use crate::contract::Caller;
use crate::mha::{self, Site, addresses_on, ask_through, remote, server, vips_on};
use crate::mha_args::{self, Order};

/// How long a login may take on a host that MHA could not reach, and how long the network has to
/// answer for its address. A host that is there takes 0.2 s.
const LAST_TRY: Duration = Duration::from_secs(1);

/// How long what is left of the old primary may take to answer: a server that hangs answers never.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);

/// `master_ip_failover`
pub fn command() -> Command {
    mha_args::command("master_ip_failover").after_help(
        "In MHA's configuration, [server default]:\n    \
         master_ip_failover_script = /usr/sbin/hookbox master_ip_failover\n\
         Exit status: 0 done; 10 done but for something that MHA may go on without; \
         1 MHA must give up.",
    )
}

/// `master_ip_failover`
pub fn main(name: &str, matches: &ArgMatches) -> ExitCode {
    let caller = |order, unfenced| match order {
        Order::Status => Caller::MhaStatus,
        Order::Stop | Order::StopSsh => Caller::MhaStop(unfenced),
        Order::Start => Caller::MhaStart,
    };
    mha::main(name, matches, caller, |site| match site.call.order {
        Order::Status => status(site),
        Order::Stop => stop(site, LAST_TRY),
        Order::StopSsh => stop(site, site.context.config.ssh.connect),
        Order::Start => mha::start(site, Reason::Failover),
    })
}

/// Would a failover work? Changes nothing.
fn status(site: &Site) -> Result<Outcome> {
    let (context, orig) = (&site.context, &site.call.orig);
    let vips = vips_on(&context.config, orig)?;
    let host = remote(context, orig, &vips, context.config.ssh.connect)?;
    Ok(context.run(|run| {
        if let Some(open) = site.register.open()? {
            let undo = context.command("undo");
            run.note(format!("the switch of {} is still open: {undo}", open.at));
        }
        run.check("a switch can be written down here", || {
            site.register.can_be_written()
        })?;
        let Some(link) = &host else {
            return Ok(());
        };
        run.check(&format!("{} can be reached by ssh", link.name()), || {
            link.log_in()
        })?;
        run.note(match link.hookbox_version()? {
            Some(version) => format!("{} has hookbox {version}", link.name()),
            None => format!("{} has no hookbox; ip and arping are used", link.name()),
        });
        for vip in &vips {
            let can = format!("{} on {} can have {}", vip.link, link.name(), vip.address);
            run.check(&can, || link.ready(vip))?;
            has(run, link, vip, context.config.mha.vip_missing)?;
        }
        Ok(())
    }))
}

fn has(run: &mut Run<'_>, link: &Remote, vip: &Vip, missing: VipMissing) -> Result<()> {
    let host = link.name();
    match (link.has(vip)?, missing) {
        (false, VipMissing::Warn) => {
            log::warn!("{host} does not have {vip}; there: hookbox vip add {vip}");
            run.note(format!("{host} does not have {vip}"));
            Ok(())
        }
        (there, _) => run.check(&format!("{host} has {vip}"), || match there {
            true => Ok(()),
            false => Err(Error::new(Kind::Refused, "it has not").advise(format!(
                "there: hookbox vip add {vip}; or set [mha] vip_missing = \"warn\""
            ))),
        }),
    }
}

/// Takes writes, sessions and addresses from what is left of the old primary. `connect` is how
/// long ssh's login may take.
fn stop(site: &Site, connect: Duration) -> Result<Outcome> {
    let _lock = site.lock()?;
    let (context, call) = (&site.context, &site.call);
    let vips = vips_on(&context.config, &call.orig)?;
    let host = remote(context, &call.orig, &vips, connect)?;
    let addresses = addresses_on(host.as_ref(), vips.clone());
    if host.is_some() {
        site.warm_up_peers();
    }
    let login = call.orig_login.clone();
    let db = login.map(|login| server(context, &call.orig, login));
    let began_before = site.has_begun();
    let witnesses = whoever_answers(&vips, call.orig.port)?;
    let outcome = context.run(|run| {
        // Asked at once, heard later: the login by ssh and the old server take their time as well.
        let deadline = run.deadline().at_most(LAST_TRY);
        let asked = Asked::ask(&witnesses);
        let alive = sign_of_life(run, site, db.as_ref()).map(|db| db as &dyn Database);
        let reached = host.as_ref().map_or(Ok(()), Remote::log_in);
        match reached {
            Ok(()) => {
                site.write_down_if_possible(run, Reason::Failover, alive, &addresses)?;
                let fenced = fence(run, alive, &addresses, site.closing());
                or_proceed(run, site, fenced)
            }
            Err(error) if error.kind() == Kind::Overtaken => Err(error),
            Err(error) => {
                run.note(error.chain());
                site.write_down_if_possible(run, Reason::Failover, alive, &[])?;
                let fenced = fence(run, alive, &[], site.closing());
                or_proceed(run, site, fenced)?;
                let silent = must_be_silent(run, site, &asked, &vips, &deadline);
                or_proceed(run, site, silent)
            }
        }
    });
    site.after_stop(&outcome, began_before);
    Ok(outcome)
}

/// MHA goes on after what failed, if the configuration says so; then it stands, and is told.
fn or_proceed(run: &mut Run<'_>, site: &Site, result: Result<()>) -> Result<()> {
    if let Err(error) = &result
        && error.kind() != Kind::Overtaken
        && site.context.config.mha.unfenced == Unfenced::Proceed
    {
        let host = &site.call.orig.name;
        run.happened(&format!(
            "{host} may still serve: [mha] unfenced = \"proceed\""
        ));
    }
    result
}

/// What is left of the old primary's server, if it says anything.
fn sign_of_life<'a>(run: &Run<'_>, site: &Site, db: Option<&'a Server>) -> Option<&'a Server> {
    let Some((db, login)) = db.zip(site.call.orig_login.clone()) else {
        run.note("its writes are not closed, only its addresses: [mha] names no account");
        return None;
    };
    let probe = server(&site.context, &site.call.orig, login).patient(SIGN_OF_LIFE);
    match probe.state() {
        Ok(_) => Some(db),
        Err(error) => {
            run.note(format!("{} cannot be asked: {}", db.name(), error.chain()));
            None
        }
    }
}

/// The questions whether anybody has one of `vips`: a connection, which anybody may try, and ARP
/// where this host is on the same network.
fn whoever_answers(vips: &[Vip], port: u16) -> Result<Vec<Witness>> {
    let host = Host::open(&Deadline::after(LAST_TRY))?;
    let own = host.list().unwrap_or_default();
    let mut texts = Vec::new();
    for vip in vips {
        let address = vip.address;
        match address.is_ipv6() {
            true => texts.push(format!("tcp:[{address}]:{port}")),
            false => texts.push(format!("tcp:{address}:{port}")),
        }
        let near = own.iter().find(|own| own.is_near(address));
        if let (Some(near), true, true) =
            (near, address.is_ipv4(), nix::unistd::geteuid().is_root())
        {
            texts.push(format!("arp:{address}%{}", near.link));
        }
    }
    texts.iter().map(|text| Witness::parse(text)).collect()
}

/// Nobody must answer at an address that could not be taken off, or it is a peer that does.
fn must_be_silent(
    run: &mut Run<'_>,
    site: &Site,
    asked: &Asked<'_>,
    vips: &[Vip],
    deadline: &Deadline,
) -> Result<()> {
    let host = site.call.orig.name.clone();
    let answer = match asked.anyone(deadline) {
        Err(error) if error.kind() == Kind::Denied => None,
        answer => answer?,
    };
    let Some(witness) = answer else {
        run.note(format!("{host} is silent, and so are its addresses"));
        return Ok(());
    };
    if let Some(peer) = peer_that_answers(site, vips) {
        run.note(format!("{peer} has the address already"));
        return Ok(());
    }
    run.check(&format!("{host} has lost its addresses"), || {
        let what = format!("{witness} answers, and its host cannot be reached by ssh");
        Err(Error::new(Kind::Refused, what).advise(format!(
            "take the address off {host} or switch it off, then masterha_master_switch; \
             [mha] unfenced = \"proceed\" goes on all the same"
        )))
    })
}

/// The peer that is known to be whoever answers at the addresses, and not the old primary, which is
/// among the peers as well, perhaps by another name.
fn peer_that_answers(site: &Site, vips: &[Vip]) -> Option<String> {
    let (context, call) = (&site.context, &site.call);
    let login = call.orig_login.as_ref()?;
    let first = vips.first()?;
    let there = ask_through(first, call.orig.port, login, &context.deadline).ok()?;
    let orig = server(context, &call.orig, login.clone()).patient(SIGN_OF_LIFE);
    if orig
        .state()
        .is_ok_and(|state| state.server_id == there.server_id)
    {
        return None;
    }
    let peers = context.peers_as(login).ok()?;
    peers
        .iter()
        .filter(|(peer, _)| peer.name() != orig.name())
        .filter_map(|(peer, seen)| Some((peer, seen.as_ref().ok()?)))
        .find(|(_, seen)| seen.state.server_id == there.server_id)
        .map(|(peer, _)| peer.name())
}
