//! `/etc/hookbox/hookbox.toml`: every key, its default, and why the default is what it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::verdict::Class;

mod duration;
mod excerpt;
mod load;
mod network;
mod sense;

pub use load::{instances, load};
pub use network::{Network, OnConflict};

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

/// `[check]`: what `check_mysql` asks and what counts as failed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(expecting = "a table", deny_unknown_fields, default)]
pub struct Check {
    /// From start to exit. Below keepalived's shortest `timeout`, 1 s.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// How long to wait before a server found down is asked a second time; 0 for never. Takes the
    /// place of keepalived's `fall`, which costs a whole `interval`.
    #[serde(with = "duration")]
    pub confirm: Duration,
    /// Classes that exit 0, with a warning.
    pub pass_on: Vec<Class>,
    /// Neighbours that must not all be silent: `10.0.0.1` (ping), `tcp:10.0.0.12:3306`,
    /// `arp:10.0.0.1%eth0`.
    pub witness: Vec<String>,
    /// How long the witnesses may take.
    #[serde(with = "duration")]
    pub witness_limit: Duration,
    /// A failing check closes writes itself, detached: keepalived lets the peer take the VIP
    /// before it starts `notify_fault`.
    pub fence: bool,
    /// After how many failed checks in a row: as many as keepalived's `fall`, or writes are closed
    /// while keepalived leaves the VIP here.
    pub fence_after: u32,
    /// A server that is read-only while this host holds one of `vip` fails with `read_only`.
    pub writable_with_vip: bool,
    /// How long that may last with no promotion at work: between the VIP's coming and the start of
    /// `notify_master` there is a moment without one.
    #[serde(with = "duration")]
    pub read_only_grace: Duration,
    /// Most seconds a replica may lag, 0 for any.
    #[serde(with = "duration")]
    pub max_lag: Duration,
    /// A replica with a stopped thread fails with `replica`.
    pub replica_threads: bool,
    /// Table for a heartbeat write, as `schema.table`; empty for none.
    pub write_table: String,
    /// How long that write may take.
    #[serde(with = "duration")]
    pub write_limit: Duration,
    /// Directory whose file system must have space, usually the data directory; empty for none.
    pub disk_path: PathBuf,
    /// Least free space there, in MiB.
    pub disk_min_mib: u64,
}

/// What to do when this server has not applied everything within `limit`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLag {
    /// Stay a replica.
    Abort,
    /// Become primary anyway; the journal gets what was not applied.
    Force,
}

/// What to do when a peer still takes writes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnWritablePeer {
    /// Close its writes, then go on.
    Fence,
    /// Stay a replica.
    Refuse,
}

/// What must be so before a server is promoted.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Require {
    /// Nothing more than that what was received is applied.
    Any,
    /// That everything the old primary acknowledged is here.
    Proven,
}

/// What becomes of semi-sync when a server changes its role.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SemiSyncAt {
    /// It goes with the role where it is in use, and no commit waits for a replica that is not
    /// there.
    Switch,
    /// It is left as it is.
    Keep,
}

/// `[promote]`: how a replica becomes the primary.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(expecting = "a table", deny_unknown_fields, default)]
pub struct Promote {
    /// How long applying what was received may take.
    #[serde(with = "duration")]
    pub limit: Duration,
    /// What to do when that is not enough, or when the applier stopped with an error.
    pub on_lag: OnLag,
    /// What to do when a peer still takes writes.
    pub on_writable_peer: OnWritablePeer,
    /// What must be known of the old primary's writes.
    pub require: Require,
    /// What becomes of semi-sync, here and in a demotion.
    pub semi_sync: SemiSyncAt,
    /// How long a peer may take to answer; one that does not counts as gone, on record.
    #[serde(with = "duration")]
    pub peer_limit: Duration,
    /// How long nothing may arrive from a peer that answers and has more: then see `on_lag`.
    #[serde(with = "duration")]
    pub receive_limit: Duration,
    /// Whether the new primary forgets whom it replicated from. `false` for two primaries in a
    /// circle: then it goes on replicating from the other.
    pub forget_source: bool,
}

/// `[demote]`: how a server stops taking writes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(expecting = "a table", deny_unknown_fields, default)]
pub struct Demote {
    /// The whole of it, on `notify_backup` and `notify_fault`.
    #[serde(with = "duration")]
    pub limit: Duration,
    /// The whole of it on `notify_stop`: keepalived kills that after 1 s.
    #[serde(with = "duration")]
    pub stop_limit: Duration,
    /// How long running statements may hold up read_only before their sessions are ended.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// Accounts whose sessions are never ended, besides replication and the server's own.
    pub spare_users: Vec<String>,
}

/// `[rejoin]`: how an old primary becomes a replica.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(expecting = "a table", deny_unknown_fields, default)]
pub struct Rejoin {
    /// Whether `notify_backup` starts it when it finds that a peer took over.
    pub automatic: bool,
    /// How long it may take until the first events arrive, and what another source had sent may
    /// take to be applied. Closing this server has its own limit, that of `[demote]`.
    #[serde(with = "duration")]
    pub limit: Duration,
    /// The account for replication on the source. A channel that is there keeps its own.
    pub user: Option<String>,
    /// As in `[mysql]`.
    pub defaults_file: Option<PathBuf>,
    /// As in `[mysql]`.
    pub password_file: Option<PathBuf>,
    /// As in `[mysql]`.
    pub password_env: Option<String>,
    /// Whether replication is encrypted. Default: the server's.
    pub tls: Option<bool>,
    /// A file on this host with the certificates of those who may sign the source's, which must be
    /// made out to the name by which the source is given.
    pub tls_ca: Option<PathBuf>,
}

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
    /// What tells this configuration from others on the same host: its file's name without
    /// `.toml`, and the instance. Not a key of the file.
    #[serde(skip)]
    pub name: String,
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

impl Default for Check {
    fn default() -> Self {
        Check {
            deadline: Duration::from_millis(900),
            confirm: Duration::from_millis(200),
            pass_on: vec![Class::Auth, Class::Connections, Class::Blocked],
            witness: Vec::new(),
            witness_limit: Duration::from_millis(400),
            fence: true,
            fence_after: 1,
            writable_with_vip: true,
            read_only_grace: Duration::from_secs(3),
            max_lag: Duration::ZERO,
            replica_threads: false,
            write_table: String::new(),
            write_limit: Duration::from_millis(300),
            disk_path: PathBuf::new(),
            disk_min_mib: 256,
        }
    }
}

impl Default for Promote {
    fn default() -> Self {
        Promote {
            limit: Duration::from_secs(60),
            on_lag: OnLag::Abort,
            on_writable_peer: OnWritablePeer::Fence,
            require: Require::Any,
            semi_sync: SemiSyncAt::Switch,
            peer_limit: Duration::from_millis(500),
            receive_limit: Duration::from_secs(5),
            forget_source: true,
        }
    }
}

impl Default for Demote {
    fn default() -> Self {
        Demote {
            limit: Duration::from_secs(10),
            stop_limit: Duration::from_millis(800),
            grace: Duration::from_millis(300),
            spare_users: Vec::new(),
        }
    }
}

impl Default for Rejoin {
    fn default() -> Self {
        Rejoin {
            automatic: false,
            limit: Duration::from_secs(60),
            user: None,
            defaults_file: None,
            password_file: None,
            password_env: None,
            tls: None,
            tls_ca: None,
        }
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
        }
    }
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
            name: "hookbox".to_owned(),
        }
    }
}
