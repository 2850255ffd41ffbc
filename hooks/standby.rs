//! The server on this host is closed, and stands by with events and semi-sync as a replica has them.

use hookbox::config::SemiSyncAt;
use hookbox::db::server::Server;
use hookbox::error::Result;
use hookbox::procedure::demote::{Demotion, demote};
use hookbox::procedure::{events, semisync};
use hookbox::run::Run;

use crate::context::Context;

/// Closes it; `db` is this host's server, by a session that may have a limit of its own. `resume`:
/// the run before was cut short.
///
/// # Errors
/// As [`demote`].
pub fn close<'a>(run: &mut Run<'a>, context: &'a Context, db: &Server, resume: bool) -> Result<()> {
    let how = Demotion {
        resume,
        ..context.demotion()
    };
    events::stop_if_open(run, context.server()?, &context.config.paths.run)?;
    demote(run, db, how)?;
    match context.config.promote.semi_sync {
        SemiSyncAt::Switch => semisync::after_closing(run, db),
        SemiSyncAt::Keep => Ok(()),
    }
}
