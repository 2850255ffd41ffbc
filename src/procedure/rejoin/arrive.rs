//! Does a replica replicate?

use std::time::Duration;

use crate::db::{Channel, Database, Gtids, Position, Receiver};
use crate::error::{Error, Kind, Result};
use crate::run::Run;
use crate::time::Stopwatch;

/// How long both threads must have run without an error: a source that cannot send what is asked
/// for says so only after the receiver has connected.
const STEADY: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 500 });

/// What the source, or the client library in the receiver, says to a login that waiting does not
/// help: no such account or password, no database, this host is blocked or not allowed, an account
/// without a password, a certificate that does not hold, a plugin that cannot be had or wants TLS.
const LOGIN_REFUSED: [u16; 9] = [1044, 1045, 1129, 1130, 1524, 1698, 2026, 2059, 2061];

/// Both threads run, and what the source has written by now begins to arrive.
pub fn verify(
    run: &mut Run<'_>,
    db: &dyn Database,
    source: &dyn Database,
    channel: &str,
    (address, limit): (&str, Duration),
) -> Result<()> {
    let dry = run.is_dry();
    let mut first: Option<Position> = None;
    let mut goal: Option<(Option<Position>, Gtids)> = None;
    let mut steady = Stopwatch::start();
    let step = format!("both threads run, and events of {address} arrive");
    run.wait(&step, limit, || {
        let now = db.channels()?.into_iter().find(|c| c.name == channel);
        let Some(now) = now.filter(|now| !dry || now.receiver == Receiver::Connected) else {
            return Ok(Some("not a replica yet".to_owned()));
        };
        if let Some(trouble) = trouble(&now, dry) {
            return Err(trouble);
        }
        if now.receiver != Receiver::Connected || !now.applying {
            steady = Stopwatch::start();
            let why = now
                .receiver_error
                .map_or(String::new(), |e| format!(": {e}"));
            return Ok(Some(format!("connecting{why}")));
        }
        let (written, gtids) = match &goal {
            Some(goal) => goal,
            None => goal.insert((source.written()?, source.identity()?.gtids)),
        };
        let began = first.get_or_insert_with(|| now.received.clone());
        let moved = *began != now.received;
        let reached = written
            .as_ref()
            .is_some_and(|end| now.received.reaches(end));
        if !moved && !reached && !has_all(db, gtids)? {
            return Ok(Some(format!("nothing has arrived, at {}", now.received)));
        }
        match steady.elapsed() >= STEADY {
            true => Ok(None),
            false => Ok(Some("running for a moment only".to_owned())),
        }
    })
}

/// What does not pass by waiting: a refused login, a source that cannot send, a row that does not
/// fit.
fn trouble(now: &Channel, dry: bool) -> Option<Error> {
    let refused = |what: &str, error: &str| Error::new(Kind::Refused, format!("{what}: {error}"));
    if let Some(error) = now.applier_error.as_ref().filter(|_| !now.applying) {
        return Some(refused("the applier stopped", error).advise(
            "the data differs from the source's: compare them (pt-table-checksum), or rebuild this \
             server from a copy of the source",
        ));
    }
    let error = now.receiver_error.as_ref().filter(|_| !dry)?;
    let is_refused = |code: &u16| error.starts_with(&format!("error {code}:"));
    if LOGIN_REFUSED.iter().any(is_refused) {
        return Some(refused("no login at the source", error).advise(
            "correct [rejoin] user, its password, tls and tls_ca, and see what `hookbox grants --for \
             replication` prints",
        ));
    }
    let stopped = now.receiver == Receiver::Stopped;
    stopped.then(|| refused("the receiver stopped", error))
}

/// Whether `db` has everything that its source had.
fn has_all(db: &dyn Database, theirs: &Gtids) -> Result<bool> {
    Ok(match (db.identity()?.gtids, theirs) {
        (Gtids::Sets { executed, .. }, Gtids::Sets { executed: goal, .. }) => {
            db.gtids_beyond(goal, &executed)?.is_empty()
        }
        (Gtids::Positions { history, .. }, Gtids::Positions { history: goal, .. }) => {
            history.covers(goal)
        }
        _ => false,
    })
}
