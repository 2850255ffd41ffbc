//! A session that waits inside the server for an applier, so that nobody has to ask all the time.

use std::time::Duration;

use super::Server;
use crate::db::dialect::Flavor;
use crate::db::session::Session;
use crate::error::{Kind, Result};
use crate::time::Stopwatch;

/// The session that waits for one channel.
#[derive(Default)]
pub(super) struct Bell {
    channel: Option<String>,
    /// With what it has asked. It has rung, or cannot, when there is none.
    waiting: Option<(Session, String)>,
}

impl Server {
    /// Listens, at most `patience`, for the server to say that the applier of channel `name` has
    /// come to the end of what was received. That is worth a look and proves nothing. False at once
    /// when it has been heard before, or cannot be: then asking now and then has to do. Meanwhile what
    /// is to be known of the relay log is read.
    pub(super) fn listen(&self, name: &str, patience: Duration) -> Result<bool> {
        let began = Stopwatch::start();
        loop {
            let left = patience.saturating_sub(began.elapsed());
            if self.rings(name, Duration::ZERO)? {
                return Ok(true);
            }
            if left.is_zero() || !self.read_ahead(name)? {
                return self.rings(name, left);
            }
        }
    }

    fn rings(&self, name: &str, patience: Duration) -> Result<bool> {
        let mut bell = self.bell.borrow_mut();
        if bell.channel.as_deref() != Some(name) {
            bell.channel = Some(name.to_owned());
            bell.waiting = or_silent(self.hang(name))?.flatten();
        }
        let Some((mut session, sql)) = bell.waiting.take() else {
            return Ok(false);
        };
        let rung = match or_silent(session.answers_within(patience))? {
            None => return Ok(false),
            Some(false) => None,
            Some(true) => or_silent(session.answer())?.map(|answer| {
                // It waits no longer than a second, so that nothing is left of it afterwards.
                answer.first().and_then(|row| row.at(0)) != Some("1")
            }),
        };
        match rung {
            Some(true) => session.quit(),
            Some(false) if or_silent(session.send(&sql))?.is_none() => {}
            _ => bell.waiting = Some((session, sql)),
        }
        Ok(rung == Some(true))
    }

    fn hang(&self, name: &str) -> Result<Option<(Session, String)>> {
        let Some(channel) = self.channel(name)? else {
            return Ok(None);
        };
        let dialect = self.dialect()?;
        let end = &channel.received;
        let sql = match self.without_gtids(&channel)? {
            Some(_) => dialect.wait_for_set(&channel.retrieved_gtids),
            None => dialect.wait_for_position(&end.file, end.offset, name),
        };
        let mut session = self.open()?;
        session.send(&sql)?;
        Ok(Some((session, sql)))
    }

    /// Whether all appliers have nothing more to do, as far as their states show it: a worker that
    /// has just been given something shows that a moment later. Without GTID the positions of
    /// MySQL's workers are older still, by up to `slave_checkpoint_period`, until they stop.
    pub(super) fn appliers_seem_idle(&self) -> Result<bool> {
        if self.version()?.flavor == Flavor::MariaDb {
            return Ok(false); // its positions are exact
        }
        let sql = "SELECT STATE FROM information_schema.PROCESSLIST WHERE USER = 'system user'";
        let answer = self.ask(sql)?;
        let states: Vec<&str> = answer
            .rows()
            .map(|row| row.at(0).unwrap_or_default())
            .collect();
        Ok(seem_idle(&states))
    }
}

fn or_silent<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.kind() == Kind::Overtaken => Err(error),
        result => Ok(result.ok()),
    }
}

/// What the states of replication's threads say (manual, "Replication SQL Thread States" and
/// following; MySQL 8.0.26 took the words source and replica).
fn seem_idle(states: &[&str]) -> bool {
    let has_read_all = |state: &&str| state.contains("has read all relay log");
    let is_idle_worker = |state: &str| state.starts_with("Waiting for an event from Coordinator");
    let is_receiver = |state: &str| state.ends_with(" to send event") || state.contains("onnect");
    states.iter().any(has_read_all)
        && states
            .iter()
            .all(|state| has_read_all(state) || is_idle_worker(state) || is_receiver(state))
}

#[cfg(test)]
mod tests {
    use super::seem_idle;

    const READ_ALL: &str = "Slave has read all relay log; waiting for more updates";
    const IDLE: &str = "Waiting for an event from Coordinator";

    #[test]
    fn appliers_seem_idle_when_all_is_read_and_no_worker_is_at_work() {
        assert!(seem_idle(&[READ_ALL, IDLE, IDLE]));
        let of_5_6 = "Slave has read all relay log; waiting for the slave I/O thread to update it";
        assert!(seem_idle(&[of_5_6]));
        assert!(seem_idle(&[
            "Replica has read all relay log; waiting for more updates",
            "Waiting for source to send event",
            "Reconnecting after a failed source event read",
        ]));
    }

    #[test]
    fn a_worker_or_a_coordinator_at_work_is_not_idle() {
        assert!(!seem_idle(&[]));
        assert!(!seem_idle(&[IDLE, IDLE]), "no coordinator yet");
        assert!(!seem_idle(&[
            READ_ALL,
            IDLE,
            "Waiting for table metadata lock"
        ]));
        assert!(!seem_idle(&[READ_ALL, IDLE, ""]));
        assert!(!seem_idle(&[
            READ_ALL,
            IDLE,
            "Reading event from the relay log"
        ]));
        let delayed = "Waiting until MASTER_DELAY seconds after master executed event";
        assert!(!seem_idle(&[READ_ALL, delayed]));
    }
}
