//! `vip ensure`: every address is on the host where it belongs, and on no other. One look; a timer
//! starts it again.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use hookbox::cluster::Seen;
use hookbox::config::{On, RoleVips};
use hookbox::error::{Error, Kind, Result};
use hookbox::link::{Host, Link, Vip};
use hookbox::procedure::bring::{self, in_few_words};
use hookbox::run::{Mode, Outcome, Run};
use hookbox::switch::Register;
use hookbox::turn::Meeting;
use hookbox::{files, keepalived, maintenance};

use self::place::{Look, Wish};
use crate::context::{self, Context, complain, say};
use crate::contract::{self, Caller};
use crate::guard::look::Guard;
use crate::members;

mod place;

/// What the addresses of all roles on the primary are called together.
const PRIMARY: &str = "the primary's addresses";

/// How long the neighbours are asked again after an address was added: three times as long as
/// before, so that of two hosts that added it at the same time both see the other one.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// How long another host that is to give way may take to do so, before this one does.
const GIVING_WAY: Duration = Duration::from_secs(1);

/// The news of each group of addresses, so that the journal gets each only once.
type News = BTreeMap<String, String>;

/// The lock, since two at a time would not know of each other.
const TURN: &str = "ensure";

const NEWS: &str = "ensure.news";
const FILE_MODE: u32 = 0o644;

/// `vip ensure`
pub fn command() -> Command {
    Command::new("ensure")
        .about("put addresses where they belong if nobody has them, take off what must not be here")
        .defer(options)
        .after_help(
            "On every database host, where MHA or nobody moves the addresses:\n    \
             systemctl enable --now hookbox-ensure.timer\nWhat would it do now?\n    \
             hookbox vip ensure --dry-run\n\
             It never adds what another host answers for, and touches no address that keepalived \
             owns.\nDuring maintenance, and while MHA switches, it does nothing.\n\
             Exit status: 0 done, or nothing to do; 2 wrong arguments or configuration; 3 refused, \
             nothing\nchanged; 4 failed and taken back; 5 failed, and something could not be taken \
             back.",
        )
}

fn options(command: Command) -> Command {
    let role = Arg::new("role")
        .value_name("ROLE")
        .num_args(0..)
        .help("only the addresses of these roles [default: all]; `vip` of the file is writer");
    command
        .arg(role)
        .args(context::arguments())
        .arg(context::dry_run())
}

/// `vip ensure`
pub fn main(name: &str, matches: &ArgMatches) -> ExitCode {
    contract::finish(Caller::Person, ensure(name, matches))
}

/// Addresses that are on one host, all of them or none.
struct Group<'a> {
    name: String,
    /// None for those of the primary.
    role: Option<RoleVips<'a>>,
    vips: Vec<Vip>,
}

fn ensure(name: &str, matches: &ArgMatches) -> Result<Outcome> {
    let context = Context::new(name, matches, |config| {
        config.guard.limit + config.guard.grace
    })?;
    let wanted: Vec<&String> = matches.get_many("role").into_iter().flatten().collect();
    let groups = groups(&context, &wanted)?;
    not_of_keepalived(&context, &groups)?;
    let meeting = Meeting::at(&context.config.paths.run)?;
    let alone_at_work = match context.mode {
        Mode::Dry => None,
        Mode::Real => match meeting.try_turn(TURN)? {
            None => return Ok(Outcome::Done),
            turn => turn,
        },
    };
    context.give_way_to(None)?;
    let mut news = recall(&context);
    let outcome = look_and_act(&context, &meeting, &groups, &mut news);
    keep(&context, &news);
    drop(alone_at_work);
    outcome
}

fn look_and_act(
    context: &Context,
    meeting: &Meeting,
    groups: &[Group<'_>],
    news: &mut News,
) -> Result<Outcome> {
    let all = "all addresses";
    if let Some(why) = must_not_work(context, meeting)? {
        tell(context, news, all, Some(why));
        return Ok(Outcome::Done);
    }
    let targets = members::targets(context);
    if !targets.first().is_some_and(|first| first.here) {
        return Err(Error::new(Kind::Refused, "there is no server on this host")
            .advise("run it on the database hosts"));
    }
    let guard = Guard::new(context)?;
    let look = Look::new(&guard, targets)?;
    let is_at_work = |seen: &Seen| seen.mha_at_work;
    let mut seen = look
        .members
        .iter()
        .filter_map(|member| member.seen.as_ref().ok());
    if seen.any(is_at_work) {
        let why = "MHA is switching: nothing is done".to_owned();
        tell(context, news, all, Some(why));
        return Ok(Outcome::Done);
    }
    tell(context, news, all, None);
    let mut worst = Outcome::Done;
    for group in groups {
        let wish = match &group.role {
            None => look.of_primary(&group.vips)?,
            Some(role) => look.of_role(role, &group.vips)?,
        };
        let outcome = carry_out(&look, group, wish, news);
        let ended_by = outcome.error().map(Error::kind);
        let status = |outcome| contract::status(Caller::Person, outcome);
        if status(&outcome) > status(&worst) {
            worst = outcome;
        }
        match ended_by {
            Some(Kind::Overtaken) => break,
            // Only taking back is not to be interrupted.
            Some(_) => context.give_way_to(None)?,
            None => {}
        }
    }
    Ok(worst)
}

/// The addresses that move together, of the roles that are `wanted`.
fn groups<'a>(context: &'a Context, wanted: &[&String]) -> Result<Vec<Group<'a>>> {
    let roles = context.config.roles()?;
    let known: Vec<&str> = roles.iter().map(|role| role.name).collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        let what = format!("there is no role {unknown}");
        return Err(Error::new(Kind::Usage, what).advise(format!("known are {}", known.join(", "))));
    }
    if roles.is_empty() {
        return Err(Error::new(Kind::Config, "no virtual address is configured")
            .advise("set vip = [\"ADDRESS/PREFIX dev IF\"]"));
    }
    let is_wanted =
        |role: &RoleVips| wanted.is_empty() || wanted.iter().any(|name| name.as_str() == role.name);
    let (of_primary, others): (Vec<_>, Vec<_>) =
        roles.into_iter().partition(|role| *role.on == On::Primary);
    let mut groups = Vec::new();
    if of_primary.iter().any(is_wanted) {
        groups.push(Group {
            name: PRIMARY.to_owned(),
            role: None,
            vips: context.placed_here(context.config.vips_of_primary()?),
        });
    }
    for role in others.into_iter().filter(is_wanted) {
        groups.push(Group {
            name: role.name.to_owned(),
            vips: context.placed_here(role.vips.clone()),
            role: Some(role),
        });
    }
    Ok(groups)
}

/// keepalived adds and takes away by rules of its own, and would be a second hand.
fn not_of_keepalived(context: &Context, groups: &[Group<'_>]) -> Result<()> {
    let path = &context.config.paths.keepalived;
    let owned = keepalived::addresses(path)?;
    let mut vips = groups.iter().flat_map(|group| &group.vips);
    match vips.find(|vip| owned.contains(&vip.address)) {
        None => Ok(()),
        Some(vip) => {
            let what = format!("{} is keepalived's, by {}", vip.address, path.display());
            Err(Error::new(Kind::Refused, what)
                .advise("leave it to keepalived and name the other roles: hookbox vip ensure ROLE"))
        }
    }
}

/// Why nothing may be done now.
fn must_not_work(context: &Context, meeting: &Meeting) -> Result<Option<String>> {
    let paths = &context.config.paths;
    if let Some(until) = maintenance::until(paths) {
        let until = humantime::format_rfc3339_seconds(until);
        return Ok(Some(format!("maintenance until {until}: nothing is done")));
    }
    if let Some(open) = Register::of(paths).open()? {
        let why = format!("a switch from {} is open: nothing is done", open.old.name);
        return Ok(Some(why));
    }
    let is_busy = meeting.is_busy();
    Ok(is_busy.then(|| "another run changes this server: nothing is done".to_owned()))
}

fn carry_out(look: &Look<'_>, group: &Group<'_>, wish: Wish, news: &mut News) -> Outcome {
    let context = look.context();
    let name = &group.name;
    match wish {
        Wish::Fine(text) => {
            if context.mode == Mode::Dry || stdout().is_terminal() {
                say(&format!("{name}: {text}"));
            }
            tell(context, news, name, None);
            Outcome::Done
        }
        Wish::Wait(why) => {
            tell(context, news, name, Some(why));
            Outcome::Done
        }
        Wish::Trouble(error) => {
            complain(&error);
            tell(context, news, name, Some(error.chain()));
            Outcome::Refused(error)
        }
        Wish::Remove(vips, why) => {
            news.insert(name.clone(), why.clone());
            context.run(|run| {
                run.note(format!("{name}: {why}"));
                remove(run, look.host(), &vips)
            })
        }
        Wish::Add(vips, why) => {
            news.remove(name);
            context.run(|run| {
                run.note(format!("{name}: {why}"));
                add(run, look, &vips, group.role.is_none())
            })
        }
    }
}

/// What is gone is not put back.
fn remove(run: &mut Run<'_>, host: &Host, vips: &[Vip]) -> Result<()> {
    let what = in_few_words(vips.iter().map(Vip::to_string));
    run.commit(&format!("delete {what}"), || host.del_all(vips))
}

/// All or none; and none if another host has added one meanwhile and this one has to give way.
fn add<'a>(run: &mut Run<'a>, look: &'a Look<'_>, vips: &[Vip], of_primary: bool) -> Result<()> {
    let host = look.host();
    let still = "the server here is still the primary";
    if of_primary {
        run.check(still, || look.still_primary())?;
    }
    let plan = bring::plan(run, host, vips)?;
    bring::put_on(run, host, &plan, |added| host.del_all(added))?;
    if run.is_dry() {
        return Ok(());
    }
    // One that is to give way has not looked again yet; else it never will.
    run.wait("no other host took them meanwhile", GIVING_WAY, || {
        look.stays(&plan.missing, AFTERWARDS)
    })?;
    match of_primary {
        // A switch that has begun meanwhile found nothing to take off.
        true => run.check(still, || look.still_primary()),
        false => Ok(()),
    }
}

/// What is news goes into the log and the journal, once.
fn tell(context: &Context, news: &mut News, name: &str, text: Option<String>) {
    let is_news = news.get(name) != text.as_ref();
    if let Some(text) = &text
        && (is_news || context.mode == Mode::Dry)
    {
        context.run(|run| {
            run.note(format!("{name}: {text}"));
            Ok(())
        });
    }
    match text {
        Some(text) => drop(news.insert(name.to_owned(), text)),
        None => drop(news.remove(name)),
    }
}

fn recall(context: &Context) -> News {
    let path = context.config.paths.run.join(NEWS);
    let text = files::read(&path).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// That it cannot be kept costs a line more in the journal.
fn keep(context: &Context, news: &News) {
    if context.mode == Mode::Real
        && let Ok(text) = serde_json::to_string(news)
    {
        let path = context.config.paths.run.join(NEWS);
        let _ = files::replace_unsynced(&path, text.as_bytes(), FILE_MODE);
    }
}
