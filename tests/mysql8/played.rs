//! A server of MySQL 8 that is played: as much of one as hookbox sees, in the words of one version.

use std::io::{Read, Result, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{sleep, spawn};
use std::time::Duration;

use crate::packets;
use crate::state::{Answer, NO_SUCH_LOG, State, syntax};
use crate::words::{Plugins, REPLICA_SIDE, Version, understands, words_for};

#[derive(Clone)]
pub struct Played {
    pub version: Version,
    plugins: Plugins,
    state: Arc<Mutex<State>>,
    heard: Arc<Mutex<Heard>>,
    /// To end this session takes so long.
    pub stalls: Option<(u64, Duration)>,
}

/// What it was asked, and what of that it did not understand.
#[derive(Default)]
struct Heard {
    asked: Vec<String>,
    refused: Vec<String>,
}

impl Played {
    /// A primary that takes writes.
    pub fn new(version: Version, plugins: Plugins, id: u32) -> Played {
        let (major, minor, patch) = version;
        let state = State::new(&format!("{major}.{minor}.{patch}"), plugins, id);
        Played {
            version,
            plugins,
            state: Arc::new(Mutex::new(state)),
            heard: Arc::default(),
            stalls: None,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `SELECT VERSION()` has it.
    pub fn version_text(&self) -> String {
        self.get("version")
    }

    /// What is written in the newest words in the words that hookbox should have for this server.
    pub fn words_for(&self, newest: &str) -> String {
        self.plugins.name(&words_for(self.version, newest))
    }

    /// Gives it the event lab.runs, which runs, or came from its source.
    pub fn add_event(&self, runs: bool) {
        let status = match (runs, self.version >= REPLICA_SIDE) {
            (true, _) => "ENABLED",
            (false, false) => "SLAVESIDE_DISABLED",
            (false, true) => "REPLICA_SIDE_DISABLED",
        };
        let event = ["lab", "runs", "app@%", status].map(str::to_owned);
        self.state().events.push(event);
    }

    pub fn set(&self, name: &str, value: &str) {
        let mut state = self.state();
        let variable = state.variables.get_mut(name).expect("a known variable");
        value.clone_into(variable);
    }

    pub fn get(&self, name: &str) -> String {
        self.state().variables[name].clone()
    }

    pub fn close(&self) {
        self.set("read_only", "ON");
        self.set("super_read_only", "ON");
    }

    /// The statements that were to change something of the server, in their order.
    pub fn changes(&self) -> Vec<String> {
        let changes = |sql: &&String| {
            let asks = ["SELECT", "SHOW", "SET SESSION"];
            !asks.iter().any(|word| sql.starts_with(word))
        };
        self.heard().asked.iter().filter(changes).cloned().collect()
    }

    /// How many statements it was asked.
    pub fn asked(&self) -> usize {
        self.heard().asked.len()
    }

    /// Its version, and what semi-sync calls a source in it.
    pub fn name(&self) -> String {
        let word = self.plugins.name("source");
        format!("{}, semi-sync {word}", self.version_text())
    }

    /// What it was asked and did not understand, or should not have been asked yet.
    pub fn refused(&self) -> Vec<String> {
        let early = self.state().early.clone();
        let early = early
            .iter()
            .map(|sql| format!("before everything was applied: {sql}"));
        self.heard().refused.iter().cloned().chain(early).collect()
    }

    pub fn listen_at(&self, path: &Path) {
        let listener = UnixListener::bind(path).unwrap();
        self.serve_all(move || listener.accept().map(|(stream, _)| stream));
    }

    /// Listens on this host; gives the port.
    pub fn listen(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        self.serve_all(move || listener.accept().map(|(stream, _)| stream));
        port
    }

    fn serve_all<S: Read + Write + Send + 'static>(
        &self,
        accept: impl Fn() -> Result<S> + Send + 'static,
    ) {
        let played = self.clone();
        spawn(move || {
            while let Ok(stream) = accept() {
                let played = played.clone();
                spawn(move || played.serve(stream));
            }
        });
    }

    fn serve(&self, mut stream: impl Read + Write) -> Result<()> {
        packets::log_in(&mut stream, &self.version_text())?;
        loop {
            let question = packets::read_packet(&mut stream)?;
            if question[0] != 3 {
                return Ok(()); // not COM_QUERY, and so goodbye
            }
            let sql = String::from_utf8_lossy(&question[1..]).into_owned();
            if let Some(id) = sql.strip_prefix("KILL CONNECTION ") {
                self.end(id.parse().unwrap());
            }
            let answer = match self.answer(&sql) {
                Answer::Done => packets::ok(1),
                Answer::Rows(columns, rows) => packets::table(&columns, &rows),
                Answer::Refused(code, text) => packets::error(code, &text),
                Answer::Silence => continue,
            };
            stream.write_all(&answer)?;
        }
    }

    fn end(&self, session: u64) {
        if let Some((stalls, long)) = self.stalls
            && stalls == session
        {
            sleep(long);
        }
        self.state().sessions.retain(|id| *id != session);
    }

    fn answer(&self, sql: &str) -> Answer {
        let answer = match understands(self.version, sql) {
            true => self.state().answer(sql),
            false => syntax(sql),
        };
        let mut heard = self.heard();
        heard.asked.push(sql.to_owned());
        if let Answer::Refused(code, text) = &answer
            && *code != NO_SUCH_LOG
        {
            heard.refused.push(format!("error {code}: {text}: {sql}"));
        }
        answer
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
