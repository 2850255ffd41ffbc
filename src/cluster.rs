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
mod tests {
    use super::*;
    use crate::db::Position;

    fn channel(lag: Option<u64>) -> Channel {
        Channel {
            name: String::new(),
            source: "db1:3306".to_owned(),
            source_id: 1,
            receiver: Receiver::Connected,
            applying: true,
            received: Position::default(),
            applied: Position::default(),
            relay: Position::default(),
            fragile: false,
            retrieved_gtids: String::new(),
            lag,
            applier_error: None,
            receiver_error: None,
        }
    }

    fn member(id: u32, writes: Writes, channels: Vec<Channel>) -> Member {
        Member {
            names: vec![format!("db{id}")],
            here: false,
            seen: Ok(Seen {
                id,
                uuid: None,
                version: "8.0.36".to_owned(),
                writes,
                channels,
                mha_at_work: false,
            }),
        }
    }

    fn replica(id: u32, lag: Option<u64>) -> Member {
        member(id, Writes::Closed, vec![channel(lag)])
    }

    fn silent(id: u32) -> Member {
        Member {
            seen: Err(Error::new(Kind::Unreachable, "connect")),
            ..replica(id, None)
        }
    }

    fn cluster() -> Vec<Member> {
        let primary = member(1, Writes::Open, vec![]);
        // As the host of db3 sees them: its own server first.
        vec![replica(3, Some(0)), primary, replica(2, Some(0))]
    }

    fn role(on: &On) -> RoleVips<'_> {
        RoleVips {
            name: "reader",
            vips: vec!["10.0.0.101/24 dev eth0".parse().unwrap()],
            on,
            or_primary: false,
            max_lag: Duration::from_secs(30),
        }
    }

    fn hosts(names: &[&str]) -> On {
        On::Hosts(names.iter().map(|name| name.to_string()).collect())
    }

    #[test]
    fn the_primary_is_the_only_server_that_takes_writes() {
        let mut members = cluster();
        assert_eq!(
            belongs(&role(&On::Primary), &members, None).unwrap(),
            Belongs::On(1)
        );
        members[1] = silent(1);
        let nowhere = belongs(&role(&On::Primary), &members, Some(1)).unwrap();
        assert_eq!(
            nowhere,
            Belongs::Nowhere("no server is known to take writes".to_owned())
        );
        members[1] = member(1, Writes::Open, vec![]);
        members[2] = member(2, Writes::Open, vec![]);
        let nowhere = belongs(&role(&On::Primary), &members, Some(1)).unwrap();
        assert_eq!(
            nowhere,
            Belongs::Nowhere("db1 and db2 both take writes".to_owned())
        );
    }

    #[test]
    fn a_fit_replica_keeps_what_it_has_and_else_the_lowest_server_id_gets_it() {
        let role = role(&On::Replica);
        let mut members = cluster();
        let on = |members: &[Member], holder| belongs(&role, members, holder).unwrap();
        assert_eq!(on(&members, None), Belongs::On(2));
        assert_eq!(on(&members, Some(0)), Belongs::On(0));
        assert_eq!(
            on(&members, Some(1)),
            Belongs::On(2),
            "the primary hands it over"
        );
        // The holder lags, dies, or stops applying.
        for unfit in [replica(3, Some(31)), replica(3, None), silent(3)] {
            members[0] = unfit;
            assert_eq!(on(&members, Some(0)), Belongs::On(2));
        }
        members[0] = replica(3, Some(30));
        assert_eq!(on(&members, Some(0)), Belongs::On(0));
        members[2] = member(2, Writes::Closed, vec![]);
        assert_eq!(
            on(&members, None),
            Belongs::On(0),
            "a server that replicates nothing"
        );
    }

    #[test]
    fn with_no_fit_replica_it_stays_or_goes_to_the_primary_if_that_may_have_it() {
        let on = On::Replica;
        let mut role = role(&on);
        let members = vec![
            silent(3),
            member(1, Writes::Open, vec![]),
            replica(2, Some(99)),
        ];
        let why = "no replica is fit: db1: a primary, db2: 99 s behind, db3: does not answer";
        let nowhere = belongs(&role, &members, None).unwrap();
        assert_eq!(nowhere, Belongs::Nowhere(why.to_owned()));
        let stays = belongs(&role, &members, Some(2)).unwrap();
        assert!(
            matches!(stays, Belongs::Stay(_)),
            "stale reads are better than none"
        );
        role.or_primary = true;
        assert_eq!(belongs(&role, &members, Some(2)).unwrap(), Belongs::On(1));
    }

    #[test]
    fn a_list_is_an_order_whoever_has_it_now() {
        let on = hosts(&["db3", "db2"]);
        let role = role(&on);
        let mut members = cluster();
        assert_eq!(belongs(&role, &members, Some(2)).unwrap(), Belongs::On(0));
        members[0] = silent(3);
        assert_eq!(belongs(&role, &members, Some(0)).unwrap(), Belongs::On(2));
        let error = belongs(&self::role(&hosts(&["db9"])), &members, None).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert_eq!(
            error.chain(),
            "role reader: db9 is neither in [[peer]] nor this host"
        );
    }

    #[test]
    fn all_hosts_come_to_the_same_whatever_order_they_ask_in() {
        let on = On::Replica;
        let mut others = cluster();
        others.rotate_left(1);
        let chosen = |members: &[Member]| match belongs(&role(&on), members, None).unwrap() {
            Belongs::On(n) => members[n].name().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(chosen(&cluster()), chosen(&others));
    }

    #[test]
    fn a_replica_whose_source_is_gone_serves_on_where_lag_does_not_matter() {
        let on = On::Replica;
        let mut role = role(&on);
        role.max_lag = Duration::ZERO;
        let mut connecting = channel(None);
        connecting.receiver = Receiver::Connecting;
        let members = vec![member(2, Writes::Closed, vec![connecting])];
        assert_eq!(belongs(&role, &members, None).unwrap(), Belongs::On(0));
        role.max_lag = Duration::from_secs(30);
        assert!(matches!(
            belongs(&role, &members, None).unwrap(),
            Belongs::Nowhere(_)
        ));
    }
}
