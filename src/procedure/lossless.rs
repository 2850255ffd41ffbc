//! Is everything that the old primary acknowledged here?

use std::fmt;
use std::time::Duration;

use super::peers::{Peer, is_source, with_sources};
use crate::config::Require;
use crate::db::{Channel, Database, History, Seen};
use crate::error::{Error, Kind, Result, uninterrupted};
use crate::last_seen::{LastSeen, Look};
use crate::memory::since_boot;
use crate::run::Run;

/// What a note of the timeline that tells a [`Verdict`] begins with.
pub const NOTE: &str = "lossless = ";

/// Whether a promotion loses what the old primary acknowledged; the worst comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lossless {
    /// Everything is here.
    Proven,
    /// Nobody can say.
    Unknown,
    /// Something is not here.
    Violated,
}

/// That, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// In one word.
    pub lossless: Lossless,
    /// In plain words.
    pub why: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.lossless {
            Lossless::Proven => "proven",
            Lossless::Unknown => "unknown",
            Lossless::Violated => "violated",
        };
        write!(f, "{word}: {}", self.why)
    }
}

fn proven(why: String) -> Verdict {
    let lossless = Lossless::Proven;
    Verdict { lossless, why }
}

fn unknown(why: String) -> Verdict {
    let lossless = Lossless::Unknown;
    Verdict { lossless, why }
}

fn violated(why: String) -> Verdict {
    let lossless = Lossless::Violated;
    Verdict { lossless, why }
}

/// What a promotion knows of the others.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// The other servers.
    pub peers: &'a [Peer<'a>],
    /// What was last seen of sources.
    pub last_seen: &'a [LastSeen],
    /// When the peers were asked, in milliseconds since boot.
    pub asked_at: u64,
}

impl<'a> Evidence<'a> {
    /// Of `peers` that were asked just now.
    pub fn of(peers: &'a [Peer<'a>], last_seen: &'a [LastSeen]) -> Evidence<'a> {
        Evidence {
            peers,
            last_seen,
            asked_at: since_boot(),
        }
    }

    /// Refuses, before anything is changed, what can never be proven.
    ///
    /// # Errors
    /// [`Kind::Refused`] if `require` says so.
    pub fn can_prove(
        &self,
        run: &mut Run<'_>,
        channels: &[Channel],
        require: Require,
    ) -> Result<()> {
        if require == Require::Any {
            return Ok(());
        }
        for channel in channels {
            let answers = self.peers.iter().any(|peer| is_source(peer, channel));
            let verdict = self.of_silent(channel);
            if verdict.lossless != Lossless::Proven && !answers {
                settle(run, &verdict, require)?;
            }
        }
        Ok(())
    }

    /// The verdict on a server that was just seen so, and has applied all it received, but for the
    /// channels that were `given_up`.
    pub fn verdict(&self, seen: &Seen, given_up: &[&str]) -> Verdict {
        let channels = &with_sources(seen.channels.clone(), self.peers);
        let own = seen.history.as_ref();
        let mut worst = match channels.is_empty() {
            true => self.of_no_replica(),
            false => None,
        };
        for channel in channels {
            let source = &channel.source;
            let peer = self.peers.iter().find(|peer| is_source(peer, channel));
            let verdict = match peer {
                _ if given_up.contains(&channel.name.as_str()) => violated(format!(
                    "not all that was received from {source} is applied"
                )),
                Some(peer) => of_answering(channel, own, peer.db),
                None => self.of_silent(channel),
            };
            worst = Some(worse(worst, verdict));
        }
        for peer in self.peers {
            if let Some(more) = of_other(peer, channels, own) {
                worst = Some(worse(worst, more));
            }
        }
        let nobody = || proven("every other server answers, and none has more".to_owned());
        worst.unwrap_or_else(nobody)
    }

    /// A server that replicates from nobody has what it has; what others wrote they must say.
    fn of_no_replica(&self) -> Option<Verdict> {
        let none = || unknown("it replicates from nobody, and no other server is known".to_owned());
        let mute = |peer: &Peer<'_>| {
            let says = matches!(peer.seen, Ok(seen) if seen.history.is_some());
            (!says).then(|| peer.db.name())
        };
        match self.peers.is_empty() {
            true => Some(none()),
            false => self.peers.iter().find_map(mute).map(|name| {
                unknown(format!(
                    "it replicates from nobody, and {name} does not say what it has"
                ))
            }),
        }
    }

    /// A source that does not answer: what was last seen of it has to do.
    fn of_silent(&self, channel: &Channel) -> Verdict {
        let source = &channel.source;
        let looks = self
            .last_seen
            .iter()
            .find(|seen| seen.source_id == channel.source_id);
        let looks = looks.map_or(&[][..], |seen| &seen.looks);
        // The newest look of which everything had been written by then has arrived.
        let reached = looks
            .iter()
            .position(|look| channel.received.reaches(&look.written));
        let why_not = match reached {
            None if looks.is_empty() => {
                return unknown(format!("{source} is silent, and no check here had seen it"));
            }
            None => "not all that it had written has arrived".to_owned(),
            Some(reached) => {
                let seen = &looks[reached];
                let age = Duration::from_millis(self.asked_at.saturating_sub(seen.at));
                match looks[..=reached].iter().find_map(may_go_on_alone) {
                    Some(why) => why,
                    None if age >= seen.semi_sync.timeout => format!(
                        "it was seen {} before, and its commits wait {} for this server",
                        seconds(age),
                        seconds(seen.semi_sync.timeout)
                    ),
                    None => {
                        return proven(format!(
                            "every commit of {source} waited for this server (semi-sync) when it \
                             was seen {} before it was silent, and none goes on alone within {}",
                            seconds(age),
                            seconds(seen.semi_sync.timeout)
                        ));
                    }
                }
            }
        };
        match looks.last() {
            Some(look) if reached.is_none() && may_go_on_alone(look).is_some() => {
                violated(format!(
                    "{source} had written up to {}, and only {} has arrived",
                    look.written, channel.received
                ))
            }
            _ => unknown(format!("{source} is silent: {why_not}")),
        }
    }
}

/// Why a commit could have been acknowledged to its client without being here.
///
/// Where fewer acknowledgements are needed than replicas are connected, others can give them.
fn may_go_on_alone(look: &Look) -> Option<String> {
    let semi = &look.semi_sync;
    match semi.source {
        Some(true) if !semi.waits => {
            Some("its commits had stopped waiting for replicas".to_owned())
        }
        // At once, whatever the timeout: a receiver that is started again is enough
        // (MySQL, ReplSemiSyncMaster::remove_slave).
        Some(true) if !semi.waits_for_nobody => Some(
            "its commits go on alone as soon as too few replicas are connected \
             (rpl_semi_sync_master_wait_no_slave is off)"
                .to_owned(),
        ),
        Some(true) if !look.acknowledged => Some("this server acknowledged nothing".to_owned()),
        Some(true) if semi.clients > semi.needed => Some(format!(
            "{} of its {} semi-sync replicas were enough, and another may have more",
            semi.needed, semi.clients
        )),
        Some(true) => None,
        _ => Some("its commits waited for no replica (semi-sync is off)".to_owned()),
    }
}

/// A source that answers and is closed is asked itself.
fn of_answering(channel: &Channel, own: Option<&History>, source: &dyn Database) -> Verdict {
    let name = &channel.source;
    let theirs = match source.history() {
        Ok(theirs) => theirs,
        Err(error) => return unknown(format!("{name} fell silent: {}", error.chain())),
    };
    let lacks = own
        .zip(theirs.as_ref())
        .map(|(own, theirs)| own.lacks(theirs));
    match lacks {
        Some(None) => return proven(format!("it has every transaction of {name}, which answers")),
        // Sets are exact; MariaDB's numbers of a replica without log_slave_updates are not all.
        Some(Some(missing)) if own.is_some_and(|own| !own.tells_order()) => {
            return violated(format!("{name} has {missing}"));
        }
        _ => {}
    }
    match source.written() {
        Ok(Some(end)) if channel.received.reaches(&end) => proven(format!(
            "it has received all that {name} wrote, up to {end}"
        )),
        Ok(Some(end)) => violated(format!(
            "{name} has written up to {end}, and only {} has arrived",
            channel.received
        )),
        Ok(None) => unknown(format!("{name} writes no binary log")),
        Err(error) => unknown(format!("{name} fell silent: {}", error.chain())),
    }
}

/// Another server may have received more from the same source, or be the one that wrote.
fn of_other(peer: &Peer<'_>, channels: &[Channel], own: Option<&History>) -> Option<Verdict> {
    let Ok(seen) = peer.seen else {
        return None;
    };
    let is_source = channels.iter().any(|channel| is_source(peer, channel));
    let shares = channels.iter().any(|c| seen.sources.contains(&c.source_id));
    let replicates = channels.is_empty() && !seen.sources.is_empty();
    let theirs = seen.history.as_ref()?;
    let missing = own?.lacks(theirs)?;
    // What only a replica of this server has is a stray write.
    (!is_source && (shares || !replicates))
        .then(|| violated(format!("{} has {missing}", peer.db.name())))
}

fn worse(one: Option<Verdict>, other: Verdict) -> Verdict {
    match one {
        Some(one) if one.lossless > other.lossless => one,
        Some(one) if one.lossless == other.lossless => Verdict {
            why: format!("{}; {}", one.why, other.why),
            ..other
        },
        _ => other,
    }
}

/// Tells the verdict, and refuses what is not `require`d.
///
/// # Errors
/// [`Kind::Refused`] when it must be proven and is not.
pub fn settle(run: &mut Run<'_>, verdict: &Verdict, require: Require) -> Result<()> {
    run.note(format!("{NOTE}{verdict}"));
    match (require, verdict.lossless) {
        (Require::Any, _) | (_, Lossless::Proven) => Ok(()),
        (Require::Proven, _) => run.check("nothing acknowledged is lost", || {
            Err(Error::new(Kind::Refused, verdict.to_string()).advise(
                "bring the old primary back, or accept the loss: [promote] require = \"any\"",
            ))
        }),
    }
}

/// Notes what `db` has received and not applied. MHA has applied what could be had, from other
/// replicas too; what it left is for people to know.
///
/// # Errors
/// [`Kind::Overtaken`].
pub fn note_unapplied(run: &Run<'_>, db: &dyn Database) -> Result<()> {
    for channel in uninterrupted(db.channels())?.unwrap_or_default() {
        if let Ok(Some(left)) = uninterrupted(db.unapplied(&channel))? {
            let source = channel.source;
            run.note(format!(
                "NOT APPLIED of what was received from {source}: {left}"
            ));
        }
    }
    Ok(())
}

/// What can be said of a switch in which `old` hands over to `db`.
///
/// # Errors
/// [`Kind::Overtaken`].
pub fn of_switch(db: &dyn Database, old: Option<&dyn Database>) -> Result<Verdict> {
    let Some(old) = old else {
        return Ok(unknown("the old primary is not asked".to_owned()));
    };
    let name = old.name();
    let own = uninterrupted(db.history())?;
    Ok(match (own, uninterrupted(old.history())?) {
        (Ok(Some(own)), Ok(Some(theirs))) => match own.lacks(&theirs) {
            None => proven(format!("it has every transaction of {name}, which answers")),
            Some(missing) if own.tells_order() => {
                unknown(format!("{missing} of {name} is not in its binary log"))
            }
            Some(missing) => violated(format!("{name} has {missing}")),
        },
        (_, Err(error)) => unknown(format!("{name} does not answer: {}", error.chain())),
        _ => unknown("the servers number no transactions (GTID)".to_owned()),
    })
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests;
