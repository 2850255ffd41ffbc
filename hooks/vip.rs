//! `vip add | del | show | announce`: a virtual address on this host, without `ip` or `arping`.
//!
//! With `--json` it prints one line, for programs and for the far end of ssh.

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use hookbox::error::{Error, Kind, Result};
use hookbox::link::{self, Answer, Host, Link, Step, Vip};
use hookbox::run::{Changed, Entry, Mark, Outcome, Run};
use hookbox::time::Deadline;

use crate::context::{self, Context, complain, say};
use crate::contract::{self, Caller};
use crate::ensure;
use crate::status;
use crate::verify;

const DEFAULT_LIMIT: &str = "5s";

/// Longer than the last repeat, so that only a host that no longer answers runs into it.
const REPEATS_LIMIT: Duration = Duration::from_secs(10);

const EXAMPLE: &str = "\
Example:
  # hookbox vip add 10.0.0.100/24 dev eth0
  vip:   0.000s  done        eth0 can take 10.0.0.100
  vip:   0.000s  done        add 10.0.0.100/24 dev eth0
  vip:   0.001s  done        announce 10.0.0.100/24 dev eth0

Exit status: 0 done, or was so already; 2 wrong arguments; 3 refused, nothing changed; \
4 failed and taken back; 5 failed, and something could not be taken back.";

/// The command line.
pub fn command() -> Command {
    let label = Arg::new("label")
        .long("label")
        .value_name("LABEL")
        .help("name that old ifconfig shows, at most 15 bytes");
    let repeats = Arg::new("repeats")
        .long("repeats")
        .action(ArgAction::SetTrue)
        .hide(true);
    Command::new("vip")
        .after_help(EXAMPLE)
        .subcommand_required(true)
        .subcommand(status::vip_command())
        .subcommand(ensure::command())
        .subcommand(verify::command())
        .subcommand(
            verb("add", "put it on its interface and announce it")
                .arg(address().required(true))
                .arg(label)
                .arg(context::dry_run()),
        )
        .subcommand(
            verb("del", "take it off its interface")
                .arg(address().required(true))
                .arg(context::dry_run()),
        )
        .subcommand(
            verb(
                "show",
                "show this host's addresses, or whether it has this one",
            )
            .arg(address()),
        )
        .subcommand(
            verb(
                "announce",
                "tell the neighbours where it is, now and for 5 s more",
            )
            .arg(address().required(true))
            .arg(repeats)
            .arg(context::dry_run()),
        )
}

fn verb(name: &'static str, about: &'static str) -> Command {
    let json = Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("print one line of JSON");
    let limit = Arg::new("limit")
        .long("limit")
        .value_name("TIME")
        .default_value(DEFAULT_LIMIT)
        .value_parser(humantime::parse_duration)
        .help("how long it may take");
    Command::new(name)
        .about(about)
        .args([json, limit])
        .args(context::arguments())
}

fn address() -> Arg {
    Arg::new("address")
        .value_name("ADDR/PREFIX dev IF")
        .num_args(1..=5)
        .help("for example 10.0.0.100/24 dev eth0")
}

/// Carries it out.
pub fn main(applet: &str, matches: &ArgMatches) -> ExitCode {
    let Some((verb, matches)) = matches.subcommand() else {
        return ExitCode::from(2);
    };
    match verb {
        "status" => return status::vip_main(applet, matches),
        "ensure" => return ensure::main(applet, matches),
        "verify" => return verify::main(applet, matches),
        _ => {}
    }
    let report = Report::default();
    let outcome = carry_out(applet, verb, matches, &report).unwrap_or_else(|error| {
        complain(&error);
        Outcome::Refused(error)
    });
    if matches.get_flag("json") {
        report.print_json(&outcome);
    } else if verb == "show" {
        let here = report.here.borrow();
        here.iter().flatten().for_each(|vip| say(&vip.to_string()));
    }
    contract::exit(Caller::Person, &outcome)
}

fn carry_out(applet: &str, verb: &str, matches: &ArgMatches, report: &Report) -> Result<Outcome> {
    let vip = read_vip(matches)?;
    if let Some(vip) = &vip
        && verb == "announce"
        && matches.get_flag("repeats")
    {
        let deadline = Deadline::after(REPEATS_LIMIT);
        return link::repeat(&Host::open(&deadline)?, vip, &deadline).map(|()| Outcome::Done);
    }
    let limit = matches.get_one("limit").copied().unwrap_or_default();
    if verb == "show" {
        let host = Host::open(&Deadline::after(limit))?;
        report.here.replace(Some(show(&host, vip)?));
        return Ok(Outcome::Done);
    }
    let Some(vip) = vip else {
        return Err(Error::new(Kind::Usage, format!("{verb} needs an address")));
    };
    let context = Context::new(applet, matches, |_| limit)?;
    context.give_way_to(None)?;
    let host = Host::open(&context.deadline)?;
    let outcome = context.run_telling(
        |entry| report.see(entry),
        |run| match verb {
            "add" => add(run, &host, &vip, report),
            "del" => run.act(&format!("delete {vip}"), || report.count(host.del(&vip)?)),
            _ => {
                run.check(&format!("{vip} is here"), || must_have(&host, &vip))?;
                announce(run, &host, &vip)
            }
        },
    );
    let here = host.has(&vip).ok();
    report
        .here
        .replace(here.map(|here| Vec::from_iter(here.then_some(vip))));
    Ok(outcome)
}

fn show(host: &Host, vip: Option<Vip>) -> Result<Vec<Vip>> {
    match vip {
        Some(vip) => must_have(host, &vip).map(|()| vec![vip]),
        None => host.list(),
    }
}

fn add<'a>(run: &mut Run<'a>, host: &'a Host, vip: &'a Vip, report: &Report) -> Result<()> {
    run.check(&format!("{} can take {}", vip.link, vip.address), || {
        host.ready(vip)
    })?;
    run.change(
        &format!("add {vip}"),
        || report.count(host.add(vip)?),
        &format!("delete {vip}"),
        || host.del(vip),
    )?;
    announce(run, host, vip)
}

fn announce(run: &mut Run, host: &Host, vip: &Vip) -> Result<()> {
    run.act(&format!("announce {vip}"), || host.announce(vip))
}

fn must_have(host: &Host, vip: &Vip) -> Result<()> {
    match host.has(vip)? {
        true => Ok(()),
        false => Err(
            Error::new(Kind::Refused, format!("{vip} is not on this host"))
                .advise("hookbox vip show, for what is"),
        ),
    }
}

fn read_vip(matches: &ArgMatches) -> Result<Option<Vip>> {
    let Some(words) = matches.get_many::<String>("address") else {
        return Ok(None);
    };
    let mut text = words.cloned().collect::<Vec<_>>().join(" ");
    if let Ok(Some(label)) = matches.try_get_one::<String>("label") {
        text.push_str(" label ");
        text.push_str(label);
    }
    text.parse().map(Some)
}

/// What `--json` says in the end.
#[derive(Default)]
struct Report {
    timeline: RefCell<Vec<Step>>,
    changed: Cell<bool>,
    /// The addresses asked about that are on this host; None when that is not known.
    here: RefCell<Option<Vec<Vip>>>,
}

impl Report {
    fn count(&self, changed: Changed) -> Result<Changed> {
        self.changed.set(changed == Changed::Yes);
        Ok(changed)
    }

    fn see(&self, entry: &Entry) {
        if entry.mark != Mark::Started {
            self.timeline.borrow_mut().push(Step::from(entry));
        }
    }

    fn print_json(&self, outcome: &Outcome) {
        let here = self.here.borrow();
        let timeline = self.timeline.take();
        let answer = Answer::new(outcome, self.changed.get(), here.as_deref(), timeline);
        // A struct of texts and numbers has a form as JSON.
        say(&serde_json::to_string(&answer).unwrap_or_default());
    }
}
