//! Another host, by the system's OpenSSH client: one login, then one command after the other.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config;
use crate::error::{Error, Kind, Result};
use crate::time::Deadline;

mod client;
mod failure;
mod reuse;
mod session;

use reuse::Reuse;
use session::Session;

pub use session::Said;

/// How long one command there may take: what it does is done in milliseconds, so that only a host
/// that no longer answers runs into it.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(5);

/// How long a connection that an earlier hook left may take to answer, before a new one is made.
const REUSE_LIMIT: Duration = Duration::from_millis(500);

/// Where ssh goes and as whom.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Place {
    /// What to call the host in the timeline, as MHA names it: `db1`.
    pub name: String,
    /// Where it is: an IP address, or a name that this host can look up.
    pub address: String,
    /// The account there; None for what `[ssh]` or the client's own configuration says.
    pub user: Option<String>,
    /// TCP port; None for what `[ssh]` or the client's own configuration says.
    pub port: Option<u16>,
    /// Words for the client that the caller passed, as in `-o StrictHostKeyChecking=no`.
    pub options: Vec<String>,
}

/// A shell on another host.
///
/// A command whose answer does not come ends the connection, since the next answer would belong to
/// it. The next command then begins a new one, and first ends the shell of the old one: what is
/// taken back there must not be done again by a command that arrives late.
pub struct Shell {
    place: Place,
    how: config::Ssh,
    reuse: Option<Reuse>,
    deadline: Deadline,
    session: Option<Session>,
    /// What the next session does first: it ends the last one.
    first: String,
}

impl Shell {
    /// Starts to log in, and returns at once: the login goes on beside whatever is done next.
    ///
    /// `sockets` is a directory for connections that outlive this process, made if need be; they
    /// end by themselves after `[ssh] reuse`. None for one that nobody else uses.
    ///
    /// # Errors
    /// [`Kind::Config`] when OpenSSH's client cannot be started.
    pub fn open(
        place: &Place,
        how: &config::Ssh,
        sockets: Option<&Path>,
        deadline: &Deadline,
    ) -> Result<Shell> {
        let mut shell = Shell {
            place: place.clone(),
            how: how.clone(),
            reuse: sockets.and_then(|dir| Reuse::in_directory(dir, place, how)),
            deadline: deadline.clone(),
            session: None,
            first: String::new(),
        };
        shell.begin()?;
        Ok(shell)
    }

    /// Leaves a connection behind for a later hook, and waits for nothing.
    ///
    /// Nothing is said if it cannot be done: the later hook then logs in itself.
    pub fn warm_up(place: &Place, how: &config::Ssh, sockets: &Path) {
        let Some(reuse) = Reuse::in_directory(sockets, place, how) else {
            return;
        };
        if !reuse.has_master()
            && let Err(error) = client::start_detached(reuse.words(place, how), how)
        {
            log::debug!("no connection to {} is left behind: {error}", place.name);
        }
    }

    /// The host's name, for people.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// How the host is reached.
    pub fn config(&self) -> &config::Ssh {
        &self.how
    }

    /// How long a command that is started now may take.
    pub fn command_limit(&self) -> Duration {
        self.deadline.left().min(COMMAND_LIMIT)
    }

    /// Waits until the shell there answers.
    ///
    /// # Errors
    /// [`Kind::Timeout`] when `[ssh] connect` or the deadline is over, counted from the start of
    /// the login; [`Kind::Denied`] when the host or its key is not accepted; else
    /// [`Kind::Unreachable`], with what ssh said.
    pub fn ready(&mut self) -> Result<()> {
        self.session().map(drop)
    }

    /// Runs a program there, with `[ssh] become` in front of it.
    ///
    /// # Errors
    /// As [`Shell::script`].
    pub fn run(&mut self, words: &[&str]) -> Result<Said> {
        let command = self.command(words);
        self.script(&command)
    }

    /// Runs a line of `sh` there as it is.
    ///
    /// # Errors
    /// As [`Shell::ready`]; [`Kind::Timeout`] or [`Kind::Unreachable`] when the answer does not
    /// come, and then nobody knows whether it was carried out. Its exit status is no error.
    pub fn script(&mut self, script: &str) -> Result<Said> {
        let deadline = self.deadline.clone();
        let session = self.session()?;
        let until = deadline.at_most(COMMAND_LIMIT);
        let limit = until.left();
        let said = match session.ask(script, &until) {
            Ok(Some(said)) => return Ok(said),
            Ok(None) => Err(Error::new(
                Kind::Timeout,
                format!("no answer within {limit:.1?}"),
            )),
            Err(error) => Err(error),
        };
        // What the answer would have been is unknown, and it may still come.
        let heard = session.last_words();
        self.first = session.how_to_end_it().unwrap_or_default();
        self.session = None;
        said.map_err(|error| failure::of_command(&self.place, &self.how, &heard, error))
    }

    /// `words` as `sh` reads them, with `[ssh] become` in front.
    pub fn command(&self, words: &[&str]) -> String {
        let mut all: Vec<&str> = self.how.become_root.split_whitespace().collect();
        all.extend(words);
        quote(&all)
    }

    /// The session, once its login is over.
    fn session(&mut self) -> Result<&mut Session> {
        if self.session.is_none() {
            self.begin()?;
        }
        let mut result = self.log_in();
        if self.session.as_ref().is_some_and(Session::is_reused) && may_try_anew(&result) {
            // Whatever holds up the old connection would hold up the next hook too.
            if let Some(reuse) = self.reuse.take() {
                reuse.forget();
            }
            self.session = None;
            self.begin()?;
            result = self.log_in();
        }
        match (result, self.session.take()) {
            (Ok(true), Some(session)) => Ok(self.session.insert(session)),
            (Err(error), _) if error.kind() == Kind::Overtaken => Err(error),
            (Err(error), Some(session)) => {
                let heard = session.last_words();
                Err(failure::of_login(&self.place, &self.how, &heard, error))
            }
            (Err(error), None) => Err(error),
            (Ok(_), session) => {
                let limit = session.map_or(self.how.connect, |session| session.limit);
                let late = Error::new(Kind::Timeout, format!("no login within {limit:.1?}"));
                Err(failure::of_login(&self.place, &self.how, "", late))
            }
        }
    }

    fn begin(&mut self) -> Result<()> {
        let reused = self.reuse.as_ref().is_some_and(Reuse::has_master);
        let words = match &self.reuse {
            Some(reuse) => reuse.words(&self.place, &self.how),
            None => client::words(&self.place, &self.how, &reuse::NONE),
        };
        let login = self.deadline.at_most(self.how.connect);
        let patience = reused.then(|| login.at_most(REUSE_LIMIT));
        self.session = Some(Session::start(
            words,
            &self.how,
            &self.first,
            login,
            patience,
        )?);
        Ok(())
    }

    /// False when time is up.
    fn log_in(&mut self) -> Result<bool> {
        match &mut self.session {
            Some(session) => session.log_in(),
            None => Ok(false),
        }
    }
}

/// Whether a login that ended so over an old connection is worth another one.
fn may_try_anew(login: &Result<bool>) -> bool {
    match login {
        Ok(done) => !done,
        Err(error) => error.kind() != Kind::Overtaken,
    }
}

/// `words` as one line of `sh` that has exactly these words.
pub fn quote(words: &[&str]) -> String {
    let quoted = words.iter().map(|word| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,".contains(c);
        match !word.is_empty() && word.chars().all(plain) {
            true => (*word).to_owned(),
            false => format!("'{}'", word.replace('\'', r"'\''")),
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};
    use std::process::Command;

    use super::*;

    /// Random words of what shells find special, and of what people write.
    fn random_word() -> String {
        const LETTERS: &[&str] = &[
            "'", "\"", "\\", "\n", "$", "`", "!", "*", "?", "~", " ", "\t", "#", "&", ";", "|",
            "<", "(", "{", "=", "%", "-", "a", "Z", "0", "é", "\u{1}", "\r", "[",
        ];
        let random = || RandomState::new().hash_one(0) as usize;
        let letters = (0..random() % 12).map(|_| LETTERS[random() % LETTERS.len()]);
        letters.collect()
    }

    #[test]
    fn every_word_goes_through_a_shell_unchanged() {
        for _ in 0..200 {
            let words: Vec<String> = (0..8).map(|_| random_word()).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let script = format!("printf '%s\\0' {}", quote(&words));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert_eq!(said, words.join("\0") + "\0", "{script}");
        }
    }
}
