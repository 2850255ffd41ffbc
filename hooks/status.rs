//! `status`: this server's role, its replication, the VIPs here, and what was last done to it.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use hookbox::config::{Config, Mha, Mysql};
use hookbox::db::server::Server;
use hookbox::db::{Channel, Database, Receiver, State, Writes};
use hookbox::error::Result;
use hookbox::journal::{self, Event};
use hookbox::link::{Host, Link, Vip};
use hookbox::maintenance;
use hookbox::memory::Memory;
use hookbox::procedure::lossless::NOTE;
use hookbox::run::Mark;
use hookbox::switch::Register;
use hookbox::turn::{Meeting, Wish};
use serde::Serialize;

use crate::context::{self, Context, complain, say};
use crate::contract::{self, Caller};
use crate::undo;

/// Asking a healthy server takes milliseconds; one that takes longer than this is told as such.
const LIMIT: Duration = Duration::from_secs(2);

/// Everything that is known here. The names are those of `--json`.
#[derive(Debug, Default, Serialize)]
struct Status {
    open_switch: Option<Switch>,
    switch_error: Option<String>,
    server: Option<String>,
    version: Option<String>,
    role: &'static str,
    writes: Option<&'static str>,
    error: Option<String>,
    channels: Vec<Replication>,
    vips: Vec<Address>,
    orchestrator_wants: Option<&'static str>,
    last_check: Option<Check>,
    maintenance_until: Option<String>,
    last_run: Option<LastRun>,
    last_promotion: Option<Promotion>,
}

#[derive(Debug, Serialize)]
struct Promotion {
    at: String,
    lossless: String,
}

#[derive(Debug, Serialize)]
struct Switch {
    reason: &'static str,
    since: String,
    old: String,
    new: Option<String>,
    undo: String,
}

#[derive(Debug, Serialize)]
struct Replication {
    channel: String,
    source: String,
    receiver: &'static str,
    applying: bool,
    received: String,
    applied: String,
    lag_seconds: Option<u64>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Address {
    vip: String,
    here: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Check {
    class: String,
    text: String,
    age_ms: u64,
}

#[derive(Debug, Serialize)]
struct LastRun {
    applet: String,
    at: String,
    outcome: String,
    took_ms: Option<u64>,
    error: Option<String>,
    last_step: Option<String>,
}

/// `status`
pub fn command() -> Command {
    Command::new("status")
        .args(context::arguments())
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("one JSON object on one line"),
        )
        .after_help(
            "    hookbox status\n    hookbox status --json | jq .role\n\
             Exit status: 0 the server answered, or there is none on MHA's manager; 2 wrong \
             arguments or configuration; 3 it did not answer, or a switch is still open.",
        )
}

/// `status`
pub fn main(name: &str, matches: &ArgMatches) -> ExitCode {
    match look(name, matches) {
        Ok(status) => {
            match matches.get_flag("json") {
                true => say(&serde_json::to_string(&status).unwrap_or_default()),
                false => say(&status.text()),
            }
            ExitCode::from(if status.is_well() { 0 } else { 3 })
        }
        Err(error) => {
            complain(&error);
            ExitCode::from(contract::failure(Caller::Person, &error))
        }
    }
}

fn look(name: &str, matches: &ArgMatches) -> Result<Status> {
    let context = Context::new(name, matches, |_| LIMIT)?;
    let config = &context.config;
    let is_manager = is_manager(&context);
    let mut status = Status {
        role: if is_manager { "manager" } else { "unknown" },
        vips: match is_manager {
            true => Vec::new(),
            false => addresses(&context),
        },
        orchestrator_wants: wanted(&context),
        last_check: Memory::recall(&config.paths.run).map(|memory| Check {
            age_ms: memory.age().as_millis() as u64,
            class: memory.class.to_string(),
            text: memory.text,
        }),
        maintenance_until: maintenance::until(&config.paths)
            .map(|until| humantime::format_rfc3339_seconds(until).to_string()),
        last_run: last_run(&context),
        last_promotion: last_promotion(&context),
        ..Status::default()
    };
    match open_switch(&context) {
        Ok(open) => status.open_switch = open,
        Err(error) => status.switch_error = Some(error.chain()),
    }
    if !is_manager {
        ask(context.server()?, &mut status);
    }
    Ok(status)
}

/// MHA's manager has no server, and its configuration may be that of all hosts: then it is a
/// manager because none of the servers in it is here.
fn is_manager(context: &Context) -> bool {
    let Config {
        mysql, mha, peer, ..
    } = &context.config;
    let is_told_apart = peer.iter().all(|peer| peer.host.parse::<IpAddr>().is_ok());
    let is_elsewhere = !peer.is_empty() && is_told_apart && context.others().len() == peer.len();
    let is_nobodys = mysql.host.is_none() && !mysql.socket.exists();
    is_nobodys && *mha != Mha::default() && (is_elsewhere || *mysql == Mysql::default())
}

fn open_switch(context: &Context) -> Result<Option<Switch>> {
    let record = Register::of(&context.config.paths).open()?;
    Ok(record.map(|record| Switch {
        reason: undo::reason(record.reason),
        since: record.at,
        old: record.old.name,
        new: record.new.map(|new| new.name),
        undo: context.command("undo"),
    }))
}

fn ask(server: &Server, status: &mut Status) {
    status.server = Some(server.name());
    let facts = || Ok((server.version()?, server.state()?, server.channels()?));
    let facts: Result<_> = facts();
    match facts {
        Ok((version, state, channels)) => {
            status.version = Some(version.to_string());
            status.role = role(&state, &channels);
            status.writes = Some(match state.writes {
                Writes::Open => "open",
                Writes::Closed => "closed",
                Writes::ClosedToAll => "closed to all",
            });
            status.channels = channels.into_iter().map(replication).collect();
        }
        Err(error) => status.error = Some(error.chain()),
    }
}

fn role(state: &State, channels: &[Channel]) -> &'static str {
    match (state.writes, channels.is_empty()) {
        (Writes::Open, _) => "primary",
        (_, false) => "replica",
        (_, true) => "fenced",
    }
}

fn replication(channel: Channel) -> Replication {
    Replication {
        receiver: match channel.receiver {
            Receiver::Connected => "connected",
            Receiver::Connecting => "connecting",
            Receiver::Stopped => "stopped",
        },
        channel: channel.name,
        source: channel.source,
        applying: channel.applying,
        received: channel.received.to_string(),
        applied: channel.applied.to_string(),
        lag_seconds: channel.lag,
        error: channel.applier_error.or(channel.receiver_error),
    }
}

fn addresses(context: &Context) -> Vec<Address> {
    let host = Host::open(&context.deadline);
    let here = |text: &String| {
        let vip = text.parse::<Vip>().ok()?;
        host.as_ref().ok()?.has(&vip).ok()
    };
    let vips = context.config.vip.iter(); // TODO
    vips.map(|text| Address {
        vip: text.clone(),
        here: here(text),
    })
    .collect()
}

fn wanted(context: &Context) -> Option<&'static str> {
    let meeting = Meeting::at(&context.config.paths.run).ok()?;
    Some(match meeting.newest()?.wish {
        Wish::Primary => "primary",
        Wish::Standby => "standby",
    })
}

fn last_run(context: &Context) -> Option<LastRun> {
    let records = journal::last_run(&context.config.paths.journal).ok()?;
    let first = records.first()?;
    let end = records.iter().rfind(|record| record.event == Event::End);
    let steps = records
        .iter()
        .filter(|record| record.mark != Some(Mark::Note));
    Some(LastRun {
        applet: first.applet.clone(),
        at: first.at.clone(),
        outcome: end
            .and_then(|end| end.outcome.clone())
            .unwrap_or_else(|| "not finished".to_owned()),
        took_ms: end.and_then(|end| end.took_ms),
        error: end.and_then(|end| end.note.clone()),
        last_step: steps.filter_map(|record| record.step.clone()).next_back(),
    })
}

/// What the last promotion said of what the old primary had acknowledged.
fn last_promotion(context: &Context) -> Option<Promotion> {
    let records = journal::tail(&context.config.paths.journal, usize::MAX).ok()?;
    records.into_iter().rev().find_map(|record| {
        let lossless = record.step?.strip_prefix(NOTE)?.to_owned();
        Some(Promotion {
            at: record.at,
            lossless,
        })
    })
}

impl Status {
    fn is_well(&self) -> bool {
        self.error.is_none() && self.open_switch.is_none() && self.switch_error.is_none()
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        if let Some(open) = &self.open_switch {
            lines.push(open.text());
        }
        if let Some(error) = &self.switch_error {
            lines.push(format!("SWITCH unknown: {error}"));
        }
        let version = self.version.as_deref().unwrap_or("version unknown");
        let writes = self.writes.unwrap_or("unknown");
        lines.push(match &self.server {
            Some(server) => format!("{} at {server}: {version}, writes {writes}", self.role),
            None => format!("{}: no server here", self.role),
        });
        if let Some(error) = &self.error {
            lines.push(format!("  does not answer: {error}"));
        }
        for channel in &self.channels {
            lines.push(format!("  {}", channel.text()));
        }
        for Address { vip, here } in &self.vips {
            let here = match here {
                Some(true) => "here",
                Some(false) => "not here",
                None => "unknown",
            };
            lines.push(format!("vip {vip}: {here}"));
        }
        if let Some(wish) = self.orchestrator_wants {
            lines.push(format!("the orchestrator wants it to be: {wish}"));
        }
        if let Some(check) = &self.last_check {
            let age = check.age_ms as f64 / 1000.0;
            lines.push(format!(
                "last check, {age:.1} s ago: {}: {}",
                check.class, check.text
            ));
        }
        if let Some(until) = &self.maintenance_until {
            lines.push(format!("MAINTENANCE until {until}"));
        }
        if let Some(run) = &self.last_run {
            let took = run
                .took_ms
                .map_or(String::new(), |ms| format!(" after {ms} ms"));
            lines.push(format!(
                "last run: {} at {}: {}{took}",
                run.applet, run.at, run.outcome
            ));
            if let Some(error) = &run.error {
                lines.push(format!("  {error}"));
            }
        }
        if let Some(Promotion { at, lossless }) = &self.last_promotion {
            lines.push(format!("last promotion at {at}: lossless: {lossless}"));
        }
        lines.join("\n")
    }
}

impl Switch {
    fn text(&self) -> String {
        let Switch {
            reason,
            old,
            since,
            undo,
            ..
        } = self;
        let new = self.new.as_deref().unwrap_or("another server");
        format!(
            "SWITCH OPEN: {reason} from {old} to {new}, begun at {since} and not finished; \
             if MHA has given up: {undo}"
        )
    }
}

impl Replication {
    fn text(&self) -> String {
        let name = match self.channel.as_str() {
            "" => String::new(),
            name => format!(" ({name})"),
        };
        let applying = if self.applying {
            "applying"
        } else {
            "NOT applying"
        };
        let lag = self
            .lag_seconds
            .map_or(String::new(), |lag| format!(", {lag} s behind"));
        let error = self
            .error
            .as_ref()
            .map_or(String::new(), |error| format!(": {error}"));
        format!(
            "replicates from {}{name}: {}, {applying}, received {}, applied {}{lag}{error}",
            self.source, self.receiver, self.received, self.applied
        )
    }
}
