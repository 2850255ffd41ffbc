//! The engines, and what the tests have to say differently to each.

use std::path::PathBuf;

use crate::lab::Replication;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    MySql56,
    MySql57,
    MySql97,
    MariaDb105,
    MariaDb1011,
    MariaDb118,
}

use Engine::{MariaDb105, MariaDb118, MariaDb1011, MySql56, MySql57, MySql97};

pub const ALL: [Engine; 6] = [
    MySql56,
    MySql57,
    MySql97,
    MariaDb105,
    MariaDb1011,
    MariaDb118,
];

impl Engine {
    /// As `scripts/get-engine` calls it.
    pub fn name(self) -> &'static str {
        match self {
            MySql56 => "mysql-5.6",
            MySql57 => "mysql-5.7",
            MySql97 => "mysql-9.7",
            MariaDb105 => "mariadb-10.5",
            MariaDb1011 => "mariadb-10.11",
            MariaDb118 => "mariadb-11.8",
        }
    }

    pub fn is_mariadb(self) -> bool {
        matches!(self, MariaDb105 | MariaDb1011 | MariaDb118)
    }

    /// Whether a replica may have more than one source.
    pub fn has_channels(self) -> bool {
        self != MySql56
    }

    /// Where it was unpacked; `None` for this machine's own.
    fn folder(self) -> Option<PathBuf> {
        if self == MariaDb1011 {
            return None;
        }
        let cache = std::env::var_os("HOOKBOX_ENGINES").map_or_else(
            || {
                let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
                PathBuf::from(home).join(".cache/hookbox-engines")
            },
            PathBuf::from,
        );
        Some(cache.join(self.name()))
    }

    /// Why it cannot be tested here.
    pub fn missing(self) -> Option<String> {
        let folder = self.folder().filter(|folder| !folder.exists())?;
        let name = self.name();
        let place = folder.display();
        Some(format!(
            "{name} is not in {place}: scripts/get-engine {name}"
        ))
    }

    pub fn program(self) -> String {
        match self.folder() {
            Some(folder) => format!("{}/bin/mysqld", folder.display()),
            None => "mariadbd".to_owned(),
        }
    }

    /// A shell command that makes a data directory with root@localhost without a password.
    pub fn initialize(self, data: &str) -> String {
        match self.folder() {
            Some(folder) => format!("{}/bin/init-datadir {data}", folder.display()),
            None => format!(
                "mariadb-install-db --no-defaults --user=root --datadir={data} --skip-test-db \
                 --auth-root-authentication-method=normal --innodb-log-file-size=8M"
            ),
        }
    }

    /// Lines of `[mysqld]` that are not for all.
    pub fn settings(self, by: Replication) -> String {
        let mut lines = match self {
            MySql97 => "log-replica-updates = 1\ninnodb-redo-log-capacity = 64M\n".to_owned(),
            _ => "log-slave-updates = 1\ninnodb-log-file-size = 32M\n".to_owned(),
        };
        if matches!(self, MySql56 | MySql57) {
            lines += "master-info-repository = TABLE\nrelay-log-info-repository = TABLE\n";
        }
        if self.is_mariadb() {
            lines += "slave-parallel-mode = optimistic\n";
        } else {
            let mode = match by {
                Replication::Gtid => "ON",
                Replication::FileAndPosition => "OFF",
            };
            lines += &format!("gtid-mode = {mode}\nenforce-gtid-consistency = {mode}\n");
        }
        lines
    }

    /// A word of the old vocabulary, as this engine says it.
    pub fn word(self, old: &str) -> String {
        let pairs = [
            ("MASTER", "SOURCE"),
            ("Master", "Source"),
            ("master", "source"),
            ("SLAVE", "REPLICA"),
            ("Slave", "Replica"),
            ("slave", "replica"),
        ];
        match self {
            MySql97 => pairs
                .iter()
                .fold(old.to_owned(), |text, (old, new)| text.replace(old, new)),
            _ => old.to_owned(),
        }
    }

    /// Shows the state of all channels.
    pub fn replica_status(self) -> String {
        match self.is_mariadb() {
            true => "SHOW ALL SLAVES STATUS".to_owned(),
            false => self.word("SHOW SLAVE STATUS"),
        }
    }

    pub fn binlog_status(self) -> &'static str {
        match self {
            MySql97 => "SHOW BINARY LOG STATUS",
            _ => "SHOW MASTER STATUS",
        }
    }

    pub fn forget_binlogs(self) -> &'static str {
        match self {
            MySql97 => "RESET BINARY LOGS AND GTIDS",
            _ => "RESET MASTER",
        }
    }

    /// A statement about one channel, as `STOP SLAVE @ SQL_THREAD`, or `RESET SLAVE @ ALL`.
    pub fn on_channel(self, statement: &str, channel: &str) -> String {
        let statement = self.word(statement);
        if self.is_mariadb() {
            return statement.replace('@', &format!("'{channel}'"));
        }
        let rest = statement.replace(" @", "");
        match self.has_channels() {
            true => format!("{rest} FOR CHANNEL '{channel}'"),
            false => rest,
        }
    }

    /// The variable that says how many workers apply.
    pub fn workers(self) -> &'static str {
        match self {
            MySql97 => "replica_parallel_workers",
            MySql56 | MySql57 => "slave_parallel_workers",
            _ => "slave_parallel_threads",
        }
    }
}
