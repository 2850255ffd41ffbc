//! Arguments as stock MHA 0.58 gives them to `master_ip_failover` and `master_ip_online_change`.
//!
//! MHA's samples read them with Perl's Getopt::Long, and what calls hooks relies on it: names in
//! any case or abbreviated, `-name`, `--name=value` and `--name value`, in any order, the last one
//! wins, values may be empty. Which options there are depends on MHA's configuration, and forks of
//! it add their own: those are ignored, since a hook that ends here ends the failover.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::{Arg, ArgAction, ArgMatches, Command};
use hookbox::config::Config;
use hookbox::error::{Error, Kind, Result};
use hookbox::secret::{Login, Password};
use hookbox::ssh::Place;
use hookbox::switch::Side;

use crate::context;

/// What MHA escapes with a backslash besides the backslash itself (`escape_for_shell` in MHA's
/// NodeUtil.pm). Single quotes around the value keep the backslashes, so that they arrive here.
const ESCAPED: &str = "\"!#&;`|*?~<>^()[]{}$, ";

const USUAL_PORT: u16 = 3306;

/// The only one of MHA's options that has no value.
const REPLICA: &str = "orig_master_is_new_slave";

/// What MHA wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Look whether a switch would work; change nothing.
    Status,
    /// Put the old primary away. In a failover: its host cannot be reached by ssh.
    Stop,
    /// Failover: put the old primary away; its host can be reached by ssh.
    StopSsh,
    /// Bring the new primary into service.
    Start,
}

/// One call of MHA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What is to be done.
    pub order: Order,
    /// The primary that is left.
    pub orig: Side,
    /// The one that is to follow, where MHA names it.
    pub new: Option<Side>,
    /// Whether the old primary will replicate from the new one.
    pub orig_becomes_replica: bool,
    /// The account on the old primary, if there is one.
    pub orig_login: Option<Login>,
    /// The account on the new primary, if there is one.
    pub new_login: Option<Login>,
}

/// What MHA passes: name, what the value is, what it is for.
const OPTIONS: [(&str, &str, &str); 21] = [
    ("command", "ORDER", "what to do; MHA always passes it"),
    (
        "orig_master_host",
        "NAME",
        "the old primary, by its name in MHA's configuration",
    ),
    ("orig_master_ip", "ADDRESS", "its address"),
    (
        "orig_master_port",
        "PORT",
        "its server's port [default: 3306]",
    ),
    (
        "orig_master_user",
        "USER",
        "the account there, escaped as MHA does",
    ),
    (
        "orig_master_password",
        "PASSWORD",
        "its password, escaped likewise",
    ),
    ("orig_master_ssh_user", "USER", "who logs in there by ssh"),
    (
        "orig_master_ssh_host",
        "NAME",
        "where ssh goes, if elsewhere",
    ),
    (
        "orig_master_ssh_ip",
        "ADDRESS",
        "the same as an address, which wins",
    ),
    ("orig_master_ssh_port", "PORT", "ssh's port, if not 22"),
    (
        "new_master_host",
        "NAME",
        "the new primary, by its name in MHA's configuration",
    ),
    ("new_master_ip", "ADDRESS", "as for the old one"),
    ("new_master_port", "PORT", "as for the old one"),
    ("new_master_user", "USER", "as for the old one"),
    ("new_master_password", "PASSWORD", "as for the old one"),
    ("new_master_ssh_user", "USER", "as for the old one"),
    ("new_master_ssh_host", "NAME", "as for the old one"),
    ("new_master_ssh_ip", "ADDRESS", "as for the old one"),
    ("new_master_ssh_port", "PORT", "as for the old one"),
    (
        "ssh_user",
        "USER",
        "who logs in by ssh, where no side is named",
    ),
    ("ssh_options", "WORDS", "words for the ssh client"),
];

/// The command line of a hook of MHA.
pub fn command(name: &'static str) -> Command {
    let option = |(name, value, help): (&'static str, &'static str, &'static str)| {
        let option = Arg::new(name).long(name).value_name(value);
        option.help(help).allow_hyphen_values(true)
    };
    Command::new(name)
        .args_override_self(true)
        .args(OPTIONS.map(option))
        .arg(
            Arg::new(REPLICA)
                .long(REPLICA)
                .action(ArgAction::SetTrue)
                .help("the old primary will replicate from the new one"),
        )
        .args(context::arguments())
        .arg(context::dry_run())
}

/// `words` as clap takes them: known options by their full names, each in one word. The first word
/// is the program. Unknown options and stray words are left out, with a warning that names no
/// value: it could be a password.
pub fn tidy(command: &Command, words: &[OsString]) -> Vec<OsString> {
    let mut known = command.clone();
    known.build();
    let mut words = words.iter();
    let mut tidied: Vec<OsString> = words.next().cloned().into_iter().collect();
    while let Some(word) = words.next() {
        let Some((name, value)) = split(word) else {
            log::warn!("ignored a word that belongs to no option");
            continue;
        };
        match find(&known, &name) {
            Ok(option) => {
                let long = option.get_long().unwrap_or_default();
                let mut whole = OsString::from(format!("--{long}"));
                if option.get_action().takes_values() {
                    // As in Perl, whatever it is: a password may begin with a dash.
                    let value = value.or_else(|| words.next().map(OsString::as_os_str));
                    whole.push("=");
                    whole.push(value.unwrap_or_default());
                }
                tidied.push(whole);
            }
            Err(why) => log::warn!("ignored --{name}: {why}"),
        }
    }
    tidied
}

/// The name of an option and the value in the same word; `None` for a word that is no option.
fn split(word: &OsStr) -> Option<(String, Option<&OsStr>)> {
    let bytes = word.as_bytes();
    let option = bytes.strip_prefix(b"--").or(bytes.strip_prefix(b"-"))?;
    let mut parts = option.splitn(2, |byte| *byte == b'=');
    let name = String::from_utf8_lossy(parts.next()?).to_ascii_lowercase();
    (!name.is_empty()).then(|| (name, parts.next().map(OsStr::from_bytes)))
}

/// The option that `name` means, in full or as an abbreviation of one alone.
fn find<'a>(command: &'a Command, name: &str) -> std::result::Result<&'a Arg, &'static str> {
    let options = || {
        command
            .get_arguments()
            .filter(|arg| arg.get_long().is_some())
    };
    let long = |arg: &&Arg| arg.get_long().unwrap_or_default().to_owned();
    if let Some(exact) = options().find(|arg| long(arg) == name) {
        return Ok(exact);
    }
    let mut begin = options().filter(|arg| long(arg).starts_with(name));
    match (begin.next(), begin.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err("it abbreviates several options"),
        (None, _) => Err("there is no such option here"),
    }
}

impl Call {
    /// What `matches` of [`command`] say, without the configuration.
    ///
    /// # Errors
    /// [`Kind::Usage`] when something is missing, or when both primaries are the same server.
    pub fn read(matches: &ArgMatches) -> Result<Call> {
        let given = Given(matches);
        let order = match given.text("command") {
            Some("status") => Order::Status,
            Some("stop") => Order::Stop,
            Some("stopssh") => Order::StopSsh,
            Some("start") => Order::Start,
            Some(other) => {
                let what = format!("--command={other}: not status, stop, stopssh or start");
                return Err(Error::new(Kind::Usage, what));
            }
            None => return Err(missing("command")),
        };
        let orig = given
            .side("orig")?
            .ok_or_else(|| missing("orig_master_host"))?;
        let new = given.side("new")?;
        if let Some(new) = new.as_ref().filter(|new| new.is(&orig)) {
            let what = format!(
                "old and new primary are the same server, {}:{}",
                new.address, new.port
            );
            return Err(Error::new(Kind::Usage, what));
        }
        if new.is_none() && order == Order::Start {
            return Err(missing("new_master_host"));
        }
        Ok(Call {
            order,
            orig,
            new,
            orig_becomes_replica: matches.get_flag(REPLICA),
            orig_login: given.login("orig"),
            new_login: given.login("new"),
        })
    }

    /// The same with what the configuration says in place of what MHA passed.
    ///
    /// # Errors
    /// [`Kind::Config`] when the password that `[mha]` names cannot be had.
    pub fn configured(self, config: &Config) -> Result<Call> {
        Ok(Call {
            orig_login: Login::of_mha(&config.mha, self.orig_login.as_ref())?,
            new_login: Login::of_mha(&config.mha, self.new_login.as_ref())?,
            orig: self.orig.configured(config),
            new: self.new.map(|new| new.configured(config)),
            ..self
        })
    }
}

fn missing(option: &str) -> Error {
    Error::new(Kind::Usage, format!("--{option} is missing"))
        .advise("see --help; MHA itself passes it")
}

/// The values that were given; an empty one counts as none.
struct Given<'a>(&'a ArgMatches);

impl<'a> Given<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        let value = self.0.get_one::<String>(name)?;
        Some(value.trim()).filter(|value| !value.is_empty())
    }

    fn port(&self, name: &str) -> Result<Option<u16>> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(port) if port > 0 => Ok(Some(port)),
            _ => Err(Error::new(Kind::Usage, format!("--{name}={text}: no port"))),
        }
    }

    /// The server that `orig` or `new` names, if any. MHA passes where ssh goes only when that is
    /// elsewhere, and the account as `--ssh_user` in a failover, with its side in an online change.
    fn side(&self, which: &str) -> Result<Option<Side>> {
        let name = |suffix: &str| format!("{which}_master_{suffix}");
        let text = |suffix: &str| self.text(&name(suffix));
        let Some(host) = text("host").or(text("ip")) else {
            return Ok(None);
        };
        let address = text("ip").unwrap_or(host);
        let ssh_address = text("ssh_ip").or(text("ssh_host")).unwrap_or(address);
        let user = text("ssh_user").or(self.text("ssh_user"));
        let options = self.text("ssh_options").unwrap_or_default();
        Ok(Some(Side {
            name: host.to_owned(),
            address: address.to_owned(),
            port: self.port(&name("port"))?.unwrap_or(USUAL_PORT),
            ssh: Place {
                name: host.to_owned(),
                address: ssh_address.to_owned(),
                user: user.map(str::to_owned),
                port: self.port(&name("ssh_port"))?,
                options: options.split_whitespace().map(str::to_owned).collect(),
            },
        }))
    }

    /// The account on a side. What MHA escaped is unescaped; somebody who calls the hook by hand
    /// escapes nothing, so the password as it stands is tried as well.
    fn login(&self, which: &str) -> Option<Login> {
        let raw = |suffix| {
            let value = self
                .0
                .get_one::<String>(&format!("{which}_master_{suffix}"))?;
            (!value.is_empty()).then_some(value.as_str())
        };
        let (user, password) = (raw("user")?, raw("password")?);
        let unescaped = unescape(password);
        Some(Login {
            user: unescape(user),
            otherwise: (unescaped != password).then(|| Password::new(password)),
            password: Password::new(unescaped),
            ..Login::default()
        })
    }
}

/// Takes back MHA's escaping. MHA's own `unescape_for_shell` does not: it leaves `\\` as it is.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let escaped = rest.next_if(|next| c == '\\' && (*next == '\\' || ESCAPED.contains(*next)));
        plain.push(escaped.unwrap_or(c));
    }
    plain
}

#[cfg(test)]
mod tests;
