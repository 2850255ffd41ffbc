//! `maintenance on | off | show`: for a while the check passes and the notify scripts only log.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Arg, ArgMatches, Command};
use hookbox::error::Result;
use hookbox::maintenance::{self, Maintenance};
use hookbox::run::Changed;
use humantime::{format_duration, format_rfc3339_seconds, parse_duration};

use crate::context::{arguments, dry_run, load, say};
use crate::contract::{self, Caller};

const EXAMPLE: &str = "\
Example:
  # hookbox maintenance on --for 1h
  on until 2026-03-01T13:00:00Z (1h left), since 2026-03-01T12:00:00Z by root
  # systemctl restart mariadb
  # hookbox maintenance off
  off

Exit status: 0 done, or was so already; 2 wrong arguments; 3 the file cannot be written.";

/// The command line.
pub fn command() -> Command {
    let length = Arg::new("for")
        .long("for")
        .value_name("TIME")
        .default_value("30m")
        .value_parser(parse_duration)
        .help("how long, at most 24h; then it ends by itself");
    Command::new("maintenance")
        .after_help(EXAMPLE)
        .subcommand_required(true)
        .args(arguments().map(|argument| argument.global(true)))
        .subcommand(
            Command::new("on")
                .about("pass every check and do nothing on notify, for a while")
                .arg(length)
                .arg(dry_run()),
        )
        .subcommand(Command::new("off").about("end it now").arg(dry_run()))
        .subcommand(Command::new("show").about("say whether it is on"))
}

/// The program.
pub fn main(_: &str, matches: &ArgMatches) -> ExitCode {
    match answer(matches) {
        Ok(line) => {
            say(&line);
            ExitCode::SUCCESS
        }
        Err(error) => contract::fail(Caller::Person, &error),
    }
}

fn answer(matches: &ArgMatches) -> Result<String> {
    let paths = load(matches)?.paths;
    let dry = |matches: &ArgMatches| matches.get_flag("dry-run");
    match matches.subcommand() {
        Some(("on", matches)) => {
            let length = matches.get_one("for").copied().unwrap_or(Duration::ZERO);
            match dry(matches) {
                false => maintenance::on(&paths, length, &who()).map(|on| describe(&on)),
                true => maintenance::check(length)
                    .map(|()| format!("would be on for {}", format_duration(length))),
            }
        }
        Some(("off", matches)) if dry(matches) => Ok("would be off".to_owned()),
        Some(("off", _)) => Ok(match maintenance::off(&paths)? {
            Changed::Yes => "off".to_owned(),
            Changed::AlreadySo => "was off".to_owned(),
        }),
        _ => Ok(maintenance::show(&paths).map_or("off".to_owned(), |on| describe(&on))),
    }
}

fn describe(on: &Maintenance) -> String {
    let left = on
        .until
        .duration_since(SystemTime::now())
        .unwrap_or_default();
    // Rounded up, so that half an hour does not begin as 29 minutes.
    let left = Duration::from_secs(left.as_millis().div_ceil(1000) as u64);
    format!(
        "on until {} ({} left), since {} by {}",
        format_rfc3339_seconds(on.until),
        format_duration(left),
        format_rfc3339_seconds(on.since),
        on.by
    )
}

/// The person behind sudo, if there is one: `root` alone says little. The number of the account has no
/// name without the system's databases of users, which no static program can read.
fn who() -> String {
    let named = ["SUDO_USER", "LOGNAME"].into_iter();
    (named.filter_map(|name| std::env::var(name).ok()).next())
        .unwrap_or_else(|| format!("uid {}", nix::unistd::getuid()))
}
