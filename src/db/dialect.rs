//! What each flavour and version of the server calls the same things.

use std::fmt;

/// Which family a server belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// MySQL, and what is built from it: Percona Server and the like.
    MySql,
    /// MariaDB.
    MariaDb,
}

/// What a server says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its family.
    pub flavor: Flavor,
    /// Major, minor and patch number.
    pub number: (u16, u16, u16),
}

impl Version {
    /// Reads the version of the server's greeting.
    ///
    /// MariaDB 10 puts `5.5.5-` before its own number, since old replicas refuse a master whose
    /// version begins with 10 (MariaDB server, `RPL_VERSION_HACK`).
    pub fn parse(text: &str) -> Version {
        let text = text.strip_prefix("5.5.5-").unwrap_or(text);
        let mut numbers = text
            .split(|c: char| !c.is_ascii_digit())
            .map(|digits| digits.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Version {
            number: (next(), next(), next()),
            flavor: match text.contains("MariaDB") {
                true => Flavor::MariaDb,
                false => Flavor::MySql,
            },
        }
    }

    /// The words this server understands.
    pub fn dialect(&self) -> &'static Dialect {
        DIALECTS
            .iter()
            .rfind(|d| d.flavor == self.flavor && d.since <= self.number)
            .unwrap_or(&DIALECTS[0])
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flavor = match self.flavor {
            Flavor::MySql => "MySQL",
            Flavor::MariaDb => "MariaDB",
        };
        let (major, minor, patch) = self.number;
        write!(f, "{flavor} {major}.{minor}.{patch}")
    }
}

/// How a statement names one of several replication channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    /// There is only one.
    None,
    /// `STOP SLAVE 'name' IO_THREAD`
    Connection,
    /// `STOP REPLICA IO_THREAD FOR CHANNEL 'name'`
    ForChannel,
}

/// How one of a replica's threads is found among the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Threads {
    /// By its command in the process list, which does not say whose channel it is.
    Command,
    /// By its state in the process list, as the only channel's.
    State,
    /// By what the channel's status tables say.
    Channel,
}

/// What a receiver of MySQL 5.6 says that it does (manual, "Replication Slave I/O Thread States"); an
/// applier that delays says `MASTER_DELAY`.
const RECEIVER_STATES: &str =
    "binlog dump|reconnect|relay log space|(to|for|on) master|master (event|version)";

/// The words of one flavour, from one version on.
#[derive(Debug)]
pub struct Dialect {
    flavor: Flavor,
    since: (u16, u16, u16),
    /// Status of all channels, a row each.
    pub replica_status: &'static str,
    /// The last position written to the binary log.
    pub binlog_status: &'static str,
    /// `Master` or `Source`, as column names spell it.
    pub source: &'static str,
    /// `Slave` or `Replica`, as column names and statements spell it.
    pub replica: &'static str,
    /// The column that names the channel.
    pub channel_column: &'static str,
    wait_for_position: &'static str,
    naming: Naming,
    threads: Threads,
}

/// MySQL took the words source and replica in 8.0.22, gave `SHOW BINARY LOG STATUS` in 8.2 and
/// dropped the old words in 8.4; channels came with 5.7.
const DIALECTS: &[Dialect] = &[
    Dialect {
        flavor: Flavor::MySql,
        since: (0, 0, 0),
        replica_status: "SHOW SLAVE STATUS",
        binlog_status: "SHOW MASTER STATUS",
        source: "Master",
        replica: "Slave",
        channel_column: "Channel_Name",
        wait_for_position: "MASTER_POS_WAIT",
        naming: Naming::None,
        threads: Threads::State,
    },
    Dialect {
        flavor: Flavor::MySql,
        since: (5, 7, 6),
        replica_status: "SHOW SLAVE STATUS",
        binlog_status: "SHOW MASTER STATUS",
        source: "Master",
        replica: "Slave",
        channel_column: "Channel_Name",
        wait_for_position: "MASTER_POS_WAIT",
        naming: Naming::ForChannel,
        threads: Threads::Channel,
    },
    Dialect {
        flavor: Flavor::MySql,
        since: (8, 0, 22),
        replica_status: "SHOW REPLICA STATUS",
        binlog_status: "SHOW MASTER STATUS",
        source: "Source",
        replica: "Replica",
        channel_column: "Channel_Name",
        wait_for_position: "MASTER_POS_WAIT",
        naming: Naming::ForChannel,
        threads: Threads::Channel,
    },
    Dialect {
        flavor: Flavor::MySql,
        since: (8, 2, 0),
        replica_status: "SHOW REPLICA STATUS",
        binlog_status: "SHOW BINARY LOG STATUS",
        source: "Source",
        replica: "Replica",
        channel_column: "Channel_Name",
        wait_for_position: "SOURCE_POS_WAIT",
        naming: Naming::ForChannel,
        threads: Threads::Channel,
    },
    Dialect {
        flavor: Flavor::MariaDb,
        since: (0, 0, 0),
        replica_status: "SHOW ALL SLAVES STATUS",
        binlog_status: "SHOW MASTER STATUS",
        source: "Master",
        replica: "Slave",
        channel_column: "Connection_name",
        wait_for_position: "MASTER_POS_WAIT",
        naming: Naming::Connection,
        threads: Threads::Command,
    },
];

/// One of a replica's two threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// Fetches the source's events into the relay log.
    Receiver,
    /// Applies the relay log.
    Applier,
}

impl Thread {
    fn sql(self) -> &'static str {
        match self {
            Thread::Receiver => "IO_THREAD",
            Thread::Applier => "SQL_THREAD",
        }
    }
}

impl Dialect {
    /// Stops one thread of one channel.
    pub fn stop(&self, thread: Thread, channel: &str) -> String {
        self.on_channel("STOP", thread.sql(), channel)
    }

    /// Starts one thread of one channel.
    pub fn start(&self, thread: Thread, channel: &str) -> String {
        self.on_channel("START", thread.sql(), channel)
    }

    /// Forgets the source of one channel, with its relay log.
    pub fn forget(&self, channel: &str) -> String {
        self.on_channel("RESET", "ALL", channel)
    }

    /// The events of one relay log file from `position` on, `limit` rows of them.
    pub fn relay_events(&self, file: &str, position: u64, limit: usize, channel: &str) -> String {
        let file = quote(file);
        let (before, after) = self.channel_clause(channel);
        format!("SHOW RELAYLOG{before} EVENTS IN {file} FROM {position} LIMIT {limit}{after}")
    }

    /// Waits in the server, a second at most, until the applier of `channel` has come to `file` and
    /// `offset` of its source's binary log. 1: it has not; else it has, or does not run.
    pub fn wait_for_position(&self, file: &str, offset: u64, channel: &str) -> String {
        let (file, channel) = (quote(file), quote(channel));
        let channel = match self.naming {
            Naming::None => String::new(),
            _ => format!(", {channel}"),
        };
        let function = self.wait_for_position;
        format!("SELECT {function}({file}, {offset}, 1{channel}) = -1")
    }

    /// The same until all transactions of `set` are applied (MySQL).
    pub fn wait_for_set(&self, set: &str) -> String {
        let set = quote(set);
        match self.naming {
            // It came with 5.7.5; this one waits for an applier that runs, and there is one only.
            Naming::None => format!("SELECT WAIT_UNTIL_SQL_THREAD_AFTER_GTIDS({set}, 1) = -1"),
            _ => format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({set}, 1) = 1"),
        }
    }

    /// Whether [`Dialect::threads`] tells the channels apart.
    pub fn tells_channels_apart(&self) -> bool {
        self.threads != Threads::Command
    }

    /// The sessions, as `ID`, that are one thread of one channel, or its workers.
    ///
    /// MySQL has no rows for it where `performance_schema` is off.
    pub fn threads(&self, thread: Thread, channel: &str) -> String {
        let channel = quote(channel);
        let of_channel = |table| {
            format!(
                "SELECT THREAD_ID FROM performance_schema.{table} WHERE CHANNEL_NAME = {channel}"
            )
        };
        let system = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'system user' AND";
        let sessions = "SELECT PROCESSLIST_ID AS ID FROM performance_schema.threads WHERE";
        match (self.threads, thread) {
            (Threads::Command, thread) => {
                let commands = match thread {
                    Thread::Receiver => "'Slave_IO'",
                    Thread::Applier => "'Slave_SQL', 'Slave_worker'",
                };
                format!("{system} COMMAND IN ({commands})")
            }
            (Threads::State, thread) => {
                let is_it = match thread {
                    Thread::Receiver => "REGEXP",
                    Thread::Applier => "NOT REGEXP",
                };
                format!("{system} COALESCE(STATE, '') {is_it} '{RECEIVER_STATES}'")
            }
            (Threads::Channel, Thread::Receiver) => {
                let receiver = of_channel("replication_connection_status");
                format!("{sessions} THREAD_ID IN ({receiver})")
            }
            (Threads::Channel, Thread::Applier) => {
                // An applier without workers is here itself, a coordinator ends with its workers.
                let workers = of_channel("replication_applier_status_by_worker");
                format!("{sessions} THREAD_ID IN ({workers})")
            }
        }
    }

    fn on_channel(&self, verb: &str, what: &str, channel: &str) -> String {
        let word = self.replica.to_uppercase();
        let (before, after) = self.channel_clause(channel);
        format!("{verb} {word}{before} {what}{after}")
    }

    /// What stands before the first and after the last word of a statement about `channel`.
    pub(super) fn channel_clause(&self, channel: &str) -> (String, String) {
        match self.naming {
            Naming::Connection => (format!(" {}", quote(channel)), String::new()),
            Naming::ForChannel => (String::new(), format!(" FOR CHANNEL {}", quote(channel))),
            Naming::None => (String::new(), String::new()),
        }
    }
}

/// A string literal. Quotes are doubled and backslashes too, which is right unless
/// NO_BACKSLASH_ESCAPES is set; names with a backslash then do not match, and nothing else can.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_servers_write_them() {
        let cases = [
            (
                "5.5.5-10.11.6-MariaDB-0+deb12u1",
                Flavor::MariaDb,
                (10, 11, 6),
            ),
            ("11.8.6-MariaDB-0+deb13u1", Flavor::MariaDb, (11, 8, 6)),
            ("5.6.24", Flavor::MySql, (5, 6, 24)),
            ("5.7.29-log", Flavor::MySql, (5, 7, 29)),
            ("8.0.36-28", Flavor::MySql, (8, 0, 36)),
            ("9.7.4-2", Flavor::MySql, (9, 7, 4)),
        ];
        for (text, flavor, number) in cases {
            assert_eq!(Version::parse(text), Version { flavor, number }, "{text}");
        }
    }

    #[test]
    fn every_series_gets_its_own_words() {
        let stop = |version| {
            Version::parse(version)
                .dialect()
                .stop(Thread::Receiver, "it's")
        };
        assert_eq!(stop("5.6.24"), "STOP SLAVE IO_THREAD");
        assert_eq!(
            stop("5.7.29-log"),
            "STOP SLAVE IO_THREAD FOR CHANNEL 'it''s'"
        );
        assert_eq!(stop("8.4.0"), "STOP REPLICA IO_THREAD FOR CHANNEL 'it''s'");
        assert_eq!(stop("5.5.5-10.5.1-MariaDB"), "STOP SLAVE 'it''s' IO_THREAD");
        let wait = |version| {
            Version::parse(version)
                .dialect()
                .wait_for_position("b.1", 4, "it's")
        };
        assert_eq!(wait("5.6.24"), "SELECT MASTER_POS_WAIT('b.1', 4, 1) = -1");
        let old = "SELECT MASTER_POS_WAIT('b.1', 4, 1, 'it''s') = -1";
        assert_eq!(
            (wait("8.0.36").as_str(), wait("11.8.6-MariaDB").as_str()),
            (old, old)
        );
        assert_eq!(wait("8.4.0"), old.replace("MASTER", "SOURCE"));
        let binlog = |version| Version::parse(version).dialect().binlog_status;
        assert_eq!(binlog("8.0.36"), "SHOW MASTER STATUS");
        assert_eq!(binlog("9.7.4-2"), "SHOW BINARY LOG STATUS");
        let threads = |version, thread| Version::parse(version).dialect().threads(thread, "it's");
        assert!(
            threads("8.0.22", Thread::Receiver)
                .contains("replication_connection_status WHERE CHANNEL_NAME = 'it''s'")
        );
        assert!(threads("5.6.24", Thread::Applier).contains("NOT REGEXP 'binlog dump|"));
        assert!(threads("10.11.6-MariaDB", Thread::Applier).contains("'Slave_worker'"));
        let forget = |version| Version::parse(version).dialect().forget("");
        assert_eq!(forget("9.7.4-2"), "RESET REPLICA ALL FOR CHANNEL ''");
        assert_eq!(forget("10.11.6-MariaDB"), "RESET SLAVE '' ALL");
    }
}
