//! The event scheduler of a server.

use std::time::Duration;

use super::Server;
use crate::db::session::AnswerRow;
use crate::db::{Event, EventStatus};
use crate::error::Result;
use crate::run::Changed;

/// How long the scheduler may take to start or stop, which takes it a few ms: it comes before
/// closing writes, and must not be what those wait for.
const SCHEDULER_LIMIT: Duration = Duration::from_millis(300);

impl Server {
    pub(super) fn scheduler_runs(&self) -> Result<bool> {
        let variables = self.variables(&["event_scheduler"])?;
        Ok(variables.get("event_scheduler") == Some("ON"))
    }

    pub(super) fn set_scheduler(&self, run: bool) -> Result<Changed> {
        if self.scheduler_runs()? == run {
            return Ok(Changed::AlreadySo);
        }
        let word = if run { "ON" } else { "OFF" };
        let sql = format!("SET GLOBAL event_scheduler = {word}");
        self.ask_within(&sql, SCHEDULER_LIMIT).map(|_| Changed::Yes)
    }

    pub(super) fn all_events(&self) -> Result<Vec<Event>> {
        let answer = self.ask(
            "SELECT EVENT_SCHEMA AS in_schema, EVENT_NAME AS name, DEFINER AS definer, \
             STATUS AS status FROM information_schema.EVENTS",
        )?;
        Ok(answer.rows().map(read_event).collect())
    }

    /// ALTER EVENT makes whoever asks the definer unless it names one.
    pub(super) fn enable(&self, event: &Event) -> Result<Changed> {
        let (user, host) = event
            .definer
            .rsplit_once('@')
            .unwrap_or((&event.definer, "%"));
        let definer = format!("{}@{}", identifier(user), identifier(host));
        let name = &event.name;
        self.ask(&format!("ALTER DEFINER = {definer} EVENT {name} ENABLE"))
            .map(|_| Changed::Yes)
    }
}

fn read_event(row: AnswerRow<'_>) -> Event {
    let text = |name: &str| row.get(name).unwrap_or_default();
    Event {
        name: format!(
            "{}.{}",
            identifier(text("in_schema")),
            identifier(text("name"))
        ),
        definer: text("definer").to_owned(),
        status: match text("status") {
            "ENABLED" => EventStatus::Enabled,
            // MySQL took the newer word in 8.2.
            "SLAVESIDE_DISABLED" | "REPLICA_SIDE_DISABLED" => EventStatus::FromSource,
            _ => EventStatus::Disabled,
        },
    }
}

fn identifier(text: &str) -> String {
    format!("`{}`", text.replace('`', "``"))
}
