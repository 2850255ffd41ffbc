//! A MySQL or MariaDB server, as a procedure sees it.

pub mod dialect;
pub mod endpoint;
pub mod grants;
pub mod gtid;
pub mod history;
mod login;
pub mod relay;
mod resolver;
pub mod semisync;
pub mod server;
pub mod session;
mod sha2;
pub mod source;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;
mod wire;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::run::Changed;

pub use dialect::Thread;
pub use history::History;
pub use semisync::{SemiSync, Side};
pub use source::{Gtids, Identity, Source};

/// A server, whatever its flavour.
///
/// Every deed can be done twice and says whether anything changed. Methods take `&self` so that an
/// undo can hold the server while the procedure goes on using it.
pub trait Database {
    /// What to call it in the timeline, as in `10.0.0.11:3306`.
    fn name(&self) -> String;

    /// Who it is and whether it takes writes.
    fn state(&self) -> Result<State>;

    /// Who it is and what it has, asked in one round trip.
    fn see(&self) -> Result<Seen>;

    /// What it replicates, one entry a channel; none on a server that is no replica.
    fn channels(&self) -> Result<Vec<Channel>>;

    /// What this channel, which was just seen so, has received and not applied; `None` when it has
    /// applied everything that can ever be applied. A transaction of which only the beginning
    /// arrived cannot.
    fn unapplied(&self, channel: &Channel) -> Result<Option<String>>;

    /// Whether its appliers have nothing more to do, as it looks. Only a look at what is unapplied
    /// proves it, and that may show it no sooner than when they have stopped.
    fn seems_idle(&self) -> Result<bool>;

    /// Listens, at most `patience`, for the server to say that this channel has come to the end of
    /// what it has received; false at once when that cannot be heard. Then a look is worth it.
    fn hear(&self, channel: &str, patience: Duration) -> Result<bool>;

    /// Whose transactions it has; `None` where the server does not tell (MySQL without GTID).
    fn history(&self) -> Result<Option<History>>;

    /// The last position in its binary log; `None` when it writes none.
    fn written(&self) -> Result<Option<Position>>;

    /// What decides whether it can be another server's source or replica.
    fn identity(&self) -> Result<Identity>;

    /// What the GTID set `set` has and `other` has not (MySQL).
    fn gtids_beyond(&self, set: &str, other: &str) -> Result<String>;

    /// Says up to which transactions it has everything: `gtid_slave_pos` (MariaDB). Refused by the
    /// server while a channel runs.
    fn set_gtid_position(&self, position: &str) -> Result<Changed>;

    /// Makes a channel replicate from `source` by GTID, in place of what it did; it must be
    /// stopped, and is not started.
    fn set_source(&self, channel: &str, source: &Source<'_>) -> Result<Changed>;

    /// Starts or stops one thread of one channel.
    fn set_thread(&self, thread: Thread, channel: &str, run: bool) -> Result<Changed>;

    /// Stops receiving from a source that answers nobody; done when nothing more is received. The
    /// thread may still be on its way out then, and a statement about it or the applier waits for
    /// that. As [`Database::halt`] it looks again.
    fn let_go(&self, channel: &Channel) -> Result<Halted>;

    /// Stops one thread of this channel, which was just seen so, and looks again, in one round trip.
    fn halt(&self, thread: Thread, channel: &Channel) -> Result<Halted>;

    /// Forgets the source of one channel, with its relay log; what still runs is stopped.
    fn forget_source(&self, channel: &str) -> Result<Changed>;

    /// Lets it take writes, and reads back that it does.
    fn open_writes(&self) -> Result<Changed>;

    /// Closes it for writes, to privileged accounts as well where it can, and reads that back.
    /// Statements in the way have `grace` to end; then their sessions are ended, but for those of
    /// the accounts in `spare`.
    fn close_writes(&self, grace: Duration, spare: &[String]) -> Result<Changed>;

    /// The sessions of applications: not replication, not the server's own, not this program's
    /// account, not those in `spare`.
    fn sessions(&self, spare: &[String]) -> Result<Vec<u64>>;

    /// Has these sessions ended, in at most `limit`; those that are gone already do not matter.
    fn end_sessions(&self, ids: &[u64], limit: Duration) -> Result<Changed>;

    /// How many of these sessions are there, also of those that were ended and are on their way out.
    fn remaining(&self, ids: &[u64]) -> Result<usize>;

    /// The transactions that sessions of applications have open, each by a name of its own.
    fn transactions(&self, spare: &[String]) -> Result<Vec<String>>;

    /// How semi-sync stands.
    fn semi_sync(&self) -> Result<SemiSync>;

    /// The statement by which [`Database::set_semi_sync`] does that; `None` when it is so already,
    /// or there is no semi-sync.
    fn semi_sync_statement(&self, side: Side, on: bool) -> Result<Option<String>>;

    /// Switches one side of semi-sync on or off. Off, the source's side ends all waiting.
    fn set_semi_sync(&self, side: Side, on: bool) -> Result<Changed>;

    /// Switches the source's side on where [`SemiSync::first_waits`], so that no commit waits before
    /// a replica has connected. It writes to the binary log, but no data.
    fn begin_semi_sync(&self) -> Result<Changed>;

    /// Lets commits go on alone while fewer semi-sync replicas are connected than are needed.
    fn wait_for_nobody(&self, wait: bool) -> Result<Changed>;

    /// Whether the event scheduler runs.
    fn runs_events(&self) -> Result<bool>;

    /// Starts or stops the event scheduler.
    fn set_events(&self, run: bool) -> Result<Changed>;

    /// The events, as far as this program's account may see them.
    fn events(&self) -> Result<Vec<Event>>;

    /// Enables an event, which keeps its definer.
    fn enable_event(&self, event: &Event) -> Result<Changed>;

    /// Whether an account, as `app@%`, is locked out of this server.
    fn account_is_locked(&self, account: &str) -> Result<bool>;

    /// Locks an account, as `app@%`, out of this server, or lets it in again; on this server
    /// alone, not in its binary log. Sessions that are open stay.
    fn set_account_lock(&self, account: &str, locked: bool) -> Result<Changed>;
}

/// Whether a server takes writes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writes {
    /// From anybody.
    Open,
    /// Only from accounts that may write in spite of read_only.
    Closed,
    /// From nobody but replication: super_read_only.
    ClosedToAll,
}

/// Who a server is and whether it takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// `server_id`: what replication knows it by.
    pub server_id: u32,
    /// Whether it takes writes.
    pub writes: Writes,
    /// Whether it has super_read_only, from MySQL 5.7.8 on; MariaDB has not.
    pub has_super_read_only: bool,
}

impl State {
    /// Whether it is as closed as a server of its kind can be.
    pub fn is_closed(&self) -> bool {
        match self.writes {
            Writes::Open => false,
            Writes::Closed => !self.has_super_read_only,
            Writes::ClosedToAll => true,
        }
    }
}

/// What a server says of itself when it is asked for all at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who it is and whether it takes writes.
    pub state: State,
    /// What it replicates.
    pub channels: Vec<Channel>,
    /// Whose transactions it has.
    pub history: Option<History>,
    /// How semi-sync stands.
    pub semi_sync: SemiSync,
}

impl Seen {
    /// The channel of this name.
    pub fn channel(&self, name: &str) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.name == name)
    }
}

/// A replica that has just been told to stop a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halted {
    /// Whether the thread ran.
    pub changed: Changed,
    /// What it replicates now.
    pub channels: Vec<Channel>,
    /// Whose transactions it has now.
    pub history: Option<History>,
}

/// What a peer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Who it is and whether it takes writes.
    pub state: State,
    /// The `server_id`s of the servers it replicates from.
    pub sources: Vec<u32>,
    /// Whose transactions it has.
    pub history: Option<History>,
}

impl From<Seen> for PeerState {
    fn from(seen: Seen) -> PeerState {
        PeerState {
            state: seen.state,
            sources: seen
                .channels
                .iter()
                .map(|channel| channel.source_id)
                .collect(),
            history: seen.history,
        }
    }
}

/// A place in a binary log.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Position {
    /// File name, as in `db1-bin.000002`.
    pub file: String,
    /// Byte offset.
    pub offset: u64,
}

impl Position {
    /// Whether this place is at or after `other` in the same sequence of log files.
    pub fn reaches(&self, other: &Position) -> bool {
        match self.sequence().cmp(&other.sequence()) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => self.offset >= other.offset,
            std::cmp::Ordering::Less => false,
        }
    }

    /// The number at the end of the file name; names are compared by it, since `999999` is
    /// followed by `1000000`.
    fn sequence(&self) -> u64 {
        let number = self.file.rsplit('.').next().unwrap_or_default();
        number.parse().unwrap_or(0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

/// An event of the event scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// As in `` `app`.`purge` ``.
    pub name: String,
    /// Whose rights it has, as in `app@%`.
    pub definer: String,
    /// Whether it runs when the scheduler does.
    pub status: EventStatus,
}

/// Whether an event runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventStatus {
    /// It does.
    Enabled,
    /// Somebody disabled it.
    Disabled,
    /// It came by replication, which disables every event, also one that is disabled at the source.
    FromSource,
}

/// How the receiver of a channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// Connected to its source.
    Connected,
    /// Trying to reach its source.
    Connecting,
    /// Not running.
    Stopped,
}

impl Channel {
    /// Whether this thread of it runs.
    pub fn runs(&self, thread: Thread) -> bool {
        match thread {
            Thread::Receiver => self.receiver != Receiver::Stopped,
            Thread::Applier => self.applying,
        }
    }
}

/// One replication channel of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its name; the usual one has an empty name.
    pub name: String,
    /// Where it replicates from, as `host:port`.
    pub source: String,
    /// The source's `server_id`; 0 when it has never connected.
    pub source_id: u32,
    /// Whether it fetches.
    pub receiver: Receiver,
    /// Whether it applies.
    pub applying: bool,
    /// How far it has fetched, in the source's binary log.
    pub received: Position,
    /// How far it has applied, in the source's binary log.
    pub applied: Position,
    /// Where the applier reads, in this server's relay log.
    pub relay: Position,
    /// MariaDB with GTID deletes the relay log when a thread is started and neither runs
    /// (`start_slave` in sql_repl.cc): what was fetched and not applied is fetched again, or gone.
    pub fragile: bool,
    /// MySQL with GTID: what was fetched since the channel was set up.
    pub retrieved_gtids: String,
    /// Seconds behind its source; `None` when that is not known.
    pub lag: Option<u64>,
    /// Why the applier stopped.
    pub applier_error: Option<String>,
    /// Why the receiver is not connected.
    pub receiver_error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_ordered_by_the_number_of_the_file_then_by_offset() {
        let at = |file: &str, offset| Position {
            file: file.to_owned(),
            offset,
        };
        assert!(at("b.000002", 4).reaches(&at("b.000001", 900)));
        assert!(at("b.1000000", 4).reaches(&at("b.999999", 900)));
        assert!(at("b.000002", 900).reaches(&at("b.000002", 900)));
        assert!(!at("b.000002", 899).reaches(&at("b.000002", 900)));
    }
}
