//! How a server changes between primary and replica.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;

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
    /// Whether `notify_backup`, or a check afterwards, starts it when a peer took over.
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
