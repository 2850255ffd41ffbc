//! A standby's check looks at the source now and then, for the day that it is silent.
//!
//! In a process of its own that the check does not wait for: the check is not to depend on another
//! host, and costs its own server one connection and one question.

use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;
use hookbox::config::Config;
use hookbox::db::server::Server;
use hookbox::db::{Database, PeerState, Position, SemiSync, Writes};
use hookbox::error::Result;
use hookbox::last_seen::{LastSeen, Look};
use hookbox::memory::since_boot;
use hookbox::procedure::events;
use hookbox::secret::Login;
use hookbox::successor::Successor;
use hookbox::turn::Meeting;

use crate::asking::ask_all;
use crate::context::{self, Asked, Context};
use crate::rejoin;

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
        return notice_successor(&context, server, matches);
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

/// One that was the primary closes before its successor opens, as a rule, and keepalived tells it
/// nothing more. So it looks who has taken over, until it knows one, and does what notify_backup does
/// with a successor that it sees.
fn notice_successor(context: &Context, server: &Server, matches: &ArgMatches) -> Result<()> {
    let paths = &context.config.paths;
    if Successor::read(&paths.state)?.is_some() {
        return Ok(());
    }
    let own = server.see()?;
    let own_id = own.state.server_id;
    let took_over = |seen: &PeerState| {
        let is_other = seen.state.server_id != own_id && !seen.sources.contains(&own_id);
        // One that has written nothing yet is not missed; it may be a stale one that starts open.
        let histories = own.history.as_ref().zip(seen.history.as_ref());
        let has_more = histories.is_none_or(|(own, theirs)| !own.covers(theirs));
        is_other && has_more && seen.state.writes == Writes::Open
    };
    let successor = |(peer, seen): &Asked| {
        let seen = seen.as_ref().ok().filter(|seen| took_over(seen))?;
        Some(Successor::now(peer.name(), seen.state.server_id))
    };
    let successors: Vec<Successor> = context.peers()?.iter().filter_map(successor).collect();
    let Some(successor) = successors.first() else {
        return Ok(());
    };
    // No run that changes this server comes in between.
    let Some(_turn) = Meeting::at(&paths.run)?.try_turn("turn")? else {
        return Ok(());
    };
    let own = server.see()?;
    if own.state.writes == Writes::Open || !own.channels.is_empty() {
        return Ok(());
    }
    successor.write(&paths.state)?;
    match context.config.rejoin.automatic && successors.len() == 1 {
        true => rejoin::start(matches, &successor.name).map(drop),
        false => Ok(()),
    }
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
