//! A switch that was given up is put back: the old primary serves again, unless another server
//! has taken over meanwhile.

use super::demote::Demotion;
use super::establish::{Address, AskThrough, establish, put_on};
use crate::db::{Channel, Database, History, Receiver, State, Writes};
use crate::error::{Error, Kind, Result, uninterrupted};
use crate::run::Run;
use crate::switch::Before;

/// What is put back, and who is asked before.
#[derive(Clone, Copy)]
pub struct Restore<'a> {
    /// The primary that was to be left.
    pub old: &'a dyn Database,
    /// The one that was to follow, where that is known.
    pub new: Option<&'a dyn Database>,
    /// The other servers.
    pub peers: &'a [&'a dyn Database],
    /// The addresses that the old primary had, on its host.
    pub addresses: &'a [Address<'a>],
    /// The same on the host of the one that was to follow.
    pub elsewhere: &'a [Address<'a>],
    /// What was so before.
    pub before: &'a Before,
    /// How the old primary is closed again if another one turns up.
    pub closing: Demotion<'a>,
    /// Go on although somebody cannot be asked.
    pub force: bool,
}

/// Looks whether anybody has taken over, then lets the old primary serve as before.
///
/// The new one stays closed whatever it was: two primaries are never made.
///
/// # Errors
/// [`Kind::Refused`] before anything is changed when it is not safe; otherwise as [`establish`].
pub fn restore<'a>(
    run: &mut Run<'a>,
    how: Restore<'a>,
    ask_through: &AskThrough<'_>,
) -> Result<()> {
    let name = how.old.name();
    let mut own = None;
    run.check(&format!("{name} answers"), || {
        let answered = Answered::of(how.old);
        own = Some(answered.map_err(|e| e.advise("start it, or make another server the primary"))?);
        Ok(())
    })?;
    let Some(own) = own else {
        return Ok(());
    };
    let others = nobody_took_over(run, &how, &own)?;
    for address in how.addresses {
        let Address { link, vip } = address;
        let step = format!("{} can have {vip}", link.name());
        run.check(&step, || match link.has(vip)? {
            true => Ok(()),
            false => link.ready(vip),
        })?;
        nobody_answers_at(run, address, &own, ask_through)?;
    }
    for account in &how.before.locked {
        run.change(
            &format!("let {account} in on {name} again"),
            || how.old.set_account_lock(account, false),
            &format!("lock {account} on {name} again"),
            || how.old.set_account_lock(account, true),
        )?;
    }
    match how.before.old_writes {
        Some(Writes::Closed | Writes::ClosedToAll) => {
            run.note(format!("{name} took no writes before, so it stays closed"));
            put_on(run, how.addresses)?;
        }
        Some(Writes::Open) | None => {
            establish(run, how.old, how.addresses, how.closing, Some(ask_through))?;
        }
    }
    if how.before.events == Some(true) {
        run.act(
            &format!("start the event scheduler of {name} again"),
            || how.old.set_events(true),
        )?;
    }
    for other in &others {
        other.note_stopped_threads(run, &own);
    }
    Ok(())
}

/// What a server says of itself.
struct Answered {
    name: String,
    state: State,
    channels: Vec<Channel>,
    history: Option<History>,
}

impl Answered {
    fn of(db: &dyn Database) -> Result<Answered> {
        Ok(Answered {
            name: db.name(),
            state: db.state()?,
            channels: db.channels()?,
            history: db.history()?,
        })
    }

    fn is(&self, other: &Answered) -> bool {
        self.state.server_id == other.state.server_id
    }

    fn replicates_from(&self, source: &Answered) -> bool {
        let is = |channel: &Channel| {
            channel.source_id == source.state.server_id || channel.source == source.name
        };
        self.channels.iter().any(is)
    }

    /// The last transaction that it wrote as the primary after `own` was, if that can be known.
    fn wrote_after(&self, own: &Answered) -> Option<String> {
        let (theirs, ours) = (self.history.as_ref()?, own.history.as_ref()?);
        let ids = (own.state.server_id, self.state.server_id);
        History::taken_over((ours, ids.0), (theirs, ids.1))
    }

    /// MHA stops the receivers, and in an online change the new primary's applier, and starts
    /// neither again when it gives up (MasterFailover.pm, MasterRotate.pm).
    fn note_stopped_threads(&self, run: &Run<'_>, source: &Answered) {
        let id = source.state.server_id;
        for channel in self.channels.iter().filter(|c| c.source_id == id) {
            if channel.receiver == Receiver::Stopped || !channel.applying {
                run.note(format!(
                    "{} has stopped replicating from {}; on it: START SLAVE (START REPLICA)",
                    self.name, source.name
                ));
            }
        }
    }
}

/// Asks the one that was to follow, and all peers; gives those that answered.
fn nobody_took_over(run: &mut Run<'_>, how: &Restore<'_>, own: &Answered) -> Result<Vec<Answered>> {
    let mut others: Vec<Answered> = Vec::new();
    let new = how.new.map(|new| (new, !how.force));
    let peers = how.peers.iter().map(|peer| (*peer, false));
    for (db, must_answer) in new.into_iter().chain(peers) {
        let step = format!("{} has not taken over", db.name());
        match Answered::of(db) {
            // As a rule all servers are peers, the two of the switch as well.
            Ok(other) if others.iter().chain([own]).any(|known| known.is(&other)) => {}
            Ok(other) => {
                run.check(&step, || has_not_taken_over(&other, own))?;
                others.push(other);
            }
            Err(error) if error.is_silence() && !must_answer => {
                run.note(format!("going on without {}: {}", db.name(), error.chain()));
            }
            Err(error) => run.check(&step, || Err(unknown(error)))?,
        }
    }
    for address in how.elsewhere {
        is_not_there(run, address)?;
    }
    match others.is_empty() && !how.force {
        true => Err(Error::new(Kind::Refused, "no other server answers")
            .because("nobody can say whether another one has taken over")
            .advise(
                "name the others as [[peer]], or see to it that none takes writes and use --force",
            )),
        false => Ok(others),
    }
}

fn is_not_there(run: &mut Run<'_>, Address { link, vip }: &Address<'_>) -> Result<()> {
    let host = link.name();
    match uninterrupted(link.list())? {
        Ok(list) => run.check(&format!("{} is not on {host}", vip.address), || match list
            .iter()
            .any(|there| there.address == vip.address)
        {
            true => Err(Error::new(Kind::Refused, "it is")
                .advise(format!("on {host}: hookbox vip del {vip}"))),
            false => Ok(()),
        }),
        // Whoever answers at the address is asked as well.
        Err(error) => {
            run.note(format!("going on without {host}: {}", error.chain()));
            Ok(())
        }
    }
}

/// Nobody can tell whether a server has taken over that does not say.
fn unknown(error: Error) -> Error {
    let advice = match error.is_silence() {
        false => "let the account of [mha] log in there, or stop that server",
        true => "start it, read-only; --force goes on, and makes a second primary if it is one",
    };
    error.advise(advice)
}

fn has_not_taken_over(other: &Answered, own: &Answered) -> Result<()> {
    let refuse = |what: String, advice: String| Err(Error::new(Kind::Refused, what).advise(advice));
    let name = &other.name;
    if other.state.writes == Writes::Open {
        let advice = "if it is not the primary, close it: SET GLOBAL read_only = 1";
        return refuse("it takes writes".to_owned(), format!("on {name}: {advice}"));
    }
    if own.replicates_from(other) {
        let what = format!("{} replicates from it", own.name);
        let advice = format!(
            "if it is not the primary, on {}: STOP SLAVE, RESET SLAVE ALL",
            own.name
        );
        return refuse(what, advice);
    }
    match other.wrote_after(own) {
        Some(gtid) => {
            let what = format!("it has {gtid} and more that {} lacks", own.name);
            refuse(what, format!("make {name} the primary, or these are lost"))
        }
        None => Ok(()),
    }
}

/// Whoever has an address, known or not, answers at it.
fn nobody_answers_at(
    run: &mut Run<'_>,
    address: &Address<'_>,
    own: &Answered,
    ask_through: &AskThrough<'_>,
) -> Result<()> {
    let vip = &address.vip;
    let step = format!("no other server answers at {}", vip.address);
    run.check(&step, || match uninterrupted(ask_through(vip))? {
        Ok(seen) if seen.server_id != own.state.server_id => {
            let what = format!("one does, with server_id {}", seen.server_id);
            Err(Error::new(Kind::Refused, what)
                .advise(format!("on its host: hookbox vip del {vip}")))
        }
        Err(error) if !error.is_silence() => Err(error
            .during("one answers, but not what is asked")
            .advise(format!("on its host: hookbox vip del {vip}"))),
        Ok(_) | Err(_) => Ok(()),
    })
}

#[cfg(test)]
mod tests;
