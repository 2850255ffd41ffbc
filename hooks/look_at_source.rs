//! A standby's check looks at the source now and then, for the day that it is silent.
//!
//! In a process of its own that the check does not wait for: the check is not to depend on another
//! host, and costs its own server one connection and one question.

use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;
use hookbox::config::Config;
use hookbox::db::server::Server;
use hookbox::db::{Database, Position, SemiSync, Writes};
use hookbox::error::Result;
use hookbox::last_seen::{LastSeen, Look};
use hookbox::memory::since_boot;
use hookbox::procedure::events;
use hookbox::secret::Login;
use hookbox::turn::Meeting;

use crate::asking::ask_all;
use crate::context::{self, Context};

/// How long this host's server may take besides its peers.
const OWN_LIMIT: Duration = Duration::from_millis(500);

/// Starts a look if one is due and there is anybody to look at.
pub fn start(matches: &ArgMatches, config: &Config) {
    if config.peer.is_empty() || !LastSeen::is_due(&config.paths.run) {
        return;
    }
    if let Err(error) = context::start_detached(matches, &["check_mysql", "--look-at-source"]) {
        log::debug!("{}", error.chain());
    }
}

/// `check_mysql --look-at-source`
pub fn main(matches: &ArgMatches) -> ExitCode {
    if let Err(error) = look(matches) {
        log::debug!("{}", error.chain());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn look(matches: &ArgMatches) -> Result<()> {
    let context = Context::new("check_mysql", matches, |config| {
        config.promote.peer_limit + OWN_LIMIT
    })?;
    let run = &context.config.paths.run;
    let Some(_lock) = Meeting::at(run)?.try_turn("source.lock")? else {
        return Ok(()); // one look at a time
    };
    let at = since_boot();
    let server = context.server()?;
    let channels = server.channels()?;
    if channels.is_empty() {
        return Ok(());
    }
    // Of several channels it does not say which.
    let acknowledged = channels.len() == 1 && server.semi_sync()?.acknowledges;
    let places = context.places(&Login::local(&context.config.mysql)?)?;
    let limit = context.config.promote.peer_limit;
    let (answers, ()) = ask_all(&places, limit, see_source, || ());
    let before = LastSeen::recall(run);
    let sources = answers.into_iter().flatten().filter_map(|seen| {
        let id = seen.source_id;
        channels
            .iter()
            .any(|channel| channel.source_id == id)
            .then_some(())?;
        let none = LastSeen::default();
        let known = before
            .iter()
            .find(|known| known.source_id == id)
            .unwrap_or(&none);
        // One that was closed already has stopped its events for whoever follows.
        let (ran_events, events) = match seen.writes {
            Writes::Open => (seen.ran_events, seen.events),
            Writes::Closed | Writes::ClosedToAll => (known.ran_events(), known.events.clone()),
        };
        let look = Look {
            at,
            written: seen.written?,
            semi_sync: seen.semi_sync,
            acknowledged,
            ran_events,
        };
        Some(LastSeen {
            source_id: id,
            looks: known.and(look),
            events,
        })
    });
    let sources: Vec<LastSeen> = sources.collect();
    // One that does not answer leaves what is known of it.
    let mut all: Vec<LastSeen> = before.clone();
    all.retain(|old| {
        let is_it = |new: &LastSeen| new.source_id == old.source_id;
        let is_source = channels
            .iter()
            .any(|channel| channel.source_id == old.source_id);
        is_source && !sources.iter().any(is_it)
    });
    all.extend(sources);
    LastSeen::keep(&all, run);
    Ok(())
}

struct Seen {
    source_id: u32,
    written: Option<Position>,
    semi_sync: SemiSync,
    writes: Writes,
    ran_events: bool,
    events: Option<Vec<String>>,
}

fn see_source(server: &Server) -> Result<Seen> {
    let state = server.state()?;
    Ok(Seen {
        source_id: state.server_id,
        writes: state.writes,
        written: server.written()?,
        semi_sync: server.semi_sync()?,
        ran_events: server.runs_events()?,
        events: events::enabled(server),
    })
}
