//! Semi-synchronous replication: commits that wait until a replica has them.
//!
//! MySQL calls the two sides `master` and `slave`, from 8.0.26 on `source` and `replica` where the
//! newer plugins are installed; MariaDB has it built in, by the older words.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dialect::{Flavor, Version};

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Its commits wait.
    Source,
    /// It acknowledges.
    Replica,
}

impl Side {
    pub(super) fn words(self) -> [&'static str; 2] {
        match self {
            Side::Source => ["source", "master"],
            Side::Replica => ["replica", "slave"],
        }
    }
}

/// How semi-sync stands on a server.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct SemiSync {
    /// Whether the source's side is on; `None` where there is no such plugin.
    pub source: Option<bool>,
    /// Whether the replica's side is on.
    pub replica: Option<bool>,
    /// Whether a commit here waits now (`Rpl_semi_sync_master_status`): not when it has timed out
    /// before, and no replica has caught up since.
    pub waits: bool,
    /// Whether this server acknowledges to its source now (`Rpl_semi_sync_slave_status`).
    pub acknowledges: bool,
    /// How many semi-sync replicas are connected.
    pub clients: u32,
    /// How many of them must have a transaction.
    pub needed: u32,
    /// How long a commit waits before it goes on alone.
    pub timeout: Duration,
    /// Whether it waits also when fewer replicas are connected than are needed
    /// (`rpl_semi_sync_master_wait_no_slave`, on by default).
    pub waits_for_nobody: bool,
    /// Whether the first commit after the source's side was switched on may wait the whole timeout
    /// even if it is not to wait for replicas that are not connected.
    pub first_waits: bool,
}

impl SemiSync {
    /// Reads variables and status, each by its name in lower case.
    pub(super) fn read<'a>(version: Version, value: impl Fn(&str) -> Option<&'a str>) -> SemiSync {
        let of = |side: Side, what: &str| {
            let names = side.words();
            let mut names = names
                .iter()
                .map(|word| format!("rpl_semi_sync_{word}_{what}"));
            names.find_map(|name| value(&name))
        };
        // MySQL: `wait_for_slave_count`, `wait_for_replica_count`.
        let either = |front: &str, back: &str| {
            let name = |word| format!("{front}{word}{back}");
            of(Side::Source, &name("replica")).or_else(|| of(Side::Source, &name("slave")))
        };
        let is_on = |text: &str| matches!(text, "ON" | "1");
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
        SemiSync {
            source: of(Side::Source, "enabled").map(is_on),
            replica: of(Side::Replica, "enabled").map(is_on),
            waits: of(Side::Source, "status").is_some_and(is_on),
            acknowledges: of(Side::Replica, "status").is_some_and(is_on),
            clients: number(of(Side::Source, "clients")).unwrap_or(0) as u32,
            needed: number(either("wait_for_", "_count")).unwrap_or(1) as u32,
            timeout: Duration::from_millis(number(of(Side::Source, "timeout")).unwrap_or(0)),
            waits_for_nobody: either("wait_no_", "").is_some_and(is_on),
            first_waits: first_waits(version),
        }
    }

    /// Whether fewer replicas are connected than must acknowledge.
    pub fn lacks_replicas(&self) -> bool {
        self.clients < self.needed
    }
}

/// Switched on, the source's side waits, and only a replica that leaves is looked at: so it is in
/// MySQL 5.6 and MariaDB 10.5 (`enableMaster`, `enable_master` in their semisync_master.cc). MySQL
/// has looked since it has `wait_for_slave_count`, 5.7.3; MariaDB 10.5.29 was seen to wait and
/// 10.11.19 not to.
fn first_waits(version: Version) -> bool {
    version.number
        < match version.flavor {
            Flavor::MySql => (5, 7, 3),
            Flavor::MariaDb => (10, 11, 19),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &'static str)]) -> SemiSync {
        let value = |name: &str| {
            pairs
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, v)| *v)
        };
        SemiSync::read(Version::parse("9.7.4-2"), value)
    }

    #[test]
    fn both_vocabularies_say_the_same() {
        let old = read(&[
            ("rpl_semi_sync_master_enabled", "ON"),
            ("rpl_semi_sync_master_timeout", "10000"),
            ("rpl_semi_sync_master_wait_for_slave_count", "2"),
            ("rpl_semi_sync_master_wait_no_slave", "ON"),
            ("rpl_semi_sync_slave_enabled", "OFF"),
            ("rpl_semi_sync_master_clients", "1"),
            ("rpl_semi_sync_master_status", "ON"),
            ("rpl_semi_sync_slave_status", "OFF"),
        ]);
        let new = read(&[
            ("rpl_semi_sync_source_enabled", "ON"),
            ("rpl_semi_sync_source_timeout", "10000"),
            ("rpl_semi_sync_source_wait_for_replica_count", "2"),
            ("rpl_semi_sync_source_wait_no_replica", "ON"),
            ("rpl_semi_sync_replica_enabled", "OFF"),
            ("rpl_semi_sync_source_clients", "1"),
            ("rpl_semi_sync_source_status", "ON"),
            ("rpl_semi_sync_replica_status", "OFF"),
        ]);
        assert_eq!(old, new);
        assert!(old.waits && old.waits_for_nobody && old.lacks_replicas() && !old.acknowledges);
        assert_eq!((old.source, old.replica), (Some(true), Some(false)));
        assert_eq!((old.clients, old.needed), (1, 2));
        assert_eq!(old.timeout, Duration::from_secs(10));
    }

    #[test]
    fn without_the_plugin_there_is_nothing() {
        let none = read(&[]);
        assert_eq!((none.source, none.replica, none.needed), (None, None, 1));
    }

    #[test]
    fn older_servers_let_the_first_commit_wait() {
        let waits = |version| SemiSync::read(Version::parse(version), |_| None).first_waits;
        let old = ["5.6.24-log", "10.5.29-MariaDB", "10.6.17-MariaDB"];
        let new = ["5.7.29-log", "8.0.36", "10.11.19-MariaDB", "11.4.2-MariaDB"];
        assert!(old.iter().all(|version| waits(version)));
        assert!(!new.iter().any(|version| waits(version)));
    }
}
