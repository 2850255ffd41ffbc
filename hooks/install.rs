//! `install DIR`: a file for every hook, for callers that want one path a hook.
//!
//! Shims rather than links: keepalived before 2.3 hides the name of a symlink, and a hard link
//! goes on running the old program after an upgrade.

use std::fs::symlink_metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use hookbox::error::{Error, Kind, Result};
use hookbox::{files, script_security};

use crate::APPLETS;
use crate::context::{dry_run, say};
use crate::contract::{self, Caller};

const EXAMPLE: &str = "\
Example:
  # install -d -m 755 /etc/keepalived/hooks
  # hookbox install /etc/keepalived/hooks
  wrote   /etc/keepalived/hooks/check_mysql
  ...

Exit status: 0 done, or was so already; 2 wrong arguments; 3 refused, nothing changed.";

const MODE: u32 = 0o755;

/// The command line.
pub fn command() -> Command {
    Command::new("install")
        .after_help(EXAMPLE)
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("where to; keepalived must trust it: root's alone, no symlink on the way"),
        )
        .arg(
            Arg::new("program")
                .long("program")
                .value_name("FILE")
                .default_value("/usr/sbin/hookbox")
                .value_parser(value_parser!(PathBuf))
                .help("the program that the files start"),
        )
        .arg(dry_run())
}

/// The program.
pub fn main(_: &str, matches: &ArgMatches) -> ExitCode {
    match install(matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => contract::fail(Caller::Person, &error),
    }
}

fn install(matches: &ArgMatches) -> Result<()> {
    let path = |name| {
        matches
            .get_one::<PathBuf>(name)
            .cloned()
            .unwrap_or_default()
    };
    let dir = std::path::absolute(path("dir"))
        .map_err(|error| Error::new(Kind::Usage, "DIR").because(error))?;
    let program = path("program");
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._+-".contains(byte);
    if !program.is_absolute() || !program.as_os_str().as_encoded_bytes().iter().all(plain) {
        let what =
            "--program must begin with / and have only a-z, A-Z, 0-9 and . _ + - in its names";
        return Err(Error::new(Kind::Usage, what));
    }
    if !dir.exists() {
        let error = Error::new(Kind::Refused, format!("{} is not there", dir.display()));
        return Err(error.advise(format!("install -d -m 755 {}", dir.display())));
    }
    if !program.exists() {
        let error = Error::new(Kind::Refused, format!("{} is not there", program.display()));
        return Err(error.advise("name the program with --program FILE"));
    }
    script_security::check_dir(&dir)?;
    script_security::check_program(&program)?;
    let shims = shims(&dir, &program)?;
    if matches.get_flag("dry-run") {
        for shim in &shims {
            say(&format!(
                "{} {}",
                if shim.is_so {
                    "is so       "
                } else {
                    "would write "
                },
                shim.path.display()
            ));
        }
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(
            Error::new(Kind::Denied, "keepalived runs only what belongs to root")
                .advise("run it as root"),
        );
    }
    for shim in &shims {
        if shim.is_so {
            say(&format!("is so   {}", shim.path.display()));
            continue;
        }
        files::replace(&shim.path, shim.text.as_bytes(), MODE).map_err(|error| {
            Error::new(Kind::Denied, shim.path.display().to_string()).because(error)
        })?;
        say(&format!("wrote   {}", shim.path.display()));
    }
    Ok(())
}

/// A file to be there.
struct Shim {
    path: PathBuf,
    text: String,
    is_so: bool,
}

/// All of them, so that nothing is written when one must not be.
fn shims(dir: &Path, program: &Path) -> Result<Vec<Shim>> {
    let hooks = APPLETS.iter().filter(|applet| applet.hook);
    hooks
        .map(|applet| {
            let path = dir.join(applet.name);
            let text = text(&program.to_string_lossy(), applet.name);
            let is_so = is_so(&path, &text, applet.name)?;
            Ok(Shim { path, text, is_so })
        })
        .collect()
}

fn text(program: &str, applet: &str) -> String {
    format!("#!/bin/sh\nexec {program} {applet} \"$@\"\n")
}

/// Whether `path` holds `text` already.
///
/// # Errors
/// [`Kind::Refused`] when something stands there that is no shim for `applet`.
fn is_so(path: &Path, wanted: &str, applet: &str) -> Result<bool> {
    let about = match symlink_metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(Error::new(Kind::Refused, path.display().to_string()).because(error));
        }
    };
    let old = match about.is_file() {
        true => files::read(path).unwrap_or_default(),
        false => String::new(),
    };
    // Ours, whatever program it starts: it may have moved.
    let program = old
        .strip_prefix("#!/bin/sh\nexec ")
        .and_then(|rest| rest.strip_suffix(&format!(" {applet} \"$@\"\n")));
    if !program
        .is_some_and(|program| program.starts_with('/') && !program.contains(char::is_whitespace))
    {
        let what = format!(
            "{} is there and was not made by hookbox install",
            path.display()
        );
        let advice = format!("look at it, then: mv {0} {0}.old", path.display());
        return Err(Error::new(Kind::Refused, what).advise(advice));
    }
    Ok(old == wanted && about.mode() & 0o7777 == MODE && about.uid() == 0)
}
