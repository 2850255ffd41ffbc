//! `hookbox`: every hook program of MySQL high availability in one file.

mod argv;
mod asking;
mod check_mysql;
mod context;
mod contract;
mod ensure;
mod fence;
mod grants;
mod guard;
mod install;
mod look_at_source;
mod maintenance;
mod master_ip_failover;
mod master_ip_online_change;
mod members;
mod mha;
mod mha_args;
mod notify;
mod notify_down;
mod rejoin;
mod rival;
mod standby;
mod status;
mod undo;
mod verify;
mod vip;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{ArgMatches, Command};

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// One program in the box.
pub struct Applet {
    /// What it is called, as its caller's documentation calls it.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Whether an orchestrator calls it, so that `install` makes a file for it.
    pub hook: bool,
    /// Whether its caller may pass options that mean nothing to it; they are ignored.
    lenient: bool,
    command: fn() -> Command,
    main: fn(&str, &ArgMatches) -> ExitCode,
}

/// Every program in the box. Help, `install` and the tests walk this table.
pub const APPLETS: &[Applet] = &[
    Applet {
        name: "check_mysql",
        about: "may this server hold the VIP? (keepalived vrrp_script)",
        hook: true,
        lenient: false,
        command: check_mysql::command,
        main: check_mysql::main,
    },
    Applet {
        name: "notify_master",
        about: "make this server the primary, losing nothing it received",
        hook: true,
        lenient: false,
        command: notify::master,
        main: notify::main,
    },
    Applet {
        name: "notify_backup",
        about: "make this server a standby: no writes, no application sessions",
        hook: true,
        lenient: false,
        command: notify::backup,
        main: notify::main,
    },
    Applet {
        name: "notify_fault",
        about: "the same, when this host is found faulty",
        hook: true,
        lenient: false,
        command: notify::fault,
        main: notify::main,
    },
    Applet {
        name: "notify_stop",
        about: "the same within 800 ms, when keepalived stops",
        hook: true,
        lenient: false,
        command: notify::stop,
        main: notify::main,
    },
    Applet {
        name: "notify",
        about: "any of the four, by the words keepalived's generic notify gives",
        hook: true,
        lenient: false,
        command: notify::any,
        main: notify::main,
    },
    Applet {
        name: "notify_down",
        about: "stop keepalived on this host, when virtual_server finds its server down",
        hook: true,
        lenient: false,
        command: notify_down::command,
        main: notify_down::main,
    },
    Applet {
        name: "master_ip_failover",
        about: "MHA: put a dead primary away, bring the new one into service",
        hook: true,
        lenient: true,
        command: master_ip_failover::command,
        main: master_ip_failover::main,
    },
    Applet {
        name: "master_ip_online_change",
        about: "MHA: hand a healthy primary's service over to another server",
        hook: true,
        lenient: true,
        command: master_ip_online_change::command,
        main: master_ip_online_change::main,
    },
    Applet {
        name: "rejoin",
        about: "make this server, the old primary, a replica of the new one",
        hook: false,
        lenient: false,
        command: rejoin::command,
        main: rejoin::main,
    },
    Applet {
        name: "undo",
        about: "MHA: put back what a switch that was given up has put away",
        hook: false,
        lenient: false,
        command: undo::command,
        main: undo::main,
    },
    Applet {
        name: "status",
        about: "this server's role, replication, VIPs, and the last run",
        hook: false,
        lenient: false,
        command: status::command,
        main: status::main,
    },
    Applet {
        name: "vip",
        about: "virtual addresses: add, delete, announce here; status and verify everywhere",
        hook: false,
        lenient: false,
        command: vip::command,
        main: vip::main,
    },
    Applet {
        name: "fence",
        about: "close writes here, waiting for a server that does not answer yet",
        hook: false,
        lenient: false,
        command: fence::command,
        main: fence::main,
    },
    Applet {
        name: "guard",
        about: "close this server if it was replaced or is cut off (timer on every MHA host)",
        hook: false,
        lenient: false,
        command: guard::command,
        main: guard::main,
    },
    Applet {
        name: "maintenance",
        about: "for a while the check passes and the notify scripts only log",
        hook: false,
        lenient: false,
        command: maintenance::command,
        main: maintenance::main,
    },
    Applet {
        name: "grants",
        about: "the statements that make hookbox's accounts, with the least they need",
        hook: false,
        lenient: false,
        command: grants::command,
        main: grants::main,
    },
    Applet {
        name: "install",
        about: "make a file for every hook, where keepalived trusts it",
        hook: false,
        lenient: false,
        command: install::command,
        main: install::main,
    },
];

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let called_as = args.first().map(Path::new).and_then(Path::file_name);
    if let Some(applet) = called_as.and_then(|name| find(&name.to_string_lossy())) {
        return start(applet, &args);
    }
    match args.get(1).map(|word| word.to_string_lossy()) {
        Some(word) if word == "--version" || word == "-V" => {
            context::say(&format!("hookbox {}", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        Some(word) if word == "--help" || word == "-h" || word == "help" => help(&args[2..]),
        Some(word) => match find(&word) {
            Some(applet) => start(applet, &args[1..]),
            None => unknown(&word),
        },
        None => {
            // Never 0: a check that is not told which one it is has vouched for nothing.
            context::say(&listing());
            warn_about_symlinks();
            ExitCode::from(2)
        }
    }
}

/// `hookbox help vip add` is `hookbox vip add --help`.
fn help(words: &[OsString]) -> ExitCode {
    let Some(name) = words.first().map(|word| word.to_string_lossy()) else {
        context::say(&listing());
        return ExitCode::SUCCESS;
    };
    match find(&name) {
        Some(applet) => start(applet, &[words, &["--help".into()]].concat()),
        None => unknown(&name),
    }
}

fn find(name: &str) -> Option<&'static Applet> {
    APPLETS.iter().find(|applet| applet.name == name)
}

fn start(applet: &Applet, args: &[OsString]) -> ExitCode {
    let hidden = argv::hide_passwords(args);
    hookbox::log::init(applet.name);
    if let Err(error) = hidden {
        log::warn!("`ps` goes on showing the password on the command line: {error}");
    }
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    let mut command = (applet.command)()
        .name(applet.name)
        .bin_name(format!("hookbox {}", applet.name))
        .about(applet.about)
        .version(env!("CARGO_PKG_VERSION"));
    let tidied = applet.lenient.then(|| mha_args::tidy(&command, args));
    let words = tidied.as_deref().unwrap_or(args);
    match command.try_get_matches_from_mut(words) {
        Ok(matches) => (applet.main)(applet.name, &matches),
        Err(error) if error.use_stderr() => {
            let text = error.to_string();
            // What is missing comes on lines of its own, and so does what may have been meant.
            let lines = text.lines().take_while(|line| !line.is_empty());
            let mut line = lines.map(str::trim).collect::<Vec<_>>().join(" ");
            let mut tips = text
                .lines()
                .filter_map(|tip| tip.trim().strip_prefix("tip: "));
            // Others tell how to pass an option as a value, which nothing here takes.
            if let Some(tip) = tips.find(|tip| tip.contains("similar")) {
                line = format!("{line}; {tip}");
            }
            log::error!("{}", line.strip_prefix("error: ").unwrap_or(&line));
            let verb = words.iter().find_map(|word| command.find_subcommand(word));
            let verb = verb.map_or(String::new(), |verb| format!(" {}", verb.get_name()));
            log::error!("try: hookbox {}{verb} --help", applet.name);
            ExitCode::from(2)
        }
        Err(help) => {
            context::say(help.to_string().trim_end());
            ExitCode::SUCCESS
        }
    }
}

fn listing() -> String {
    let mut text = String::from("hookbox APPLET [ARGUMENTS]\n");
    for applet in APPLETS {
        text.push_str(&format!("\n  {:24} {}", applet.name, applet.about));
    }
    text.push_str("\n\nhookbox APPLET --help says more.");
    text
}

fn unknown(word: &str) -> ExitCode {
    hookbox::log::init("hookbox");
    let likeness = |name: &str| (strsim::jaro_winkler(name, word) * 1000.0) as u32;
    let nearest = APPLETS.iter().max_by_key(|applet| likeness(applet.name));
    let of_an_applet = |applet: &&Applet| {
        (applet.command)()
            .get_subcommands()
            .any(|verb| verb.get_name() == word)
    };
    if word.starts_with('-') {
        log::error!("{word} comes after the applet: hookbox APPLET {word}");
    } else if let Some(applet) = APPLETS.iter().find(of_an_applet) {
        log::error!(
            "no applet is called {word}; did you mean {} {word}?",
            applet.name
        );
    } else if let Some(applet) = nearest.filter(|applet| likeness(applet.name) > 700) {
        log::error!("no applet is called {word}; did you mean {}?", applet.name);
    } else {
        log::error!("no applet is called {word}; `hookbox` alone lists them");
    }
    ExitCode::from(2)
}

/// Keepalived before 2.3 resolves a symlink before it starts the script, so that the name of the
/// link, by which the applet would be known, is lost.
fn warn_about_symlinks() {
    let parent = format!("/proc/{}/comm", nix::unistd::getppid());
    if std::fs::read_to_string(parent).is_ok_and(|name| name.trim() == "keepalived") {
        hookbox::log::init("hookbox");
        log::error!(
            "keepalived before 2.3 hides which symlink it was given; \
             write script \"/usr/sbin/hookbox check_mysql\", or use what `hookbox install` makes"
        );
    }
}
