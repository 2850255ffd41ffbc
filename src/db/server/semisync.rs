//! Semi-sync on a server, by whichever words it has for it.

use super::Server;
use crate::db::dialect::Version;
use crate::db::session::{Answer, AnswerRow};
use crate::db::{SemiSync, Side};
use crate::error::Result;
use crate::run::Changed;

/// The first of the two questions that [`read_semi_sync`] reads the answers to.
pub(super) const SEMI_SYNC: &str = "SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync%'";

/// The second.
pub(super) const SEMI_SYNC_STATUS: &str = "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync%'";

pub(super) fn read_semi_sync(version: Version, variables: &Answer, status: &Answer) -> SemiSync {
    let value = |name: &str| {
        let mut rows = variables.rows().chain(status.rows());
        let is_it = |row: &AnswerRow<'_>| row.at(0).is_some_and(|n| n.eq_ignore_ascii_case(name));
        rows.find(is_it)?.at(1)
    };
    SemiSync::read(version, value)
}

impl Server {
    pub(super) fn look_at_semi_sync(&self) -> Result<SemiSync> {
        let questions = [SEMI_SYNC, SEMI_SYNC_STATUS].map(str::to_owned);
        let [variables, status] = self.ask_all(&questions)?;
        Ok(read_semi_sync(self.version()?, &variables?, &status?))
    }

    /// How a variable of semi-sync is set where this server has it, by whichever word.
    pub(super) fn semi_sync_setting(
        &self,
        side: Side,
        what: &str,
        on: bool,
    ) -> Result<Option<String>> {
        let names = side
            .words()
            .map(|word| format!("rpl_semi_sync_{word}{what}"));
        let variables = self.variables(&[&names[0], &names[1]])?;
        let word = if on { "ON" } else { "OFF" };
        let to_set = names
            .iter()
            .find(|name| variables.get(name).is_some_and(|is| is != word));
        Ok(to_set.map(|name| format!("SET GLOBAL {name} = {word}")))
    }

    pub(super) fn set_semi_sync_variable(
        &self,
        side: Side,
        what: &str,
        on: bool,
    ) -> Result<Changed> {
        match self.semi_sync_setting(side, what, on)? {
            Some(sql) => self.ask(&sql).map(|_| Changed::Yes),
            None => Ok(Changed::AlreadySo),
        }
    }

    pub(super) fn set_wait_for_nobody(&self, wait: bool) -> Result<Changed> {
        match self.set_semi_sync_variable(Side::Source, "_wait_no_replica", wait)? {
            Changed::Yes => Ok(Changed::Yes),
            Changed::AlreadySo => self.set_semi_sync_variable(Side::Source, "_wait_no_slave", wait),
        }
    }

    /// A commit that times out at once ends all waiting until a replica has caught up. FLUSH HOSTS
    /// is one that changes no data.
    pub(super) fn begin_without_replicas(&self) -> Result<Changed> {
        let semi = self.look_at_semi_sync()?;
        if semi.source != Some(false) {
            return Ok(Changed::AlreadySo);
        }
        let begun = self
            .ask("SET GLOBAL rpl_semi_sync_master_timeout = 0")
            .and_then(|_| self.set_semi_sync_variable(Side::Source, "_enabled", true))
            .and_then(|changed| self.ask("FLUSH HOSTS").map(|_| changed));
        // Or no commit would ever wait again.
        let put_back = self.put_back(&format!(
            "SET GLOBAL rpl_semi_sync_master_timeout = {}",
            semi.timeout.as_millis()
        ));
        begun.and_then(|changed| put_back.map(|()| changed))
    }
}
