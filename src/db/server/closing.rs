//! Closing a server for writes, and the sessions in the way of that.

use std::time::Duration;

use super::{Server, number};
use crate::db::dialect::quote;
use crate::db::session::{AnswerRow, Session};
use crate::db::{Database, Side};
use crate::error::{Error, Kind, Result};
use crate::run::Changed;

/// KILL: there is no such session; it has gone already.
const NO_SUCH_THREAD: u16 = 1094;

/// How often sessions in the way of read_only are ended again, since new ones may come.
const KILL_AGAIN: Duration = Duration::from_millis(200);

/// How long ending a statement of our own may take once time is up.
const CANCEL_LIMIT: Duration = Duration::from_millis(500);

impl Server {
    pub(super) fn close(&self, grace: Duration, spare: &[String]) -> Result<Changed> {
        let before = self.state()?;
        if before.is_closed() {
            return Ok(Changed::AlreadySo);
        }
        let seconds = self.time().left().as_secs() + 1; // whole seconds, rounded up
        self.ask(&format!("SET SESSION lock_wait_timeout = {seconds}"))?;
        let variable = match before.has_super_read_only {
            true => "super_read_only", // sets read_only with it
            false => "read_only",
        };
        self.outlast_writers(&format!("SET GLOBAL {variable} = 1"), grace, spare)?;
        match self.state()? {
            after if after.is_closed() => Ok(Changed::Yes),
            after => Err(Error::new(
                Kind::Refused,
                format!("still {:?} afterwards", after.writes),
            )
            .advise("look who else sets read_only on this server")),
        }
    }

    /// Sends `sql`, which waits for writers; ends their sessions when they outstay `grace`.
    fn outlast_writers(&self, sql: &str, grace: Duration, spare: &[String]) -> Result<()> {
        let helper = self.another();
        let time = self.time();
        let mut released = false;
        let ended = self.with_session(|session| {
            let own = u64::from(session.id());
            session.send(sql)?;
            let mut patience = grace;
            let mut refused = None;
            let mut waiting = 0;
            while !session.answers_within(patience)? {
                if time.passed() {
                    let why = refused.map_or(String::new(), |e: Error| format!(": {}", e.chain()));
                    let what = match waiting {
                        0 => format!("running writes do not end{why}"),
                        n => format!("{n} commits wait for a semi-sync replica{why}"),
                    };
                    return Err(Error::new(Kind::Timeout, what));
                }
                let in_the_way = helper.sessions(spare).map(|mut ids| {
                    ids.retain(|id| *id != own);
                    ids
                });
                match in_the_way.and_then(|ids| helper.end_sessions(&ids)) {
                    // Returned, it would pass for an answer to `sql`, which still runs.
                    Err(error) if error.server_code().is_some() => refused = Some(error),
                    ended => drop(ended?),
                }
                waiting = helper.commits_without_acknowledgement()?;
                // After their sessions, so that no client hears of a commit that no replica has.
                // Semi-sync's wait does not end with the session (MySQL, ReplSemiSyncMaster::commitTrx).
                if waiting > 0 && refused.is_none() && !released {
                    match helper.set_semi_sync(Side::Source, false) {
                        Err(error) if error.server_code().is_some() => refused = Some(error),
                        switched => released = switched? == Changed::Yes,
                    }
                }
                patience = KILL_AGAIN;
            }
            session.answer().map(drop)
        });
        // The run ends with this. Where only the patience with this server is over, it may go on.
        let is_over = |e: &Error| e.kind() == Kind::Overtaken || self.deadline.passed();
        if ended.as_ref().is_err_and(is_over) {
            self.deadline.renew(CANCEL_LIMIT);
        }
        if released && let Err(error) = helper.set_semi_sync(Side::Source, true) {
            log::warn!("semi-sync stays off on {}: {}", self.name(), error.chain());
        }
        // Or it takes effect whenever the writers are gone, long after this run.
        if ended.is_err()
            && let Some(id) = self.abandoned.take()
            && helper.end_sessions(&[u64::from(id)]).is_err()
        {
            let advice = format!("end session {id} there, or its {sql} may yet take effect");
            return ended.map_err(|e| e.advise(advice));
        }
        ended.map_err(|e| e.during(sql))
    }

    /// How many commits wait for the acknowledgement of a semi-sync replica: "Waiting for semi-sync
    /// ACK from slave", or from replica.
    fn commits_without_acknowledgement(&self) -> Result<usize> {
        let sql = "SELECT ID FROM information_schema.PROCESSLIST \
                   WHERE STATE LIKE 'Waiting for semi-sync ACK%'";
        Ok(self.ask(sql)?.rows().count())
    }

    pub(super) fn of_applications(&self, spare: &[String]) -> Result<Vec<u64>> {
        let spared: Vec<String> = ["system user", "event_scheduler", "unauthenticated user"]
            .into_iter()
            .chain(spare.iter().map(String::as_str))
            .chain([self.login.user.as_str()])
            .map(quote)
            .collect();
        let answer = self.ask(&format!(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE USER NOT IN ({}) \
             AND COMMAND NOT LIKE 'Binlog Dump%' AND COMMAND NOT IN ('Daemon', 'Killed') \
             AND COMMAND NOT LIKE 'Slave%'",
            spared.join(", ")
        ))?;
        Ok(answer.rows().map(|row| number(row, "ID")).collect())
    }

    pub(super) fn end_all(&self, ids: &[u64]) -> Result<Changed> {
        if ids.is_empty() {
            return Ok(Changed::AlreadySo);
        }
        self.with_session(|session| kill(session, ids))
            .map_err(|e| e.during("end sessions"))?;
        Ok(Changed::Yes)
    }

    pub(super) fn open_transactions(&self, spare: &[String]) -> Result<Vec<String>> {
        let sessions = self.sessions(spare)?;
        let answer = self.ask(
            "SELECT trx_mysql_thread_id AS session, trx_id, trx_started \
             FROM information_schema.INNODB_TRX",
        )?;
        let of_applications = answer
            .rows()
            .filter(|row| sessions.contains(&number(*row, "session")));
        let word = |row: AnswerRow<'_>, name| row.get(name).unwrap_or_default().to_owned();
        Ok(of_applications
            .map(|row| ["session", "trx_id", "trx_started"].map(|name| word(row, name)))
            .map(|words| words.join(" "))
            .collect())
    }
}

/// Ends sessions, all asked before the first answer is read: a round trip each would add up.
pub(super) fn kill(session: &mut Session, ids: &[u64]) -> Result<()> {
    for id in ids {
        session.send(&format!("KILL CONNECTION {id}"))?;
    }
    let mut refused = None;
    for _ in ids {
        match session.answer() {
            Err(e) if e.server_code() == Some(NO_SUCH_THREAD) => {}
            // The other answers must still be read, or they would answer later questions.
            Err(e) if e.server_code().is_some() => refused = Some(e),
            answer => drop(answer?),
        }
    }
    refused.map_or(Ok(()), Err)
}
