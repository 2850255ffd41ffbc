//! The servers of a cluster as they are now, and on which of them a role's addresses belong.

use std::time::Duration;

use crate::config::{On, RoleVips};
use crate::db::server::Server;
use crate::db::{Channel, Database, Receiver, Writes};
use crate::error::{Error, Kind, Result};

/// Asks for the session that has MHA's lock, NULL for none: MHA holds it on every server that it
/// knows while it switches (MHA/DBHelper.pm).
pub const MHA_AT_WORK: &str = "SELECT IS_USED_LOCK('MHA_Master_High_Availability_Failover')";

/// A server of the cluster.
#[derive(Debug)]
pub struct Member {
    /// What it may be called, what it is best called first.
    pub names: Vec<String>,
    /// Whether it is the one on this host.
    pub here: bool,
    /// What it said of itself, or why it said nothing.
    pub seen: Result<Seen>,
}

/// What a server said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its `server_id`.
    pub id: u32,
    /// Its `server_uuid`; MariaDB has none.
    pub uuid: Option<String>,
    /// Its version.
    pub version: String,
    /// Whether it takes writes.
    pub writes: Writes,
    /// What it replicates.
    pub channels: Vec<Channel>,
    /// Whether a failover or an online change of MHA is going on.
    pub mha_at_work: bool,
}

/// Where the addresses of a role belong now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Belongs {
    /// On the member at this place.
    On(usize),
    /// Where they are: nobody is fit for them, and nobody fitter. Why.
    Stay(String),
    /// Nobody may take them. Why.
    Nowhere(String),
}

impl Seen {
    /// Asks `server`.
    ///
    /// # Errors
    /// When it does not answer, or may not be asked.
    pub fn ask(server: &Server) -> Result<Seen> {
        let state = server.state()?;
        let channels = server.channels()?;
        let version = server.version()?.to_string();
        let answer = server.ask("SHOW GLOBAL VARIABLES LIKE 'server_uuid'")?;
        let uuid = answer.first().and_then(|row| row.at(1)).map(str::to_owned);
        let lock = server.ask(MHA_AT_WORK)?;
        Ok(Seen {
            id: state.server_id,
            uuid,
            version,
            writes: state.writes,
            channels,
            mha_at_work: lock.first().is_some_and(|row| row.at(0).is_some()),
        })
    }

    /// Whether it takes writes from applications.
    pub fn is_writable(&self) -> bool {
        self.writes == Writes::Open
    }

    /// What it is, in a word: `primary`, `replica`, or `fenced` for a closed server that replicates
    /// from nobody.
    pub fn role(&self) -> &'static str {
        match (self.is_writable(), self.channels.is_empty()) {
            (true, _) => "primary",
            (false, false) => "replica",
            (false, true) => "fenced",
        }
    }

    /// Whether all its channels receive, or try to, and apply; `None` for a server that has none.
    pub fn replicates(&self) -> Option<bool> {
        let works = |channel: &Channel| channel.applying && channel.receiver != Receiver::Stopped;
        (!self.channels.is_empty()).then(|| self.channels.iter().all(works))
    }

    /// Seconds behind its source, of the channel that is furthest; `None` when that is not known.
    pub fn lag(&self) -> Option<u64> {
        self.channels.iter().filter_map(|channel| channel.lag).max()
    }

    /// Whether both are the same server.
    pub fn is(&self, other: &Seen) -> bool {
        self.id == other.id && self.uuid == other.uuid
    }

    /// Why it cannot serve as a replica; `None` when it can. A receiver that tries to reach its
    /// source is no reason by itself: the source is gone for all then.
    fn unfit(&self, max_lag: Duration) -> Option<String> {
        if self.role() != "replica" {
            return Some(format!("a {}", self.role()));
        }
        self.channels.iter().find_map(|channel| {
            if !channel.applying {
                return Some("does not apply".to_owned());
            }
            if channel.receiver == Receiver::Stopped {
                return Some("does not receive".to_owned());
            }
            match channel.lag {
                _ if max_lag.is_zero() => None,
                Some(lag) if Duration::from_secs(lag) <= max_lag => None,
                Some(lag) => Some(format!("{lag} s behind")),
                None => Some("lag unknown".to_owned()),
            }
        })
    }
}

impl Member {
    /// What to call it.
    pub fn name(&self) -> &str {
        self.names.first().map_or("this host", String::as_str)
    }

    /// Whether it may be called that.
    pub fn is_called(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    fn unfit(&self, max_lag: Duration) -> Option<String> {
        match &self.seen {
            Ok(seen) => seen.unfit(max_lag),
            Err(_) => Some("does not answer".to_owned()),
        }
    }
}

/// The place of the one server that takes writes.
///
/// # Errors
/// [`Kind::Refused`] when there is none or more than one. A server that does not answer is not
/// counted.
pub fn primary(members: &[Member]) -> Result<usize> {
    let is_writable = |member: &Member| member.seen.as_ref().is_ok_and(Seen::is_writable);
    let mut writable = (0..members.len()).filter(|n| is_writable(&members[*n]));
    match (writable.next(), writable.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Error::new(
            Kind::Refused,
            "no server is known to take writes",
        )),
        (Some(one), Some(other)) => {
            let (one, other) = (members[one].name(), members[other].name());
            Err(Error::new(
                Kind::Refused,
                format!("{one} and {other} both take writes"),
            ))
        }
    }
}

/// Where the addresses of `role` belong, which the member at `holder` has now.
///
/// Whoever asks the same servers gets the same answer: what decides is the holder, the order in the
/// configuration, and `server_id`.
///
/// # Errors
/// [`Kind::Config`] when the role names a host that is none of `members`.
pub fn belongs(role: &RoleVips, members: &[Member], holder: Option<usize>) -> Result<Belongs> {
    let candidates = match role.on {
        On::Primary => {
            return Ok(match primary(members) {
                Ok(primary) => Belongs::On(primary),
                Err(error) => Belongs::Nowhere(error.chain()),
            });
        }
        On::Replica => by_server_id(members, holder),
        On::Hosts(names) => named(role, names, members)?,
    };
    let fit = |n: &usize| members[*n].unfit(role.max_lag).is_none();
    if let Some(first) = candidates.iter().copied().find(fit) {
        return Ok(Belongs::On(first));
    }
    if role.or_primary
        && let Ok(primary) = primary(members)
    {
        return Ok(Belongs::On(primary));
    }
    let why = |n: &usize| {
        let member = &members[*n];
        let why = member.unfit(role.max_lag).unwrap_or_default();
        format!("{}: {why}", member.name())
    };
    let why: Vec<String> = candidates.iter().map(why).collect();
    let why = format!("no replica is fit: {}", why.join(", "));
    Ok(match holder {
        Some(_) => Belongs::Stay(why),
        None => Belongs::Nowhere(why),
    })
}

/// The holder first, then by `server_id`, which all hosts see alike.
fn by_server_id(members: &[Member], holder: Option<usize>) -> Vec<usize> {
    let mut places: Vec<usize> = (0..members.len()).collect();
    let id = |n: usize| members[n].seen.as_ref().map_or(u32::MAX, |seen| seen.id);
    places.sort_by_key(|n| (Some(*n) != holder, id(*n)));
    places
}

fn named(role: &RoleVips, names: &[String], members: &[Member]) -> Result<Vec<usize>> {
    let place = |name: &String| {
        let place = members.iter().position(|member| member.is_called(name));
        place.ok_or_else(|| {
            let what = format!(
                "role {}: {name} is neither in [[peer]] nor this host",
                role.name
            );
            Error::new(Kind::Config, what).advise(format!(
                "give [[peer]] a name = \"{name}\", or write its address in `on`"
            ))
        })
    };
    names.iter().map(place).collect()
}

#[cfg(test)]
mod tests;
