//! `status` and `vip status`: this server, the others, where the virtual addresses are and who
//! answers through them. Gathered once, told in the form that is wanted.

use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use hookbox::config;
use hookbox::error::{Error, Kind, Result};
use hookbox::files;
use hookbox::time::{Deadline, Stopwatch};
use serde::Serialize;

use self::local::Local;
use self::nagios::Grade;
use self::survey::Survey;
use crate::context::{self, Context, answer, complain, say};
use crate::contract::{self, Caller};

mod local;
mod nagios;
mod network;
mod prometheus;
pub mod survey;
mod text;

/// Asking healthy servers takes milliseconds; one that takes longer than this is told as such.
const LIMIT: &str = "2s";

/// Between two pictures of `--watch`.
const PERIOD: Duration = Duration::from_secs(1);

/// Other programs read what is written with `--output`, such as node_exporter.
const FILE_MODE: u32 = 0o644;

/// All that was seen. `vip status` leaves out what concerns this host alone.
#[derive(Debug, Default, Serialize)]
struct Status {
    /// The configuration that is not there.
    #[serde(skip)]
    no_file: Option<&'static Path>,
    #[serde(flatten)]
    local: Option<Local>,
    #[serde(flatten)]
    survey: Survey,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    Prometheus,
    Nagios,
}

/// `status`
pub fn command() -> Command {
    options(Command::new("status")).after_help(
        "    hookbox status\n    hookbox status --json | jq .role\n    \
         hookbox status --format prometheus --output /var/lib/node_exporter/hookbox.prom\n\
         Exit status: 0 the server answered, or there is none on MHA's manager; 2 wrong \
         arguments or configuration; 3 it did not answer, or a switch is still open. With \
         --format nagios 0, 1, 2, 3 for OK, WARNING, CRITICAL, UNKNOWN.",
    )
}

/// `vip status`
pub fn vip_command() -> Command {
    Command::new("status")
        .about("where every virtual address is, who answers through it, and whether that is right")
        .defer(options)
        .after_help(
            "    hookbox vip status --watch\n    hookbox vip status --format nagios\n\
             Exit status: 0 all are where they belong; 2 wrong arguments or configuration; 3 one \
             is not. With --format nagios 0, 1, 2, 3 for OK, WARNING, CRITICAL, UNKNOWN; with \
             --format prometheus 0.",
        )
}

fn options(command: Command) -> Command {
    let json = Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .conflicts_with("format")
        .help("one JSON object on one line");
    let format = Arg::new("format")
        .long("format")
        .value_name("FORMAT")
        .value_parser(["text", "json", "prometheus", "nagios"])
        .help("text is for people, prometheus for its textfile collector");
    let output = Arg::new("output")
        .long("output")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("put it there in one step instead of printing it");
    let watch = Arg::new("watch")
        .long("watch")
        .action(ArgAction::SetTrue)
        .help("again every second until Ctrl-C");
    let limit = context::limit(LIMIT, "how long all hosts together may take to answer");
    command
        .args(context::arguments())
        .args([json, format, output, watch, limit])
}

/// `status`
pub fn main(name: &str, matches: &ArgMatches) -> ExitCode {
    tell(name, matches, true)
}

/// `vip status`
pub fn vip_main(name: &str, matches: &ArgMatches) -> ExitCode {
    tell(name, matches, false)
}

fn tell(name: &str, matches: &ArgMatches, with_local: bool) -> ExitCode {
    let word = matches.get_one::<String>("format").map(String::as_str);
    let format = match word {
        Some("json") => Format::Json,
        Some("prometheus") => Format::Prometheus,
        Some("nagios") => Format::Nagios,
        _ if matches.get_flag("json") => Format::Json,
        _ => Format::Text,
    };
    loop {
        let watch = Stopwatch::start();
        let told =
            look(name, matches, with_local).and_then(|status| tell_once(&status, format, matches));
        match told {
            Ok((_, true)) if matches.get_flag("watch") => {}
            Ok((exit, _)) => return ExitCode::from(exit),
            Err(error) => {
                complain(&error);
                if format == Format::Nagios {
                    say(&nagios::of(Grade::Unknown, &error.chain()));
                    return ExitCode::from(Grade::Unknown as u8);
                }
                return ExitCode::from(contract::failure(Caller::Person, &error));
            }
        }
        // Nothing has to be put back, so Ctrl-C just ends it.
        let rest = PERIOD.saturating_sub(watch.elapsed());
        let _ = Deadline::after(PERIOD).pause(rest);
    }
}

fn look(name: &str, matches: &ArgMatches, with_local: bool) -> Result<Status> {
    let limit = matches.get_one("limit").copied().unwrap_or_default();
    let context = Context::new(name, matches, |_| limit)?;
    let survey = survey::survey(&context, limit)?;
    let local = with_local.then(|| {
        let own = survey.members.iter().find(|member| member.here);
        Local::look(&context, own.map(|own| &own.seen))
    });
    let named = matches.get_one::<PathBuf>("config");
    Ok(Status {
        no_file: config::missing(named.map(PathBuf::as_path)),
        local,
        survey,
    })
}

/// Gives the exit status, and whether there is still somebody who reads.
fn tell_once(status: &Status, format: Format, matches: &ArgMatches) -> Result<(u8, bool)> {
    let (text, exit) = match format {
        Format::Text => (text::text(status), status.exit()),
        // A struct of texts and numbers has a form as JSON.
        Format::Json => (
            serde_json::to_string(status).unwrap_or_default(),
            status.exit(),
        ),
        Format::Prometheus => (prometheus::text(status).trim_end().to_owned(), 0),
        Format::Nagios => {
            let (line, grade) = nagios::line(status);
            (line, grade as u8)
        }
    };
    let is_read = match matches.get_one::<PathBuf>("output") {
        Some(path) => {
            let put = files::replace(path, format!("{text}\n").as_bytes(), FILE_MODE);
            let failed =
                |error| Error::new(Kind::Refused, path.display().to_string()).because(error);
            put.map_err(failed)?;
            true
        }
        None if matches.get_flag("watch") && format == Format::Text => {
            // Home, the text, and whatever is below it cleared: no flicker.
            let clear = if stdout().is_terminal() {
                "\x1b[H\x1b[2J"
            } else {
                ""
            };
            answer(&format!("{clear}{text}\n"))?
        }
        None => answer(&text)?,
    };
    Ok((exit, is_read))
}

impl Status {
    fn exit(&self) -> u8 {
        let is_well = match &self.local {
            Some(local) => local.is_well(),
            None => {
                let wrong = self.survey.vips.iter().any(|seen| seen.wrong.is_some());
                !wrong && self.survey.no_primary.is_none()
            }
        };
        if is_well { 0 } else { 3 }
    }
}
