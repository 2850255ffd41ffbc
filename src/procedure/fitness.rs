//! May this server become the primary, by what it and its peers have?

use super::peers::Peer;
use crate::config::OnLag;
use crate::db::{Channel, History, PeerState, Seen, Writes};
use crate::error::{Error, Kind, Result};
use crate::run::Run;
use crate::successor::Successor;

/// A stopped applier with an error will not apply the rest by being waited for; and a channel of
/// group replication obeys nobody but the group.
pub fn applies(channel: &Channel, on_lag: OnLag) -> Result<()> {
    if channel.name.starts_with("group_replication_") {
        let what = "this server is a member of a replication group, which has its own primary";
        return Err(Error::new(Kind::Refused, what)
            .advise("SELECT group_replication_set_as_primary(@@server_uuid)"));
    }
    match &channel.applier_error {
        Some(_) if !channel.applying && on_lag == OnLag::Abort => Err(stopped(channel)),
        _ => Ok(()),
    }
}

/// Why nothing more will be applied.
pub fn stopped(channel: &Channel) -> Error {
    let Channel { name, relay, .. } = channel;
    let (file, offset) = (&relay.file, relay.offset);
    let give_up = "[promote] on_lag = \"force\" gives up what is not applied";
    match &channel.applier_error {
        Some(error) => Error::new(Kind::Refused, format!("the applier stopped: {error}")).advise(
            format!("mend it and START SLAVE SQL_THREAD, or promote another server; {give_up}"),
        ),
        None => {
            let what = "the applier is stopped, and a start would delete the relay log";
            Error::new(Kind::Refused, what).advise(format!(
                "CHANGE MASTER '{name}' TO MASTER_USE_GTID = no, RELAY_LOG_FILE = '{file}', \
                 RELAY_LOG_POS = {offset}; START SLAVE '{name}' SQL_THREAD; {give_up}"
            ))
        }
    }
}

/// A server that was replaced and does not replicate from its successor holds old data, unless that
/// answers, takes no writes and has nothing more.
pub fn follows(
    run: &mut Run<'_>,
    name: &str,
    own: &Seen,
    peers: &[Peer<'_>],
    successor: &Successor,
    on_lag: OnLag,
) -> Result<()> {
    let Successor {
        name: other, seen, ..
    } = successor;
    let has_nothing_more = |peer: &Peer<'_>| {
        matches!((peer.seen, &own.history), (Ok(there), Some(history))
            if there.state.server_id == successor.server_id
                && there.state.writes != Writes::Open
                && there.history.as_ref().is_some_and(|theirs| history.covers(theirs)))
    };
    let follows = successor.is_source_of(&own.channels) || peers.iter().any(has_nothing_more);
    if !follows && on_lag == OnLag::Force {
        run.note(format!(
            "GIVING UP what {other} wrote: it was the primary at {seen}"
        ));
        return Ok(());
    }
    run.check(
        &format!("{name} has what {other} wrote"),
        || match follows {
            true => Ok(()),
            false => {
                let what =
                    format!("{other} was the primary at {seen}, and this is no replica of it");
                Err(Error::new(Kind::Refused, what).advise(format!(
                    "bring {other} back and make this server its replica; \
                 [promote] on_lag = \"force\" gives up what only {other} has"
                )))
            }
        },
    )
}

/// A peer that answers and that this server does not replicate from must not hold newer data.
pub fn not_taken_over(run: &mut Run<'_>, own: &Seen, peer: &Peer<'_>, on_lag: OnLag) -> Result<()> {
    let (
        Some(history),
        Ok(PeerState {
            state,
            sources,
            history: Some(theirs),
        }),
    ) = (&own.history, peer.seen)
    else {
        return Ok(());
    };
    let own_id = own.state.server_id;
    let follows = own.channels.iter().any(|c| c.source_id == state.server_id);
    // A replica of this server with a stray write, where that looks like a successor's.
    let is_replica = state.writes != Writes::Open && sources.contains(&own_id);
    let excused = follows || is_replica && !theirs.tells_order();
    let newer = History::taken_over((history, own_id), (theirs, state.server_id));
    let newer = newer.or_else(|| match state.writes {
        // It takes writes now: where nothing tells which of two is the later, that does.
        Writes::Open => History::diverged(history, theirs),
        Writes::Closed | Writes::ClosedToAll => None,
    });
    let newer = newer.filter(|_| !excused);
    let other = peer.db.name();
    match newer {
        Some(newest) if on_lag == OnLag::Force => {
            run.note(format!("GIVING UP what {other} wrote, up to {newest}"));
            Ok(())
        }
        None if !excused && History::diverged(history, theirs).is_some() => {
            run.note(format!(
                "each has what the other lacks, {other} and this server: nobody can say whose \
                 data is newer"
            ));
            Ok(())
        }
        newer => run.check(&format!("{other} has no newer data"), || match newer {
            None => Ok(()),
            Some(newest) => {
                let what = format!("it took over from this server and wrote up to {newest}");
                Err(Error::new(Kind::Refused, what).advise(format!(
                    "let {other} be the primary, or make this server its replica first; \
                     [promote] on_lag = \"force\" gives up what only {other} has"
                )))
            }
        }),
    }
}
