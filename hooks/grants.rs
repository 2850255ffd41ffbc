//! `grants`: the statements that make hookbox's accounts, with the least that each must be allowed.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use hookbox::config::Config;
use hookbox::db::dialect::Version;
use hookbox::db::grants::{Account, PLACEHOLDER, Role, statements};
use hookbox::error::{Error, Kind, Result};
use hookbox::secret::Login;

use crate::context::{self, Context, answer};
use crate::contract::{self, Caller};

/// How long the server may take to say its version.
const LIMIT: Duration = Duration::from_secs(5);

const EXAMPLE: &str = "\
On each database host, as the server's root:
    hookbox grants > accounts.sql
    hookbox grants --version 8.0.36 --from 10.0.0.% --events > accounts.sql
    hookbox grants --for replication --from 10.0.0.% >> accounts.sql
It prints and changes nothing; passwords are yours to fill in.";

/// `grants`
pub fn command() -> Command {
    Command::new("grants")
        .args(context::arguments())
        .disable_version_flag(true)
        .arg(
            Arg::new("for")
                .long("for")
                .value_name("WHOM")
                .value_parser(["mysql", "mha", "replication"])
                .default_value("mysql")
                .help("hookbox on a database host, MHA, or the replicas"),
        )
        .arg(
            Arg::new("from")
                .long("from")
                .value_name("HOST")
                .action(ArgAction::Append)
                .help("where the other hosts come from, as 10.0.0.% [default: every [[peer]]]"),
        )
        .arg(
            Arg::new("version")
                .long("version")
                .value_name("VERSION")
                .help("what SELECT VERSION() says [default: the server is asked]"),
        )
        .arg(
            Arg::new("events")
                .long("events")
                .action(ArgAction::SetTrue)
                .help("also what it takes to let events run where the primary is"),
        )
        .after_help(EXAMPLE)
}

/// `grants`
pub fn main(name: &str, matches: &ArgMatches) -> ExitCode {
    match grants(name, matches).and_then(|text| answer(text.trim_end())) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => contract::fail(Caller::Person, &error),
    }
}

fn grants(name: &str, matches: &ArgMatches) -> Result<String> {
    let context = Context::new(name, matches, |_| LIMIT)?;
    let config = &context.config;
    let version = version(&context, matches.get_one::<String>("version"))?;
    let from = hosts(config, matches);
    let events = matches.get_flag("events");
    let table = Some(config.check.write_table.as_str()).filter(|table| !table.is_empty());
    let mut text = format!(
        "-- {version}: as root, on every server. Not replicated, so that no server has transactions \
         that\n-- the others lack. Put a password of your own in the place of {PLACEHOLDER}.\n\
         SET SESSION sql_log_bin = 0;\n"
    );
    let from_somewhere = || match from.is_empty() {
        false => Ok(()),
        true => Err(Error::new(Kind::Usage, "from where? there is no [[peer]]")
            .advise("hookbox grants --from 10.0.0.%")),
    };
    let make = |role, user: &str, hosts: &[String], table| {
        let account = Account {
            role,
            user,
            hosts,
            table,
            events,
        };
        statements(version, account)
    };
    let whom = matches.get_one::<String>("for").map_or("", String::as_str);
    match whom {
        "replication" => {
            from_somewhere()?;
            let user = config.rejoin.user.as_deref().unwrap_or("repl");
            text += "\n-- The account by which replicas fetch; its password is that of [rejoin].\n";
            text += &make(Role::Replication, user, &from, None);
        }
        "mha" => {
            from_somewhere()?;
            let user = config.mha.user.as_deref().unwrap_or("mha");
            text +=
                "\n-- MHA's account; its password is that of MHA's configuration and of [mha].\n";
            text += &make(Role::Mha, user, &from, None);
        }
        _ => {
            let user = user(config);
            let here = config.mysql.host.clone();
            let here = [here.unwrap_or_else(|| "localhost".to_owned())];
            if !events {
                text += "-- Where there are events: hookbox grants --events.\n";
            }
            text += "\n-- hookbox on the server's own host; its password is that of [mysql].\n";
            text += &make(Role::Own, &user, &here, table);
            if !from.is_empty() {
                text += "\n-- hookbox on the other hosts: asks this server, and closes it if need be.\n";
                let peer = config.peer.iter().find_map(|peer| peer.user.clone());
                let user = peer.unwrap_or(user);
                text += &make(Role::Peer, &user, &from, None);
            }
        }
    }
    Ok(text)
}

fn version(context: &Context, given: Option<&String>) -> Result<Version> {
    let Some(text) = given else {
        return context
            .server()?
            .version()
            .map_err(|error| error.advise("hookbox grants --version 10.11.6-MariaDB"));
    };
    match Version::parse(text) {
        version if version.number.0 == 0 => {
            Err(Error::new(Kind::Usage, format!("--version `{text}`"))
                .advise("write it as SELECT VERSION() does: 8.0.36, or 10.11.6-MariaDB"))
        }
        version => Ok(version),
    }
}

/// The account of `[mysql]`. Its password may not be there yet.
fn user(config: &Config) -> String {
    let named = config.mysql.user.clone();
    named.unwrap_or_else(|| match Login::local(&config.mysql) {
        Ok(login) => login.user,
        Err(_) => "hookbox".to_owned(),
    })
}

fn hosts(config: &Config, matches: &ArgMatches) -> Vec<String> {
    match matches.get_many::<String>("from") {
        Some(given) => given.cloned().collect(),
        None => config.peer.iter().map(|peer| peer.host.clone()).collect(),
    }
}
