//! `vip verify`: whoever answers through each virtual address from here is who it should be.

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Command};
use hookbox::error::{Error, Kind, Result};

use crate::context::{self, Context, say};
use crate::contract::{self, Caller};
use crate::status::survey::{VipSeen, survey};

/// `vip verify`
pub fn command() -> Command {
    Command::new("verify")
        .about("connect through every virtual address and compare who answers with who should")
        .defer(options)
        .after_help(
            "    hookbox vip verify && echo the writer is the primary\n\
             Compared are server_id and server_uuid, with what the servers say of themselves at \
             their own addresses.\n\
             Exit status: 0 all are who they should be; 2 wrong arguments or configuration; 3 one \
             is not, does not answer, or nobody can tell.",
        )
}

fn options(command: Command) -> Command {
    let limit = context::limit("2s", "how long all hosts together may take to answer");
    command.arg(limit).args(context::arguments())
}

/// `vip verify`
pub fn main(name: &str, matches: &ArgMatches) -> ExitCode {
    match verify(name, matches) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => contract::fail(Caller::Person, &error),
    }
}

fn verify(name: &str, matches: &ArgMatches) -> Result<bool> {
    let limit: Duration = matches.get_one("limit").copied().unwrap_or_default();
    let context = Context::new(name, matches, |_| limit)?;
    let survey = survey(&context, limit)?;
    if survey.vips.is_empty() {
        return Err(Error::new(Kind::Config, "no virtual address is configured")
            .advise("set vip = [\"ADDRESS/PREFIX dev IF\"]"));
    }
    for seen in &survey.vips {
        say(&line(seen));
    }
    Ok(survey.vips.iter().all(is_right))
}

fn is_right(seen: &VipSeen) -> bool {
    let writes_fit = !seen.of_primary || seen.writable == Some(true);
    seen.expected.is_some() && seen.server == seen.expected && writes_fit
}

fn line(seen: &VipSeen) -> String {
    let address = seen.vip.split('/').next().unwrap_or_default();
    let what = match (&seen.server, &seen.expected) {
        (None, _) => {
            let why = seen.error.as_deref().unwrap_or_default();
            format!("WRONG: no server answers: {why}")
        }
        (Some(server), _) if is_right(seen) => {
            let id = seen.server_id.unwrap_or_default();
            format!("{server} answers, server_id {id}, as it should")
        }
        (Some(server), None) => {
            let why = seen.wrong.as_deref().unwrap_or_default();
            format!("WRONG: {server} answers, and nobody can tell who should: {why}")
        }
        (Some(server), Some(expected)) if server == expected => {
            format!("WRONG: {server} answers, and takes no writes")
        }
        (Some(server), Some(expected)) => {
            format!("WRONG: {server} answers, and it should be {expected}")
        }
    };
    format!("{} {address}: {what}", seen.role)
}
