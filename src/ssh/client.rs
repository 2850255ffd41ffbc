//! OpenSSH's client as a child process: started, listened to, ended for certain.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;

use super::Place;
use crate::child;
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::time::Deadline;

/// The most that is kept of what another host says.
const MOST: usize = 1 << 20;

/// The client's command line, but for the command that is run at `place`.
///
/// OpenSSH takes the first value that it meets of an option, so ours come first: those that MHA
/// passes try five times and notice a dead peer after 20 minutes. ConnectTimeout is for a client
/// whose caller was killed; otherwise the caller ends it.
pub(super) fn words(place: &Place, how: &config::Ssh, reuse: &[&str]) -> Vec<String> {
    let seconds = how.connect.as_millis().div_ceil(1000).max(1);
    let connect = format!("ConnectTimeout={seconds}");
    let mut words = vec![how.program.display().to_string(), "-T".to_owned()];
    let ours = [
        "BatchMode=yes",
        &connect,
        "ConnectionAttempts=1",
        "ServerAliveInterval=1",
        "ServerAliveCountMax=3",
        // What it says is the only reason that anybody gets.
        "LogLevel=INFO",
    ];
    for option in ours.iter().chain(reuse) {
        words.extend(["-o", option].map(str::to_owned));
    }
    words.extend(options(place, how));
    words.extend(["--".to_owned(), place.address.clone()]);
    words
}

/// What of the command line is not ours: configuration, caller, port and account.
pub(super) fn options(place: &Place, how: &config::Ssh) -> Vec<String> {
    let mut words = how.options.clone();
    words.extend(place.options.iter().cloned());
    if let Some(port) = place.port.or(how.port) {
        words.extend(["-p".to_owned(), port.to_string()]);
    }
    if let Some(user) = place.user.as_ref().or(how.user.as_ref()) {
        words.extend(["-l".to_owned(), user.clone()]);
    }
    words
}

fn command(words: &[String], how: &config::Ssh) -> Command {
    let mut command = Command::new(&words[0]);
    for name in &how.withheld {
        command.env_remove(name);
    }
    command
        .args(&words[1..])
        // The reasons of the C library in English too.
        .env("LC_ALL", "C")
        // Ctrl-C at a terminal is for us to act on.
        .process_group(0);
    command
}

fn not_started(program: &str, error: std::io::Error) -> Error {
    Error::new(Kind::Config, format!("start {program}"))
        .because(error)
        .advise("apt-get install openssh-client, or set [ssh] program")
}

/// Starts a client that nobody waits for; it is killed when it has not logged in in time.
pub(super) fn start_detached(mut words: Vec<String>, how: &config::Ssh) -> Result<()> {
    let limit = format!("{}", how.connect.as_secs_f64());
    let timeout = ["timeout", "--signal=KILL", &limit].map(str::to_owned);
    words.splice(0..0, timeout);
    words.push("true".to_owned());
    command(&words, how)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
        .map_err(|error| not_started(&words[0], error))
}

/// The client, running.
pub(super) struct Client {
    child: Child,
    input: ChildStdin,
    /// What the client did not take yet.
    unsent: Vec<u8>,
    /// What the other host says.
    pub output: Heard<ChildStdout>,
    /// What the other host or the client itself complains of.
    pub errors: Heard<ChildStderr>,
}

/// What came through a pipe.
pub(super) struct Heard<R> {
    pipe: R,
    /// What was not taken away yet.
    pub bytes: Vec<u8>,
    /// Nothing more will come.
    pub ended: bool,
}

impl Client {
    /// Starts it.
    pub fn start(words: &[String], how: &config::Ssh) -> Result<Client> {
        let mut child = command(words, how)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| not_started(&words[0], error))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(Error::new(Kind::Bug, "a child without pipes"));
        };
        never_wait(&input)?;
        never_wait(&output)?;
        never_wait(&errors)?;
        Ok(Client {
            child,
            input,
            unsent: Vec::new(),
            output: Heard::new(output),
            errors: Heard::new(errors),
        })
    }

    /// Gives it something to pass on.
    pub fn send(&mut self, text: &str) {
        self.unsent.extend(text.as_bytes());
    }

    /// Waits until something came or could be sent; false when time is up.
    pub fn attend(&mut self, until: &Deadline) -> Result<bool> {
        let mut fds = Vec::new();
        if !self.output.ended {
            fds.push(self.output.pipe.as_fd());
        }
        if !self.errors.ended {
            fds.push(self.errors.pipe.as_fd());
        }
        if !self.unsent.is_empty() {
            fds.push(self.input.as_fd());
        }
        // Neither flag means anything on the other end of a pipe.
        let ready = until.any_ready(&fds, PollFlags::POLLIN | PollFlags::POLLOUT)?;
        if ready.is_empty() {
            return Ok(false);
        }
        self.output.read();
        self.errors.read();
        match self.input.write(&self.unsent) {
            Ok(sent) => drop(self.unsent.drain(..sent)),
            Err(error) if is_not_yet(&error) => {}
            // It has gone: the end of its output will tell.
            Err(_) => self.unsent.clear(),
        }
        Ok(true)
    }
}

impl Drop for Client {
    /// Kills it with all that it started. A connection for later hooks has left its process group.
    fn drop(&mut self) {
        child::end(&mut self.child);
    }
}

impl<R: Read> Heard<R> {
    fn new(pipe: R) -> Self {
        Heard {
            pipe,
            bytes: Vec::new(),
            ended: false,
        }
    }

    fn read(&mut self) {
        let mut chunk = [0; 16 * 1024];
        match self.pipe.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(length) => self.bytes.extend(&chunk[..length]),
            Err(error) if is_not_yet(&error) => {}
            Err(_) => self.ended = true,
        }
        self.ended |= self.bytes.len() > MOST;
    }

    /// Takes away what came before `mark`, and the rest of the mark's line.
    pub fn take_until(&mut self, mark: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let at = self.place_of(mark)?;
        let rest = at + mark.len();
        let end = rest + self.bytes[rest..].iter().position(|byte| *byte == b'\n')?;
        let line = self.bytes[rest..end].to_vec();
        let mut before: Vec<u8> = self.bytes.drain(..=end).collect();
        before.truncate(at);
        Some((before, line))
    }

    /// Whether `mark` and the rest of its line came.
    pub fn has(&self, mark: &[u8]) -> bool {
        let after = |at: usize| &self.bytes[at + mark.len()..];
        self.place_of(mark)
            .is_some_and(|at| after(at).contains(&b'\n'))
    }

    fn place_of(&self, mark: &[u8]) -> Option<usize> {
        self.bytes.windows(mark.len()).position(|seen| seen == mark)
    }
}

fn is_not_yet(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn never_wait(pipe: impl AsFd) -> Result<()> {
    fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map(drop)
        .map_err(|errno| Error::new(Kind::Bug, "set up a pipe").because(errno))
}

/// A word that the client reads back as it is when it is part of an option's value.
pub(super) fn is_plain(path: &Path) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    path.to_str().is_some_and(|path| path.chars().all(plain))
}
