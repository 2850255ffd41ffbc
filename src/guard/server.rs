//! What the guard asks servers, this host's and the peers', and what two answers say.

use super::Speaks;
use crate::db::server::Server;
use crate::db::{Database, History, Receiver, State, Writes};
use crate::error::Result;

/// What a server said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its `server_id`.
    pub id: u32,
    /// Whether it takes writes from applications.
    pub writable: bool,
    /// The `server_id`s of the servers it is connected to and receives from. What a channel is set
    /// to proves nothing: MHA leaves a new primary's as it was until the end of a failover.
    pub receives_from: Vec<u32>,
    /// Whose transactions it has.
    pub transactions: Transactions,
}

/// Whose transactions a server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transactions {
    /// MariaDB.
    History(History),
    /// MySQL's `gtid_executed`.
    Set(String),
    /// It numbers none.
    Unknown,
}

/// Asks `server`, whose state is known, for the rest.
///
/// # Errors
/// When it does not answer, or may not be asked.
pub fn see(server: &Server, state: &State) -> Result<Seen> {
    let channels = server.channels()?;
    let connected = channels
        .iter()
        .filter(|channel| channel.receiver == Receiver::Connected);
    Ok(Seen {
        id: state.server_id,
        writable: state.writes == Writes::Open,
        receives_from: connected.map(|channel| channel.source_id).collect(),
        transactions: match server.history()? {
            Some(history) => Transactions::History(history),
            None => gtid_set(server)?,
        },
    })
}

fn gtid_set(server: &Server) -> Result<Transactions> {
    match server.ask("SELECT @@GLOBAL.gtid_executed") {
        Ok(answer) => {
            let set = answer.first().and_then(|row| row.at(0)).unwrap_or_default();
            Ok(match set.is_empty() {
                true => Transactions::Unknown,
                false => Transactions::Set(set.replace('\n', "")),
            })
        }
        // MySQL before 5.6 has no such variable.
        Err(error) if error.server_code().is_some() => Ok(Transactions::Unknown),
        Err(error) => Err(error),
    }
}

/// Whether two servers are in step, since one of them receives from the other. Whether both may
/// take writes then, as in a circle, is for those to say who set them up.
///
/// `own` is None when this server does not answer: then a peer that receives from a server not
/// among `peers` may receive from it.
pub fn are_in_step(own: Option<&Seen>, peer: &Seen, peers: &[&Seen]) -> bool {
    match own {
        Some(own) => own.receives_from.contains(&peer.id) || peer.receives_from.contains(&own.id),
        None => {
            let is_known = |id: &u32| peers.iter().any(|peer| peer.id == *id);
            !peer.receives_from.iter().all(is_known)
        }
    }
}

/// For whom the `others` speak: all of them replicate from one of the two, and none from the other.
/// `own` is this server's `server_id`, if it answers.
pub fn followed_by(own: Option<u32>, rival: u32, others: &[&Seen]) -> Speaks {
    let follow = |id: u32| {
        let followers = others
            .iter()
            .filter(|other| other.receives_from.contains(&id));
        followers.count()
    };
    match (own.map_or(0, follow), follow(rival)) {
        (0, n) if n > 0 && n == others.len() => Speaks::ForRival,
        (n, 0) if n > 0 && n == others.len() => Speaks::ForOwn,
        _ => Speaks::ForNeither,
    }
}

/// For whom the transactions speak: for the one that has all of the other's and more, and on
/// MariaDB for the one that wrote on from the other's, see [`History::taken_over`]. `server` is
/// asked to compare the sets of MySQL.
///
/// # Errors
/// When it does not answer.
pub fn newer_data(server: &Server, own: &Seen, rival: &Seen) -> Result<Speaks> {
    let (taken_over, taken_back) = match (&own.transactions, &rival.transactions) {
        (Transactions::History(ours), Transactions::History(theirs)) => {
            let has_more = |one: &History, other: &History| one.covers(other) && !other.covers(one);
            let is_newer = |one: (&History, u32), other: (&History, u32)| {
                History::taken_over(other, one).is_some() || has_more(one.0, other.0)
            };
            let (ours, theirs) = ((ours, own.id), (theirs, rival.id));
            (is_newer(theirs, ours), is_newer(ours, theirs))
        }
        (Transactions::Set(ours), Transactions::Set(theirs)) => {
            let (theirs_has, ours_has) = contained(server, ours, theirs)?;
            (theirs_has && !ours_has, ours_has && !theirs_has)
        }
        _ => (false, false),
    };
    Ok(match (taken_over, taken_back) {
        (true, false) => Speaks::ForRival,
        (false, true) => Speaks::ForOwn,
        _ => Speaks::ForNeither,
    })
}

/// Whether all of `ours` is in `theirs`, and all of `theirs` in `ours`.
fn contained(server: &Server, ours: &str, theirs: &str) -> Result<(bool, bool)> {
    use crate::db::dialect::quote;
    let (a, b) = (quote(ours), quote(theirs));
    let answer = server.ask(&format!(
        "SELECT GTID_SUBSET({a}, {b}), GTID_SUBSET({b}, {a})"
    ))?;
    let row = answer.first();
    let yes = |place| row.and_then(|row| row.at(place)) == Some("1");
    Ok((yes(0), yes(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(id: u32, receives_from: &[u32]) -> Seen {
        Seen {
            id,
            writable: true,
            receives_from: receives_from.to_vec(),
            transactions: Transactions::Unknown,
        }
    }

    #[test]
    fn the_others_speak_only_with_one_voice() {
        let (of_1, of_2) = (server(3, &[1]), server(4, &[2]));
        let of_none = server(5, &[]);
        let voice = |others: &[&Seen]| followed_by(Some(1), 2, others);
        assert_eq!(voice(&[&of_2]), Speaks::ForRival);
        assert_eq!(voice(&[&of_2, &of_2]), Speaks::ForRival);
        assert_eq!(voice(&[&of_1]), Speaks::ForOwn);
        assert_eq!(voice(&[&of_1, &of_2]), Speaks::ForNeither);
        assert_eq!(voice(&[&of_2, &of_none]), Speaks::ForNeither);
        assert_eq!(voice(&[&of_none]), Speaks::ForNeither);
        assert_eq!(voice(&[]), Speaks::ForNeither);
        assert_eq!(followed_by(None, 2, &[&of_2]), Speaks::ForRival);
    }

    #[test]
    fn who_receives_from_the_other_is_in_step_with_it() {
        let (one, two, three) = (server(1, &[]), server(2, &[1]), server(3, &[2]));
        assert!(are_in_step(Some(&one), &two, &[&two, &three]));
        assert!(are_in_step(Some(&two), &one, &[&one, &three]));
        assert!(!are_in_step(Some(&one), &three, &[&two, &three]));
        // This server does not answer: it may be the one that the peer receives from.
        assert!(are_in_step(None, &two, &[&two, &three]));
        assert!(!are_in_step(None, &three, &[&two, &three]));
        assert!(!are_in_step(None, &server(2, &[]), &[]));
    }
}
