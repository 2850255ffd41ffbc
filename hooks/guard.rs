//! `guard`: closes a primary that was replaced or is cut off. One look; a timer starts it again.

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Command};
use hookbox::db::Database;
use hookbox::error::{Error, Kind, Result};
use hookbox::guard::{Verdict, Watch, verdict};
use hookbox::link::Vip;
use hookbox::maintenance;
use hookbox::memory::since_boot;
use hookbox::procedure::establish::Address;
use hookbox::procedure::withdraw::withdraw;
use hookbox::run::{Changed, Mode, Outcome};
use hookbox::turn::{self, Meeting, Wish, Wished};

use self::look::{Guard, Look};
use crate::context::{self, Context, complain};
use crate::contract::{self, Caller};
use crate::fence;

pub mod look;

/// The timer's period. What is left of `grace` below this is waited for, or the look that ends it
/// would come almost a period late.
const PERIOD: Duration = Duration::from_secs(1);

/// `guard`
pub fn command() -> Command {
    Command::new("guard")
        .args(context::arguments())
        .arg(context::dry_run())
        .after_help(
            "Every second on every database host that MHA manages:\n    \
             systemctl enable --now hookbox-guard.timer\n\
             What would it do now?\n    hookbox guard --dry-run\n\
             It closes writes, ends sessions and takes the address off when neither a witness nor a\n\
             peer has answered for [guard] grace, or when a peer took over. It never makes anything\n\
             writable. Where keepalived calls hookbox it is not needed and does no harm: check_mysql\n\
             with [check] witness does the same there.\n\
             Exit status: 0 nothing to do or done, 2 wrong arguments or configuration, 3 two servers\n\
             take writes and nothing tells whose the right is, or something could not be asked or\n\
             done, 5 only a part could be done.",
        )
}

/// `guard`
pub fn main(name: &str, matches: &ArgMatches) -> ExitCode {
    contract::finish(Caller::Person, guard(name, matches))
}

fn guard(name: &str, matches: &ArgMatches) -> Result<Outcome> {
    let wished = Wished::now(Wish::Standby);
    let context = Context::new(name, matches, |config| config.guard.limit)?;
    let run = &context.config.paths.run;
    let meeting = Meeting::at(run)?;
    let dry = context.mode == Mode::Dry;
    let alone_at_work = match dry {
        true => None,
        false => meeting.try_turn("guard")?,
    };
    if !dry && alone_at_work.is_none() {
        return Ok(Outcome::Done);
    }
    context.give_way_to(None)?;
    let guard = Guard::new(&context)?;
    let before = Watch::recall(run, since_boot());
    let grace = context.config.guard.grace;
    if let Some(until) = maintenance::until(&context.config.paths) {
        let until = humantime::format_rfc3339_seconds(until);
        let watch = Watch::after(before.as_ref(), Verdict::Maintenance, since_boot(), grace);
        let text = format!("maintenance until {until}: nothing is done");
        write_down(&context, before.as_ref(), &watch, &text);
        return Ok(Outcome::Done);
    }
    if let Some(before) = before.as_ref().filter(|before| before.verdict.may_pass()) {
        let left = grace.saturating_sub(before.lasted_until(since_boot(), grace));
        if left < PERIOD {
            context.deadline.pause(left)?;
        }
    }
    let Some(look) = guard.look(before.as_ref())? else {
        match (dry, &before) {
            (true, _) => context::say("nothing to guard: no writes and no address here"),
            (false, Some(before)) if !before.unfinished => Watch::forget(run),
            (false, _) => {}
        }
        return Ok(Outcome::Done);
    };
    let verdict = verdict(&look.sight);
    let mut watch = Watch::after(before.as_ref(), verdict, look.at, grace);
    // Giving up began with a wish of its own: a younger one goes before what is left of it.
    let newest = meeting.newest().map(|newest| newest.wish);
    watch.unfinished = look.unfinished && newest != Some(Wish::Primary);
    watch.cut_off = look.sight.cut_off && !(verdict == Verdict::Fine && look.complete);
    write_down(&context, before.as_ref(), &watch, &look.text);
    let has_lasted = !verdict.may_pass() || watch.lasted() >= grace;
    let finishes = watch.unfinished && look.sight.answers;
    if verdict.calls_for_giving_up() && has_lasted || finishes {
        return give_up(&guard, matches, &meeting, &wished, watch, &look);
    }
    Ok(match verdict {
        Verdict::Undecided | Verdict::Blind => Outcome::Refused(trouble(verdict, &look)),
        _ => Outcome::Done,
    })
}

/// Writes down what a look came to; into the journal only when that is something else than before.
fn write_down(context: &Context, before: Option<&Watch>, watch: &Watch, text: &str) {
    let dry = context.mode == Mode::Dry;
    if !dry {
        watch.keep(&context.config.paths.run);
    }
    let is_news = match before.map_or(Verdict::Fine, |before| before.verdict) {
        Verdict::Maintenance => watch.verdict > Verdict::Maintenance,
        was => was != watch.verdict,
    };
    if dry || is_news {
        context.run(|run| {
            run.note(text);
            Ok(())
        });
    }
}

fn trouble(verdict: Verdict, look: &Look) -> Error {
    let error = Error::new(Kind::Refused, look.text.clone());
    let error = match verdict {
        Verdict::Blind => error.advise("let the account of [[peer]] log in there"),
        _ => error.advise(
            "find out which of them is to be the primary, and close the other one there: \
             hookbox fence",
        ),
    };
    complain(&error);
    error
}

fn give_up(
    guard: &Guard<'_>,
    matches: &ArgMatches,
    meeting: &Meeting,
    wished: &Wished,
    mut watch: Watch,
    look: &Look,
) -> Result<Outcome> {
    let context = guard.context;
    let dry = context.mode == Mode::Dry;
    let run_dir = &context.config.paths.run;
    if !dry {
        watch.unfinished = true;
        watch.keep(run_dir);
    }
    // Half of the time, so that something is left for sessions and addresses.
    let server = guard.local()?.patient(context.config.guard.limit / 2);
    let mut turn = None;
    let outcome = context.run(|run| {
        run.note(&look.text);
        if !dry {
            turn::or_without(run, meeting.announce(wished))?;
            let patience = run.deadline().at_most(PERIOD);
            match turn::or_without(run, meeting.take_turn(&context.applet, &patience)) {
                Ok(mine) => turn = mine,
                // The address must go, whatever holds that run up.
                Err(error) if error.kind() == Kind::Timeout => run.note(error.chain()),
                Err(error) => return Err(error),
            }
        }
        let at_the_door = match look.sight.answers {
            true => Ok(()),
            false => run.act("wait at the server's door to close it", || {
                let because = format!("guard: {}", look.text);
                fence::start(matches, &because, false).map(|()| Changed::Yes)
            }),
        };
        let db = look.sight.answers.then_some(&server as &dyn Database);
        let on_host = |vip: &Vip| Address {
            link: &guard.host,
            vip: vip.clone(),
        };
        let addresses: Vec<Address<'_>> = look.held.iter().map(on_host).collect();
        withdraw(run, db, &addresses, context.demotion()).and(at_the_door)
    });
    if let Some(turn) = turn {
        turn.end(&outcome);
    }
    if !dry && matches!(outcome, Outcome::Done) {
        Watch::forget(run_dir);
    }
    Ok(outcome)
}
