//! Does a replica replicate?

use std::time::Duration;

use crate::db::{Channel, Database, Position, Receiver};
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

/// Both threads run, and the end of the source's binary log, asked for when they do, has arrived, or
/// what comes before it arrives.
///
/// Without a write there, too: whoever connects is told how far that log goes, also by the events that
/// begin each of its files. So it was on every engine of the tests.
pub fn verify(
    run: &mut Run<'_>,
    db: &dyn Database,
    source: &dyn Database,
    channel: &str,
    (address, limit): (&str, Duration),
) -> Result<()> {
    let dry = run.is_dry();
    let mut first: Option<Position> = None;
    let mut goal: Option<Option<Position>> = None;
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
        let end = match &goal {
            Some(end) => end,
            None => goal.insert(source.written()?),
        };
        let began = first.get_or_insert_with(|| now.received.clone());
        let reached = end.as_ref().is_some_and(|end| now.received.reaches(end));
        if !reached && *began == now.received {
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
