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
    /// Whose transactions it has; `None` where the server does not tell (MySQL without GTID).
    pub history: Option<History>,
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
        history: server.history()?,
    })
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

/// For whom the transactions speak: for the one that wrote on from the other's.
///
/// To have more is not enough: an old primary has more than a new one that has written nothing yet.
pub fn newer_data(own: &Seen, rival: &Seen) -> Speaks {
    let (Some(ours), Some(theirs)) = (&own.history, &rival.history) else {
        return Speaks::ForNeither;
    };
    let (ours, theirs) = ((ours, own.id), (theirs, rival.id));
    let replaced = History::taken_over(ours, theirs).is_some();
    let replaces = History::taken_over(theirs, ours).is_some();
    match (replaced, replaces) {
        (true, false) => Speaks::ForRival,
        (false, true) => Speaks::ForOwn,
        _ => Speaks::ForNeither,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(id: u32, receives_from: &[u32]) -> Seen {
        Seen {
            id,
            writable: true,
            receives_from: receives_from.to_vec(),
            history: None,
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

    #[test]
    fn newer_is_who_wrote_on_and_not_who_has_more() {
        let with = |id, gtids| Seen {
            history: Some(History::read([gtids, ""])),
            ..server(id, &[])
        };
        let old = with(1, "0-1-1005");
        let wrote_nothing = with(2, "0-1-1000");
        assert_eq!(newer_data(&old, &wrote_nothing), Speaks::ForNeither);
        assert_eq!(newer_data(&wrote_nothing, &old), Speaks::ForNeither);
        let wrote_on = with(2, "0-1-1000,0-2-1001");
        assert_eq!(newer_data(&old, &wrote_on), Speaks::ForRival);
        assert_eq!(newer_data(&wrote_on, &old), Speaks::ForOwn);
        assert_eq!(newer_data(&server(1, &[]), &wrote_on), Speaks::ForNeither);
    }

    #[test]
    fn sets_speak_for_the_successor_that_has_everything_and_otherwise_for_nobody() {
        let with = |id, uuid, executed| Seen {
            history: History::of_sets(uuid, executed),
            ..server(id, &[])
        };
        let (old, wrote_on) = (with(1, "a", "a:1-1000"), with(2, "b", "a:1-1000,b:1"));
        assert_eq!(newer_data(&old, &wrote_on), Speaks::ForRival);
        assert_eq!(newer_data(&wrote_on, &old), Speaks::ForOwn);
        let ahead = with(1, "a", "a:1-1005");
        assert_eq!(newer_data(&ahead, &wrote_on), Speaks::ForNeither);
        assert_eq!(newer_data(&wrote_on, &ahead), Speaks::ForNeither);
    }
}
