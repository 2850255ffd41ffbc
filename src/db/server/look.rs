//! Everything that a promotion asks of a server, in one round trip.

use super::channel::read_channels;
use super::semisync::{SEMI_SYNC, SEMI_SYNC_STATUS, read_semi_sync};
use super::source::{history_question, read_history};
use super::{Server, Variables, variables_question};
use crate::db::session::Answer;
use crate::db::{Seen, State, Writes};
use crate::error::Result;

/// What [`read_state`] reads.
pub(super) const STATE: [&str; 3] = ["read_only", "super_read_only", "server_id"];

impl Server {
    pub(super) fn look(&self) -> Result<Seen> {
        let version = self.version()?;
        let [state, channels, history, semi_sync, status] = self.ask_all(&[
            variables_question(&STATE),
            version.dialect().replica_status.to_owned(),
            history_question(version).to_owned(),
            SEMI_SYNC.to_owned(),
            SEMI_SYNC_STATUS.to_owned(),
        ])?;
        Ok(Seen {
            state: read_state(&Variables(state?)),
            channels: read_channels(version, &channels?),
            history: read_history(version, history)?,
            semi_sync: read_semi_sync(version, &semi_sync?, &status?),
        })
    }

    /// Asks questions in one round trip; each has its answer, which may be the server's error.
    pub(super) fn ask_all<const N: usize>(
        &self,
        questions: &[String; N],
    ) -> Result<[Result<Answer>; N]> {
        let answers = self.with_session(|session| {
            let all = session.ask_all(questions);
            all.map_err(|e| e.during(questions.join("; ")))
        })?;
        let mut questions = questions.iter();
        Ok(answers.map(|answer| match questions.next() {
            Some(sql) => answer.map_err(|e| e.during(sql)),
            None => answer,
        }))
    }
}

pub(super) fn read_state(variables: &Variables) -> State {
    let super_read_only = variables.get("super_read_only");
    // MariaDB 12 has words for more than ON and OFF.
    let read_only = variables.get("read_only").unwrap_or("OFF");
    State {
        server_id: variables.number("server_id"),
        has_super_read_only: super_read_only.is_some(),
        // Both are asked: while SET super_read_only waits for writers MySQL already shows it
        // as ON, with read_only still OFF.
        writes: match (read_only, super_read_only) {
            ("OFF", _) => Writes::Open,
            ("NO_LOCK_NO_ADMIN", _) | (_, Some("ON")) => Writes::ClosedToAll,
            _ => Writes::Closed,
        },
    }
}
