//! keepalived's notify scripts: what it has decided this host is to be.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use hookbox::db::server::Server;
use hookbox::db::{Database, Writes};
use hookbox::error::{Error, Kind, Result};
use hookbox::last_seen::LastSeen;
use hookbox::link::{Host, Link};
use hookbox::maintenance;
use hookbox::procedure::bring;
use hookbox::procedure::events;
use hookbox::procedure::lossless::Evidence;
use hookbox::procedure::peers::Peer;
use hookbox::procedure::promote::{Promotion, promote};
use hookbox::run::{Changed, Mode, Outcome, Run};
use hookbox::successor::Successor;
use hookbox::turn::{self, Meeting, Turn, Wish, Wished};

use crate::context::{self, Context};
use crate::contract::{self, Caller};
use crate::{rejoin, rival, standby};

/// What a promotion takes besides waiting for the applier: a few round trips and, at worst, a
/// peer whose writers must be ended first.
const BESIDES_APPLYING: Duration = Duration::from_secs(30);

/// What keepalived says has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Master,
    Backup,
    Fault,
    Stop,
}

impl Event {
    fn wish(self) -> Wish {
        match self {
            Event::Master => Wish::Primary,
            Event::Backup | Event::Fault | Event::Stop => Wish::Standby,
        }
    }

    fn from_word(word: &str) -> Option<Event> {
        match word {
            "MASTER" | "notify_master" => Some(Event::Master),
            "BACKUP" | "notify_backup" => Some(Event::Backup),
            "FAULT" | "notify_fault" | "DELETED" => Some(Event::Fault),
            "STOP" | "notify_stop" => Some(Event::Stop),
            _ => None,
        }
    }
}

/// `notify_master`
pub fn master() -> Command {
    command("notify_master")
}

/// `notify_backup`
pub fn backup() -> Command {
    command("notify_backup")
}

/// `notify_fault`
pub fn fault() -> Command {
    command("notify_fault")
}

/// `notify_stop`
pub fn stop() -> Command {
    command("notify_stop")
}

/// `notify`, which takes keepalived's four words after its own arguments.
pub fn any() -> Command {
    command("notify")
}

fn command(name: &'static str) -> Command {
    let line = match name {
        "notify" => "notify \"/usr/sbin/hookbox notify\"".to_owned(),
        _ => format!("{name} \"/usr/sbin/hookbox {name}\""),
    };
    let by_hand = match name {
        "notify" => "hookbox notify --dry-run INSTANCE mysql MASTER 100".to_owned(),
        _ => format!("hookbox {name} --dry-run"),
    };
    Command::new(name)
        .args(context::arguments())
        .arg(context::dry_run())
        .arg(
            Arg::new("words")
                .num_args(0..)
                .trailing_var_arg(true)
                .value_name("INSTANCE|GROUP NAME STATE PRIORITY")
                .help("what keepalived's generic notify appends"),
        )
        .after_help(format!(
            "In keepalived.conf:\n    {line}\nWhat would it do now?\n    {by_hand}"
        ))
}

/// Runs whichever of the notify applets was called.
pub fn main(name: &str, matches: &ArgMatches) -> ExitCode {
    let outcome = match event(matches, name) {
        Ok(Some(event)) => notify(matches, name, event),
        Ok(None) => Ok(Outcome::Done),
        Err(error) => Err(error),
    };
    contract::finish(Caller::Keepalived, outcome)
}

/// What has happened; `None` for events that call for nothing here.
fn event(matches: &ArgMatches, name: &str) -> Result<Option<Event>> {
    let words: Vec<&String> = matches.get_many("words").into_iter().flatten().collect();
    let state = words.get(2);
    if let Some(event) = Event::from_word(name) {
        // As the generic `notify` it would be called whatever happens, and do the same.
        return match state.and_then(|state| Event::from_word(state)) {
            Some(said) if said.wish() != event.wish() => {
                let what = format!("{name} is not for the state {}", words[2]);
                Err(Error::new(Kind::Usage, what)
                    .advise("notify \"/usr/sbin/hookbox notify\" in keepalived.conf"))
            }
            _ => Ok(Some(event)),
        };
    }
    let Some(state) = state else {
        return Err(Error::new(Kind::Usage, "which state? no words were given")
            .advise("hookbox notify INSTANCE mysql MASTER 100"));
    };
    let event = Event::from_word(state);
    if event.is_none() {
        log::info!("nothing to do for {state}");
    }
    Ok(event)
}

fn notify(matches: &ArgMatches, name: &str, event: Event) -> Result<Outcome> {
    let wished = Wished::now(event.wish());
    let context = Context::new(name, matches, |config| match event {
        Event::Master => config.promote.limit + BESIDES_APPLYING,
        Event::Backup | Event::Fault => config.demote.limit,
        Event::Stop => config.demote.stop_limit,
    })?;
    if let Some(until) = maintenance::until(&context.config.paths) {
        let until = humantime::format_rfc3339_seconds(until);
        return Ok(context.run(|run| {
            run.note(format!("maintenance until {until}: nothing is done"));
            Ok(())
        }));
    }
    let meeting = Meeting::at(&context.config.paths.run)?;
    if context.mode == Mode::Dry {
        context.give_way_to(None)?;
        return Ok(context.run(|run| act(run, &context, matches, event, false)));
    }
    context.give_way_to(Some((meeting.clone(), wished.clone())))?;
    let mut turn: Option<Turn> = None;
    let outcome = context.run(|run| {
        if event == Event::Master {
            meeting.announce(&wished)?;
            turn = Some(meeting.take_turn(name, run.deadline())?);
        } else {
            turn::or_without(run, meeting.announce(&wished))?;
            turn = turn::or_without(run, meeting.take_turn(name, run.deadline()))?;
        }
        let unfinished = turn.as_ref().and_then(|turn| turn.unfinished.clone());
        if let Some(work) = &unfinished {
            run.note(format!("the run before was cut short: {work}"));
        }
        act(run, &context, matches, event, unfinished.is_some())
    });
    if let Some(turn) = turn {
        turn.end(&outcome);
    }
    Ok(outcome)
}

fn act<'a>(
    run: &mut Run<'a>,
    context: &'a Context,
    matches: &ArgMatches,
    event: Event,
    resume: bool,
) -> Result<()> {
    match event {
        Event::Master => become_primary(run, context, resume),
        Event::Backup | Event::Fault | Event::Stop => {
            become_standby(run, context, matches, event, resume)
        }
    }
}

fn become_primary<'a>(run: &mut Run<'a>, context: &'a Context, resume: bool) -> Result<()> {
    let config = &context.config;
    let successor = Successor::read(&config.paths.state)?;
    let peers: Vec<Peer> = context
        .peers()?
        .iter()
        .map(|(db, seen)| Peer { db, seen })
        .collect();
    let last_seen = LastSeen::recall(&config.paths.run);
    let evidence = Evidence::of(&peers, &last_seen);
    let how = Promotion {
        limit: config.promote.limit,
        on_lag: config.promote.on_lag,
        on_writable_peer: config.promote.on_writable_peer,
        receive_limit: config.promote.receive_limit,
        require: config.promote.require,
        semi_sync: config.promote.semi_sync,
        forget_source: config.promote.forget_source,
        resume,
        fence: context.demotion(),
    };
    let successor = successor.as_ref().map(|one| (one, &*config.paths.state));
    promote(run, context.server()?, &evidence, successor, how)?;
    announce(run, context)?;
    events::start_as_last_seen(run, context.server()?, &last_seen, &config.paths.run)
}

fn become_standby<'a>(
    run: &mut Run<'a>,
    context: &'a Context,
    matches: &ArgMatches,
    event: Event,
    resume: bool,
) -> Result<()> {
    let db = context.server()?;
    standby::close(run, context, db, resume)?;
    let successor = match event {
        Event::Stop => None, // no time for questions to others
        _ => remember_successor(run, context, db)?,
    };
    match successor {
        // Detached, since keepalived may want this server to be the primary meanwhile.
        Some(source) if event == Event::Backup && context.config.rejoin.automatic => run
            .act(&format!("start hookbox rejoin --source {source}"), || {
                rejoin::start(matches, &source)
            }),
        _ => Ok(()),
    }
}

/// A peer that takes writes, while neither replicates from the other, has taken over. Gives its
/// name, if there is no doubt which one it is.
fn remember_successor(run: &mut Run<'_>, context: &Context, db: &Server) -> Result<Option<String>> {
    let own = db.see()?;
    let mut successors = Vec::new();
    for (peer, seen) in context.peers()? {
        let Ok(seen) = seen else { continue };
        let successor = Successor::now(peer.name(), seen.state.server_id);
        let follows_us = seen.sources.contains(&own.state.server_id);
        if seen.state.writes == Writes::Open
            && !follows_us
            && !successor.is_source_of(&own.channels)
        {
            run.act(
                &format!("remember that {} took over", successor.name),
                || {
                    let written = successor.write(&context.config.paths.state);
                    written.map(|()| Changed::Yes)
                },
            )?;
            successors.push(successor.name);
        }
    }
    Ok(match successors.len() {
        1 => successors.pop(),
        _ => None,
    })
}

/// Keepalived announced the address when it added it, which was before this server could take
/// writes; a neighbour that missed that learns it now. Nor did it ask whether another host has it.
fn announce(run: &mut Run<'_>, context: &Context) -> Result<()> {
    let config = &context.config;
    let host = Host::open(run.deadline())?.with(&config.network);
    let mut vips = Vec::new();
    for vip in context.placed_here(config.vips_of_primary()?) {
        if host.has(&vip)? {
            vips.push(vip);
        }
    }
    if vips.is_empty() {
        return Ok(());
    }
    bring::announce(run, &host, &vips)?;
    bring::note_rivals(run, &host, &vips, &rival::known(context))
}
