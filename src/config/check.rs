//! What a server must be like to hold the VIP.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use crate::verdict::Class;

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

impl Default for Check {
    fn default() -> Self {
        Check {
            deadline: Duration::from_millis(700),
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
