//! The other servers, while this one is promoted: they must take no writes, and what a source that
//! still answers has is received.

use std::time::Duration;

use super::demote::demote;
use super::drain::go_on_if;
use super::promote::Promotion;
use crate::config::{OnLag, OnWritablePeer};
use crate::db::{Channel, Database, PeerState, Position, Receiver, Thread, Writes};
use crate::error::{Error, Kind, Result};
use crate::run::{Changed, Run};
use crate::time::Stopwatch;

/// How long a server that is back and takes writes has to be closed by its own host, where a fence
/// waits at its door.
const CLOSING: Duration = Duration::from_millis(300);

/// Another server that may be primary, and what it said of itself.
pub struct Peer<'a> {
    /// For fencing it.
    pub db: &'a dyn Database,
    /// Its answer, or why there is none.
    pub seen: &'a Result<PeerState>,
}

/// Sees to it that `peer` takes no writes, as far as it can be reached; whether it did.
pub fn close_peer(run: &mut Run<'_>, peer: &Peer<'_>, how: Promotion<'_>) -> Result<Changed> {
    let name = peer.db.name();
    let step = format!("{name} takes no writes");
    let closed = match peer.seen {
        Ok(seen) if seen.state.writes != Writes::Open => run.check(&step, || Ok(())),
        Ok(_) if how.on_writable_peer == OnWritablePeer::Fence => {
            run.note(format!("{name} takes writes"));
            match demote(run, peer.db, how.fence) {
                // Closed it is; a session that takes its time to end can write nothing there.
                Err(error) if error.kind() == Kind::Timeout && is_closed(peer.db) => {
                    run.note(format!("going on: {}", error.chain()));
                    Ok(())
                }
                // It died in the middle of this. One that only hangs is alive: it was heard before.
                Err(error) if error.kind() == Kind::Unreachable && is_gone(peer.db) => {
                    run.note(format!("going on without {name}: {}", error.chain()));
                    Ok(())
                }
                demoted => demoted,
            }
        }
        Ok(_) => run.check(&step, || {
            Err(Error::new(Kind::Refused, "it does")
                .advise("close it by hand, or set [promote] on_writable_peer = \"fence\""))
        }),
        // It is alive, and nobody can tell whether it takes writes.
        Err(error) if !error.is_silence() => run.check(&step, || {
            Err(Error::new(Kind::Refused, error.chain())
                .advise("let the account of [[peer]] log in there, or close that server"))
        }),
        Err(error) => {
            run.note(format!("going on without {name}: {}", error.chain()));
            Ok(())
        }
    };
    let was_open = matches!(peer.seen, Ok(seen) if seen.state.writes == Writes::Open);
    closed.map(|()| match was_open {
        true => Changed::Yes,
        false => Changed::AlreadySo,
    })
}

fn is_closed(peer: &dyn Database) -> bool {
    peer.state().is_ok_and(|state| state.is_closed())
}

fn is_gone(peer: &dyn Database) -> bool {
    let state = peer.state();
    state.is_err_and(|error| error.kind() == Kind::Unreachable)
}

/// No peer that answered has been promoted since. Of two that open at the same moment, and so have
/// seen each other closed until then, the one with the higher `server_id` gives way, within
/// `patience`; without any, whoever is not open yet does.
pub fn nobody_opened(
    run: &mut Run<'_>,
    peers: &[Peer<'_>],
    own_id: u32,
    patience: Duration,
) -> Result<()> {
    let is_another = |p: &&Peer<'_>| matches!(p.seen, Ok(s) if s.state.server_id != own_id);
    let others: Vec<&Peer<'_>> = peers.iter().filter(is_another).collect();
    if run.is_dry() || others.is_empty() {
        return Ok(());
    }
    run.wait("no other server takes writes by now", patience, || {
        for peer in &others {
            let state = match peer.db.state() {
                Err(error) if error.kind() == Kind::Overtaken => return Err(error),
                Ok(state) if state.writes == Writes::Open => state,
                _ => continue,
            };
            let what = format!("{} does", peer.db.name());
            if patience.is_zero() || own_id > state.server_id {
                return Err(Error::new(Kind::Refused, what)
                    .advise("find out which of them is to be the primary, and close the other"));
            }
            return Ok(Some(what));
        }
        Ok(None)
    })
}

/// No peer that was down when it was asked is back by now and takes writes, as one does that was
/// started again without read_only: it may have what this server lacks, and cannot be received from
/// any more. One that said nothing at all is not asked again, since that would take its time.
pub fn nobody_came_back(run: &mut Run<'_>, peers: &[Peer<'_>], own_id: u32) -> Result<()> {
    let was_down = |p: &&Peer<'_>| matches!(p.seen, Err(e) if e.kind() == Kind::Unreachable);
    let down: Vec<&Peer<'_>> = peers.iter().filter(was_down).collect();
    if down.is_empty() {
        return Ok(());
    }
    let back = run.wait(
        "no server that was down takes writes by now",
        CLOSING,
        || {
            for peer in &down {
                match peer.db.state() {
                    Err(error) if error.kind() == Kind::Overtaken => return Err(error),
                    Ok(state) if state.writes == Writes::Open && state.server_id != own_id => {
                        return Ok(Some(format!("{} does", peer.db.name())));
                    }
                    _ => {}
                }
            }
            Ok(None)
        },
    );
    back.map_err(|error| error.advise("let that server be the primary, or close it"))
}

/// `channels`, where those know their sources' `server_id`s that have not reached them since a
/// restart: by the address of a peer that answers.
pub fn with_sources(mut channels: Vec<Channel>, peers: &[Peer<'_>]) -> Vec<Channel> {
    for channel in channels.iter_mut().filter(|c| c.source_id == 0) {
        let is_it = |peer: &&Peer<'_>| peer.db.name() == channel.source;
        if let Some(Ok(seen)) = peers.iter().find(is_it).map(|peer| peer.seen) {
            channel.source_id = seen.state.server_id;
        }
    }
    channels
}

/// What a source that still answers has written is received before it is left, as long as more of
/// it arrives; whether that was waited for. `channels` are as they were just seen.
pub fn receive_rest(
    run: &mut Run<'_>,
    db: &dyn Database,
    peer: &Peer<'_>,
    channels: &[Channel],
    how: Promotion<'_>,
) -> Result<Changed> {
    let Some(channel) = channels.iter().find(|c| is_source(peer, c)) else {
        return Ok(Changed::AlreadySo);
    };
    let source = peer.db.name();
    let is_connected = channel.receiver == Receiver::Connected;
    if !is_connected {
        // It may be asleep until its next try, a minute by default.
        let again = run.act(&format!("connect to {source} again"), || {
            db.set_thread(Thread::Receiver, &channel.name, false)?;
            db.set_thread(Thread::Receiver, &channel.name, true)
        });
        go_on_if(run, again, || Ok(true))?;
    }
    let received = wait_for_rest(run, db, peer, channel, is_connected, how);
    match received {
        Err(error) if error.kind() == Kind::Overtaken => return Err(error),
        // It died in the middle of this; then there is no more to be had from it.
        Err(error) if peer.db.state().is_err_and(|e| e.is_silence()) => {
            run.note(format!("going on without {source}: {}", error.chain()));
        }
        Err(error) if how.on_lag == OnLag::Force => {
            run.note(format!(
                "GIVING UP what only {source} has: {}",
                error.chain()
            ));
        }
        received => {
            return received.map_err(|error| {
                error.advise(format!(
                    "let {source} be the primary, or see why this server does not receive from \
                     it; [promote] on_lag = \"force\" gives up what only {source} has"
                ))
            });
        }
    }
    Ok(Changed::Yes)
}

fn wait_for_rest(
    run: &mut Run<'_>,
    db: &dyn Database,
    peer: &Peer<'_>,
    channel: &Channel,
    is_as_seen: bool,
    how: Promotion<'_>,
) -> Result<Changed> {
    let mut end: Option<Position> = None;
    let mut waited = Changed::AlreadySo;
    let mut place = (Position::default(), Stopwatch::start());
    let step = format!("receive the rest from {}", peer.db.name());
    run.wait(&step, how.limit, || {
        if end.is_none() {
            end = peer.db.written()?;
        }
        let Some(end) = &end else {
            return Ok(None); // it writes no binary log, so there is nothing to receive
        };
        // What has been received stays so while the receiver runs.
        if is_as_seen && channel.received.reaches(end) {
            return Ok(None);
        }
        waited = Changed::Yes;
        let now = db.channels()?.into_iter().find(|c| c.name == channel.name);
        let Some(now) = now.filter(|now| !now.received.reaches(end)) else {
            return Ok(None);
        };
        let missing = format!("at {} of {end}", now.received);
        if place.0 != now.received {
            place = (now.received, Stopwatch::start());
        } else if place.1.elapsed() > how.receive_limit {
            if has_all(db, peer.db)? {
                return Ok(None);
            }
            let why = now
                .receiver_error
                .map_or(String::new(), |e| format!(": {e}"));
            let what = format!("nothing more arrives, {missing}{why}");
            return Err(Error::new(Kind::Refused, what));
        }
        Ok(Some(missing))
    })?;
    Ok(waited)
}

/// A receiver that was set up anew has no position until its source sends something.
fn has_all(db: &dyn Database, peer: &dyn Database) -> Result<bool> {
    let (own, theirs) = (db.history()?, peer.history()?);
    Ok(own
        .zip(theirs)
        .is_some_and(|(own, theirs)| own.covers(&theirs)))
}

/// Whether `peer` is what `channel`, of [`with_sources`], replicates from.
pub fn is_source(peer: &Peer<'_>, channel: &Channel) -> bool {
    matches!(peer.seen, Ok(seen) if seen.state.server_id == channel.source_id)
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, World};
    use super::*;

    #[test]
    fn a_source_is_known_by_its_id_and_before_it_has_told_that_by_its_address() {
        let db = Fake::new(World::primary());
        let seen = db.state().map(|state| PeerState {
            state,
            sources: vec![],
            history: None,
        });
        let peer = Peer {
            db: &db,
            seen: &seen,
        };
        let from = |source: &str, source_id| {
            let channel = World::replica(0).channel.unwrap();
            let channel = Channel {
                source: source.to_owned(),
                source_id,
                ..channel
            };
            let peers = [Peer {
                db: &db,
                seen: &seen,
            }];
            is_source(&peer, &with_sources(vec![channel], &peers)[0])
        };
        let (address, id) = (db.name(), World::primary().id);
        assert!(from("db1:3306", id) && !from(&address, id + 1));
        assert!(from(&address, 0) && !from("db1:3306", 0));
    }
}
