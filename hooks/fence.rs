//! `fence`: close writes here, also on a server that does not answer yet.
//!
//! A failing check starts this, detached. A server that was stopped in its tracks or restarts
//! after a crash is writable again the moment it answers; keepalived notices a second later. So
//! the question that closes it waits at its door.
//!
//! `--boot` is the same for every start of the server: whatever it was before, it is closed until
//! somebody makes it the primary. It waits for as long as a crash recovery may take.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use hookbox::check;
use hookbox::db::server::Server;
use hookbox::db::{Database, Writes};
use hookbox::error::{Error, Kind, Result};
use hookbox::maintenance;
use hookbox::run::{Mode, Outcome, Run};
use hookbox::turn::{self, Meeting, Wish, Wished};
use hookbox::verdict::Class;

use crate::context::{self, Context};
use crate::contract::{self, Caller};
use crate::standby;

/// How long to wait at the door. A check that still fails then starts the next one.
const LIMIT: Duration = Duration::from_secs(30);

/// The same with `--boot`: recovery after a crash can take hours.
const BOOT_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// With `--boot` a server that has been up for longer is left alone: it did not just start, it may
/// well be the primary, and somebody is installing this.
const JUST_STARTED: Duration = Duration::from_secs(60);

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
            Arg::new("boot")
                .long("boot")
                .action(clap::ArgAction::SetTrue)
                .help("close a server that starts now, and let it start closed from now on"),
        )
        .arg(
            Arg::new("note-only")
                .long("note-only")
                .action(clap::ArgAction::SetTrue)
                .hide(true),
        )
        .after_help(
            "Close writes on this host by hand:\n    hookbox fence --because 'replacing the disk'\n\
             Close it at every start, until it is made the primary:\n    \
             systemctl enable hookbox-fence-boot.service",
        )
}

/// `fence`
pub fn main(name: &str, matches: &ArgMatches) -> ExitCode {
    contract::finish(Caller::Person, fence(name, matches))
}

fn fence(name: &str, matches: &ArgMatches) -> Result<Outcome> {
    let wished = Wished::now(Wish::Standby);
    let boot = matches.get_flag("boot");
    let limit = if boot { BOOT_LIMIT } else { LIMIT };
    let context = Context::new(name, matches, |_| limit)?;
    let because = matches.get_one::<String>("because");
    if matches.get_flag("note-only") {
        let line = because.cloned().unwrap_or_default();
        let instance = matches.get_one::<String>("instance").map(String::as_str);
        context::note_of_check(&context.config, instance, line, Duration::ZERO);
        return Ok(Outcome::Done);
    }
    let meeting = Meeting::at(&context.config.paths.run)?;
    let dry = context.mode == Mode::Dry;
    // One at the door is enough. A file that cannot be used keeps nobody from it.
    let door = match dry {
        false => Some(meeting.try_turn(if boot { "boot" } else { "fence" })),
        true => None,
    };
    if let Some(Ok(None)) = door {
        context::say("another fence waits at the server's door already");
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
        if in_maintenance(run, &context) {
            return Ok(());
        }
        let db = &context.server()?.another().patient(LIMIT);
        if !dry {
            turn::or_without(run, meeting.announce(&wished))?;
        }
        let was_away = wait_at_the_door(run, db, limit)?;
        // A server that lets nobody in while it recovers is as old by then as this process.
        let is_older = |up: Duration| up >= run.deadline().elapsed() + JUST_STARTED;
        if boot && !was_away && is_older(db.uptime()?) {
            run.note("the server did not start just now: nothing is done");
            return Ok(());
        }
        // It may have begun while the server did not answer.
        if in_maintenance(run, &context) {
            return Ok(());
        }
        if !dry {
            let patience = run.deadline().at_most(LIMIT);
            turn = turn::or_without(run, meeting.take_turn(name, &patience))?;
        }
        let resume = turn.as_ref().is_some_and(|turn| turn.unfinished.is_some());
        let was_open = db.state()?.writes == Writes::Open;
        standby::close(run, &context, db, resume)?;
        if boot {
            start_closed(run, db, was_open);
        }
        Ok(())
    });
    if let Some(turn) = turn {
        turn.end(&outcome);
    }
    Ok(outcome)
}

fn in_maintenance(run: &Run<'_>, context: &Context) -> bool {
    let is_on = maintenance::until(&context.config.paths).is_some();
    if is_on {
        run.note("maintenance: nothing is done");
    }
    is_on
}

/// Waits until the server answers; whether it was down before.
fn wait_at_the_door(run: &mut Run<'_>, db: &Server, limit: Duration) -> Result<bool> {
    let mut was_away = false;
    run.wait(&format!("{} answers", db.name()), limit, || {
        match db.state() {
            Ok(_) => Ok(None),
            // The server said no: it will not say otherwise by being asked again, except when
            // it was full or on its way down.
            Err(error) if error.kind() == Kind::Overtaken => Err(error),
            Err(error) if !error.is_silence() && !may_pass(&error) => Err(error),
            Err(error) => {
                // One that is full or hangs may be the primary at work.
                was_away |= check::classify(&error) == Class::Down;
                Ok(Some(error.chain()))
            }
        }
    })?;
    Ok(was_away)
}

/// Lets the server be closed from the first moment on when it starts again. Nothing that closes it
/// afterwards is as quick as its first client; promotion leaves this as it is, on purpose.
fn start_closed(run: &mut Run<'_>, db: &Server, was_open: bool) {
    let advice = "read_only = 1 below [mysqld] in my.cnf closes it from its first moment";
    match db.can_persist() {
        Ok(true) => {
            // Closed it is; it must not be a failure that this could not be written down.
            if let Err(error) = run.act("the server starts closed", || db.persist_closed()) {
                run.note(format!("{}; {advice}", error.chain()));
            }
        }
        _ if was_open => run.note(format!("it started open; {advice}")),
        _ => {}
    }
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
