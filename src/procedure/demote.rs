//! A server stops taking writes.

use std::time::Duration;

use crate::db::Database;
use crate::error::{Error, Kind, Result};
use crate::run::{Changed, Run};

/// Between two looks whether ended sessions are gone.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Most time for sessions to go: a KILL can stall for 2 s in a statement that cannot be
/// interrupted.
const SESSIONS_LIMIT: Duration = Duration::from_secs(3);

/// How a server is to be closed.
#[derive(Clone, Copy, Debug)]
pub struct Demotion<'a> {
    /// How long running statements may hold up read_only before their sessions are ended.
    pub grace: Duration,
    /// Accounts whose sessions are left alone.
    pub spare: &'a [String],
    /// End sessions even on a server that is closed already: the run before was cut short.
    pub resume: bool,
}

/// Closes `db` for writes and ends the sessions of applications.
///
/// A server that is closed already is left as it is, with its readers: keepalived calls
/// notify_backup at every start.
///
/// # Errors
/// When writes cannot be closed in time, or sessions do not end. Writes that were closed stay so.
pub fn demote(run: &mut Run<'_>, db: &dyn Database, how: Demotion<'_>) -> Result<()> {
    let name = db.name();
    if db.state()?.is_closed() && !how.resume {
        run.note(format!("{name} takes no writes already"));
        return Ok(());
    }
    let step = format!("close writes on {name}");
    run.commit(&step, || db.close_writes(how.grace, how.spare))?;
    let deadline = run.deadline().at_most(SESSIONS_LIMIT);
    run.act(&format!("end application sessions on {name}"), || {
        let mut changed = Changed::AlreadySo;
        loop {
            let sessions = db.sessions(how.spare)?;
            if sessions.is_empty() {
                return Ok(changed);
            }
            changed = db.end_sessions(&sessions)?;
            deadline.pause(LOOK_AGAIN).map_err(|error| {
                let count = sessions.len();
                match error.kind() {
                    Kind::Timeout => {
                        Error::new(Kind::Timeout, format!("{count} sessions do not end"))
                            .advise("look at SHOW PROCESSLIST; they cannot write unless privileged")
                    }
                    _ => error,
                }
            })?;
        }
    })
}
