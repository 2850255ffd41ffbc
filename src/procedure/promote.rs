//! A replica becomes the primary, losing nothing it has received.

use std::path::Path;
use std::time::Duration;

use super::demote::{Demotion, close};
use super::drain::apply_received;
use super::fitness::{applies, follows, not_taken_over};
use super::lossless::{Evidence, settle};
use super::peers::{
    Peer, close_peer, is_source, nobody_came_back, nobody_opened, receive_rest, with_sources,
};
use super::semisync;
use super::{or_note, replicate_again};
use crate::config::{OnLag, OnWritablePeer, Require, SemiSyncAt};
use crate::db::{Channel, Database, Seen, Writes};
use crate::error::{Kind, Result};
use crate::run::{Changed, Run};
use crate::successor::Successor;

/// How long another server that opened at the same moment has to close again: it looks around at
/// once.
const GIVING_WAY: Duration = Duration::from_millis(300);

/// How a replica is to be promoted.
#[derive(Clone, Copy, Debug)]
pub struct Promotion<'a> {
    /// How long applying what was received may take.
    pub limit: Duration,
    /// What then.
    pub on_lag: OnLag,
    /// What to do when a peer takes writes.
    pub on_writable_peer: OnWritablePeer,
    /// How long nothing may arrive from a source that answers and has more.
    pub receive_limit: Duration,
    /// What must be known of the old primary's writes.
    pub require: Require,
    /// What becomes of semi-sync.
    pub semi_sync: SemiSyncAt,
    /// Whether the new primary forgets its source.
    pub forget_source: bool,
    /// The run before was cut short: a primary may have been about to replicate again.
    pub resume: bool,
    /// How a peer that takes writes is closed.
    pub fence: Demotion<'a>,
}

/// Makes `db` writable once it has applied everything it received, and no peer takes writes.
///
/// `successor` took over from this server before, if that is written down in that directory.
///
/// # Errors
/// When it cannot be done without losing something, unless `how` says to do it anyway; then the
/// timeline says what was lost.
pub fn promote<'a>(
    run: &mut Run<'a>,
    db: &'a dyn Database,
    evidence: &Evidence<'_>,
    successor: Option<(&Successor, &Path)>,
    how: Promotion<'a>,
) -> Result<()> {
    let name = db.name();
    let peers = evidence.peers;
    let see = || {
        db.see().map(|seen| Seen {
            channels: with_sources(seen.channels, peers),
            ..seen
        })
    };
    let mut seen = see()?;
    let own_id = seen.state.server_id;
    if seen.state.writes == Writes::Open && (seen.channels.is_empty() || !how.forget_source) {
        if let Some((successor, _)) = successor {
            let follows = follows(run, &name, &seen, peers, successor, how.on_lag);
            if follows.as_ref().is_err_and(|e| e.kind() == Kind::Refused) {
                run.note(format!("{name} takes writes although it was replaced"));
                close(run, db, how.fence)?;
            }
            follows?;
        }
        run.note(format!("{name} is the primary already"));
        if how.resume {
            let well = |c: &&Channel| c.applier_error.is_none();
            for channel in seen.channels.iter().filter(well) {
                replicate_again(run, db, channel)?;
            }
        }
        for peer in peers.iter().filter(|p| is_open(p, own_id)) {
            not_taken_over(run, &seen, peer, how.on_lag)?;
            close_peer(run, peer, how)?;
        }
        return forget_successor(run, successor).map(drop);
    }
    run.check(&format!("{name} applies without error"), || {
        let mut channels = seen.channels.iter();
        channels.try_for_each(|c| applies(c, how.on_lag))
    })?;
    if let Some((successor, _)) = successor {
        follows(run, &name, &seen, peers, successor, how.on_lag)?;
    }
    evidence.can_prove(run, &seen.channels, how.require)?;
    for peer in peers {
        not_taken_over(run, &seen, peer, how.on_lag)?;
    }
    // Nobody is closed before all who may be a reason to refuse were heard.
    let is_open = |peer: &&Peer<'_>| is_open(peer, own_id);
    let (open, others): (Vec<_>, Vec<_>) = peers.iter().partition(is_open);
    let mut took_time = false;
    for peer in others.into_iter().chain(open) {
        took_time |= close_peer(run, peer, how)? == Changed::Yes;
        took_time |= receive_rest(run, db, peer, &seen.channels, how)? == Changed::Yes;
    }
    if took_time {
        seen = see()?;
    }
    let switches = how.semi_sync == SemiSyncAt::Switch;
    let is_late = switches && semisync::before_opening(run, db, &seen.semi_sync)?;
    let channels = seen.channels.clone();
    let mut given_up = Vec::new();
    for channel in &channels {
        let answers = peers.iter().any(|peer| is_source(peer, channel));
        if !apply_received(run, db, &mut seen, &channel.name, answers, how)? {
            given_up.push(channel.name.as_str());
        }
    }
    if !run.is_dry() {
        settle(run, &evidence.verdict(&seen, &given_up), how.require)?;
    }
    nobody_opened(run, peers, own_id, Duration::ZERO)?;
    nobody_came_back(run, peers, own_id)?;
    let closed = how.fence;
    run.change(
        &format!("make {name} writable"),
        || db.open_writes(),
        &format!("close writes on {name} again"),
        move || db.close_writes(closed.grace, closed.spare),
    )?;
    nobody_opened(run, peers, own_id, GIVING_WAY)?;
    run.no_way_back();
    // First, or a run that is overtaken in between leaves a server that follows nobody.
    let is_forgotten = forget_successor(run, successor)?;
    for channel in &channels {
        let source = &channel.source;
        if given_up.contains(&channel.name.as_str()) || how.forget_source && !is_forgotten {
            // Forgetting deletes the relay log, and a person may want what is in it.
            run.note(format!("the source {source} is not forgotten"));
        } else if how.forget_source {
            let step = format!("forget the source {source}");
            run.act(&step, || db.forget_source(&channel.name))?;
        } else {
            replicate_again(run, db, channel)?;
        }
    }
    match switches {
        true => semisync::after_opening(run, db, is_late, how.forget_source),
        false => Ok(()),
    }
}

/// Whoever took over before, nobody's data is newer now; whether that is known no more. A disk that
/// does not take it is told.
fn forget_successor(run: &mut Run<'_>, successor: Option<(&Successor, &Path)>) -> Result<bool> {
    let Some((_, state)) = successor else {
        return Ok(true);
    };
    let forgotten = run.act("forget who took over before", || {
        Successor::forget(state).map(|()| Changed::Yes)
    });
    or_note(run, "it will be refused later", forgotten).map(|done| done.is_some())
}

/// Whether `peer` took writes when it was asked, and is not the server called `own_id` itself.
fn is_open(peer: &Peer<'_>, own_id: u32) -> bool {
    let state = peer.seen.as_ref().map(|seen| &seen.state);
    state.is_ok_and(|state| state.writes == Writes::Open && state.server_id != own_id)
}

#[cfg(test)]
mod tests;
