//! What a server says of itself to become source or replica, and setting up the replica.

use super::Server;
use crate::db::History;
use crate::db::dialect::{Flavor, Version, quote};
use crate::db::session::Answer;
use crate::db::source::{Gtids, Identity, Source};
use crate::error::{Error, Result};

/// A variable that this server does not have.
const UNKNOWN_VARIABLE: u16 = 1193;

/// The question that [`read_history`] reads the answer to.
pub(super) fn history_question(version: Version) -> &'static str {
    match version.flavor {
        Flavor::MariaDb => "SELECT @@GLOBAL.gtid_binlog_state, @@GLOBAL.gtid_slave_pos",
        // Not SHOW VARIABLES, which cuts values off after 1024 characters.
        Flavor::MySql => "SELECT @@GLOBAL.gtid_mode, @@GLOBAL.server_uuid, @@GLOBAL.gtid_executed",
    }
}

/// Of MySQL only with `gtid_mode = ON`: in the other modes transactions without GTID are written.
pub(super) fn read_history(version: Version, answer: Result<Answer>) -> Result<Option<History>> {
    let answer = match answer {
        // Before MySQL 5.6.
        Err(e) if e.server_code() == Some(UNKNOWN_VARIABLE) => return Ok(None),
        answer => answer?,
    };
    let row = answer.first();
    let text = |place| row.and_then(|row| row.at(place)).unwrap_or_default();
    Ok(match (version.flavor, text(0)) {
        (Flavor::MariaDb, state) => Some(History::read([state, text(1)])),
        (Flavor::MySql, "ON") => History::of_sets(text(1), text(2)),
        (Flavor::MySql, _) => None,
    })
}

impl Server {
    pub(super) fn look_at_history(&self) -> Result<Option<History>> {
        let version = self.version()?;
        read_history(version, self.ask(history_question(version)))
    }

    pub(super) fn look_at_identity(&self) -> Result<Identity> {
        let version = self.version()?;
        let variables =
            self.variables(&["log_bin", "log_bin_basename", "server_uuid", "gtid_mode"])?;
        let word = |name| variables.get(name).map(str::to_owned);
        let gtids = match (version.flavor, variables.get("gtid_mode")) {
            (Flavor::MariaDb, _) => self.positions()?,
            (Flavor::MySql, Some("ON")) => self.sets()?,
            (Flavor::MySql, _) => Gtids::Unnamed,
        };
        let uuid = match version.flavor {
            Flavor::MySql => word("server_uuid"),
            Flavor::MariaDb => None,
        };
        Ok(Identity {
            version,
            uuid,
            binary_log: match variables.get("log_bin") {
                Some("ON") => Some(word("log_bin_basename").unwrap_or_default()),
                _ => None,
            },
            gtids,
        })
    }

    fn positions(&self) -> Result<Gtids> {
        let [state, received, current, strict] = self.texts(
            "SELECT @@GLOBAL.gtid_binlog_state, @@GLOBAL.gtid_slave_pos, \
             @@GLOBAL.gtid_current_pos, @@GLOBAL.gtid_strict_mode",
        )?;
        Ok(Gtids::Positions {
            history: History::read([&state, &received]),
            current,
            received,
            strict: strict == "1",
        })
    }

    fn sets(&self) -> Result<Gtids> {
        let [executed, purged] =
            self.texts("SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged")?;
        Ok(Gtids::Sets { executed, purged })
    }

    /// The values of one row; the servers break long GTID sets into lines.
    fn texts<const N: usize>(&self, sql: &str) -> Result<[String; N]> {
        let answer = self.ask(sql)?;
        let row = answer.first();
        let text = |place| row.and_then(|row| row.at(place)).unwrap_or_default();
        Ok(std::array::from_fn(|place| text(place).replace('\n', "")))
    }

    pub(super) fn subtract(&self, set: &str, other: &str) -> Result<String> {
        let sql = format!("SELECT GTID_SUBTRACT({}, {})", quote(set), quote(other));
        self.texts(&sql).map(|[left]| left)
    }

    pub(super) fn change_source(&self, channel: &str, source: &Source<'_>) -> Result<()> {
        let version = self.version()?;
        let password = source.login.map_or("", |login| login.password.reveal());
        // Or a backslash in the password would count twice.
        self.ask("SET SESSION sql_mode = ''")?;
        let sql = source.statement(version, channel, password);
        let shown = source.statement(version, channel, "***");
        let told = self.with_session(|session| session.ask(&sql));
        told.map(drop)
            .map_err(|error| hide(error, password).during(shown))
    }
}

/// The same failure without the password, which a syntax error would repeat.
fn hide(error: Error, password: &str) -> Error {
    let mut text = error.chain();
    for secret in [quote(password), password.to_owned()] {
        if !password.is_empty() {
            text = text.replace(&secret, "***");
        }
    }
    let hidden = Error::new(error.kind(), text);
    match error.server_code() {
        Some(code) => hidden.answered(code),
        None => hidden,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn an_error_does_not_repeat_the_password() {
        let error = Error::new(Kind::Denied, "error 1064: near ''it''s' FOR'").answered(1064);
        let hidden = hide(error, "it's");
        assert_eq!(hidden.chain(), "error 1064: near '*** FOR'");
        assert_eq!(hidden.server_code(), Some(1064));
    }
}
