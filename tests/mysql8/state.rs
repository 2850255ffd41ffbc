//! What a server is made of, as far as hookbox sees it, and how that answers and changes.

use std::collections::BTreeMap;

use crate::gtids::subtract;
use crate::words::{EVENTS, Plugins, STATUS, WRITTEN, older};

const SYNTAX: u16 = 1064;
const UNKNOWN_VARIABLE: u16 = 1193;
const NO_SUCH_CHANNEL: u16 = 3074;
const THREADS_RUN: u16 = 3081;
pub const NO_SUCH_LOG: u16 = 1220;

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
    /// Of applications.
    pub sessions: Vec<u64>,
    /// How often it is asked before its applier is done.
    pub busy_for: u32,
    /// Schema, name, definer and status.
    pub events: Vec<[String; 4]>,
    /// What should not have been asked before everything was applied.
    pub early: Vec<String>,
    /// How a statement begins that is never answered.
    pub mute: Option<&'static str>,
    /// What the process list calls the command of the one commit that waits for an acknowledgement.
    pub waiting: Option<&'static str>,
}

pub enum Answer {
    Done,
    Rows(Vec<String>, Vec<Vec<Option<String>>>),
    Refused(u16, String),
    Silence,
}

impl State {
    /// A primary that takes writes.
    pub fn new(version: &str, plugins: Plugins, id: u32) -> State {
        let mut variables = BTreeMap::new();
        let uuid = format!("{id}{id}{id}{id}{id}{id}{id}{id}-0000-0000-0000-000000000000");
        let id = id.to_string();
        for (name, value) in [
            ("version", version),
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
        State {
            variables,
            status,
            channels: Vec::new(),
            sessions: Vec::new(),
            busy_for: 0,
            events: Vec::new(),
            early: Vec::new(),
            mute: None,
            waiting: None,
        }
    }

    /// The answer to a statement of which every word is known.
    pub fn answer(&mut self, sql: &str) -> Answer {
        if self.mute.is_some_and(|mute| sql.starts_with(mute)) {
            return Answer::Silence;
        }
        let (text, channel) = match sql.rsplit_once(" FOR CHANNEL ") {
            Some((text, channel)) => (text, channel.trim_matches('\'')),
            None => (sql, ""),
        };
        let is_older = text.contains("SLAVE") || text.contains("MASTER");
        let text = text.replace("SLAVE", "REPLICA");
        match text.as_str() {
            "SHOW REPLICA STATUS" => self.replica_status(is_older),
            "SHOW MASTER STATUS" | "SHOW BINARY LOG STATUS" => {
                let set = self.variables["gtid_executed"].clone();
                let row = ["binlog.000007", "1000", "", "", &set];
                rows(WRITTEN, &[row.map(str::to_owned).to_vec()])
            }
            "START REPLICA IO_THREAD" => self.set_in(channel, "Replica_IO_Running", "Yes"),
            "START REPLICA SQL_THREAD" => self.set_in(channel, "Replica_SQL_Running", "Yes"),
            "STOP REPLICA IO_THREAD" => self.set_in(channel, "Replica_IO_Running", "No"),
            "STOP REPLICA SQL_THREAD" => self.set_in(channel, "Replica_SQL_Running", "No"),
            _ if is_for_stopped_threads(&text) && self.runs(channel) => {
                let why = "This operation cannot be performed with running replication threads";
                Answer::Refused(THREADS_RUN, why.to_owned())
            }
            "RESET REPLICA ALL" => {
                self.channels.retain(|c| c["Channel_Name"] != channel);
                Answer::Done
            }
            _ if text.starts_with("CHANGE") => {
                let mut new = replica_of("127.0.0.1", 0);
                new.insert("Channel_Name", channel.to_owned());
                for thread in ["Replica_IO_Running", "Replica_SQL_Running"] {
                    new.insert(thread, "No".to_owned());
                }
                self.channels.push(new);
                Answer::Done
            }
            _ if text.contains("EVENTS IN 'relay.000003'") => self.relay_events(),
            _ if text.starts_with("SHOW RELAYLOG") => {
                Answer::Refused(NO_SUCH_LOG, "Could not find target log".to_owned())
            }
            // It says that it is there, also when it is not yet.
            _ if text.starts_with("SELECT") && text.contains("WAIT") => {
                rows(&["waited"], &[vec!["0".to_owned()]])
            }
            _ if text.starts_with("SELECT IS_USED_LOCK(") => {
                Answer::Rows(vec!["held_by".to_owned()], vec![vec![None]])
            }
            _ if text.starts_with("KILL") || text.starts_with("ALTER") => Answer::Done,
            _ => self.general(sql),
        }
    }

    fn runs(&self, channel: &str) -> bool {
        let threads = ["Replica_IO_Running", "Replica_SQL_Running"];
        let mut channels = self.channels.iter();
        channels.any(|c| c["Channel_Name"] == channel && threads.iter().any(|t| c[t] != "No"))
    }

    fn replica_status(&mut self, is_older: bool) -> Answer {
        self.busy_for = self.busy_for.saturating_sub(1);
        let done = self.busy_for == 0;
        for channel in &mut self.channels {
            if done && channel["Replica_SQL_Running"] == "Yes" {
                let end = channel["Read_Source_Log_Pos"].clone();
                channel.insert("Exec_Source_Log_Pos", end);
                channel.insert("Relay_Log_Pos", "650".to_owned());
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

    /// A transaction as long as one is left to apply.
    fn relay_events(&self) -> Answer {
        let events = [
            ["relay.000003", "400", "Query", "2", "900", "BEGIN"],
            ["relay.000003", "500", "Table_map", "2", "950", "lab.t"],
            ["relay.000003", "550", "Write_rows", "2", "980", ""],
            ["relay.000003", "600", "Xid", "2", "1000", "COMMIT"],
        ];
        match self.channels.iter().any(is_behind) {
            true => rows(EVENTS, &events.map(|row| row.map(str::to_owned).to_vec())),
            false => rows(EVENTS, &[]),
        }
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
            None => Answer::Refused(
                NO_SUCH_CHANNEL,
                format!("Replica channel '{channel}' does not exist."),
            ),
        }
    }

    fn general(&mut self, sql: &str) -> Answer {
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
        let global = sql.strip_prefix("SET GLOBAL ");
        if let Some(assignment) = global.or(sql.strip_prefix("SET PERSIST ")) {
            return self.assign(assignment);
        }
        match sql.strip_prefix("SELECT ") {
            Some(list) => match list.split_once(" FROM ") {
                Some((_, from)) => self.select_from(from, sql),
                None => self.select(list),
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
        if name == "read_only" && value == "OFF" && self.channels.iter().any(is_behind) {
            self.early.push(assignment.to_owned());
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

    fn select(&self, list: &str) -> Answer {
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
                (None, "VERSION()") => self.variables["version"].clone(),
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

    /// Applications are all that there is.
    fn processes(&self, from: &str, sql: &str) -> Answer {
        let all = self.sessions.iter().map(u64::to_string);
        if sql.starts_with("SELECT COUNT(*)") {
            let ids: Vec<&str> = from.split([' ', ',', '(', ')']).collect();
            let count = all.filter(|id| ids.contains(&id.as_str())).count();
            return rows(&["sessions"], &[vec![count.to_string()]]);
        }
        let all = all.filter(|_| from.contains("USER NOT IN"));
        rows(&["ID"], &all.map(|id| vec![id]).collect::<Vec<_>>())
    }

    fn select_from(&self, from: &str, sql: &str) -> Answer {
        let table = from.split(' ').next().unwrap_or_default();
        match table {
            _ if sql.contains("semi-sync ACK") => {
                let commit = |command: &str| ["9", "app", command].map(str::to_owned).to_vec();
                let commits: Vec<_> = self.waiting.into_iter().map(commit).collect();
                rows(&["ID", "USER", "COMMAND"], &commits)
            }
            "information_schema.PROCESSLIST" | "performance_schema.threads" => {
                self.processes(from, sql)
            }
            "information_schema.INNODB_TRX" => rows(&["session", "trx_id", "trx_started"], &[]),
            "mysql.user" => rows(&["locked"], &[vec!["0".to_owned()]]),
            "performance_schema.persisted_variables" => rows(&["VARIABLE_VALUE"], &[]),
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

fn is_for_stopped_threads(statement: &str) -> bool {
    statement.starts_with("CHANGE") || statement.starts_with("RESET")
}

fn is_behind(channel: &Channel) -> bool {
    channel["Exec_Source_Log_Pos"] != channel["Read_Source_Log_Pos"]
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

pub fn syntax(sql: &str) -> Answer {
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
