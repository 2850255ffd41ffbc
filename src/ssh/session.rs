//! One connection: a far `sh` that is given one command after the other on its standard input.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::client::Client;
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::time::{Deadline, Stopwatch};

/// How long the last words of a client that has ended may take.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How often, 50 ms apart, it is looked whether what was given up has ended.
const LOOKS_FOR_ITS_END: u32 = 80;

/// What the shell is told first. An account that is not root may have neither directory in its
/// path; messages are read by people who may not share its language.
///
/// Its last line is the shell's process number, and for how long that host has been up, in
/// hundredths of a second.
const FIRST: &str = "\
PATH=$PATH:/usr/sbin:/sbin LC_ALL=C; export PATH LC_ALL
look() { read up idle < /proc/uptime; }
is_wanted() { look && [ ${up%.*}${up#*.} -le $1 ]; }
look; echo $$ ${up%.*}${up#*.}";

/// What a command said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its exit status, as the shell gives it.
    pub status: i32,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

/// One connection.
pub(super) struct Session {
    client: Client,
    /// No output contains it by chance, nor on purpose.
    secret: String,
    asked: u32,
    begun: Stopwatch,
    /// The shell's process number there, once it has answered.
    pid: Option<u32>,
    /// What the clock there showed then; None if it has none.
    clock: Option<u128>,
    login: Deadline,
    /// How long the login may take in all.
    pub limit: Duration,
    /// For a connection that an earlier hook made, how long it may take to answer.
    patience: Option<Deadline>,
    is_logged_in: bool,
}

impl Session {
    /// Starts the client to log in; `first` is done before any other command.
    pub fn start(
        mut client: Vec<String>,
        how: &config::Ssh,
        first: &str,
        login: Deadline,
        patience: Option<Deadline>,
    ) -> Result<Session> {
        let random = || RandomState::new().hash_one(0);
        let secret = format!("{:016x}{:016x}", random(), random());
        // Whatever the account's login shell is. The secret is known by, not to, this shell.
        client.push(format!("exec sh -s {secret}"));
        let mut session = Session {
            client: Client::start(&client, how)?,
            secret,
            asked: 0,
            pid: None,
            begun: Stopwatch::start(),
            clock: None,
            limit: login.left(),
            login,
            patience,
            is_logged_in: false,
        };
        session.say(&format!("{first}\n{FIRST}"));
        // A pipe takes it at once; what it does not take goes with the next wait.
        session
            .client
            .attend(&session.login.at_most(Duration::ZERO))?;
        Ok(session)
    }

    /// Whether it runs over a connection that an earlier hook made.
    pub fn is_reused(&self) -> bool {
        self.patience.is_some()
    }

    /// Waits until the shell answers; false when time is up.
    pub fn log_in(&mut self) -> Result<bool> {
        if !self.is_logged_in {
            let until = self.patience.clone().unwrap_or(self.login.clone());
            let Some(said) = self.hear(&until)? else {
                return Ok(false);
            };
            // The account's own start files may have said something before.
            let mut last = said.output.lines().last().unwrap_or_default().split(' ');
            self.pid = last.next().and_then(|pid| pid.parse().ok());
            self.clock = last.next().and_then(|clock| clock.parse().ok());
            self.is_logged_in = true;
        }
        Ok(self.is_logged_in)
    }

    /// Runs a command; None when time is up.
    ///
    /// What is on its way when a cable is pulled arrives when it is plugged in again, minutes later
    /// and long after the sender was killed: TCP sees to that. So a command says until when it is
    /// wanted, by the clock there, late by no more than the login took.
    pub fn ask(&mut self, script: &str, until: &Deadline) -> Result<Option<Said>> {
        match self.clock {
            Some(clock) => {
                let wanted = (self.begun.elapsed() + until.left()).as_millis() / 10;
                self.say(&format!(
                    "if is_wanted {}; then\n{script}\nelse echo came too late >&2; false; fi",
                    clock + wanted
                ));
            }
            None => self.say(script),
        }
        self.hear(until)
    }

    /// What ends this session's shell from another one, and the program that it runs. Until then the
    /// one may still get what was sent, and the other goes on with what is about to be taken back.
    ///
    /// sshd gives each session a process group, which the shell leads. A member that runs as root by
    /// `become` takes no signal from here; it has a time limit of its own and is waited for.
    pub fn how_to_end_it(&self) -> Option<String> {
        let (pid, secret) = (self.pid?, &self.secret);
        Some(format!(
            "if grep -q {secret} /proc/{pid}/cmdline 2> /dev/null; then
kill -s KILL -- -{pid} || kill -s KILL {pid}
fi 2> /dev/null
looks=0
while grep -qsE '\\) [^ZX] [0-9]+ {pid} ' /proc/[0-9]*/stat; do
looks=$((looks + 1))
[ $looks -lt {LOOKS_FOR_ITS_END} ] || {{ echo what was given up before still runs >&2; exit 1; }}
sleep 0.05
done"
        ))
    }

    /// What came and belongs to no answer: what was said there instead of one, as by an account
    /// that may not log in, and after it what the client complains of.
    pub fn last_words(&self) -> String {
        let Client { output, errors, .. } = &self.client;
        let words = [&output.bytes[..], &errors.bytes].join(&b'\n');
        String::from_utf8_lossy(&words).into_owned()
    }

    fn say(&mut self, script: &str) {
        self.asked += 1;
        let mark = self.mark();
        // With a standard input of its own, or the command would read those that follow.
        self.client.send(&format!(
            "{{ {script}\n}} < /dev/null; printf '\\n{mark} %d\\n' $?; printf '\\n{mark}\\n' >&2\n"
        ));
    }

    fn mark(&self) -> String {
        format!("{}-{}", self.secret, self.asked)
    }

    fn hear(&mut self, until: &Deadline) -> Result<Option<Said>> {
        let mark = format!("\n{}", self.mark()).into_bytes();
        loop {
            let client = &mut self.client;
            if client.output.has(&mark)
                && client.errors.has(&mark)
                && let Some((output, status)) = client.output.take_until(&mark)
                && let Some((errors, _)) = client.errors.take_until(&mark)
            {
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                return Ok(Some(Said {
                    status: text(status).trim().parse().unwrap_or(-1),
                    output: text(output),
                    errors: text(errors),
                }));
            }
            if client.output.ended || client.errors.ended {
                return Err(self.ended(until));
            }
            if !client.attend(until)? {
                return Ok(None);
            }
        }
    }

    /// The client has gone; its last words say why.
    fn ended(&mut self, until: &Deadline) -> Error {
        let until = until.at_most(LAST_WORDS);
        while !self.client.errors.ended && self.client.attend(&until).unwrap_or(false) {}
        Error::new(Kind::Unreachable, "the connection ended")
    }
}
