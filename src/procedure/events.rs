//! Events run where the primary is: the scheduler stops before writes are closed, and on the new
//! primary those run that ran on the old one.

use std::path::{Path, PathBuf};

use super::or_note;
use crate::db::{Database, Event, EventStatus};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::last_seen::LastSeen;
use crate::run::Run;

/// Stops the scheduler; taken back if a later step fails.
///
/// # Errors
/// When it does not stop.
pub fn stop<'a>(run: &mut Run<'a>, db: &'a dyn Database) -> Result<()> {
    stop_and_remember(run, db, None)
}

/// The same, remembered in the directory `memory` for [`start_as_last_seen`].
fn stop_and_remember<'a>(
    run: &mut Run<'a>,
    db: &'a dyn Database,
    memory: Option<&'a Path>,
) -> Result<()> {
    if !db.runs_events()? {
        return Ok(());
    }
    let name = db.name();
    run.change(
        &format!("stop the event scheduler of {name}"),
        || {
            memory.map_or(Ok(()), remember)?;
            db.set_events(false)
        },
        &format!("start the event scheduler of {name} again"),
        move || {
            memory.map_or(Ok(()), forget)?;
            db.set_events(true)
        },
    )
}

/// Before a server that keepalived calls a standby is closed. A scheduler that cannot be stopped is
/// told and left: its events meet a closed server.
///
/// # Errors
/// [`Kind::Overtaken`].
pub fn stop_if_open<'a>(run: &mut Run<'a>, db: &'a dyn Database, memory: &'a Path) -> Result<()> {
    if db.state().is_ok_and(|state| state.is_closed()) {
        return Ok(());
    }
    let stopped = stop_and_remember(run, db, Some(memory));
    or_note(run, "events", stopped).map(drop)
}

/// Right after `db` was closed, where it was not stopped before: an event whose definer may write in
/// spite of read_only goes on. What cannot be done is told and left.
///
/// # Errors
/// [`Kind::Overtaken`].
pub(super) fn stop_on_closed(run: &mut Run<'_>, db: &dyn Database) -> Result<()> {
    if or_note(run, "events", db.runs_events())? == Some(true) {
        let step = format!("stop the event scheduler of {}", db.name());
        let done = run.act(&step, || db.set_events(false));
        or_note(run, "events", done)?;
    }
    Ok(())
}

/// The events that run on `db` when its scheduler does; `None` when it does not tell.
pub fn enabled(db: &dyn Database) -> Option<Vec<String>> {
    let events = db.events().ok()?.into_iter();
    let enabled = events.filter(|event| event.status == EventStatus::Enabled);
    Some(enabled.map(|event| event.name).collect())
}

/// Lets events run on a new primary: of those that came by replication the ones that were `enabled`
/// on the old one, where that is known; and the scheduler if it `ran`. What cannot be done is told
/// and left.
///
/// # Errors
/// [`Kind::Overtaken`].
pub fn start(
    run: &mut Run<'_>,
    db: &dyn Database,
    ran: bool,
    enabled: Option<&[String]>,
) -> Result<()> {
    let all = or_note(run, "events", db.events())?.unwrap_or_default();
    let came = all
        .into_iter()
        .filter(|event| event.status == EventStatus::FromSource);
    let (known, others): (Vec<Event>, Vec<Event>) =
        came.partition(|event| enabled.is_some_and(|names| names.contains(&event.name)));
    for event in &known {
        let step = format!("enable the event {}", event.name);
        let done = run.act(&step, || db.enable_event(event));
        or_note(run, "events", done)?;
    }
    if enabled.is_none() && !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|event| event.name.as_str()).collect();
        run.note(format!(
            "these events stay disabled, since nobody knows which of them ran on the old primary: \
             {}; ALTER EVENT ... ENABLE",
            names.join(", ")
        ));
    }
    if ran {
        let step = format!("start the event scheduler of {}", db.name());
        let done = run.act(&step, || db.set_events(true));
        or_note(run, "events", done)?;
    }
    Ok(())
}

/// The same for what was last seen of the old primary, or was stopped here itself. That is then
/// forgotten: a later run starts nothing that somebody has stopped meanwhile.
///
/// # Errors
/// [`Kind::Overtaken`].
pub fn start_as_last_seen(
    run: &mut Run<'_>,
    db: &dyn Database,
    last_seen: &[LastSeen],
    memory: &Path,
) -> Result<()> {
    let ran = last_seen.iter().any(LastSeen::ran_events) || place(memory).exists();
    let lists = last_seen.iter().filter_map(|seen| seen.events.clone());
    let enabled = lists.reduce(|one, other| [one, other].concat());
    start(run, db, ran, enabled.as_deref())?;
    if !run.is_dry() {
        LastSeen::keep(&[], memory);
        or_note(run, "events", forget(memory))?;
    }
    Ok(())
}

fn place(memory: &Path) -> PathBuf {
    memory.join("events-stopped")
}

fn remember(memory: &Path) -> Result<()> {
    let place = place(memory);
    files::replace_unsynced(&place, b"", 0o644).map_err(|error| trouble("write", &place, error))
}

fn forget(memory: &Path) -> Result<()> {
    let place = place(memory);
    match std::fs::remove_file(&place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(trouble("remove", &place, error))
        }
        _ => Ok(()),
    }
}

fn trouble(what: &str, place: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Refused, format!("{what} {}", place.display())).because(error)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fake::{Fake, World};
    use super::*;
    use crate::last_seen::Look;
    use crate::run::{Mode, Outcome};
    use crate::scratch::Scratch;
    use crate::time::Deadline;

    fn carry_out<'a>(procedure: impl FnOnce(&mut Run<'a>) -> Result<()>) -> Outcome {
        Run::new(Deadline::after(Duration::from_secs(5)), Mode::Real, |_| {}).carry_out(procedure)
    }

    fn event(name: &str, status: EventStatus) -> Event {
        Event {
            name: name.to_owned(),
            definer: "app@%".to_owned(),
            status,
        }
    }

    #[test]
    fn exactly_those_run_that_ran_on_the_old_primary() {
        let dir = Scratch::new();
        let seen = LastSeen {
            looks: vec![Look {
                ran_events: true,
                ..Look::default()
            }],
            events: Some(vec!["ran".to_owned(), "dropped".to_owned()]),
            ..LastSeen::default()
        };
        let fake = Fake::new(World {
            scheduled: vec![
                event("ran", EventStatus::FromSource),
                event("disabled there", EventStatus::FromSource),
                event("disabled here", EventStatus::Disabled),
            ],
            ..World::primary()
        });
        let outcome = carry_out(|run| {
            start_as_last_seen(run, &fake, std::slice::from_ref(&seen), dir.path())
        });
        assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
        let world = fake.world.borrow();
        let status: Vec<EventStatus> = world.scheduled.iter().map(|e| e.status).collect();
        let expected = [
            EventStatus::Enabled,
            EventStatus::FromSource,
            EventStatus::Disabled,
        ];
        assert_eq!((world.events, &status[..]), (true, &expected[..]));
    }

    #[test]
    fn what_nobody_used_is_not_started_and_what_was_stopped_here_is() {
        let dir = Scratch::new();
        let fake = Fake::new(World {
            scheduled: vec![event("unknown", EventStatus::FromSource)],
            ..World::primary()
        });
        carry_out(|run| start_as_last_seen(run, &fake, &[], dir.path()));
        assert!(!fake.world.borrow().events);
        assert_eq!(
            fake.world.borrow().scheduled[0].status,
            EventStatus::FromSource
        );
        fake.world.borrow_mut().events = true;
        carry_out(|run| {
            stop_and_remember(run, &fake, Some(dir.path()))?;
            run.no_way_back();
            Ok(())
        });
        assert!(!fake.world.borrow().events);
        carry_out(|run| start_as_last_seen(run, &fake, &[], dir.path()));
        assert!(fake.world.borrow().events);
        assert!(!place(dir.path()).exists());
    }
}
