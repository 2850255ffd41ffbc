//! `check_mysql`: may the server on this host hold the VIP? One line, one class, one exit status,
//! within one deadline.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use hookbox::check::{self, Seen};
use hookbox::config::Config;
use hookbox::db::endpoint::Endpoint;
use hookbox::db::server::Server;
use hookbox::error::{Kind, Result};
use hookbox::link::{Host, Link};
use hookbox::log::Patient;
use hookbox::maintenance;
use hookbox::memory::{Memory, since_boot};
use hookbox::secret::Login;
use hookbox::time::Deadline;
use hookbox::turn::Meeting;
use hookbox::verdict::Class;
use hookbox::witness::{Asked, Witness};

use crate::context;
use crate::fence;
use crate::look_at_source;

mod space;

/// Starting, writing down the verdict and ending take a few of the milliseconds that were given.
const OWN_NEEDS: Duration = Duration::from_millis(20);

/// `check_mysql`
pub fn command() -> Command {
    Command::new("check_mysql")
        .args(context::arguments())
        .arg(
            Arg::new("deadline")
                .long("deadline")
                .value_name("TIME")
                .value_parser(hookbox::config::time_limit)
                .help("from start to exit [default: [check] deadline, 700ms]"),
        )
        .arg(
            Arg::new("on-config-error")
                .long("on-config-error")
                .value_name("WHAT")
                .value_parser(["fail", "pass"])
                .default_value("fail")
                .help("what a broken configuration means"),
        )
        .arg(context::dry_run().help("ask, but start no fencing and remember nothing"))
        .arg(
            Arg::new("free-mib")
                .long("free-mib")
                .value_names(["DIR", "RUN"])
                .num_args(2)
                .value_parser(clap::value_parser!(PathBuf))
                .hide(true),
        )
        .arg(
            Arg::new("look-at-source")
                .long("look-at-source")
                .action(ArgAction::SetTrue)
                .hide(true),
        )
        .after_help(
            "In keepalived.conf:\n    vrrp_script mysql {\n        \
             script \"/usr/sbin/hookbox check_mysql\"\n        interval 1\n        timeout 1\n    }\n\
             By hand:\n    hookbox check_mysql; echo $?\n\
             Exit status: 0 may hold the VIP, 1 may not, 2 wrong arguments.",
        )
}

/// `check_mysql`
pub fn main(_name: &str, matches: &ArgMatches) -> ExitCode {
    if matches.get_flag("look-at-source") {
        return look_at_source::main(matches);
    }
    if let Some(mut paths) = matches.get_many::<PathBuf>("free-mib")
        && let (Some(dir), Some(run)) = (paths.next(), paths.next())
    {
        return space::print(dir, run);
    }
    let passes = matches
        .get_one::<String>("on-config-error")
        .is_some_and(|w| w == "pass");
    let mut config = match context::load(matches) {
        Ok(config) => config,
        Err(error) => {
            let seen = Seen::new(Class::Config, error.chain());
            log::error!("{}: {}", seen.class, seen.text);
            return exit(passes);
        }
    };
    if passes {
        config.check.pass_on.push(Class::Config);
    }
    if let Some(until) = maintenance::until(&config.paths) {
        let until = humantime::format_rfc3339_seconds(until);
        say(&format!(
            "ok: maintenance until {until}, the server was not asked"
        ));
        return ExitCode::SUCCESS;
    }
    let limit = matches.get_one::<Duration>("deadline");
    let limit = limit.copied().unwrap_or(config.check.deadline);
    let deadline = Deadline::after(limit.saturating_sub(OWN_NEEDS));
    let meeting = match Meeting::at(&config.paths.run) {
        Ok(meeting) => meeting,
        Err(error) => return report(&config, &Seen::new(Class::Config, error.chain()), &deadline),
    };
    // Keepalived 2.1.3 to 2.3.2 starts the next check while this one still runs.
    match meeting.try_turn("check") {
        Ok(Some(_lock)) => check(matches, &config, &meeting, &deadline),
        Ok(None) => repeat_last(&config, limit),
        Err(error) => report(&config, &Seen::new(Class::Config, error.chain()), &deadline),
    }
}

fn check(
    matches: &ArgMatches,
    config: &Config,
    meeting: &Meeting,
    deadline: &Deadline,
) -> ExitCode {
    let before = Memory::recall(&config.paths.run);
    let seen = look(config, deadline).in_one_line();
    let (seen, read_only_since) =
        read_only_with_vip(config, meeting, deadline, before.as_ref(), seen);
    let passed = passes(config, &seen);
    if !matches.get_flag("dry-run") {
        let failures = before.as_ref().map_or(0, |before| before.failures);
        let memory = Memory::of(&seen, passed, failures, read_only_since);
        memory.keep(&config.paths.run);
        let changed = before.is_none_or(|before| before.class != seen.class);
        tell(matches, config, deadline, &seen, &memory, changed);
        let is_standby = seen.class == Class::Ok && seen.writable == Some(false);
        if is_standby && !meeting.is_busy() {
            look_at_source::start(matches, config);
        }
    }
    report(config, &seen, deadline)
}

/// Everything that is asked of the outside. Witnesses and the disk are asked first and heard last,
/// so that they cost no time of their own.
fn look(config: &Config, deadline: &Deadline) -> Seen {
    let witnesses: Result<Vec<Witness>> = config
        .check
        .witness
        .iter()
        .map(|text| Witness::parse(text))
        .collect();
    let witnesses = match witnesses {
        Ok(witnesses) => witnesses,
        Err(error) => return Seen::new(Class::Config, error.chain()),
    };
    let asked = Asked::ask(&witnesses);
    let witness_deadline = deadline.at_most(config.check.witness_limit);
    let space = (!config.check.disk_path.as_os_str().is_empty())
        .then(|| space::start_asking(&config.check.disk_path, &config.paths.run));
    let seen = ask_server(config, deadline);
    // A full server passes, but not on a host that is cut off.
    if !passes(config, &seen) {
        return seen;
    }
    if !witnesses.is_empty() {
        match asked.anyone(&witness_deadline) {
            Ok(Some(_)) => {}
            Ok(None) => {
                return seen.with(Class::Isolated, asked.silence());
            }
            Err(error) if error.kind() == Kind::Denied => {
                return seen.with(Class::Config, error.chain());
            }
            Err(error) => return seen.with(Class::Isolated, error.chain()),
        }
    }
    match space.map(|child| child.and_then(|child| space::heard(child, deadline))) {
        None => seen,
        Some(Ok(mib)) if mib >= config.check.disk_min_mib => seen,
        Some(Ok(mib)) => {
            let text = format!("{} has {mib} MiB left", config.check.disk_path.display());
            seen.with(Class::Disk, text)
        }
        Some(Err(error)) => seen.with(Class::Disk, error.chain()),
    }
}

fn ask_server(config: &Config, deadline: &Deadline) -> Seen {
    let login = match Login::local(&config.mysql) {
        Ok(login) => login,
        Err(error) => return Seen::new(Class::Config, error.chain()),
    };
    let ask = |endpoint: Endpoint, login: &Login| {
        check::ask(
            &Server::new(endpoint, login.clone(), deadline.clone()),
            &config.check,
        )
    };
    let seen = ask(context::local_endpoint(config), &login);
    match seen.class {
        Class::Down if !config.check.confirm.is_zero() => {
            match deadline.pause(config.check.confirm) {
                Ok(()) => ask(context::local_endpoint(config), &login),
                Err(_) => seen,
            }
        }
        Class::Connections if config.mysql.extra_port != 0 => {
            let port = config.mysql.extra_port;
            let extra = match config.mysql.host.clone() {
                Some(host) => ask(Endpoint::Tcp(host, port), &login),
                None => ask(
                    Endpoint::Tcp("127.0.0.1".to_owned(), port),
                    &login.at_any_name(),
                ),
            };
            match extra.class {
                Class::Ok => Seen {
                    text: format!("{} (by the extra port: {})", extra.text, seen.text),
                    ..extra
                },
                _ => seen,
            }
        }
        _ => seen,
    }
}

/// A server that answers well but is read-only although the VIP is here helps nobody.
fn read_only_with_vip(
    config: &Config,
    meeting: &Meeting,
    deadline: &Deadline,
    before: Option<&Memory>,
    seen: Seen,
) -> (Seen, Option<u64>) {
    let suspect = seen.class == Class::Ok && seen.writable == Some(false);
    if !suspect || !config.check.writable_with_vip || !has_vip(config, deadline) {
        return (seen, None);
    }
    if meeting.is_busy() {
        return (seen, None); // a promotion is at work
    }
    let now = since_boot();
    let since = before
        .and_then(|before| before.read_only_since)
        .unwrap_or(now);
    if Duration::from_millis(now.saturating_sub(since)) < config.check.read_only_grace {
        return (seen, Some(since));
    }
    let text = format!("{}, and the VIP is here", seen.text);
    (seen.with(Class::ReadOnly, text), Some(since))
}

fn has_vip(config: &Config, deadline: &Deadline) -> bool {
    let vips = config.vips_of_primary().unwrap_or_default();
    if vips.is_empty() {
        return false;
    }
    let Ok(host) = Host::open(deadline) else {
        return false;
    };
    vips.iter().any(|vip| host.has(vip).unwrap_or(false))
}

fn passes(config: &Config, seen: &Seen) -> bool {
    seen.class == Class::Ok || config.check.pass_on.contains(&seen.class)
}

/// Starts the fencing that a failed check calls for, and writes down what changed.
///
/// Nothing here touches a disk when there is trouble, of which a stuck disk may be the cause: it
/// would hold this process, and keepalived counts a check only when it ends. The detached process
/// may be held instead.
fn tell(
    matches: &ArgMatches,
    config: &Config,
    deadline: &Deadline,
    seen: &Seen,
    memory: &Memory,
    changed: bool,
) {
    let line = format!("{}: {}", seen.class, seen.text);
    if changed {
        match memory.passed {
            true => log::info!("{line}"),
            false => log::warn!("{line}"),
        }
    }
    let decided = !memory.passed && memory.failures >= config.check.fence_after;
    let fencing = decided && config.check.fence && check::calls_for_fencing(seen);
    if fencing || changed && seen.class != Class::Ok {
        let because = match fencing {
            true => format!("check_mysql said {line}"),
            false => line,
        };
        if let Err(error) = fence::start(matches, &because, !fencing) {
            log::error!("{}", error.chain());
        }
    } else if changed {
        let instance = matches.get_one::<String>("instance").map(String::as_str);
        context::note_of_check(config, instance, line, deadline.elapsed());
    }
}

fn report(config: &Config, seen: &Seen, deadline: &Deadline) -> ExitCode {
    let passed = passes(config, seen);
    let millis = deadline.elapsed().as_secs_f64() * 1000.0;
    let warning = if passed && seen.class != Class::Ok {
        " (passes)"
    } else {
        ""
    };
    say(&format!(
        "{}: {}{warning} in {millis:.1} ms",
        seen.class, seen.text
    ));
    exit(passed)
}

/// What the last check said, as long as it is young enough to still mean something.
fn repeat_last(config: &Config, limit: Duration) -> ExitCode {
    match Memory::recall(&config.paths.run) {
        Some(last) if last.age() < limit * 3 => {
            say(&format!(
                "{}: {} (the last verdict: another check is at work)",
                last.class, last.text
            ));
            exit(last.passed)
        }
        _ => {
            say("hung: another check is at work and left no verdict");
            exit(false)
        }
    }
}

fn exit(passed: bool) -> ExitCode {
    ExitCode::from(u8::from(!passed))
}

/// What the caller reads. One that does not read must not hold the check.
fn say(line: &str) {
    let _ = Patient::new(std::io::stdout()).write_all(format!("{line}\n").as_bytes());
}
