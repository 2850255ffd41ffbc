//! Is the server on this host fit to hold the VIP? What it says, put into a stable class.

use std::time::Duration;

use crate::config::Check;
use crate::db::server::Server;
use crate::db::{Database, Receiver};
use crate::error::{Error, Kind};
use crate::verdict::Class;

/// The most characters of what was seen that are told.
const LONGEST_TEXT: usize = 1000;

/// What a check saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// In one word.
    pub class: Class,
    /// In one line.
    pub text: String,
    /// Whether the server takes writes; `None` when it could not be asked.
    pub writable: Option<bool>,
}

impl Seen {
    /// Something was seen, but not whether the server takes writes.
    pub fn new(class: Class, text: impl Into<String>) -> Seen {
        Seen {
            class,
            text: text.into(),
            writable: None,
        }
    }

    /// The same as one line that can be printed and given to a process: a server's words may be
    /// anything.
    pub fn in_one_line(self) -> Seen {
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let text = self.text.chars().take(LONGEST_TEXT).map(printable);
        Seen {
            text: text.collect(),
            ..self
        }
    }

    /// The same server, seen as something else.
    pub fn with(self, class: Class, text: String) -> Seen {
        Seen {
            class,
            text,
            ..self
        }
    }
}

/// Logs in and asks whether the server takes writes; what else is asked is opt-in.
pub fn ask(server: &Server, check: &Check) -> Seen {
    let answer = match server.ask("SELECT @@GLOBAL.read_only, VERSION()") {
        Ok(answer) => answer,
        Err(error) => return Seen::new(classify(&error), error.chain()),
    };
    let row = answer.first();
    let value = |place| row.and_then(|row| row.at(place)).unwrap_or_default();
    let writable = matches!(value(0), "0" | "OFF");
    let words = if writable {
        "takes writes"
    } else {
        "read-only"
    };
    let seen = Seen {
        class: Class::Ok,
        text: format!("{} {words}", value(1)),
        writable: Some(writable),
    };
    let seen = look_at_replica(server, check, seen);
    match seen.class {
        Class::Ok if writable && !check.write_table.is_empty() => write(server, check, seen),
        _ => seen,
    }
}

/// What kind of trouble an error is.
pub fn classify(error: &Error) -> Class {
    match (error.server_code(), error.kind()) {
        // Full: max_connections; max_user_connections of the account or of all.
        (Some(1040 | 1203 | 1226), _) => Class::Connections,
        // Closed to this host after too many errors, or by its address; MySQL in offline_mode.
        (Some(1129 | 1130 | 3032), _) => Class::Blocked,
        // Server shutdown in progress; MariaDB, to sessions it ends at shutdown.
        (Some(1053 | 1927), _) => Class::Down,
        (Some(_), _) | (None, Kind::Denied) => Class::Auth,
        (None, Kind::Config | Kind::Usage) => Class::Config,
        (None, Kind::Timeout) => Class::Hung,
        (None, _) => Class::Down,
    }
}

fn look_at_replica(server: &Server, check: &Check, seen: Seen) -> Seen {
    if check.max_lag.is_zero() && !check.replica_threads {
        return seen;
    }
    let channels = match server.channels() {
        Ok(channels) => channels,
        Err(error) => return seen.with(classify(&error), error.chain()),
    };
    for channel in channels {
        let source = &channel.source;
        let stopped = !channel.applying || channel.receiver == Receiver::Stopped;
        if check.replica_threads && stopped {
            let error = channel.applier_error.or(channel.receiver_error);
            let why = error.map_or(String::new(), |error| format!(": {error}"));
            return seen.with(
                Class::Replica,
                format!("replication from {source} is stopped{why}"),
            );
        }
        if let Some(lag) = channel.lag.map(Duration::from_secs)
            && !check.max_lag.is_zero()
            && lag > check.max_lag
        {
            let text = format!("{} s behind {source}", lag.as_secs());
            return seen.with(Class::Replica, text);
        }
    }
    seen
}

/// One row per server, replaced each time, so that the table does not grow.
fn write(server: &Server, check: &Check, seen: Seen) -> Seen {
    let table = &check.write_table;
    // Or the statement would go on waiting in the server after this program has given up.
    let bound = "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1";
    let write = format!("REPLACE INTO {table} (id, at) VALUES (@@GLOBAL.server_id, NOW())");
    let written = server
        .ask(bound)
        .and_then(|_| server.ask_within(&write, check.write_limit));
    match written {
        Ok(_) => seen,
        Err(error) => seen.with(Class::Write, error.chain()),
    }
}

/// Whether `class` calls for closing the server's writes, now or as soon as it answers: keepalived
/// gives the VIP away, and a server that comes back must not take writes without it.
pub fn calls_for_fencing(seen: &Seen) -> bool {
    let cannot_be_trusted = match seen.class {
        Class::Down | Class::Hung | Class::Isolated | Class::Write | Class::Disk => true,
        Class::Connections | Class::Blocked => true,
        Class::Ok | Class::Auth | Class::ReadOnly | Class::Replica | Class::Config => false,
    };
    cannot_be_trusted && seen.writable != Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_says_no_is_alive() {
        let answered = |code| Error::new(Kind::Denied, "no").answered(code);
        assert_eq!(classify(&answered(1040)), Class::Connections);
        assert_eq!(classify(&answered(1129)), Class::Blocked);
        assert_eq!(classify(&answered(1045)), Class::Auth);
        assert_eq!(classify(&Error::new(Kind::Timeout, "")), Class::Hung);
        assert_eq!(classify(&Error::new(Kind::Unreachable, "")), Class::Down);
    }
}
