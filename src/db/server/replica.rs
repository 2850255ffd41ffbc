//! The replica's side of a server: what is left to apply, and stopping its threads.

use std::time::Duration;

use super::Server;
use super::number;
use crate::db::dialect::{Flavor, Thread, quote};
use crate::db::relay::{Reader, Rest};
use crate::db::{Channel, Database, Receiver};
use crate::error::{Error, Kind, Result};
use crate::time::Stopwatch;

/// SHOW RELAYLOG EVENTS: "Error when executing command ...: Could not find target log".
const ERROR_WHEN_EXECUTING: u16 = 1220;

/// Rows asked for at a time when a relay log is read.
const RELAY_PAGE: usize = 2_000;

/// Where the first event of a log file is: after a 4-byte magic number.
const START: u64 = 4;

/// How long an applier must have stood still before its relay log is read: reading is not free,
/// and an applier that moves is not at a torn tail.
const STILL: Duration = Duration::from_millis(100);

/// How long a replication thread may take to stop before it is ended: it needs a few ms. A
/// semi-sync receiver first connects to its source again to end its session there
/// (`rpl_semi_sync_slave_kill_conn_timeout`, 5 s).
const STOP_PATIENCE: Duration = Duration::from_millis(100);

/// How long it may take altogether.
const STOP_LIMIT: Duration = Duration::from_millis(1200);

/// Between two looks whether a thread has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Server {
    /// What `channel` has received and not applied.
    pub(super) fn unapplied_of(&self, channel: &Channel) -> Result<Option<String>> {
        if channel.applied == channel.received {
            // After CHANGE MASTER with RELAY_LOG_POS they are equal before anything is applied.
            let left = channel.receiver != Receiver::Connected
                && self
                    .relay_rest(channel)
                    .is_ok_and(|rest| rest == Rest::Whole);
            return Ok(left.then(|| format!("at {} of the relay log", channel.relay)));
        }
        let behind = match self.without_gtids(channel)? {
            Some(missing) if missing.is_empty() => return Ok(None),
            // MySQL 5.6 counts as received what it has received the beginning of.
            Some(missing) => format!("without {missing}"),
            None => format!("at {} of {}", channel.applied, channel.received),
        };
        let idle = channel.receiver != Receiver::Connected
            && (!channel.applying || self.stands_still(channel));
        if idle && self.whole_from.borrow().as_ref() != Some(&channel.relay) {
            if self.relay_rest(channel)? != Rest::Whole {
                return Ok(None);
            }
            self.whole_from.replace(Some(channel.relay.clone()));
        }
        Ok(Some(behind))
    }

    /// The transactions that were received and are not applied; `None` where GTIDs do not tell.
    pub(super) fn without_gtids(&self, channel: &Channel) -> Result<Option<String>> {
        if channel.retrieved_gtids.is_empty() {
            return Ok(None);
        }
        let retrieved = quote(&channel.retrieved_gtids);
        let answer = self.ask(&format!(
            "SELECT GTID_SUBTRACT({retrieved}, @@GLOBAL.gtid_executed), @@GLOBAL.gtid_mode"
        ))?;
        let row = answer.first();
        let word = |place| row.and_then(|row| row.at(place)).unwrap_or_default();
        // In the modes between OFF and ON there are transactions without a GTID as well.
        Ok((word(1) == "ON").then(|| word(0).to_owned()))
    }

    /// Whether the applier of `channel` has been at the same place for a while.
    fn stands_still(&self, channel: &Channel) -> bool {
        let mut still = self.still.borrow_mut();
        match &*still {
            Some((place, since)) if *place == channel.applied => since.elapsed() >= STILL,
            _ => {
                *still = Some((channel.applied.clone(), Stopwatch::start()));
                false
            }
        }
    }

    /// What the relay log holds from where the applier stands.
    fn relay_rest(&self, channel: &Channel) -> Result<Rest> {
        let reader = self.read_relay(channel, |reader| reader.rest() == Rest::Whole)?;
        Ok(reader.rest())
    }

    /// Reads the relay log from where the applier stands until it is `enough`, or to its end.
    fn read_relay(&self, channel: &Channel, enough: impl Fn(&Reader) -> bool) -> Result<Reader> {
        let dialect = self.dialect()?;
        let mut reader = Reader::default();
        let mut file = channel.relay.file.clone();
        let mut from = channel.relay.offset;
        let mut is_next_file = false;
        loop {
            let sql = dialect.relay_events(&file, from, RELAY_PAGE, &channel.name);
            let page = match self.ask(&sql) {
                // The file after the last one does not exist. On any other page this is an error:
                // what cannot be read may still have to be applied.
                Err(e) if is_next_file && e.server_code() == Some(ERROR_WHEN_EXECUTING) => {
                    break;
                }
                page => page?,
            };
            is_next_file = false;
            let mut events = 0;
            for row in page.rows() {
                let text = |name| row.get(name).unwrap_or_default();
                reader.event(text("Event_type"), text("Info"));
                // Not End_log_pos: in a relay log that is a place in the source's log. So the
                // last event of a page is read again, which changes nothing.
                from = number(row, "Pos");
                events += 1;
            }
            if enough(&reader) {
                break;
            }
            if events < RELAY_PAGE {
                let Some(next) = next_file(&file) else { break };
                (file, from, is_next_file) = (next, START, true);
            }
        }
        Ok(reader)
    }

    /// Stops a thread of a channel. The server waits for the thread, which may wait for a lock or for a
    /// source that is gone; then the thread itself is ended. MariaDB does not end an applier in the
    /// middle of a statement that cannot be rolled back for 60 s (`sql_slave_killed` in slave.cc).
    pub(super) fn stop(&self, thread: Thread, channel: &Channel) -> Result<()> {
        let sql = &self.dialect()?.stop(thread, &channel.name);
        // Before it is asked to stop: then MySQL no longer says which threads those are.
        let threads = self.threads(thread, &channel.name)?;
        let limit = self.deadline.at_most(STOP_LIMIT);
        let mut refused = None;
        if thread == Thread::Applier && self.would_wait_for_the_rest(channel)? {
            refused = self.end(&threads)?;
            let runs = || Ok(self.channel(&channel.name)?.is_some_and(|c| c.applying));
            while refused.is_none() && runs()? && !limit.passed() {
                self.deadline.pause(LOOK_AGAIN)?;
            }
        }
        let mut stopping = self.open()?;
        stopping.send(sql)?;
        while !stopping.answers_within(STOP_PATIENCE)? {
            if limit.passed() {
                let error = Error::new(Kind::Timeout, "it has not stopped yet").during(sql);
                return Err(refused.into_iter().fold(error, Error::because));
            }
            // More than once: a worker that is killed tries its transaction again.
            refused = self.end(&threads)?;
        }
        stopping.answer().map_err(|e| e.during(sql))?;
        stopping.quit();
        Ok(())
    }

    /// Ends sessions; gives why the server does not allow it.
    fn end(&self, sessions: &[u64]) -> Result<Option<Error>> {
        match self.end_sessions(sessions) {
            Err(error) if error.server_code().is_some() => Ok(Some(error)),
            ended => ended.map(|_| None),
        }
    }

    /// Whether an applier that is asked to stop would wait for the end of a transaction of which
    /// only the beginning is here: MySQL's coordinator does, for 60 s, if it has handed that to a
    /// worker, and in 5.7 it is then too late to end the worker (`sql_slave_killed` in rpl_slave.cc).
    fn would_wait_for_the_rest(&self, channel: &Channel) -> Result<bool> {
        let may = self.version()?.flavor == Flavor::MySql
            && channel.receiver != Receiver::Connected
            && channel.applied != channel.received;
        Ok(may
            && match self.without_gtids(channel)? {
                // With workers, what is applied may be ahead of the position.
                Some(missing) if missing.is_empty() => self.ends_inside(channel)?,
                _ if self.appliers_seem_idle()? => self.ends_inside(channel)?,
                _ => self.relay_rest(channel)? == Rest::Torn,
            })
    }

    /// Whether the relay log ends inside a transaction.
    fn ends_inside(&self, channel: &Channel) -> Result<bool> {
        Ok(self.read_relay(channel, |_| false)?.is_inside())
    }

    /// The sessions that are a thread of `channel`, or its workers; none when they cannot be told
    /// from those of another channel, which may still have something to apply, or not be seen.
    fn threads(&self, thread: Thread, channel: &str) -> Result<Vec<u64>> {
        let dialect = self.dialect()?;
        if !dialect.tells_channels_apart() && self.channels()?.len() > 1 {
            return Ok(Vec::new());
        }
        match self.ask(&dialect.threads(thread, channel)) {
            Err(error) if error.server_code().is_some() => Ok(Vec::new()),
            answer => Ok(answer?.rows().map(|row| number(row, "ID")).collect()),
        }
    }
}

/// The name of the log file after `file`: the number at its end, one more, as wide.
fn next_file(file: &str) -> Option<String> {
    let (base, digits) = file.rsplit_once('.')?;
    let number: u64 = digits.parse().ok()?;
    Some(format!(
        "{base}.{:0width$}",
        number + 1,
        width = digits.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::next_file;

    #[test]
    fn log_files_are_numbered_with_at_least_six_digits() {
        assert_eq!(next_file("relay.000009").as_deref(), Some("relay.000010"));
        assert_eq!(next_file("relay.999999").as_deref(), Some("relay.1000000"));
        assert_eq!(next_file("relay"), None);
    }
}
