//! The replica's side of a server: what is left to apply, and stopping its threads.

use std::time::Duration;

use super::Server;
use super::channel::{number, read_channels};
use super::source::{history_question, read_history};
use crate::db::dialect::{Thread, quote};
use crate::db::relay::Rest;
use crate::db::session::{Answer, Session};
use crate::db::{Channel, Database, Halted, Receiver};
use crate::error::{Error, Kind, Result};
use crate::run::Changed;
use crate::time::{Deadline, Stopwatch};

/// How long an applier must have stood still before its relay log is read: reading is not free,
/// and an applier that moves is not at a torn tail.
const STILL: Duration = Duration::from_millis(100);

/// How long a replication thread may take to stop before it is ended: it needs a few ms.
const STOP_PATIENCE: Duration = Duration::from_millis(100);

/// How long it may take altogether.
const STOP_LIMIT: Duration = Duration::from_millis(1200);

/// How long a receiver may take whose source is silent: MariaDB's semi-sync receiver connects to it
/// once more, to end its session there, for `rpl_semi_sync_slave_kill_conn_timeout`, 5 s by default.
/// KILL does not shorten that.
pub(super) const WAY_OUT: Duration = Duration::from_secs(6);

/// Between two looks whether a thread has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What is waited for when a thread is stopped.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Until {
    /// It has ended.
    Ended,
    /// That, or that it receives nothing more: see [`WAY_OUT`].
    NothingComes,
}

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
        if idle && self.relay_rest(channel)? != Rest::Whole {
            return Ok(None);
        }
        if channel.applying {
            self.begin_to_read_ahead(channel)?;
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

    /// Stops a thread of a channel that was just seen so. The server waits for the thread, which may
    /// wait for a lock or for a source that is gone; then the thread itself is ended. MariaDB does not
    /// end an applier in the middle of a statement that cannot be rolled back for 60 s
    /// (`sql_slave_killed` in slave.cc).
    pub(super) fn stop(&self, thread: Thread, seen: &Channel, until: Until) -> Result<Halted> {
        self.pages.take();
        let limit = match until {
            Until::NothingComes if seen.receiver == Receiver::Connected => WAY_OUT,
            _ => STOP_LIMIT,
        };
        let limit = self.deadline.at_most(limit);
        if thread == Thread::Applier && self.would_wait_for_the_rest(seen)? {
            let refused = self.end(&self.threads(thread, &seen.name)?)?;
            let runs = || Ok(self.channel(&seen.name)?.is_some_and(|c| c.applying));
            while refused.is_none() && runs()? && !limit.passed() {
                self.deadline.pause(LOOK_AGAIN)?;
            }
        }
        let version = self.version()?;
        let dialect = version.dialect();
        let stop = dialect.stop(thread, &seen.name);
        let mut questions = vec![
            dialect.replica_status.to_owned(),
            // Before it is asked to stop: then MySQL no longer says which threads those are.
            dialect.threads(thread, &seen.name),
            stop.clone(),
            dialect.replica_status.to_owned(),
            history_question(version).to_owned(),
        ];
        let pages = match thread {
            Thread::Receiver => self.pages_to_come(dialect, seen),
            Thread::Applier => Vec::new(),
        };
        questions.extend_from_slice(&pages);
        // If this fails it is not abandoned: to end who asks would not let the thread go on.
        let mut session = self.take_session()?;
        session.send_all(&questions)?;
        let before = read_channels(version, &session.reply()?.unwrap_or_default());
        let threads = session.reply()?;
        let threads = match dialect.tells_channels_apart() || before.len() == 1 {
            true => ids(threads),
            false => Vec::new(),
        };
        let before = before.into_iter().find(|c| c.name == seen.name);
        let outlasted = self.outlast(&mut session, until, seen, &threads, &limit);
        if let Some(halted) = outlasted.map_err(|e| e.during(&stop))? {
            return Ok(halted);
        }
        let (stopped, after, history) = (session.reply()?, session.reply()?, session.reply()?);
        for sql in pages {
            let page = session.reply()?;
            self.pages.borrow_mut().push_back((sql, page));
        }
        self.keep(session);
        stopped.map_err(|e| e.during(stop))?;
        Ok(Halted {
            changed: match before.is_some_and(|channel| channel.runs(thread)) {
                true => Changed::Yes,
                false => Changed::AlreadySo,
            },
            channels: read_channels(version, &after?),
            history: read_history(version, history)?,
        })
    }

    /// Waits for the answer to STOP, in which nobody need be interested any more when nothing more is
    /// received: then what was seen of that. `channel` is as it was before.
    fn outlast(
        &self,
        session: &mut Session,
        until: Until,
        channel: &Channel,
        threads: &[u64],
        limit: &Deadline,
    ) -> Result<Option<Halted>> {
        let patience = match until {
            Until::NothingComes => STOP_PATIENCE / 2,
            Until::Ended => STOP_PATIENCE,
        };
        let received = |now: &[Channel]| {
            let mut now = now.iter();
            let now = now.find(|now| now.name == channel.name);
            now.map(|now| now.received.clone())
        };
        // A receiver that was ended looks at that before every event (`io_slave_killed` in slave.cc);
        // that it was asked to stop would not do, since the question may wait for another one.
        let mut when_ended = None;
        let mut refused = None;
        while !session.answers_within(patience)? {
            if let Some(then) = &when_ended {
                let now = self.look()?;
                if *then == received(&now.channels) {
                    return Ok(Some(Halted {
                        changed: Changed::Yes,
                        channels: now.channels,
                        history: now.history,
                    }));
                }
            }
            if limit.passed() {
                let error = Error::new(Kind::Timeout, "it has not stopped yet");
                return Err(refused.into_iter().fold(error, Error::because));
            }
            // More than once: a worker that is killed tries its transaction again.
            refused = self.end(threads)?;
            if until == Until::NothingComes && refused.is_none() && !threads.is_empty() {
                when_ended = Some(received(&self.channels()?));
            }
        }
        Ok(None)
    }

    /// Ends sessions; gives why the server does not allow it.
    fn end(&self, sessions: &[u64]) -> Result<Option<Error>> {
        match self.end_sessions(sessions, STOP_LIMIT) {
            Err(error) if error.server_code().is_some() => Ok(Some(error)),
            ended => ended.map(|_| None),
        }
    }

    /// Whether an applier that is asked to stop would wait for the end of a transaction of which
    /// only the beginning is here: MySQL's coordinator does, for 60 s, if it has handed that to a
    /// worker, and in 5.7 it is then too late to end the worker (`sql_slave_killed` in rpl_slave.cc).
    fn would_wait_for_the_rest(&self, channel: &Channel) -> Result<bool> {
        Ok(self.may_end_inside(channel)?
            && match self.without_gtids(channel)? {
                // With workers, what is applied may be ahead of the position.
                Some(missing) if missing.is_empty() => self.ends_inside(channel)?,
                _ if self.appliers_seem_idle()? => self.ends_inside(channel)?,
                _ => self.relay_rest(channel)? == Rest::Torn,
            })
    }

    /// The sessions that are a thread of `channel`, or its workers; none when they cannot be told
    /// from those of another channel, which may still have something to apply, or not be seen.
    fn threads(&self, thread: Thread, channel: &str) -> Result<Vec<u64>> {
        let dialect = self.dialect()?;
        if !dialect.tells_channels_apart() && self.channels()?.len() > 1 {
            return Ok(Vec::new());
        }
        match self.ask(&dialect.threads(thread, channel)) {
            Err(error) if error.server_code().is_none() => Err(error),
            answer => Ok(ids(answer)),
        }
    }
}

/// None where the server does not tell.
fn ids(answer: Result<Answer>) -> Vec<u64> {
    let answer = answer.unwrap_or_default();
    answer.rows().map(|row| number(row, "ID")).collect()
}
