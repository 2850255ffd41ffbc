//! `fence`: close writes here, also on a server that does not answer yet.
//!
//! A failing check starts this, detached. A server that was stopped in its tracks or restarts
//! after a crash is writable again the moment it answers; keepalived notices a second later. So
//! the question that closes it waits at its door.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use hookbox::check;
use hookbox::db::Database;
use hookbox::error::{Error, Kind, Result};
use hookbox::maintenance;
use hookbox::procedure::demote::{Demotion, demote};
use hookbox::procedure::events;
use hookbox::run::{Mode, Outcome};
use hookbox::turn::{Meeting, Wish, Wished};
use hookbox::verdict::Class;

use crate::context::{self, Context, complain};
use crate::contract::{self, Caller};

/// How long to wait at the door. A check that still fails then starts the next one.
const LIMIT: Duration = Duration::from_secs(30);

/// `fence`
pub fn command() -> Command {
    Command::new("fence")
        .args(context::arguments())
        .arg(context::dry_run())
        .arg(
            Arg::new("because")
                .long("because")
                .value_name("TEXT")
                .help("what the journal is to say"),
        )
        .arg(
            Arg::new("note-only")
                .long("note-only")
                .action(clap::ArgAction::SetTrue)
                .hide(true),
        )
        .after_help(
            "Close writes on this host by hand:\n    hookbox fence --because 'replacing the disk'",
        )
}

/// `fence`
pub fn main(name: &str, matches: &ArgMatches) -> ExitCode {
    match fence(name, matches) {
        Ok(outcome) => contract::exit(Caller::Person, &outcome),
        Err(error) => {
            complain(&error);
            ExitCode::from(contract::failure(Caller::Person, &error))
        }
    }
}

fn fence(name: &str, matches: &ArgMatches) -> Result<Outcome> {
    let wished = Wished::now(Wish::Standby);
    let context = Context::new(name, matches, |_| LIMIT)?;
    let because = matches.get_one::<String>("because");
    if matches.get_flag("note-only") {
        let line = because.cloned().unwrap_or_default();
        let instance = matches.get_one::<String>("instance").map(String::as_str);
        context::note_of_check(&context.config, instance, line, Duration::ZERO);
        return Ok(Outcome::Done);
    }
    let meeting = Meeting::at(&context.config.paths.run)?;
    let dry = context.mode == Mode::Dry;
    // One at the door is enough.
    let door = match dry {
        false => meeting.try_turn("fence")?,
        true => None,
    };
    if !dry && door.is_none() {
        return Ok(Outcome::Done);
    }
    context.give_way_to(match dry {
        false => Some((meeting.clone(), wished.clone())),
        true => None,
    })?;
    let mut turn = None;
    let outcome = context.run(|run| {
        if let Some(because) = because {
            run.note(because);
        }
        if maintenance::until(&context.config.paths).is_some() {
            run.note("maintenance: nothing is done");
            return Ok(());
        }
        let db = context.server()?;
        if !dry {
            meeting.announce(&wished)?;
        }
        run.wait(&format!("{} answers", db.name()), LIMIT, || {
            match db.state() {
                Ok(_) => Ok(None),
                // The server said no: it will not say otherwise by being asked again, except when
                // it was full or on its way down.
                Err(error) if error.server_code().is_some() && !may_pass(&error) => Err(error),
                Err(error) if error.kind() == Kind::Overtaken => Err(error),
                Err(error) => Ok(Some(error.chain())),
            }
        })?;
        // It may have begun while the server did not answer.
        if maintenance::until(&context.config.paths).is_some() {
            run.note("maintenance: nothing is done");
            return Ok(());
        }
        if !dry {
            turn = Some(meeting.take_turn(name, run.deadline())?);
        }
        let resume = turn.as_ref().is_some_and(|turn| turn.unfinished.is_some());
        let how = Demotion {
            resume,
            ..context.demotion()
        };
        events::stop_if_open(run, db, &context.config.paths.run)?;
        demote(run, db, how)
    });
    if let Some(turn) = turn {
        turn.end(&outcome);
    }
    Ok(outcome)
}

fn may_pass(error: &Error) -> bool {
    matches!(check::classify(error), Class::Connections | Class::Down)
}

/// Starts `fence` for the same configuration as `matches`, detached from this process; with
/// `note_only` it closes nothing and only writes down `because`.
///
/// # Errors
/// When the program cannot be started.
pub fn start(matches: &ArgMatches, because: &str, note_only: bool) -> Result<()> {
    let mut words = vec!["fence", "--because", because];
    if note_only {
        words.push("--note-only");
    }
    context::start_detached(matches, &words)
}
