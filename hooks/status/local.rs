//! What this host knows by itself: its server, what was last done to it, what is still open.

use hookbox::cluster::Seen;
use hookbox::db::{Channel, Receiver, Writes};
use hookbox::error::Result;
use hookbox::journal::{self, Event};
use hookbox::maintenance;
use hookbox::memory::Memory;
use hookbox::procedure::lossless::NOTE;
use hookbox::run::Mark;
use hookbox::switch::Register;
use hookbox::turn::{Meeting, Wish};
use serde::Serialize;

use crate::context::{self, Context};
use crate::undo;

/// Everything that is known here. The names are those of `--json`.
#[derive(Debug, Default, Serialize)]
pub struct Local {
    pub open_switch: Option<Switch>,
    pub switch_error: Option<String>,
    pub server: Option<String>,
    pub version: Option<String>,
    pub role: &'static str,
    pub writes: Option<&'static str>,
    pub error: Option<String>,
    pub channels: Vec<Replication>,
    pub orchestrator_wants: Option<&'static str>,
    pub last_check: Option<Check>,
    pub maintenance_until: Option<String>,
    pub last_run: Option<LastRun>,
    pub last_promotion: Option<Promotion>,
}

#[derive(Debug, Serialize)]
pub struct Promotion {
    pub at: String,
    pub lossless: String,
}

#[derive(Debug, Serialize)]
pub struct Switch {
    pub reason: &'static str,
    pub since: String,
    pub old: String,
    pub new: Option<String>,
    pub undo: String,
}

#[derive(Debug, Serialize)]
pub struct Replication {
    pub channel: String,
    pub source: String,
    pub receiver: &'static str,
    pub applying: bool,
    pub received: String,
    pub applied: String,
    pub lag_seconds: Option<u64>,
    pub error: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Check {
    pub class: String,
    pub text: String,
    pub age_ms: u64,
}

#[derive(Debug, Serialize)]
pub struct LastRun {
    pub applet: String,
    pub at: String,
    pub outcome: String,
    pub took_ms: Option<u64>,
    pub error: Option<String>,
    pub last_step: Option<String>,
}

impl Local {
    /// Looks; `own` is what the server on this host said, None where there is none.
    pub fn look(context: &Context, own: Option<&Result<Seen>>) -> Local {
        let config = &context.config;
        let mut local = Local {
            role: if own.is_none() { "manager" } else { "unknown" },
            orchestrator_wants: wanted(context),
            last_check: Memory::recall(&config.paths.run).map(|memory| Check {
                age_ms: memory.age().as_millis() as u64,
                class: memory.class.to_string(),
                text: memory.text,
            }),
            maintenance_until: maintenance::until(&config.paths)
                .map(|until| humantime::format_rfc3339_seconds(until).to_string()),
            last_run: last_run(context),
            last_promotion: last_promotion(context),
            ..Local::default()
        };
        match open_switch(context) {
            Ok(open) => local.open_switch = open,
            Err(error) => local.switch_error = Some(error.chain()),
        }
        if let Some(own) = own {
            local.server = Some(context::local_endpoint(config).to_string());
            local.fill_in(own);
        }
        local
    }

    fn fill_in(&mut self, own: &Result<Seen>) {
        match own {
            Ok(seen) => {
                self.version = Some(seen.version.clone());
                self.role = seen.role();
                self.writes = Some(match seen.writes {
                    Writes::Open => "open",
                    Writes::Closed => "closed",
                    Writes::ClosedToAll => "closed to all",
                });
                self.channels = seen.channels.iter().map(replication).collect();
            }
            Err(error) => self.error = Some(error.chain()),
        }
    }

    /// Whether its server answers and no switch is open.
    pub fn is_well(&self) -> bool {
        self.error.is_none() && self.open_switch.is_none() && self.switch_error.is_none()
    }
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

fn replication(channel: &Channel) -> Replication {
    let Channel {
        applier_error,
        receiver_error,
        ..
    } = channel;
    Replication {
        receiver: match channel.receiver {
            Receiver::Connected => "connected",
            Receiver::Connecting => "connecting",
            Receiver::Stopped => "stopped",
        },
        channel: channel.name.clone(),
        source: channel.source.clone(),
        applying: channel.applying,
        received: channel.received.to_string(),
        applied: channel.applied.to_string(),
        lag_seconds: channel.lag,
        error: applier_error.clone().or(receiver_error.clone()),
    }
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
