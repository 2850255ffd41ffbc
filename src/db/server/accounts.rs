//! Accounts of applications: locked out for a while, and let in again.

use super::Server;
use crate::db::dialect::{Flavor, Version, quote};
use crate::db::{Database, Writes};
use crate::error::{Error, Kind, Result};
use crate::run::Changed;

/// What an account is called while it is locked out of a server that cannot lock accounts.
const ALIAS: &str = "hookbox_";

/// An account, by its two names.
pub(super) struct Account {
    user: String,
    host: String,
}

impl Account {
    /// Reads `app@%`, `app@10.0.0.%`, or `app` for any host.
    pub(super) fn read(text: &str) -> Result<Account> {
        let (user, host) = text.rsplit_once('@').unwrap_or((text, "%"));
        match user.is_empty() || host.is_empty() {
            true => Err(Error::new(Kind::Config, format!("account `{text}`"))
                .advise("write [mha] lock_accounts like \"app@%\"")),
            false => Ok(Account {
                user: user.to_owned(),
                host: host.to_owned(),
            }),
        }
    }

    fn quoted(&self) -> String {
        format!("{}@{}", quote(&self.user), quote(&self.host))
    }

    fn renamed(&self) -> Account {
        Account {
            user: format!("{ALIAS}{}", self.user),
            host: self.host.clone(),
        }
    }

    fn filter(&self) -> String {
        format!(
            "User = {} AND Host = {}",
            quote(&self.user),
            quote(&self.host)
        )
    }
}

impl Server {
    /// Whether nobody can log in as `account`.
    pub(super) fn is_locked(&self, account: &Account) -> Result<bool> {
        let Some(column) = lock_column(self.version()?) else {
            return match (self.has_account(account)?, &account.renamed()) {
                (true, _) => Ok(false),
                (false, renamed) if self.has_account(renamed)? => Ok(true),
                _ => Err(missing(account)),
            };
        };
        let answer = self.ask(&format!("SELECT {column} WHERE {}", account.filter()))?;
        let row = answer.first().ok_or_else(|| missing(account))?;
        Ok(row.at(0) == Some("1"))
    }

    /// On servers that cannot lock accounts it gets another name: that lets nobody in either.
    pub(super) fn set_lock(&self, account: &Account, lock: bool) -> Result<Changed> {
        let (name, other) = (account.quoted(), account.renamed().quoted());
        let sql = match (lock_column(self.version()?), lock) {
            (Some(_), true) => format!("ALTER USER {name} ACCOUNT LOCK"),
            (Some(_), false) => format!("ALTER USER {name} ACCOUNT UNLOCK"),
            (None, true) => format!("RENAME USER {name} TO {other}"),
            (None, false) => format!("RENAME USER {other} TO {name}"),
        };
        self.ask_unlogged(&sql).map(|()| Changed::Yes)
    }

    fn has_account(&self, account: &Account) -> Result<bool> {
        let sql = format!("SELECT 1 FROM mysql.user WHERE {}", account.filter());
        Ok(self.ask(&sql)?.first().is_some())
    }

    /// Runs a statement that is for this server alone. With super_read_only even privileged
    /// accounts cannot change accounts, so it gives way for a moment; read_only stays.
    fn ask_unlogged(&self, sql: &str) -> Result<()> {
        let state = self.state()?;
        let closed_to_all = state.has_super_read_only && state.writes == Writes::ClosedToAll;
        self.ask("SET SESSION sql_log_bin = 0")?;
        if !closed_to_all {
            return self.ask(sql).map(drop);
        }
        let done = self.ask("SET GLOBAL super_read_only = 0");
        let done = done.and_then(|_| self.ask(sql));
        let closed = self.put_back("SET GLOBAL super_read_only = 1");
        done.map(drop).and(closed)
    }
}

/// Where it is written that an account is locked, from MySQL 5.7.6 and MariaDB 10.4.2 on.
fn lock_column(version: Version) -> Option<&'static str> {
    match version.flavor {
        Flavor::MariaDb if version.number >= (10, 4, 2) => {
            Some("JSON_VALUE(Priv, '$.account_locked') FROM mysql.global_priv")
        }
        Flavor::MySql if version.number >= (5, 7, 6) => {
            Some("account_locked = 'Y' FROM mysql.user")
        }
        _ => None,
    }
}

fn missing(account: &Account) -> Error {
    let name = format!("{}@{}", account.user, account.host);
    Error::new(Kind::Refused, format!("there is no account {name}"))
        .advise("correct [mha] lock_accounts; SELECT User, Host FROM mysql.user shows the accounts")
}
