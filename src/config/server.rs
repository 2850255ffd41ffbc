//! Servers, this host's and the others', and how to log in there.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[mysql]`: how to reach the server on this host.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(expecting = "a table", deny_unknown_fields, default)]
pub struct Mysql {
    /// Unix socket; used unless `host` is set.
    pub socket: PathBuf,
    /// TCP address. Names work, but then a slow resolver is part of the answer time.
    pub host: Option<String>,
    /// TCP port.
    pub port: u16,
    /// Admin port (MySQL) or extra port (MariaDB) that still answers when all ordinary
    /// connections are in use; 0 for none. TCP on `host`, or 127.0.0.1.
    pub extra_port: u16,
    /// Account name. Default: what `defaults_file` says, else `hookbox`.
    pub user: Option<String>,
    /// An option file with a `[client]` section, as MySQL's own programs read it.
    pub defaults_file: Option<PathBuf>,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// The name of an environment variable that holds the password.
    pub password_env: Option<String>,
    /// Whether TCP connections are encrypted, and what the server has to show.
    pub tls: Tls,
    /// The certificates of the CAs that may have signed the server's, PEM; for `verify_ca` and
    /// `verify_identity`.
    pub tls_ca: Option<PathBuf>,
}

/// Whether TCP connections to a server are encrypted: the steps of `--ssl-mode` of MySQL's own
/// clients, with the same default.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// Never.
    Off,
    /// If the server can; who it is is not asked.
    #[default]
    Preferred,
    /// Or there is no connection; who it is is not asked.
    Required,
    /// The server's certificate was signed by a CA in `tls_ca`.
    VerifyCa,
    /// The same, and it names the host that was connected to.
    VerifyIdentity,
}

impl Tls {
    /// Whether the server has to show who it is.
    pub fn verifies(self) -> bool {
        matches!(self, Tls::VerifyCa | Tls::VerifyIdentity)
    }
}

/// `[[peer]]`: another server that may be primary.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(expecting = "a table", deny_unknown_fields)]
pub struct Peer {
    /// TCP address of the server itself, never a VIP.
    pub host: String,
    /// What to call it, as in `[host.NAME]` and in a role's `on`. Default: `host`.
    pub name: Option<String>,
    /// TCP port.
    #[serde(default = "default_port")]
    pub port: u16,
    /// Account there. Default: as on this host, and likewise for the password.
    pub user: Option<String>,
    /// As in `[mysql]`.
    pub defaults_file: Option<PathBuf>,
    /// As in `[mysql]`.
    pub password_file: Option<PathBuf>,
    /// As in `[mysql]`.
    pub password_env: Option<String>,
    /// As in `[mysql]`. Default: as on this host.
    pub tls: Option<Tls>,
    /// As in `[mysql]`. Default: as on this host.
    pub tls_ca: Option<PathBuf>,
}

impl Peer {
    /// What to call it.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.host)
    }
}

fn default_port() -> u16 {
    3306
}

impl Default for Mysql {
    fn default() -> Self {
        Mysql {
            socket: "/run/mysqld/mysqld.sock".into(),
            host: None,
            port: default_port(),
            extra_port: 0,
            user: None,
            defaults_file: None,
            password_file: None,
            password_env: None,
            tls: Tls::default(),
            tls_ca: None,
        }
    }
}
