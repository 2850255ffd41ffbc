//! `vip add | del | show | announce`: a virtual address on this host, without `ip` or `arping`.
//!
//! With `--json` it prints one line, for programs and for the far end of ssh.

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use hookbox::config::{Network, OnConflict};
use hookbox::error::{Error, Kind, Result};
use hookbox::link::{self, Answer, Host, Link, Step, Vip};
use hookbox::procedure::bring::{self, Known, announce, bring};
use hookbox::run::{Changed, Entry, Mark, Outcome, Run};
use hookbox::time::Deadline;

use crate::context::{self, Context, complain, say};
use crate::contract::{self, Caller};
use crate::ensure;
use crate::rival;
use crate::status;
use crate::verify;

const DEFAULT_LIMIT: &str = "5s";

/// What is left after the last repeat, so that only a host that no longer answers runs out of time.
const AFTER_LAST_REPEAT: Duration = Duration::from_secs(5);

const EXAMPLE: &str = "\
Example:
  # hookbox vip add 10.0.0.100/24 dev eth0
  vip:   0.000s  done        eth0 can take 10.0.0.100
  vip:   0.061s  done        nobody else has 10.0.0.100
  vip:   0.061s  done        add 10.0.0.100/24 dev eth0
  vip:   0.063s  done        announce 10.0.0.100/24 dev eth0
  vip:   0.084s  done        nobody else has 10.0.0.100 even now

An address:
  10.0.0.100/24 dev eth0
  fd00::100/64 dev eth0 fallback eth1,eth2
  10.0.0.100/32 dev eth0 label eth0:vip preferred_lft 0
Several, all of them or none:
  10.0.0.100/24 dev eth0 and 10.0.1.100/24 dev eth1

Exit status: 0 done, or was so already; 2 wrong arguments; 3 refused, nothing changed; \
4 failed and taken back; 5 failed, and something could not be taken back.";

/// The command line.
pub fn command() -> Command {
    // Each verb's options are made when it is called: the others would be made in the outage.
    let verb = |name, about, options| Command::new(name).about(about).defer(options);
    Command::new("vip")
        .after_help(EXAMPLE)
        .subcommand_required(true)
        .subcommand(status::vip_command())
        .subcommand(ensure::command())
        .subcommand(verify::command())
        .subcommand(verb(
            "add",
            "put it on its interface and announce it",
            add_options,
        ))
        .subcommand(verb("del", "take it off its interface", del_options))
        .subcommand(verb(
            "show",
            "show this host's addresses, or whether it has this one",
            |command| options(command).arg(address()),
        ))
        .subcommand(verb(
            "announce",
            "tell the neighbours where it is",
            announce_options,
        ))
}

fn add_options(command: Command) -> Command {
    let label = Arg::new("label")
        .long("label")
        .value_name("LABEL")
        .help("name that old ifconfig shows, at most 15 bytes");
    options(command)
        .args([address().required(true), label])
        .args([probe(), on_conflict(), schedule()])
        .arg(context::dry_run())
}

fn del_options(command: Command) -> Command {
    options(command)
        .arg(address().required(true))
        .arg(context::dry_run())
}

fn announce_options(command: Command) -> Command {
    let repeats = Arg::new("repeats")
        .long("repeats")
        .value_name("MS,MS")
        .value_parser(value_parser!(u32))
        .value_delimiter(',')
        .hide(true);
    options(command)
        .args([address().required(true), repeats, schedule()])
        .arg(context::dry_run())
}

fn probe() -> Arg {
    Arg::new("probe")
        .long("probe")
        .value_name("TIME")
        .value_parser(humantime::parse_duration)
        .help("how long others may take to say that they have it, 0s to ask nobody [default: [network] probe]")
}

fn on_conflict() -> Arg {
    Arg::new("on-conflict")
        .long("on-conflict")
        .value_name("WORD")
        .value_parser(["refuse", "fence", "take"])
        .help("what to do if another host has it [default: [network] on_conflict]")
}

fn schedule() -> Arg {
    Arg::new("announce")
        .long("announce")
        .value_name("MS,MS")
        .value_parser(value_parser!(u32))
        .value_delimiter(',')
        .help("when the neighbours are told [default: [network] announce]")
}

fn options(command: Command) -> Command {
    let json = Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("print one line of JSON");
    let limit = context::limit(DEFAULT_LIMIT, "how long it may take");
    command.args([json, limit]).args(context::arguments())
}

fn address() -> Arg {
    Arg::new("address")
        .value_name("ADDR/PREFIX dev IF")
        .num_args(1..)
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
    let vips = read_vips(verb, matches)?;
    if let Ok(Some(times)) = matches.try_get_many::<u32>("repeats") {
        let times: Vec<u32> = times.copied().collect();
        let last = Duration::from_millis(times.last().copied().unwrap_or_default().into());
        let deadline = Deadline::after(last + AFTER_LAST_REPEAT);
        return link::repeat(&vips, &times, &deadline).map(|()| Outcome::Done);
    }
    let limit = matches.get_one("limit").copied().unwrap_or_default();
    if verb == "show" {
        let host = Host::open(&Deadline::after(limit))?;
        report.here.replace(Some(show(&host, vips)?));
        return Ok(Outcome::Done);
    }
    let context = Context::new(applet, matches, |_| limit)?;
    context.give_way_to(None)?;
    let network = overridden(&context.config.network, matches)?;
    let host = Host::open(&context.deadline)?.with(&network);
    let known = rival::known(&context);
    let fence =
        |run: &mut Run<'_>, owner: &Known, vips: &[Vip]| rival::put_out(run, &context, owner, vips);
    let outcome = context.run_telling(
        |entry| report.see(entry),
        |run| match verb {
            "add" => report
                .count(bring(run, &host, &vips, &known, &fence))
                .map(drop),
            "del" => {
                let what = bring::in_few_words(vips.iter().map(Vip::to_string));
                run.act(&format!("delete {what}"), || {
                    report.count(host.del_all(&vips))
                })
            }
            _ => {
                for vip in &vips {
                    run.check(&format!("{vip} is here"), || must_have(&host, vip))?;
                }
                announce(run, &host, &vips)
            }
        },
    );
    if matches.get_flag("json")
        && let Ok(held) = host.list()
    {
        report.here.replace(Some(here(&vips, &held)));
    }
    Ok(outcome)
}

/// `[network]`, with what the command line says in its place.
fn overridden(network: &Network, matches: &ArgMatches) -> Result<Network> {
    let mut network = network.clone();
    if let Ok(Some(probe)) = matches.try_get_one("probe") {
        network.probe = *probe;
    }
    if let Ok(Some(times)) = matches.try_get_many("announce") {
        network.announce = times.copied().collect();
        if let Some(fault) = network.fault_of_announce() {
            return Err(Error::new(Kind::Usage, fault).advise("--announce 0,200,1000,2000,5000"));
        }
    }
    if let Ok(Some(word)) = matches.try_get_one::<String>("on-conflict") {
        network.on_conflict = match word.as_str() {
            "fence" => OnConflict::Fence,
            "take" => OnConflict::Take,
            _ => OnConflict::Refuse,
        };
    }
    Ok(network)
}

/// Those of `vips` that are among `held`, each on the interface that it is on.
fn here(vips: &[Vip], held: &[Vip]) -> Vec<Vip> {
    let there = |vip: &Vip| {
        let held = held.iter().find(|held| vip.is_same_as(held))?;
        Some(vip.on(&held.link))
    };
    vips.iter().filter_map(there).collect()
}

fn show(host: &Host, vips: Vec<Vip>) -> Result<Vec<Vip>> {
    let held = host.list()?;
    if vips.is_empty() {
        return Ok(held);
    }
    for vip in &vips {
        must_have(host, vip)?;
    }
    Ok(here(&vips, &held))
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

/// The words `ADDR/PREFIX dev IF and ADDR/PREFIX dev IF`.
fn read_vips(verb: &str, matches: &ArgMatches) -> Result<Vec<Vip>> {
    let words: Vec<&str> = matches
        .get_many::<String>("address")
        .into_iter()
        .flatten()
        .flat_map(|words| words.split_whitespace())
        .collect();
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let texts = words
        .split(|word| *word == "and")
        .map(|words| words.join(" "));
    let mut texts: Vec<String> = texts.collect();
    if let Ok(Some(label)) = matches.try_get_one::<String>("label") {
        let [text] = &mut texts[..] else {
            let what = "--label is for one address; write `label LABEL` behind each";
            return Err(Error::new(Kind::Usage, what));
        };
        text.push_str(" label ");
        text.push_str(label);
    }
    // What is here by mistake can be seen and taken off.
    let read = match verb {
        "del" | "show" => Vip::held,
        _ => str::parse,
    };
    texts.iter().map(|text| read(text)).collect()
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
    fn count(&self, changed: Result<Changed>) -> Result<Changed> {
        self.changed.set(matches!(changed, Ok(Changed::Yes)));
        changed
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
