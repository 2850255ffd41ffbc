//! `undo`: what a switch has put away and nobody brought back is put back.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use hookbox::cluster::MHA_AT_WORK;
use hookbox::config::Config;
use hookbox::db::Database;
use hookbox::db::endpoint::Endpoint;
use hookbox::db::server::Server;
use hookbox::error::{Error, Kind, Result, uninterrupted};
use hookbox::link::Vip;
use hookbox::procedure::demote::Demotion;
use hookbox::procedure::restore::{Restore, restore};
use hookbox::run::{Mode, Outcome};
use hookbox::secret::Login;
use hookbox::switch::{Reason, Record, Register, Side};

use crate::context::{self, Context, say};
use crate::contract::{self, Caller};
use crate::mha::{addresses_on, ask_through, remote, server, vips_on};

const EXAMPLE: &str = "\
On MHA's manager, after a failover or an online change that MHA gave up:
    hookbox undo --dry-run
    hookbox undo
The old primary serves again as before, unless another server took over meanwhile.
Exit status: 0 done, or nothing to undo; 2 wrong arguments or configuration; 3 refused, nothing
changed; 4 failed, all taken back; 5 failed, see what stands; then it can be run again.";

/// `undo`
pub fn command() -> Command {
    Command::new("undo")
        .args(context::arguments())
        .arg(context::dry_run())
        .arg(
            Arg::new("force")
                .long("force")
                .action(ArgAction::SetTrue)
                .help("go on without an answer of the new primary; if it takes writes, one's are lost"),
        )
        .after_help(EXAMPLE)
}

/// `undo`
pub fn main(name: &str, matches: &ArgMatches) -> ExitCode {
    contract::finish(Caller::Person, undo(name, matches))
}

fn undo(name: &str, matches: &ArgMatches) -> Result<Outcome> {
    let context = Context::new(name, matches, |config| config.mha.limit)?;
    let register = Register::of(&context.config.paths);
    if register.open()?.is_none() {
        return nothing_to_undo();
    }
    context.give_way_to(None)?;
    let _lock = match context.mode {
        Mode::Real => Some(register.lock(&context.deadline)?),
        Mode::Dry => None,
    };
    // Whoever had the lock may have finished the switch.
    match register.open()? {
        Some(record) => put_back(&context, &register, &record, matches.get_flag("force")),
        None => nothing_to_undo(),
    }
}

fn nothing_to_undo() -> Result<Outcome> {
    say("nothing to undo: no switch is open");
    Ok(Outcome::Done)
}

fn put_back(
    context: &Context,
    register: &Register,
    record: &Record,
    force: bool,
) -> Result<Outcome> {
    let config = &context.config;
    let login = account(config)?;
    let vips = vips_before(config, record)?;
    let host = |side: &Side| remote(context, side, &vips, config.ssh.connect);
    let old_host = host(&record.old)?;
    let new_host = record.new.as_ref().map(host).transpose()?.flatten();
    let addresses = addresses_on(old_host.as_ref(), vips.clone());
    let elsewhere = addresses_on(new_host.as_ref(), vips);
    let old = server(context, &record.old, login.clone());
    let new = record.new.as_ref();
    let new = new.map(|new| server(context, new, login.clone()));
    let peers = peers(context, &login)?;
    let is_new = |peer: &&Server| new.as_ref().is_some_and(|new| new.name() == peer.name());
    let others = new.iter().chain(peers.iter().filter(|peer| !is_new(peer)));
    let others: Vec<&Server> = others.collect();
    let peers: Vec<&dyn Database> = peers.iter().map(|peer| peer as _).collect();
    let how = Restore {
        old: &old,
        new: new.as_ref().map(|new| new as _),
        peers: &peers,
        addresses: &addresses,
        elsewhere: &elsewhere,
        before: &record.before,
        closing: Demotion {
            grace: config.mha.grace,
            spare: &config.demote.spare_users,
            resume: false,
        },
        force,
    };
    Ok(context.run(|run| {
        run.note(format!(
            "{} of {}, begun at {}",
            reason(record.reason),
            record.old.name,
            record.at
        ));
        for other in &others {
            run.check(&format!("MHA is not at work on {}", other.name()), || {
                mha_has_given_up(other)
            })?;
        }
        let ask = |vip: &Vip| ask_through(vip, record.old.port, &login, &context.deadline);
        restore(run, how, &ask)?;
        run.act("the switch is undone", || register.close())
    }))
}

/// MHA holds an advisory lock on the replicas for as long as it is at work on a switch (DBHelper.pm,
/// `get_failover_advisory_lock`); it would go on with what it knows of a primary that stands still.
fn mha_has_given_up(server: &Server) -> Result<()> {
    // Whether a server that does not answer may be passed over is asked later.
    let Ok(answer) = uninterrupted(server.ask(MHA_AT_WORK))? else {
        return Ok(());
    };
    match answer.first().and_then(|row| row.at(0)) {
        None => Ok(()),
        Some(session) => Err(Error::new(Kind::Refused, "MHA has not given up")
            .because(format!("it holds its lock there, by session {session}"))
            .advise("wait for its end, or end it, then undo")),
    }
}

/// What a switch is called.
pub fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Failover => "failover",
        Reason::OnlineChange => "online change",
    }
}

fn account(config: &Config) -> Result<Login> {
    Login::of_mha(&config.mha, None)?.ok_or_else(|| {
        let what = "no account for the servers: MHA, which knows one, does not call undo";
        Error::new(Kind::Config, what)
            .advise("give [mha] user and one of defaults_file, password_file, password_env")
    })
}

/// The addresses that the old primary had. Those of a host that could not be asked, as it is in a
/// failover, are those of the configuration.
fn vips_before(config: &Config, record: &Record) -> Result<Vec<Vip>> {
    match (&record.before.vips[..], record.reason) {
        ([], Reason::Failover) => vips_on(config, &record.old),
        (texts, _) => texts.iter().map(|text| Vip::held(text)).collect(),
    }
}

/// The peers, with the account of `[mha]` where they have none of their own.
fn peers(context: &Context, login: &Login) -> Result<Vec<Server>> {
    let peers = context.config.peer.iter();
    let server = |peer| {
        let login = Login::on_peer(peer, login)?;
        let endpoint = Endpoint::Tcp(peer.host.clone(), peer.port);
        let server = Server::new(endpoint, login, context.deadline.clone());
        Ok(server.patient(context.config.promote.peer_limit))
    };
    peers.map(server).collect()
}
