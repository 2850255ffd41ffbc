//! `vip add | del | show | announce`: a virtual address on this host, without `ip` or `arping`.
//!
//! With `--json` it prints one line, for programs and for the far end of ssh.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use hookbox::error::{Error, Kind, Result};
use hookbox::link::{self, Host, Link, Vip};
use hookbox::run::{Changed, Entry, Mark, Mode, Outcome, Run};
use hookbox::time::Deadline;
use serde_json::{Value, json};

/// The number of the form that `--json` prints. Fields may be added; a change of meaning counts up.
const FORM: u32 = 1;

const DEFAULT_LIMIT: &str = "5s";

/// Longer than the last repeat, so that only a host that no longer answers runs into it.
const REPEATS_LIMIT: Duration = Duration::from_secs(10);

const EXAMPLE: &str = "\
Example:
  # hookbox vip add 10.0.0.100/24 dev eth0
  done        eth0 can take 10.0.0.100/24
  done        add 10.0.0.100/24 dev eth0
  done        announce 10.0.0.100/24 dev eth0

Exit status: 0 done, or was so already; 2 wrong arguments; 3 refused, nothing changed; \
4 failed and taken back; 5 failed, and something could not be taken back.";

/// The command line.
pub fn command() -> Command {
    let dry_run = Arg::new("dry-run")
        .long("dry-run")
        .action(ArgAction::SetTrue)
        .help("Ask all questions, change nothing");
    let label = Arg::new("label")
        .long("label")
        .value_name("LABEL")
        .help("Name that old ifconfig shows, at most 15 bytes");
    let repeats = Arg::new("repeats")
        .long("repeats")
        .action(ArgAction::SetTrue)
        .hide(true);
    Command::new("vip")
        .about("Add, delete, show or announce a virtual address on this host")
        .after_help(EXAMPLE)
        .subcommand_required(true)
        .subcommand(
            verb("add", "Put it on its interface and announce it")
                .arg(address().required(true))
                .arg(label)
                .arg(dry_run.clone()),
        )
        .subcommand(
            verb("del", "Take it off its interface")
                .arg(address().required(true))
                .arg(dry_run.clone()),
        )
        .subcommand(
            verb(
                "show",
                "Show this host's addresses, or whether it has this one",
            )
            .arg(address()),
        )
        .subcommand(
            verb(
                "announce",
                "Tell the neighbours where it is, now and for 5 s more",
            )
            .arg(address().required(true))
            .arg(repeats)
            .arg(dry_run),
        )
}

fn verb(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print one line of JSON"),
        )
        .arg(
            Arg::new("limit")
                .long("limit")
                .value_name("TIME")
                .default_value(DEFAULT_LIMIT)
                .value_parser(humantime::parse_duration)
                .help("How long it may take"),
        )
}

fn address() -> Arg {
    Arg::new("address")
        .value_name("ADDR/PREFIX dev IF")
        .num_args(1..=5)
        .help("For example 10.0.0.100/24 dev eth0")
}

/// Carries it out.
pub fn main(matches: &ArgMatches) -> ExitCode {
    let Some((verb, matches)) = matches.subcommand() else {
        return ExitCode::from(2);
    };
    let report = Report::new(verb, matches.get_flag("json"));
    let outcome = carry_out(verb, matches, &report).unwrap_or_else(Outcome::Refused);
    report.end(&outcome);
    ExitCode::from(match &outcome {
        Outcome::Done => 0,
        Outcome::Refused(error) if matches!(error.kind(), Kind::Usage | Kind::Config) => 2,
        Outcome::Refused(_) => 3,
        Outcome::RolledBack(_) => 4,
        Outcome::Partial { .. } => 5,
    })
}

fn carry_out(verb: &str, matches: &ArgMatches, report: &Report) -> Result<Outcome> {
    let vip = read_vip(matches)?;
    let limit = matches.get_one("limit").copied().unwrap_or_default();
    let deadline = Deadline::after(limit);
    let host = Host::open(&deadline)?;
    let Some(vip) = vip else {
        report.here(Some(host.list()?));
        return Ok(Outcome::Done);
    };
    if verb == "announce" && matches.get_flag("repeats") {
        let deadline = Deadline::after(REPEATS_LIMIT);
        return link::repeat(&Host::open(&deadline)?, &vip, &deadline).map(|()| Outcome::Done);
    }
    let mode = match verb != "show" && matches.get_flag("dry-run") {
        true => Mode::Dry,
        false => Mode::Real,
    };
    let outcome = Run::new(deadline, mode, |entry| report.see(entry)).carry_out(|run| match verb {
        "add" => add(run, &host, &vip, report),
        "del" => run.act(&format!("delete {vip}"), || report.count(host.del(&vip)?)),
        "announce" => {
            run.check(&format!("{vip} is here"), || must_have(&host, &vip))?;
            announce(run, &host, &vip)
        }
        _ => must_have(&host, &vip),
    });
    report.here(
        host.has(&vip)
            .ok()
            .map(|here| Vec::from_iter(here.then_some(vip))),
    );
    Ok(outcome)
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

/// What the caller gets to see: lines as things happen, or one line of JSON at the end.
struct Report {
    verb: String,
    json: bool,
    timeline: RefCell<Vec<Value>>,
    changed: Cell<bool>,
    /// The addresses asked about that are on this host; None when that is not known.
    here: RefCell<Option<Vec<Vip>>>,
}

impl Report {
    fn new(verb: &str, json: bool) -> Self {
        Report {
            verb: verb.to_owned(),
            json,
            timeline: RefCell::default(),
            changed: Cell::new(false),
            here: RefCell::default(),
        }
    }

    fn count(&self, changed: Changed) -> Result<Changed> {
        self.changed.set(changed == Changed::Yes);
        Ok(changed)
    }

    fn here(&self, vips: Option<Vec<Vip>>) {
        self.here.replace(vips);
    }

    fn see(&self, entry: &Entry) {
        if entry.mark == Mark::Started {
            return;
        }
        let mark = json!(entry.mark);
        if self.json {
            self.timeline.borrow_mut().push(json!({
                "at_ms": entry.at.as_secs_f64() * 1000.0,
                "mark": mark,
                "step": entry.step,
                "note": entry.note,
            }));
        } else {
            let note = entry
                .note
                .as_ref()
                .map(|note| format!(" ({note})"))
                .unwrap_or_default();
            say(&format!(
                "{:<11} {}{note}",
                mark.as_str().unwrap_or_default(),
                entry.step
            ));
        }
    }

    fn end(&self, outcome: &Outcome) {
        let error = outcome.error();
        let left = match outcome {
            Outcome::Partial { left, .. } => left.as_slice(),
            _ => &[],
        };
        let here = self.here.borrow();
        if self.json {
            let vips = here
                .as_ref()
                .map(|vips| vips.iter().map(Vip::to_string).collect::<Vec<_>>());
            say(&json!({
                "v": FORM,
                "hookbox": env!("CARGO_PKG_VERSION"),
                "outcome": outcome.word(),
                "changed": self.changed.get() && !matches!(outcome, Outcome::RolledBack(_)),
                "vips": vips,
                "timeline": *self.timeline.borrow(),
                "left": left,
                "error": error.map(Error::chain),
                "advice": error.and_then(Error::advice),
            })
            .to_string());
            return;
        }
        if self.verb == "show" {
            here.iter().flatten().for_each(|vip| say(&vip.to_string()));
        }
        if let Some(error) = error {
            complain(&format!("vip {}: {}", self.verb, error.chain()));
            left.iter()
                .for_each(|left| complain(&format!("vip {}: {left}", self.verb)));
            if let Some(advice) = error.advice() {
                complain(&format!("vip {}: try: {advice}", self.verb));
            }
        }
    }
}

/// A closed stdout must not make a change look failed.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
