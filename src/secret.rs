//! Accounts and passwords: where they come from, and that they go nowhere else.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{Mha, Mysql, Peer, Rejoin, Tls};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::option_file::ClientSection;

/// The account where none is named.
const DEFAULT_USER: &str = "hookbox";

/// A password that does not print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Wraps a password.
    pub fn new(password: impl Into<String>) -> Self {
        Password(password.into())
    }

    /// The password itself, for the login conversation only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How a connection over TCP is protected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encryption {
    /// Whether there is TLS, and what the server has to show.
    pub tls: Tls,
    /// The certificates of the CAs that may have signed the server's.
    pub ca: Option<PathBuf>,
}

/// An account of a server, and under what protection it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// Account name, without host.
    pub user: String,
    /// Empty for accounts that the unix socket identifies.
    pub password: Password,
    /// Tried when the server refuses the first.
    pub otherwise: Option<Password>,
    /// Over TCP; the unix socket is private by itself.
    pub encryption: Encryption,
}

impl Login {
    /// The account on this host's server; `hookbox` without password where nothing is said.
    ///
    /// # Errors
    /// [`Kind::Config`] when a named file or variable cannot be read, is empty, or is readable by
    /// others, or when there are two passwords.
    pub fn local(mysql: &Mysql) -> Result<Login> {
        let source = Source {
            defaults_file: mysql.defaults_file.as_deref(),
            password_file: mysql.password_file.as_deref(),
            password_env: mysql.password_env.as_deref(),
        };
        let (user, password) = source.read()?;
        Ok(Login {
            user: mysql
                .user
                .clone()
                .or(user)
                .unwrap_or_else(|| DEFAULT_USER.to_owned()),
            password: password.unwrap_or_default(),
            otherwise: None,
            encryption: Encryption {
                tls: mysql.tls,
                ca: mysql.tls_ca.clone(),
            },
        })
    }

    /// The account on a peer: what `[[peer]]` does not say is as on this host.
    ///
    /// # Errors
    /// As [`Login::local`].
    pub fn on_peer(peer: &Peer, local: &Login) -> Result<Login> {
        let source = Source {
            defaults_file: peer.defaults_file.as_deref(),
            password_file: peer.password_file.as_deref(),
            password_env: peer.password_env.as_deref(),
        };
        let (user, password) = source.read()?;
        Ok(Login {
            user: peer
                .user
                .clone()
                .or(user)
                .unwrap_or_else(|| local.user.clone()),
            password: password.unwrap_or_else(|| local.password.clone()),
            otherwise: None,
            encryption: Encryption {
                tls: peer.tls.unwrap_or(local.encryption.tls),
                ca: peer.tls_ca.clone().or_else(|| local.encryption.ca.clone()),
            },
        })
    }

    /// The account for replication; `None` when no user is named.
    ///
    /// # Errors
    /// As [`Login::local`].
    pub fn of_replication(rejoin: &Rejoin) -> Result<Option<Login>> {
        let source = Source {
            defaults_file: rejoin.defaults_file.as_deref(),
            password_file: rejoin.password_file.as_deref(),
            password_env: rejoin.password_env.as_deref(),
        };
        let (user, password) = source.read()?;
        Ok(rejoin.user.clone().or(user).map(|user| Login {
            user,
            password: password.unwrap_or_default(),
            ..Login::default()
        }))
    }

    /// The account on the servers that MHA manages: what `[mha]` does not say is as MHA `passed`
    /// it. `None` when neither says who, or by which password.
    ///
    /// # Errors
    /// As [`Login::local`].
    pub fn of_mha(mha: &Mha, passed: Option<&Login>) -> Result<Option<Login>> {
        let source = Source {
            defaults_file: mha.defaults_file.as_deref(),
            password_file: mha.password_file.as_deref(),
            password_env: mha.password_env.as_deref(),
        };
        let (user, password) = source.read()?;
        let user = mha.user.clone().or(user);
        let user = user.or_else(|| passed.map(|login| login.user.clone()));
        let encryption = Encryption {
            tls: mha.tls,
            ca: mha.tls_ca.clone(),
        };
        let login = match (password, passed) {
            (Some(password), _) => user.map(|user| Login {
                user,
                password,
                otherwise: None,
                encryption,
            }),
            (None, Some(passed)) => user.map(|user| Login {
                user,
                encryption,
                ..passed.clone()
            }),
            (None, None) => None,
        };
        Ok(login)
    }

    /// The same account at an address that is nobody's name, virtual or of the loopback: whoever
    /// has it shows a certificate in its own name.
    pub fn at_any_name(&self) -> Login {
        let mut login = self.clone();
        if login.encryption.tls == Tls::VerifyIdentity {
            login.encryption.tls = Tls::VerifyCa;
        }
        login
    }
}

/// Where a login is written down.
struct Source<'a> {
    defaults_file: Option<&'a Path>,
    password_file: Option<&'a Path>,
    password_env: Option<&'a str>,
}

impl Source<'_> {
    /// User and password, as far as they are there.
    fn read(&self) -> Result<(Option<String>, Option<Password>)> {
        let client = match self.defaults_file {
            Some(path) => ClientSection::read(path)?,
            None => ClientSection::default(),
        };
        let elsewhere = match (self.password_file, self.password_env) {
            (Some(path), _) => Some(from_file(path)?),
            (None, Some(name)) => Some(from_env(name)?),
            (None, None) => None,
        };
        if client.password.is_some() && elsewhere.is_some() {
            let what = "there is a password in `defaults_file` and another one beside it";
            return Err(Error::new(Kind::Config, what).advise(
                "take one away: `password_file`, `password_env`, or the line in [client]",
            ));
        }
        Ok((client.user, client.password.or(elsewhere)))
    }
}

fn from_file(path: &Path) -> Result<Password> {
    let fail = |error| {
        let what = format!("password file {}", path.display());
        Error::new(Kind::Config, what).because(error)
    };
    let missing = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => fail(error).advise(format!(
            "install -m 600 /dev/null {0}; then write the password into it",
            path.display()
        )),
        _ => fail(error),
    };
    let file = files::open(path).map_err(missing)?;
    require_private(path, file.metadata.mode())?;
    let text = file.read().map_err(fail)?;
    match text.lines().next().unwrap_or_default() {
        "" => Err(Error::new(
            Kind::Config,
            format!("{}: no password on the first line", path.display()),
        )),
        password => Ok(Password::new(password)),
    }
}

/// Neither the name nor the value is repeated: people put the password itself into the config.
fn from_env(name: &str) -> Result<Password> {
    match std::env::var(name) {
        Ok(password) if !password.is_empty() => Ok(Password::new(password)),
        _ => Err(Error::new(
            Kind::Config,
            "the variable that `password_env` names is not set",
        )
        .advise("set it where keepalived is started: systemctl edit keepalived, EnvironmentFile=")),
    }
}

/// Refuses a file with a password that others than its owner can read or write.
///
/// # Errors
/// [`Kind::Config`] with the command that closes it.
pub fn require_private(path: &Path, mode: u32) -> Result<()> {
    if mode & 0o066 == 0 {
        return Ok(());
    }
    let what = format!(
        "{}: mode {:04o} opens it to others",
        path.display(),
        mode & 0o7777
    );
    Err(Error::new(Kind::Config, what).advise(format!("chmod 600 {}", path.display())))
}

#[cfg(test)]
mod tests;
