//! The replica's side of a server: what is left to apply, and stopping its threads.

use std::time::Duration;

use super::Server;
use super::number;
use crate::db::dialect::{Thread, quote};
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

impl Server {
    /// What `channel` has received and not applied.
    pub(super) fn unapplied_of(&self, channel: Channel) -> Result<Option<String>> {
        if channel.applied == channel.received {
            // After CHANGE MASTER with RELAY_LOG_POS they are equal before anything is applied.
            let left = channel.receiver != Receiver::Connected
                && self
                    .relay_rest(&channel)
                    .is_ok_and(|rest| rest == Rest::Whole);
            return Ok(left.then(|| format!("at {} of the relay log", channel.relay)));
        }
        if !channel.retrieved_gtids.is_empty() {
            let retrieved = quote(&channel.retrieved_gtids);
            let sql = format!("SELECT GTID_SUBTRACT({retrieved}, @@GLOBAL.gtid_executed)");
            let answer = self.ask(&sql)?;
            let missing = answer.first().and_then(|row| row.at(0)).unwrap_or_default();
            return Ok((!missing.is_empty()).then(|| format!("without {missing}")));
        }
        let behind = format!("at {} of {}", channel.applied, channel.received);
        let idle = channel.receiver != Receiver::Connected
            && (!channel.applying || self.stands_still(&channel));
        if idle && self.whole_from.borrow().as_ref() != Some(&channel.relay) {
            if self.relay_rest(&channel)? != Rest::Whole {
                return Ok(None);
            }
            self.whole_from.replace(Some(channel.relay));
        }
        Ok(Some(behind))
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
            if reader.rest() == Rest::Whole {
                break;
            }
            if events < RELAY_PAGE {
                let Some(next) = next_file(&file) else { break };
                (file, from, is_next_file) = (next, START, true);
            }
        }
        Ok(reader.rest())
    }

    /// Stops a thread by `sql`. The server waits for the thread, which may wait for a lock or for a
    /// source that is gone; then the thread itself is ended. MariaDB does not end an applier in the
    /// middle of a statement that cannot be rolled back for 60 s (`sql_slave_killed` in slave.cc).
    pub(super) fn stop(&self, thread: Thread, sql: &str) -> Result<()> {
        let mut stopping = self.open()?;
        stopping.send(sql)?;
        let limit = self.deadline.at_most(STOP_LIMIT);
        while !stopping.answers_within(STOP_PATIENCE)? {
            if limit.passed() {
                return Err(Error::new(Kind::Timeout, "it has not stopped yet").during(sql));
            }
            // More than once: a worker that is killed tries its transaction again.
            self.end_threads(thread)?;
        }
        stopping.answer().map_err(|e| e.during(sql))?;
        stopping.quit();
        Ok(())
    }

    /// Ends this server's replication threads of one kind, of whatever channel.
    fn end_threads(&self, thread: Thread) -> Result<()> {
        let commands = match thread {
            Thread::Receiver => "'Slave_IO'",
            Thread::Applier => "'Slave_SQL', 'Slave_worker'",
        };
        let answer = self.ask(&format!(
            "SELECT ID FROM information_schema.PROCESSLIST \
             WHERE USER = 'system user' AND COMMAND IN ({commands})"
        ))?;
        let ids: Vec<u64> = answer.rows().map(|row| number(row, "ID")).collect();
        self.end_sessions(&ids).map(drop)
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
