//! MHA's hooks, and how they reach other hosts.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Tls, duration};
use crate::link::Vip;

/// What `stop` answers when the old primary may still have the virtual address.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unfenced {
    /// 1: MHA gives up the failover.
    Abort,
    /// 10: MHA goes on, and two hosts may have the address.
    Proceed,
}

/// What `status` answers when the primary lacks a virtual address.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VipMissing {
    /// 0, with a warning.
    Warn,
    /// 1: MHA's manager does not start.
    Fail,
}

/// `[mha]`: what MHA's hooks do.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(expecting = "a table", deny_unknown_fields, default)]
pub struct Mha {
    /// The whole of one hook.
    #[serde(with = "duration")]
    pub limit: Duration,
    /// Account on the servers. Default: the one that MHA passes, which is none on `stop` and
    /// `stopssh` of a failover, and none to `undo`.
    pub user: Option<String>,
    /// As in `[mysql]`.
    pub defaults_file: Option<PathBuf>,
    /// As in `[mysql]`.
    pub password_file: Option<PathBuf>,
    /// As in `[mysql]`.
    pub password_env: Option<String>,
    /// As in `[mysql]`.
    pub tls: Tls,
    /// As in `[mysql]`.
    pub tls_ca: Option<PathBuf>,
    /// There is no virtual address: the hooks see to writes and sessions only. Without it an empty
    /// `vip` is an error.
    pub no_vip: bool,
    /// What `status` says when the primary lacks a virtual address.
    pub vip_missing: VipMissing,
    /// What `stop` of a failover says when the old primary may still have one.
    pub unfenced: Unfenced,
    /// Online change: how long transactions that are open may go on, while writes still flow.
    #[serde(with = "duration")]
    pub finish: Duration,
    /// Online change: how long running statements may hold up read_only before their sessions are
    /// ended.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// Online change: accounts, as `app@%`, that cannot log in on the old primary from the
    /// beginning of `stop` to the end of `start`.
    pub lock_accounts: Vec<String>,
}

/// `[ssh]`: how other hosts are reached.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(expecting = "a table", deny_unknown_fields, default)]
pub struct Ssh {
    /// OpenSSH's client.
    pub program: PathBuf,
    /// Account there. Default: the one that MHA passes.
    pub user: Option<String>,
    /// TCP port there. Default: the one that MHA passes.
    pub port: Option<u16>,
    /// Words for the client, in front of those that MHA passes.
    pub options: Vec<String>,
    /// How long a login may take.
    #[serde(with = "duration")]
    pub connect: Duration,
    /// How long a connection may serve later hooks; 0 for not at all.
    #[serde(with = "duration")]
    pub reuse: Duration,
    /// What goes in front of every command there, as `sudo -n`; empty for nothing.
    #[serde(rename = "become")]
    pub become_root: String,
    /// Where hookbox is there. Without it plain `ip` and `arping` are used.
    pub hookbox: PathBuf,
    /// The environment variables that hold passwords, of whatever account and instance: the client
    /// is started without them. Not a key of the file.
    #[serde(skip)]
    pub withheld: Vec<String>,
}

/// `[host.NAME]`: what is different on one host.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(expecting = "a table", deny_unknown_fields, default)]
pub struct Host {
    /// The interface of every virtual address there.
    pub interface: Option<String>,
    /// The interfaces used instead, the first that can, when that one has no carrier.
    pub fallback: Option<Vec<String>>,
    /// Where ssh finds it, if not where MHA says.
    pub ssh_host: Option<String>,
    /// As in `[ssh]`.
    pub ssh_port: Option<u16>,
    /// As in `[ssh]`.
    pub ssh_user: Option<String>,
}

impl Host {
    /// `vip` on the interfaces that it has on this host.
    pub fn place(&self, vip: &Vip) -> Vip {
        let mut vip = match &self.interface {
            Some(interface) => vip.on(interface),
            None => vip.clone(),
        };
        if let Some(fallback) = &self.fallback {
            vip.fallback = fallback.clone();
        }
        vip
    }
}

impl Default for Mha {
    fn default() -> Self {
        Mha {
            limit: Duration::from_secs(30),
            user: None,
            defaults_file: None,
            password_file: None,
            password_env: None,
            tls: Tls::default(),
            tls_ca: None,
            no_vip: false,
            vip_missing: VipMissing::Warn,
            unfenced: Unfenced::Abort,
            finish: Duration::from_millis(500),
            grace: Duration::from_millis(300),
            lock_accounts: Vec::new(),
        }
    }
}

impl Default for Ssh {
    fn default() -> Self {
        Ssh {
            program: "/usr/bin/ssh".into(),
            user: None,
            port: None,
            options: Vec::new(),
            connect: Duration::from_secs(5),
            reuse: Duration::from_secs(60),
            become_root: String::new(),
            hookbox: "/usr/sbin/hookbox".into(),
            withheld: Vec::new(),
        }
    }
}
