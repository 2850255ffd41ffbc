//! `/etc/hookbox/hookbox.toml`: every key, its default, and why the default is what it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod change;
mod check;
mod duration;
mod excerpt;
mod load;
mod mha;
mod network;
mod others;
mod role;
mod sense;
mod server;

pub use change::{Demote, OnLag, OnWritablePeer, Promote, Rejoin, Require, SemiSyncAt};
pub use check::Check;
pub use duration::time_limit;
pub use load::{instances, load, missing};
pub use mha::{Host, Mha, Ssh, Unfenced, VipMissing};
pub use network::{Network, OnConflict};
pub use role::{On, Role, RoleVips, WRITER};
pub use server::{Mysql, Peer, Tls};

/// Where the configuration is looked for when neither `--config` nor `HOOKBOX_CONFIG` says so.
pub const DEFAULT_PATH: &str = "/etc/hookbox/hookbox.toml";

/// Everything that can be configured for one MySQL instance.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(expecting = "a table", deny_unknown_fields, default)]
pub struct Config {
    /// The server on this host.
    pub mysql: Mysql,
    /// Addresses that follow the primary, as `10.0.0.100/24 dev eth0`. Keepalived moves them in
    /// its own setup; hookbox then announces them and looks who has them.
    pub vip: Vec<String>,
    /// More addresses, each set with its own rule about where it belongs; `vip` is the role
    /// [`WRITER`].
    pub role: BTreeMap<String, Role>,
    /// How they come to a host.
    pub network: Network,
    /// The other servers that may be primary. This host's own is left out of them, so that one
    /// file may be on all hosts.
    pub peer: Vec<Peer>,
    /// `check_mysql`.
    pub check: Check,
    /// `notify_master`.
    pub promote: Promote,
    /// `notify_backup`, `notify_fault`, `notify_stop` and `fence`.
    pub demote: Demote,
    /// `rejoin`.
    pub rejoin: Rejoin,
    /// `master_ip_failover`, `master_ip_online_change` and `undo`.
    pub mha: Mha,
    /// How other hosts are reached.
    pub ssh: Ssh,
    /// What is different on one host, by the name that MHA has for it.
    pub host: BTreeMap<String, Host>,
    /// `guard`.
    pub guard: Guard,
    /// Files and directories.
    pub paths: Paths,
}

/// `[guard]`: when a primary that nobody can reach gives up.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(expecting = "a table", deny_unknown_fields, default)]
pub struct Guard {
    /// For so long a primary may hear from nobody. Shorter than MHA's shortest failover, which
    /// begins after four pings.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// The whole of one look.
    #[serde(with = "duration")]
    pub limit: Duration,
}

/// `[paths]`: where state and records are kept.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(expecting = "a table", deny_unknown_fields, default)]
pub struct Paths {
    /// Locks, the newest wish, the last verdict: gone after a reboot.
    pub run: PathBuf,
    /// What must outlive a reboot.
    pub state: PathBuf,
    /// One JSON object a line.
    pub journal: PathBuf,
    /// keepalived's configuration: an address that is in it, or in a file that it includes, is not
    /// moved by `vip ensure`.
    pub keepalived: PathBuf,
    /// keepalived's pid file, for `notify_down`.
    pub keepalived_pid: PathBuf,
    /// What tells this configuration from others on the same host: its file's name without
    /// `.toml`, and the instance. Not a key of the file.
    #[serde(skip)]
    pub name: String,
}

impl Default for Guard {
    fn default() -> Self {
        Guard {
            grace: Duration::from_secs(3),
            limit: Duration::from_secs(10),
        }
    }
}

impl Default for Paths {
    fn default() -> Self {
        Paths {
            run: "/run/hookbox".into(),
            state: "/var/lib/hookbox".into(),
            journal: "/var/log/hookbox/journal.jsonl".into(),
            keepalived: "/etc/keepalived/keepalived.conf".into(),
            keepalived_pid: "/run/keepalived.pid".into(),
            name: "hookbox".to_owned(),
        }
    }
}
