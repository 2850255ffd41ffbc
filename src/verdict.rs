//! What a health check saw, in one stable word.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What `check_mysql` saw. The words are stable: scripts and alerts may match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Everything asked was answered well.
    Ok,
    /// Nothing listens there.
    Down,
    /// It accepts or listens, but does not answer in time.
    Hung,
    /// It is alive and refuses the account.
    Auth,
    /// It is alive and full: error 1040 or 1203.
    Connections,
    /// It is alive and refuses this host: error 1129 or 1130.
    Blocked,
    /// It is read-only although this host holds the VIP.
    ReadOnly,
    /// It lags, or a replication thread is stopped.
    Replica,
    /// The heartbeat write failed or took too long.
    Write,
    /// The file system of the data directory is full or does not answer.
    Disk,
    /// No witness answers: this host is cut off.
    Isolated,
    /// The check cannot work as configured.
    Config,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Ok => "ok",
            Class::Down => "down",
            Class::Hung => "hung",
            Class::Auth => "auth",
            Class::Connections => "connections",
            Class::Blocked => "blocked",
            Class::ReadOnly => "read_only",
            Class::Replica => "replica",
            Class::Write => "write",
            Class::Disk => "disk",
            Class::Isolated => "isolated",
            Class::Config => "config",
        })
    }
}
