//! Accounts of applications: locked out for a while, and let in again.

use super::Server;
use crate::db::dialect::{Flavor, quote};
use crate::db::{Database, State};
use crate::error::{Error, Kind, Result};
use crate::run::Changed;

/// What an account is called while it is locked out of a server that cannot lock accounts.
const ALIAS: &str = "hookbox_";

/// An account, by its two names.
struct Account {
    user: String,
    host: String,
}

impl Account {
    /// Reads `app@%`, `app@10.0.0.%`, or `app` for any host.
    fn read(text: &str) -> Result<Account> {
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
    pub(super) fn change_account(&self, account: &str, locked: bool) -> Result<Changed> {
        let account = Account::read(account)?;
        let version = self.version()?;
        // MariaDB 10.4.2 and MySQL 5.7.6 can lock accounts; MariaDB keeps that in a JSON column.
        let is_locked = match version.flavor {
            Flavor::MariaDb if version.number >= (10, 4, 2) => {
                "SELECT JSON_VALUE(Priv, '$.account_locked') = 1 AS locked FROM mysql.global_priv"
            }
            Flavor::MySql if version.number >= (5, 7, 6) => {
                "SELECT account_locked = 'Y' AS locked FROM mysql.user"
            }
            _ => return self.rename_account(&account, locked),
        };
        let answer = self.ask(&format!("{is_locked} WHERE {}", account.filter()))?;
        let row = answer.first().ok_or_else(|| missing(&account))?;
        if (row.get("locked") == Some("1")) == locked {
            return Ok(Changed::AlreadySo);
        }
        let verb = if locked { "LOCK" } else { "UNLOCK" };
        self.ask_unlogged(&format!("ALTER USER {} ACCOUNT {verb}", account.quoted()))
    }

    /// For servers without account locks: an account with another name lets nobody in either.
    fn rename_account(&self, account: &Account, locked: bool) -> Result<Changed> {
        let (from, to) = match locked {
            true => (account.quoted(), account.renamed().quoted()),
            false => (account.renamed().quoted(), account.quoted()),
        };
        let is_there = |account: &Account| -> Result<bool> {
            let sql = format!("SELECT 1 FROM mysql.user WHERE {}", account.filter());
            Ok(self.ask(&sql)?.first().is_some())
        };
        match (is_there(account)?, is_there(&account.renamed())?) {
            (false, false) => Err(missing(account)),
            (there, _) if there != locked => Ok(Changed::AlreadySo),
            _ => self.ask_unlogged(&format!("RENAME USER {from} TO {to}")),
        }
    }

    /// Runs a statement that is for this server alone. With super_read_only even privileged
    /// accounts cannot change accounts, so it gives way for a moment; read_only stays.
    fn ask_unlogged(&self, sql: &str) -> Result<Changed> {
        let State {
            writes,
            has_super_read_only,
            ..
        } = self.state()?;
        let closed_to_all = has_super_read_only && writes == crate::db::Writes::ClosedToAll;
        if closed_to_all {
            self.ask("SET GLOBAL super_read_only = 0")?;
        }
        self.ask("SET SESSION sql_log_bin = 0")?;
        let done = self.ask(sql);
        if closed_to_all {
            self.ask("SET GLOBAL super_read_only = 1")?;
        }
        done.map(|_| Changed::Yes)
    }
}

fn missing(account: &Account) -> Error {
    let name = format!("{}@{}", account.user, account.host);
    Error::new(Kind::Refused, format!("there is no account {name}"))
        .advise("correct [mha] lock_accounts; SELECT User, Host FROM mysql.user shows the accounts")
}
