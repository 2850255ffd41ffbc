//! Can one of two servers be the other's source, and has it all that the other has?

use crate::db::{Channel, Database, Gtids, Identity, State, Writes};
use crate::error::{Error, Kind, Result};
use crate::run::Run;

/// A server as it stands.
pub struct Side {
    pub name: String,
    pub state: State,
    pub identity: Identity,
    pub channels: Vec<Channel>,
}

impl Side {
    pub fn of(db: &dyn Database) -> Result<Side> {
        Ok(Side {
            name: db.name(),
            state: db.state()?,
            identity: db.identity()?,
            channels: db.channels()?,
        })
    }

    /// The channel by which it replicates from `other`, which it knows as `address`. One that has
    /// not reached its source since a restart does not know the source's `server_id`.
    pub fn channel_of(&self, other: &Side, address: &str) -> Option<&Channel> {
        let is = |c: &&Channel| match c.source_id {
            0 => c.source == address,
            id => id == other.state.server_id,
        };
        self.channels.iter().find(is)
    }

    fn follows(&self, other: &Side) -> bool {
        let id = other.state.server_id;
        self.channels.iter().any(|c| c.source_id == id)
    }
}

/// Whether `theirs`, which is known as `address`, can be the source of `own`.
pub fn fits(own: &Side, theirs: &Side, address: &str) -> Result<()> {
    let refused = |what: String| Error::new(Kind::Refused, what);
    let (id, uuid) = (own.state.server_id, &own.identity.uuid);
    let is_same = theirs.state.server_id == id || uuid.is_some() && theirs.identity.uuid == *uuid;
    if is_same || id == 0 {
        let what = format!("it is this server, or has its server_id {id} or its server_uuid");
        return Err(refused(what).advise(
            "name the new primary; SELECT @@server_id must be another number on each server",
        ));
    }
    let (version, other) = (own.identity.version, theirs.identity.version);
    let series = |number: (u16, u16, u16)| (number.0, number.1);
    if version.flavor != other.flavor || series(version.number) < series(other.number) {
        let what = format!("{version} cannot be a replica of {other}");
        return Err(refused(what).advise(format!("upgrade this server to {other} first")));
    }
    if theirs.identity.binary_log.is_none() {
        return Err(refused("it writes no binary log".to_owned())
            .advise("set log_bin there and restart it, then rebuild this server from a copy"));
    }
    let open = |side: &Side| side.state.writes == Writes::Open;
    let circle = open(theirs) && own.channel_of(theirs, address).is_some();
    if theirs.follows(own) && !circle {
        return Err(
            refused("it replicates from this server".to_owned()).advise(format!(
                "name the new primary; if {address} is it, let it forget this server first: \
             hookbox notify_master there"
            )),
        );
    }
    if open(own) && !open(theirs) {
        let what = "this server takes writes and that one does not: nobody would";
        return Err(refused(what.to_owned()).advise(format!(
            "make {address} the primary first, or close this server: hookbox fence"
        )));
    }
    Ok(())
}

/// What is the way of one channel is not that of several.
pub fn only_channel(own: &Side) -> Result<Option<&Channel>> {
    match &own.channels[..] {
        [] => Ok(None),
        [channel] => Ok(Some(channel)),
        several => {
            let names: Vec<&str> = several.iter().map(|c| c.source.as_str()).collect();
            let what = format!("{} replicates from {}", own.name, names.join(" and "));
            Err(Error::new(Kind::Refused, what)
                .advise("with several sources change the one channel by hand"))
        }
    }
}

/// Whether transactions have names on both.
pub fn named(own: &Side, theirs: &Side) -> bool {
    let is_named = |side: &Side| side.identity.gtids != Gtids::Unnamed;
    is_named(own) && is_named(theirs)
}

/// What `own` has and `theirs` has not, as far as the servers name transactions.
pub fn beyond(db: &dyn Database, own: &Side, theirs: &Side) -> Result<Option<String>> {
    let ranges = match (&own.identity.gtids, &theirs.identity.gtids) {
        (
            Gtids::Sets { executed, .. },
            Gtids::Sets {
                executed: known, ..
            },
        ) => db.gtids_beyond(executed, known)?,
        (
            Gtids::Positions {
                history, strict, ..
            },
            Gtids::Positions { history: known, .. },
        ) => {
            let stray = (!strict).then_some(own.state.server_id);
            history.beyond(known, stray).join(",")
        }
        _ => String::new(),
    };
    Ok((!ranges.is_empty()).then_some(ranges))
}

/// Refuses when `own` has what `theirs` has not.
pub fn lacks_nothing(
    run: &mut Run<'_>,
    db: &dyn Database,
    own: &Side,
    theirs: &Side,
) -> Result<()> {
    let (name, other) = (&own.name, &theirs.name);
    run.check(
        &format!("{other} has all that {name} has"),
        || match beyond(db, own, theirs)? {
            None => Ok(()),
            Some(ranges) => {
                let what = format!("{name} has transactions that {other} lacks: {ranges}");
                Err(Error::new(Kind::Refused, what).advise(ways_out(own, &ranges, other)))
            }
        },
    )
}

/// What a person can do about transactions that are here alone.
fn ways_out(own: &Side, ranges: &str, other: &str) -> String {
    let files = own.identity.binary_log.as_deref().unwrap_or("binlog");
    let rows = "--base64-output=decode-rows -vv";
    let look = match &own.identity.gtids {
        Gtids::Positions { .. } => {
            // mariadb-binlog takes GTIDs as positions from 10.8 on; the first is not shown.
            let after = |range: &str| -> Option<String> {
                let (first, _) = range.split_once("..")?;
                let (origin, number) = first.rsplit_once('-')?;
                Some(format!("{origin}-{}", number.parse::<u64>().ok()? - 1))
            };
            let last = |range: &str| range.split_once("..").map(|(_, last)| last.to_owned());
            let list = |end: &dyn Fn(&str) -> Option<String>| {
                ranges
                    .split(',')
                    .filter_map(end)
                    .collect::<Vec<_>>()
                    .join(",")
            };
            match own.identity.version.number >= (10, 8, 0) {
                true => format!(
                    "mariadb-binlog {rows} --start-position={} --stop-position={} {files}.[0-9]*",
                    list(&after),
                    list(&last)
                ),
                false => format!("mysqlbinlog {rows} {files}.[0-9]*"),
            }
        }
        _ => format!("mysqlbinlog {rows} --include-gtids='{ranges}' {files}.[0-9]*"),
    };
    format!(
        "look at them: {look}; write what must be kept into {other}; then rebuild this server from a \
         copy of {other}. `hookbox rejoin --help` says what else can be done"
    )
}
