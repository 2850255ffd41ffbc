//! Closing a server for writes, whoever is in the way of that.

use std::time::Duration;

use super::look::{STATE, read_state};
use super::{Server, Variables, variables_question};
use crate::db::session::AnswerRow;
use crate::db::{Database, Side};
use crate::error::{Error, Kind, Result};
use crate::run::Changed;

/// How often sessions in the way of read_only are ended again, since new ones may come.
const KILL_AGAIN: Duration = Duration::from_millis(200);

/// How long asking for their end may take.
const KILL_LIMIT: Duration = Duration::from_secs(3);

/// How long ending a statement of our own may take once time is up.
const CANCEL_LIMIT: Duration = Duration::from_millis(500);

impl Server {
    pub(super) fn close(&self, grace: Duration, spare: &[String]) -> Result<Changed> {
        let seconds = self.time().left().as_secs() + 1; // whole seconds, rounded up
        let [before, limited] = self.ask_all(&[
            variables_question(&STATE),
            format!("SET SESSION lock_wait_timeout = {seconds}"),
        ])?;
        let before = read_state(&Variables(before?));
        if before.is_closed() {
            return Ok(Changed::AlreadySo);
        }
        limited?;
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
                match in_the_way.and_then(|ids| helper.end_sessions(&ids, KILL_LIMIT)) {
                    // Returned, it would pass for an answer to `sql`, which still runs.
                    Err(error) if error.server_code().is_some() => refused = Some(error),
                    // More of them than can be asked in a while: some have made way.
                    Err(error) if error.kind() == Kind::Timeout && !time.passed() => {}
                    ended => drop(ended?),
                }
                let commits = helper.commits_without_acknowledgement(spare)?;
                waiting = commits.all;
                // After their sessions, so that no client hears of a commit that no replica has.
                // Semi-sync's wait does not end with the session (MySQL, ReplSemiSyncMaster::commitTrx).
                if waiting > 0 && commits.heard_of == 0 && refused.is_none() && !released {
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
            && helper.end_sessions(&[u64::from(id)], CANCEL_LIMIT).is_err()
        {
            let advice = format!("end session {id} there, or its {sql} may yet take effect");
            return ended.map_err(|e| e.advise(advice));
        }
        ended.map_err(|e| e.during(sql))
    }

    /// The commits that wait for the acknowledgement of a semi-sync replica: "Waiting for semi-sync
    /// ACK from slave", or from replica.
    fn commits_without_acknowledgement(&self, spare: &[String]) -> Result<Waiting> {
        let answer = self.ask(
            "SELECT ID, USER, COMMAND FROM information_schema.PROCESSLIST \
             WHERE STATE LIKE 'Waiting for semi-sync ACK%'",
        )?;
        // A KILL that stalls or was not sent in time has not reached its session yet.
        let is_heard_of = |row: &AnswerRow<'_>| {
            let user = row.get("USER").unwrap_or_default();
            let is_spared = user == "system user" || spare.iter().any(|name| name == user);
            row.get("COMMAND") != Some("Killed") && !is_spared
        };
        Ok(Waiting {
            all: answer.rows().count(),
            heard_of: answer.rows().filter(is_heard_of).count(),
        })
    }
}

/// Commits that wait for an acknowledgement.
struct Waiting {
    all: usize,
    /// Those whose clients would hear that they were made.
    heard_of: usize,
}
