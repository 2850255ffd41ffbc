//! What is done to servers, as straight-line code over a [`crate::run::Run`].
//!
//! Invariants:
//! 1. Nothing is made writable before the other side is fenced or does not answer, on record.
//! 2. A replica never loses what it has received.
//! 3. Who cannot see does not vouch.
//! 4. Every deed can be done twice.
//! 5. Each added step makes the outage longer; it says what it is worth that.

use crate::db::{Channel, Database, Thread};
use crate::error::{Kind, Result};
use crate::run::{Changed, Run};

pub mod bring;
pub mod demote;
mod drain;
pub mod establish;
pub mod events;
mod fitness;
pub mod lossless;
pub mod peers;
pub mod promote;
pub mod rejoin;
pub mod release;
pub mod restore;
pub mod semisync;
pub mod withdraw;

#[cfg(test)]
mod fake;

/// Lets a channel fetch and apply again.
fn replicate_again(run: &mut Run<'_>, db: &dyn Database, channel: &Channel) -> Result<()> {
    run.act(&format!("replicate from {} again", channel.source), || {
        let applier = db.set_thread(Thread::Applier, &channel.name, true)?;
        let receiver = db.set_thread(Thread::Receiver, &channel.name, true)?;
        Ok(match (applier, receiver) {
            (Changed::AlreadySo, Changed::AlreadySo) => Changed::AlreadySo,
            _ => Changed::Yes,
        })
    })
}

/// What a server can do without is told and left: a primary without it is better than none.
fn or_note<T>(run: &Run<'_>, what: &str, result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == Kind::Overtaken => Err(error),
        Err(error) => {
            run.note(format!("{what}: {}", error.chain()));
            Ok(None)
        }
    }
}
