//! `notify_down`: a real server that is down takes keepalived on this host with it, so that the
//! addresses go to another host.

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Command};
use hookbox::error::Result;
use hookbox::keepalived;
use hookbox::maintenance;
use hookbox::run::Outcome;

use crate::context::{self, Context};
use crate::contract::{self, Caller};

/// A signal is sent, and nothing is waited for: keepalived ends its scripts before itself.
const LIMIT: Duration = Duration::from_secs(1);

/// `notify_down`
pub fn command() -> Command {
    Command::new("notify_down")
        .args(context::arguments())
        .arg(context::dry_run())
        .after_help(
            "In keepalived.conf, in a real_server of a virtual_server, where script_user is root:\n    \
             notify_down \"/usr/sbin/hookbox notify_down\"\n\
             What would it do now?\n    hookbox notify_down --dry-run\n\
             It stops keepalived here, which nothing starts again but a person. Better: a \
             vrrp_script\nwith check_mysql moves the addresses and lets keepalived run; see README.\n\
             Exit status: 0 done, or keepalived does not run; 1 refused; 2 wrong arguments or \
             configuration.",
        )
}

/// `notify_down`
pub fn main(name: &str, matches: &ArgMatches) -> ExitCode {
    contract::finish(Caller::Keepalived, notify_down(name, matches))
}

fn notify_down(name: &str, matches: &ArgMatches) -> Result<Outcome> {
    let context = Context::new(name, matches, |_| LIMIT)?;
    let paths = &context.config.paths;
    Ok(context.run(|run| {
        if let Some(until) = maintenance::until(paths) {
            let until = humantime::format_rfc3339_seconds(until);
            run.note(format!("maintenance until {until}: nothing is done"));
            return Ok(());
        }
        match keepalived::running(&paths.keepalived_pid)? {
            None => {
                run.note("keepalived does not run");
                Ok(())
            }
            Some(pid) => run.act(&format!("stop keepalived, process {pid}"), || {
                keepalived::stop(pid)
            }),
        }
    }))
}
