//! How a replica is told its source, and what must be known of both before.

use std::path::Path;

use super::History;
use super::dialect::{Flavor, Version, quote};
use crate::secret::Login;

/// What decides whether two servers can be source and replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it says it is.
    pub version: Version,
    /// MySQL's `server_uuid`.
    pub uuid: Option<String>,
    /// Its binary log files' names up to the number (`log_bin_basename`), if it writes any.
    pub binary_log: Option<String>,
    /// Which transactions it has.
    pub gtids: Gtids,
}

/// Which transactions a server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gtids {
    /// It gives them no names (MySQL without `gtid_mode = ON`).
    Unnamed,
    /// MySQL.
    Sets {
        /// `gtid_executed`: all it has.
        executed: String,
        /// `gtid_purged`: those that its binary logs do not hold any more.
        purged: String,
    },
    /// MariaDB.
    Positions {
        /// The last of each origin.
        history: History,
        /// `gtid_current_pos`: the last of each domain, written here or received.
        current: String,
        /// `gtid_slave_pos`: the last of each domain that was received; from here replication
        /// goes on.
        received: String,
        /// `gtid_strict_mode`: numbers only grow in its binary log.
        strict: bool,
    },
}

/// Where a replica is to replicate from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// TCP address, as the replica's server reaches it.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// The account for replication there.
    pub login: Option<&'a Login>,
    /// Whether the connection is encrypted; `None` for the server's default.
    pub tls: Option<bool>,
    /// Who must have signed the source's certificate.
    pub tls_ca: Option<&'a Path>,
}

/// Between two tries to connect, in seconds. The servers' default of 60 is a minute without a
/// standby after every restart of the source.
const CONNECT_RETRY: u32 = 5;

/// MySQL's tries to connect: its default until 8.3. Since 8.4 it is 10, and then the replica gives
/// up for good.
const RETRY_COUNT: u32 = 86_400;

/// The words by which one flavour, from one version on, is told its source.
struct Words {
    flavor: Flavor,
    since: (u16, u16, u16),
    statement: &'static str,
    prefix: &'static str,
    by_gtid: &'static str,
    /// caching_sha2_password without TLS needs the source's public key.
    asks_public_key: bool,
}

/// `GET_MASTER_PUBLIC_KEY` came with MySQL 8.0.4, `CHANGE REPLICATION SOURCE TO` with 8.0.23; 8.4
/// dropped the old words. MariaDB's `current_pos` is not used: it is deprecated since 10.10.
const WORDS: &[Words] = &[
    Words {
        flavor: Flavor::MySql,
        since: (0, 0, 0),
        statement: "CHANGE MASTER",
        prefix: "MASTER",
        by_gtid: "AUTO_POSITION = 1",
        asks_public_key: false,
    },
    Words {
        flavor: Flavor::MySql,
        since: (8, 0, 4),
        statement: "CHANGE MASTER",
        prefix: "MASTER",
        by_gtid: "AUTO_POSITION = 1",
        asks_public_key: true,
    },
    Words {
        flavor: Flavor::MySql,
        since: (8, 0, 23),
        statement: "CHANGE REPLICATION SOURCE",
        prefix: "SOURCE",
        by_gtid: "AUTO_POSITION = 1",
        asks_public_key: true,
    },
    Words {
        flavor: Flavor::MariaDb,
        since: (0, 0, 0),
        statement: "CHANGE MASTER",
        prefix: "MASTER",
        by_gtid: "USE_GTID = slave_pos",
        asks_public_key: false,
    },
];

impl Source<'_> {
    /// `host:port`, as a replica's status has it.
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The statement that sets up `channel` by GTID on a server of this version, with `password`
    /// as the account's.
    pub fn statement(&self, version: Version, channel: &str, password: &str) -> String {
        let words = WORDS
            .iter()
            .rfind(|w| w.flavor == version.flavor && w.since <= version.number)
            .unwrap_or(&WORDS[0]);
        let prefix = words.prefix;
        let mut options = vec![
            format!("{prefix}_HOST = {}", quote(self.host)),
            format!("{prefix}_PORT = {}", self.port),
        ];
        if let Some(login) = self.login {
            options.push(format!("{prefix}_USER = {}", quote(&login.user)));
            options.push(format!("{prefix}_PASSWORD = {}", quote(password)));
        }
        options.push(format!("{prefix}_CONNECT_RETRY = {CONNECT_RETRY}"));
        if version.flavor == Flavor::MySql {
            options.push(format!("{prefix}_RETRY_COUNT = {RETRY_COUNT}"));
        }
        if let Some(tls) = self.tls {
            options.push(format!("{prefix}_SSL = {}", u8::from(tls)));
        }
        if let Some(ca) = self.tls_ca {
            options.push(format!(
                "{prefix}_SSL_CA = {}",
                quote(&ca.to_string_lossy())
            ));
            options.push(format!("{prefix}_SSL_VERIFY_SERVER_CERT = 1"));
        }
        if words.asks_public_key && self.tls != Some(true) {
            options.push(format!("GET_{prefix}_PUBLIC_KEY = 1"));
        }
        options.push(format!("{prefix}_{}", words.by_gtid));
        let (before, after) = version.dialect().channel_clause(channel);
        let (statement, options) = (words.statement, options.join(", "));
        format!("{statement}{before} TO {options}{after}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Password;

    fn statement(version: &str, channel: &str, tls: Option<bool>) -> String {
        let login = Login {
            user: "repl".to_owned(),
            password: Password::new("secret"),
            ..Login::default()
        };
        let source = Source {
            host: "10.0.0.12",
            port: 3306,
            login: Some(&login),
            tls,
            tls_ca: None,
        };
        source.statement(Version::parse(version), channel, "***")
    }

    #[test]
    fn every_series_is_told_its_source_in_its_own_words() {
        assert_eq!(
            statement("10.11.6-MariaDB", "", None),
            "CHANGE MASTER '' TO MASTER_HOST = '10.0.0.12', MASTER_PORT = 3306, \
             MASTER_USER = 'repl', MASTER_PASSWORD = '***', MASTER_CONNECT_RETRY = 5, \
             MASTER_USE_GTID = slave_pos"
        );
        assert_eq!(
            statement("8.4.3", "x", None),
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '10.0.0.12', SOURCE_PORT = 3306, \
             SOURCE_USER = 'repl', SOURCE_PASSWORD = '***', SOURCE_CONNECT_RETRY = 5, \
             SOURCE_RETRY_COUNT = 86400, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_AUTO_POSITION = 1 \
             FOR CHANNEL 'x'"
        );
        let has = |version, words| statement(version, "", None).contains(words);
        assert!(has(
            "8.0.22",
            "GET_MASTER_PUBLIC_KEY = 1, MASTER_AUTO_POSITION"
        ));
        assert!(!has("5.7.29-log", "PUBLIC_KEY"));
        assert!(!has("5.6.24", "CHANNEL"));
    }

    #[test]
    fn who_wants_tls_needs_no_public_key() {
        let sql = statement("9.7.4", "", Some(true));
        assert!(
            sql.contains("SOURCE_SSL = 1") && !sql.contains("PUBLIC_KEY"),
            "{sql}"
        );
        let sql = statement("9.7.4", "", Some(false));
        assert!(
            sql.contains("SOURCE_SSL = 0") && sql.contains("PUBLIC_KEY"),
            "{sql}"
        );
    }
}
