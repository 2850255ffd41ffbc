//! The sessions of applications, and ending them.

use std::time::Duration;

use super::{Server, number};
use crate::db::Database;
use crate::db::dialect::quote;
use crate::db::session::{AnswerRow, Session};
use crate::error::{Error, Result};
use crate::run::Changed;

/// KILL: there is no such session; it has gone already.
const NO_SUCH_THREAD: u16 = 1094;

/// So many KILLs are under way at most: enough that the server need not wait for the next, and few
/// enough that it need not wait to be heard. A unix socket holds 277 of its answers (each counts as
/// 768 bytes of 208 KiB); then neither side would read any more.
const UNDER_WAY: usize = 200;

/// So many are sent at a time.
const AT_A_TIME: usize = 50;

/// A KILL that is answered no sooner stalls, for up to 2 s where the one to be ended holds on to a
/// mutex (MariaDB, `THD::awake_no_mutex`), and all that were sent after it on the same connection
/// wait for it.
const STALLS: Duration = Duration::from_millis(100);

impl Server {
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

    pub(super) fn still_there(&self, ids: &[u64]) -> Result<usize> {
        if ids.is_empty() {
            return Ok(0);
        }
        let list: Vec<String> = ids.iter().map(u64::to_string).collect();
        let answer = self.ask(&format!(
            "SELECT COUNT(*) AS sessions FROM information_schema.PROCESSLIST WHERE ID IN ({})",
            list.join(", ")
        ))?;
        Ok(answer.first().map_or(0, |row| number(row, "sessions")) as usize)
    }

    pub(super) fn end_all(&self, ids: &[u64], limit: Duration) -> Result<Changed> {
        let time = self.time().at_most(limit);
        let mut refused = None;
        let mut left = ids;
        while !left.is_empty() {
            let round = self.with_session(|session| {
                session.end_at(time.clone());
                kill(session, left)
            });
            let round = round.map_err(|e| e.during("end sessions"))?;
            refused = round.refused.or(refused);
            left = &left[round.answered..];
            // It goes on there, and what waits behind it is asked for again.
            if let Some((_, behind)) = left.split_first()
                && let Some(stalled) = self.session.take()
            {
                stalled.quit();
                left = behind;
            }
        }
        match refused {
            Some(error) => Err(error.during("end sessions")),
            None if ids.is_empty() => Ok(Changed::AlreadySo),
            None => Ok(Changed::Yes),
        }
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

/// How far [`kill`] came.
#[derive(Default)]
struct Round {
    /// How many KILLs were answered.
    answered: usize,
    /// Why one of them was not allowed.
    refused: Option<Error>,
}

/// Ends sessions until a KILL stalls. A round trip each would add up; several in one statement would
/// end with the first session that has gone already.
fn kill(session: &mut Session, ids: &[u64]) -> Result<Round> {
    let mut round = Round::default();
    let mut sent = 0;
    while round.answered < ids.len() {
        if sent - round.answered <= UNDER_WAY - AT_A_TIME {
            let next = ids.len().min(round.answered + UNDER_WAY);
            session.send_all(ids[sent..next].iter().map(|id| statement(*id)))?;
            sent = next;
        }
        if !session.answers_within(STALLS)? {
            session.must_have_time()?;
            break;
        }
        match session.answer() {
            Err(e) if e.server_code() == Some(NO_SUCH_THREAD) => {}
            Err(e) if e.server_code().is_some() => round.refused = Some(e),
            answer => drop(answer?),
        }
        round.answered += 1;
    }
    Ok(round)
}

/// Ends one session, however long that stalls.
pub(super) fn kill_one(session: &mut Session, id: u32) -> Result<()> {
    match session.ask(&statement(id.into())) {
        Err(e) if e.server_code() == Some(NO_SUCH_THREAD) => Ok(()),
        answer => answer.map(drop),
    }
}

fn statement(id: u64) -> String {
    format!("KILL CONNECTION {id}")
}
