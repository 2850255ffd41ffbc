//! A server of MySQL 8 that is played: as much of one as hookbox sees, in the words of one version.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Result, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::spawn;

use crate::packets;
use crate::words::{
    EVENTS, Plugins, REPLICA_SIDE, STATUS, Version, WRITTEN, older, understands, words_for,
};

const SYNTAX: u16 = 1064;
const UNKNOWN_VARIABLE: u16 = 1193;
const NO_SUCH_LOG: u16 = 1220;

/// What an account may set for its session alone, and hookbox does.
const OF_SESSION: [&str; 3] = ["lock_wait_timeout", "sql_log_bin", "sql_mode"];

/// One of the channels of a replica, by the names of the columns of its status.
pub type Channel = BTreeMap<&'static str, String>;

/// What such a server is made of.
pub struct State {
    /// By their names; a variable that is not here is not known.
    pub variables: BTreeMap<String, String>,
    /// What SHOW GLOBAL STATUS has.
    pub status: BTreeMap<String, String>,
    pub channels: Vec<Channel>,
    /// How often it is asked before its applier is done.
    pub busy_for: u32,
    /// Schema, name, definer and status.
    pub events: Vec<[String; 4]>,
    asked: Vec<String>,
    refused: Vec<String>,
}

#[derive(Clone)]
pub struct Played {
    pub version: Version,
    plugins: Plugins,
    state: Arc<Mutex<State>>,
}

enum Answer {
    Done,
    Rows(Vec<String>, Vec<Vec<Option<String>>>),
    Refused(u16, String),
}

impl Played {
    /// A primary that takes writes.
    pub fn new(version: Version, plugins: Plugins, id: u32) -> Played {
        let mut variables = BTreeMap::new();
        let uuid = format!("{id}{id}{id}{id}{id}{id}{id}{id}-0000-0000-0000-000000000000");
        let id = id.to_string();
        for (name, value) in [
            ("read_only", "OFF"),
            ("super_read_only", "OFF"),
            ("server_id", &id),
            ("server_uuid", &uuid),
            ("gtid_mode", "ON"),
            ("gtid_executed", ""),
            ("gtid_purged", ""),
            ("log_bin", "ON"),
            ("log_bin_basename", "/var/lib/mysql/binlog"),
            ("event_scheduler", "ON"),
        ] {
            variables.insert(name.to_owned(), value.to_owned());
        }
        for (name, value) in [
            ("rpl_semi_sync_source_enabled", "OFF"),
            ("rpl_semi_sync_source_timeout", "10000"),
            ("rpl_semi_sync_source_wait_for_replica_count", "1"),
            ("rpl_semi_sync_source_wait_no_replica", "ON"),
            ("rpl_semi_sync_replica_enabled", "OFF"),
        ] {
            variables.insert(plugins.name(name), value.to_owned());
        }
        let mut status = BTreeMap::from([("Uptime".to_owned(), "3600".to_owned())]);
        for (name, value) in [
            ("Rpl_semi_sync_source_clients", "0"),
            ("Rpl_semi_sync_source_status", "OFF"),
            ("Rpl_semi_sync_replica_status", "OFF"),
        ] {
            status.insert(plugins.name(name), value.to_owned());
        }
        let state = State {
            variables,
            status,
            channels: Vec::new(),
            busy_for: 0,
            events: Vec::new(),
            asked: Vec::new(),
            refused: Vec::new(),
        };
        Played {
            version,
            plugins,
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `SELECT VERSION()` has it.
    pub fn version_text(&self) -> String {
        let (major, minor, patch) = self.version;
        format!("{major}.{minor}.{patch}")
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
        self.state().asked.iter().filter(changes).cloned().collect()
    }

    /// What it was asked and did not understand, or should not have been asked yet.
    pub fn refused(&self) -> Vec<String> {
        self.state().refused.clone()
    }

    pub fn listen_at(&self, path: &Path) {
        let listener = UnixListener::bind(path).unwrap();
        let played = self.clone();
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let played = played.clone();
                spawn(move || played.serve(stream));
            }
        });
    }

    /// Listens on this host; gives the port.
    pub fn listen(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let played = self.clone();
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let played = played.clone();
                spawn(move || played.serve(stream));
            }
        });
        port
    }

    fn serve(&self, mut stream: impl Read + Write) -> Result<()> {
        packets::log_in(&mut stream, &self.version_text())?;
        loop {
            let question = packets::read_packet(&mut stream)?;
            if question[0] != 3 {
                return Ok(()); // not COM_QUERY, and so goodbye
            }
            let sql = String::from_utf8_lossy(&question[1..]).into_owned();
            let answer = match self.answer(&sql) {
                Answer::Done => packets::ok(1),
                Answer::Rows(columns, rows) => packets::table(&columns, &rows),
                Answer::Refused(code, text) => packets::error(code, &text),
            };
            stream.write_all(&answer)?;
        }
    }

    fn answer(&self, sql: &str) -> Answer {
        let mut state = self.state();
        state.asked.push(sql.to_owned());
        let answer = match understands(self.version, sql) {
            true => self.understood(&mut state, sql),
            false => syntax(sql),
        };
        if let Answer::Refused(code, text) = &answer
            && *code != NO_SUCH_LOG
        {
            state.refused.push(format!("error {code}: {text}: {sql}"));
        }
        answer
    }

    fn understood(&self, state: &mut State, sql: &str) -> Answer {
        let (text, channel) = match sql.rsplit_once(" FOR CHANNEL ") {
            Some((text, channel)) => (text, channel.trim_matches('\'')),
            None => (sql, ""),
        };
        let is_older = text.contains("SLAVE") || text.contains("MASTER");
        let text = text.replace("SLAVE", "REPLICA");
        match text.as_str() {
            "SHOW REPLICA STATUS" => state.replica_status(is_older),
            "SHOW MASTER STATUS" | "SHOW BINARY LOG STATUS" => {
                let set = state.variables["gtid_executed"].clone();
                let row = ["binlog.000007", "1000", "", "", &set];
                rows(WRITTEN, &[row.map(str::to_owned).to_vec()])
            }
            "START REPLICA IO_THREAD" => state.set_in(channel, "Replica_IO_Running", "Yes"),
            "START REPLICA SQL_THREAD" => state.set_in(channel, "Replica_SQL_Running", "Yes"),
            "STOP REPLICA IO_THREAD" => state.set_in(channel, "Replica_IO_Running", "No"),
            "STOP REPLICA SQL_THREAD" => state.set_in(channel, "Replica_SQL_Running", "No"),
            "RESET REPLICA ALL" => {
                state.channels.retain(|c| c["Channel_Name"] != channel);
                Answer::Done
            }
            _ if text.starts_with("CHANGE") => {
                let mut new = replica_of("127.0.0.1", 0);
                new.insert("Channel_Name", channel.to_owned());
                for thread in ["Replica_IO_Running", "Replica_SQL_Running"] {
                    new.insert(thread, "No".to_owned());
                }
                state.channels.push(new);
                Answer::Done
            }
            _ if text.starts_with("SHOW RELAYLOG") && text.contains("'relay.000003'") => {
                rows(EVENTS, &[])
            }
            _ if text.starts_with("SHOW RELAYLOG") => {
                Answer::Refused(NO_SUCH_LOG, "Could not find target log".to_owned())
            }
            _ if text.starts_with("KILL") || text.starts_with("ALTER") => Answer::Done,
            _ => state.general(self, sql),
        }
    }
}

impl State {
    fn replica_status(&mut self, is_older: bool) -> Answer {
        self.busy_for = self.busy_for.saturating_sub(1);
        let done = self.busy_for == 0;
        for channel in &mut self.channels {
            if done && channel["Replica_SQL_Running"] == "Yes" {
                let end = channel["Read_Source_Log_Pos"].clone();
                channel.insert("Exec_Source_Log_Pos", end);
            }
        }
        let value = |channel: &Channel, column| channel.get(column).cloned();
        let of = |channel: &Channel| {
            STATUS
                .iter()
                .map(|column| value(channel, *column))
                .collect()
        };
        let columns = STATUS.iter().map(|column| match is_older {
            true => older(column),
            false => (*column).to_owned(),
        });
        Answer::Rows(columns.collect(), self.channels.iter().map(of).collect())
    }

    fn set_in(&mut self, channel: &str, column: &'static str, value: &str) -> Answer {
        match self
            .channels
            .iter_mut()
            .find(|c| c["Channel_Name"] == channel)
        {
            Some(found) => {
                found.insert(column, value.to_owned());
                Answer::Done
            }
            None => Answer::Refused(3074, format!("Replica channel '{channel}' does not exist.")),
        }
    }

    fn general(&mut self, server: &Played, sql: &str) -> Answer {
        if let Some(list) = sql.strip_prefix("SHOW GLOBAL VARIABLES WHERE Variable_name IN (") {
            let names: Vec<&str> = list.split('\'').skip(1).step_by(2).collect();
            return pairs(&self.variables, |name| names.contains(&name));
        }
        if let Some(like) = sql.strip_prefix("SHOW GLOBAL VARIABLES LIKE ") {
            return pairs(&self.variables, |name| is_like(name, like));
        }
        if let Some(like) = sql.strip_prefix("SHOW GLOBAL STATUS LIKE ") {
            return pairs(&self.status, |name| is_like(name, like));
        }
        if let Some(assignments) = sql.strip_prefix("SET SESSION ") {
            let name = assignments.split(' ').next().unwrap_or_default();
            return match OF_SESSION.contains(&name) {
                true => Answer::Done,
                false => unknown(name),
            };
        }
        if let Some(assignment) = sql.strip_prefix("SET GLOBAL ") {
            return self.assign(assignment);
        }
        match sql.strip_prefix("SELECT ") {
            Some(list) => match list.split_once(" FROM ") {
                Some((_, from)) => self.select_from(from, sql),
                None => self.select(server, list),
            },
            None => syntax(sql),
        }
    }

    fn assign(&mut self, assignment: &str) -> Answer {
        let Some((name, value)) = assignment.split_once(" = ") else {
            return syntax(assignment);
        };
        let Some(variable) = self.variables.get_mut(name) else {
            return unknown(name);
        };
        let value = match value {
            "0" => "OFF",
            "1" => "ON",
            value => value,
        };
        value.clone_into(variable);
        let is_behind = |c: &Channel| c["Exec_Source_Log_Pos"] != c["Read_Source_Log_Pos"];
        if name == "read_only" && value == "OFF" && self.channels.iter().any(is_behind) {
            let early = format!("before everything was applied: {assignment}");
            self.refused.push(early);
        }
        // Each of the two takes the other with it in one direction (worklog 6799).
        let other = match (name, value) {
            ("read_only", "OFF") => "super_read_only",
            ("super_read_only", "ON") => "read_only",
            _ => return Answer::Done,
        };
        self.variables.insert(other.to_owned(), value.to_owned());
        Answer::Done
    }

    fn select(&self, server: &Played, list: &str) -> Answer {
        let mut row = Vec::new();
        let words = list.strip_prefix("GTID_SUBTRACT(").and_then(|rest| {
            let (sets, rest) = rest.split_once(')')?;
            let sets: Vec<&str> = sets.split(", ").map(|set| set.trim_matches('\'')).collect();
            let other = match sets[1] {
                "@@GLOBAL.gtid_executed" => &self.variables["gtid_executed"],
                set => set,
            };
            row.push(Some(subtract(sets[0], other)));
            Some(rest.trim_start_matches(", "))
        });
        for word in words.unwrap_or(list).split(", ").filter(|w| !w.is_empty()) {
            let name = word.strip_prefix("@@GLOBAL.");
            let value = match (name.map(|name| self.variables.get(name)), word) {
                (Some(Some(value)), _) => value.clone(),
                (Some(None), _) => return unknown(name.unwrap_or_default()),
                (None, "VERSION()") => server.version_text(),
                (None, _) => return syntax(word),
            };
            let is_switch = name.is_some_and(|name| name.ends_with("read_only"));
            row.push(Some(match (is_switch, value.as_str()) {
                (true, "ON") => "1".to_owned(),
                (true, _) => "0".to_owned(),
                _ => value,
            }));
        }
        let columns = row.iter().map(|_| "value".to_owned()).collect();
        Answer::Rows(columns, vec![row])
    }

    fn select_from(&self, from: &str, sql: &str) -> Answer {
        let table = from.split(' ').next().unwrap_or_default();
        match table {
            "information_schema.PROCESSLIST" | "performance_schema.threads" => rows(&["ID"], &[]),
            "information_schema.INNODB_TRX" => rows(&["session", "trx_id", "trx_started"], &[]),
            "information_schema.EVENTS" => {
                let events: Vec<_> = self.events.iter().map(|e| e.to_vec()).collect();
                rows(&["in_schema", "name", "definer", "status"], &events)
            }
            _ => Answer::Refused(1146, format!("Table '{table}' doesn't exist, in {sql}")),
        }
    }
}

/// A channel that replicates from a server and is `behind` bytes behind.
pub fn replica_of(host: &str, behind: u64) -> Channel {
    let applied = (1000 - behind).to_string();
    let lag = if behind > 0 { "7" } else { "0" };
    let columns = [
        ("Source_Host", host),
        ("Source_Port", "3306"),
        ("Source_Log_File", "binlog.000007"),
        ("Read_Source_Log_Pos", "1000"),
        ("Relay_Log_File", "relay.000003"),
        ("Relay_Log_Pos", "400"),
        ("Relay_Source_Log_File", "binlog.000007"),
        ("Exec_Source_Log_Pos", &applied),
        ("Replica_IO_Running", "Yes"),
        ("Replica_SQL_Running", "Yes"),
        ("Seconds_Behind_Source", lag),
        ("Source_Server_Id", "2"),
        ("Last_IO_Errno", "0"),
        ("Last_IO_Error", ""),
        ("Last_SQL_Errno", "0"),
        ("Last_SQL_Error", ""),
        ("Channel_Name", ""),
    ];
    columns.map(|(name, value)| (name, value.to_owned())).into()
}

fn rows(columns: &[&str], rows: &[Vec<String>]) -> Answer {
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    let rows = rows
        .iter()
        .map(|row| row.iter().cloned().map(Some).collect());
    Answer::Rows(columns, rows.collect())
}

fn pairs(all: &BTreeMap<String, String>, wanted: impl Fn(&str) -> bool) -> Answer {
    let found = all.iter().filter(|(name, _)| wanted(name));
    let found: Vec<_> = found
        .map(|(name, value)| vec![name.clone(), value.clone()])
        .collect();
    rows(&["Variable_name", "Value"], &found)
}

/// LIKE, of a pattern in quotes that ends with % if it has one.
fn is_like(name: &str, pattern: &str) -> bool {
    let pattern = pattern.trim_matches('\'');
    match pattern.strip_suffix('%') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

fn syntax(sql: &str) -> Answer {
    Answer::Refused(
        SYNTAX,
        format!("You have an error in your SQL syntax near '{sql}'"),
    )
}

fn unknown(name: &str) -> Answer {
    Answer::Refused(
        UNKNOWN_VARIABLE,
        format!("Unknown system variable '{name}'"),
    )
}

/// GTID_SUBTRACT.
fn subtract(set: &str, other: &str) -> String {
    let (set, other) = (transactions(set), transactions(other));
    let mut left = String::new();
    for (uuid, number) in set.difference(&other) {
        let before = (uuid.clone(), number - 1);
        let after = (uuid.clone(), number + 1);
        let rest = |place: &(String, u64)| set.contains(place) && !other.contains(place);
        match (rest(&before), rest(&after)) {
            (false, more) => {
                let comma = if left.is_empty() { "" } else { "," };
                left += &format!("{comma}{uuid}:{number}{}", if more { "-" } else { "" });
            }
            (true, true) => {}
            (true, false) => left += &number.to_string(),
        }
    }
    left
}

fn transactions(set: &str) -> BTreeSet<(String, u64)> {
    let mut all = BTreeSet::new();
    for part in set.split(',').filter(|part| !part.is_empty()) {
        let (uuid, range) = part.trim().split_once(':').expect("uuid:numbers");
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u64>().expect("a number");
        all.extend((number(first)..=number(last)).map(|n| (uuid.to_owned(), n)));
    }
    all
}
