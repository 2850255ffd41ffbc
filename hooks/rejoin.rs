//! `rejoin`: the server on this host, the primary of before, becomes a replica of the new one.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use hookbox::db::endpoint::Endpoint;
use hookbox::db::server::Server;
use hookbox::db::{Database, Source};
use hookbox::error::{Error, Kind, Result};
use hookbox::link::{Host, Link};
use hookbox::procedure::demote::Demotion;
use hookbox::procedure::rejoin::{Rejoin, rejoin};
use hookbox::run::{Changed, Mode, Outcome, Run};
use hookbox::secret::Login;
use hookbox::successor::Successor;
use hookbox::turn::{Meeting, Turn, Wish, Wished};

use crate::context::{self, Context, say};
use crate::contract::{self, Caller};

/// How long the source may take over one question.
const PATIENCE: Duration = Duration::from_secs(5);

const EXAMPLE: &str = "\
On the host of the old primary, once another server is the primary:
    hookbox rejoin --source 10.0.0.12 --explain
    hookbox rejoin --source 10.0.0.12
It closes writes here, refuses if this server has transactions that the other lacks, and then goes on
after its own last one. The account for replication is that of [rejoin].

When it refuses because of transactions that only this server has: write what must be kept into the
new primary, then rebuild this server from a copy of it (mariabackup, xtrabackup, CLONE). To keep the
data directory instead, take those changes back here by hand; then let the server forget them:
    MySQL    RESET MASTER (since 8.2 RESET BINARY LOGS AND GTIDS),
             SET GLOBAL gtid_purged = the rest of what gtid_executed was
    MariaDB  RESET MASTER,
             SET GLOBAL gtid_slave_pos = the last transaction of each domain that both have

Exit status: 0 done, or a replica of it already; 2 wrong arguments or configuration; 3 refused,
nothing changed; 4 failed, all taken back; 5 failed, see what stands: closed writes stay closed.";

/// `rejoin`
pub fn command() -> Command {
    Command::new("rejoin")
        .args(context::arguments())
        .arg(context::dry_run())
        .arg(
            Arg::new("source")
                .long("source")
                .value_name("HOST[:PORT]")
                .required(true)
                .help("the new primary, as the server on this host reaches it; never a VIP"),
        )
        .arg(
            Arg::new("explain")
                .long("explain")
                .action(ArgAction::SetTrue)
                .help("print every statement and why it is safe, and change nothing"),
        )
        .arg(
            Arg::new("wrote-nothing")
                .long("wrote-nothing")
                .action(ArgAction::SetTrue)
                .help(
                    "vouch that this server wrote nothing since it stopped replicating from \
                     there; only asked for without GTIDs",
                ),
        )
        .after_help(EXAMPLE)
}

/// `rejoin`
pub fn main(name: &str, matches: &ArgMatches) -> ExitCode {
    contract::finish(Caller::Person, begin(name, matches))
}

fn begin(name: &str, matches: &ArgMatches) -> Result<Outcome> {
    let mut context = Context::new(name, matches, |config| {
        config.rejoin.limit + config.demote.limit
    })?;
    let explains = matches.get_flag("explain");
    if explains {
        context.mode = Mode::Dry;
    }
    let text = matches.get_one::<String>("source");
    let (host, port) = place(text.map_or("", String::as_str))?;
    let login = Login::of_replication(&context.config.rejoin)?;
    let server = source_server(&context, &host, port)?;
    let meeting = Meeting::at(&context.config.paths.run)?;
    // A promotion that comes, or that has been wished for without this one knowing, goes before.
    let wished = Wished::before_all(Wish::Standby);
    let dry = context.mode == Mode::Dry;
    context.give_way_to(None)?;
    let explain = |sql: &str, why: &str| {
        if explains {
            say(&format!("-- {why}\n{sql};"));
        }
    };
    let mut turn: Option<Turn> = None;
    let outcome = context.run(|run| {
        run.check("this server is to be a standby", || {
            meeting.still_wanted(&wished).map_err(|_| not_wanted())
        })?;
        if !dry {
            context.give_way_to(Some((meeting.clone(), wished.clone())))?;
            turn = Some(meeting.take_turn(name, run.deadline())?);
        }
        let resume = turn.as_ref().is_some_and(|turn| turn.unfinished.is_some());
        no_address(run, &context, &host)?;
        let config = &context.config.rejoin;
        let how = Rejoin {
            source: Source {
                host: &host,
                port,
                login: login.as_ref(),
                tls: config.tls.or(config.tls_ca.as_ref().map(|_| true)),
                tls_ca: config.tls_ca.as_deref(),
            },
            closing: Demotion {
                resume,
                ..context.demotion()
            },
            limit: config.limit,
            wrote_nothing: matches.get_flag("wrote-nothing"),
            semi_sync: context.config.promote.semi_sync,
            explain: &explain,
        };
        rejoin(run, context.server()?, &server, how)?;
        remember(run, &context, &server)
    });
    if let Some(turn) = turn {
        match outcome.error().map(Error::kind) {
            // It was closed first, as it should be; nothing is half done, by this run.
            Some(Kind::Refused) if turn.unfinished.is_none() => turn.end(&Outcome::Done),
            _ => turn.end(&outcome),
        }
    }
    Ok(outcome)
}

/// `10.0.0.12`, `10.0.0.12:3307`, `[fd00::12]:3306`, `fd00::12`.
fn place(text: &str) -> Result<(String, u16)> {
    let wrong = || {
        Error::new(Kind::Usage, format!("--source `{text}`"))
            .advise("write it as 10.0.0.12, 10.0.0.12:3306 or [fd00::12]:3306")
    };
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, ""))) => (host, None),
        Some(Some((host, port))) => (host, Some(port.strip_prefix(':').ok_or_else(wrong)?)),
        Some(None) => return Err(wrong()),
        None => match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (text, None),
        },
    };
    let port = port.map_or(Ok(3306), |port| port.parse().map_err(|_| wrong()))?;
    match host.is_empty() || port == 0 {
        true => Err(wrong()),
        false => Ok((host.to_owned(), port)),
    }
}

/// The source, with the account of its `[[peer]]`, or else that of this host.
fn source_server(context: &Context, host: &str, port: u16) -> Result<Server> {
    let local = Login::local(&context.config.mysql)?;
    let mut peers = context.config.peer.iter();
    let login = match peers.find(|peer| peer.host == host && peer.port == port) {
        Some(peer) => Login::on_peer(peer, &local)?,
        None => local,
    };
    let endpoint = Endpoint::Tcp(host.to_owned(), port);
    Ok(Server::new(endpoint, login, context.deadline.clone()).patient(PATIENCE))
}

fn not_wanted() -> Error {
    Error::new(Kind::Refused, "this server was last told to be the primary")
        .advise("hookbox notify_backup")
}

/// Clients come to whoever has a virtual address; and it is no name of a server.
fn no_address(run: &mut Run<'_>, context: &Context, source: &str) -> Result<()> {
    let config = &context.config;
    let roles = config.roles()?;
    if roles.is_empty() {
        return Ok(());
    }
    let mut all = roles.iter().flat_map(|role| &role.vips);
    let is_virtual = all.any(|vip| vip.address.to_string() == source);
    let vips = context.placed_here(config.vips_of_primary()?);
    let deadline = run.deadline().clone();
    run.check("no virtual address is here", || {
        if is_virtual {
            let what = format!("{source} is a virtual address: it leads to whoever has it");
            return Err(Error::new(Kind::Usage, what).advise("name the server itself"));
        }
        let here = Host::open(&deadline)?;
        for vip in &vips {
            if here.has(vip)? {
                let what = format!("{vip} is on this host, where clients expect the primary");
                return Err(Error::new(Kind::Refused, what).advise(format!(
                    "let another host have it first, or hookbox vip del {vip}"
                )));
            }
        }
        Ok(())
    })
}

/// Whoever took over before, this server has caught up with the new primary now.
fn remember(run: &mut Run<'_>, context: &Context, source: &Server) -> Result<()> {
    let state = &context.config.paths.state;
    let id = source.state()?.server_id;
    match Successor::read(state)? {
        Some(successor) if successor.server_id != id => {
            let name = source.name();
            run.act(&format!("remember that {name} took over"), || {
                Successor::now(name.clone(), id).write(state)?;
                Ok(Changed::Yes)
            })
        }
        _ => Ok(()),
    }
}

/// Starts `rejoin` for the same configuration as `matches`, detached from this process.
///
/// # Errors
/// When the program cannot be started.
pub fn start(matches: &ArgMatches, source: &str) -> Result<Changed> {
    context::start_detached(matches, &["rejoin", "--source", source]).map(|()| Changed::Yes)
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_source_is_a_host_with_or_without_a_port() {
        let read = |text| place(text).ok();
        let is = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(read("10.0.0.12"), is("10.0.0.12", 3306));
        assert_eq!(read("db2:3307"), is("db2", 3307));
        assert_eq!(read("[fd00::12]:3307"), is("fd00::12", 3307));
        assert_eq!(read("[fd00::12]"), is("fd00::12", 3306));
        assert_eq!(read("fd00::12"), is("fd00::12", 3306));
        for wrong in [
            "",
            ":3306",
            "db2:",
            "db2:0",
            "db2:x",
            "[fd00::12",
            "[fd00::12]3306",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
