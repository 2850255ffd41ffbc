use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;

/// Runs `procedure` and gives its outcome with the timeline as text, start marks left out.
fn timeline(mode: Mode, procedure: impl FnOnce(&mut Run) -> Result<()>) -> (Outcome, Vec<String>) {
    timeline_until(Deadline::after(Duration::from_secs(60)), mode, procedure)
}

fn timeline_until(
    deadline: Deadline,
    mode: Mode,
    procedure: impl FnOnce(&mut Run) -> Result<()>,
) -> (Outcome, Vec<String>) {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let lines = seen.clone();
    let run = Run::new(deadline, mode, move |entry| {
        if entry.mark != Mark::Started {
            lines
                .borrow_mut()
                .push(format!("{:?} {}", entry.mark, entry.step));
        }
    });
    let outcome = run.carry_out(procedure);
    let lines = seen.borrow().clone();
    (outcome, lines)
}

fn refuse() -> Error {
    Error::new(Kind::Refused, "no")
}

#[test]
fn undo_runs_backwards_and_skips_what_was_so_already() {
    let (outcome, lines) = timeline(Mode::Real, |run| {
        run.change("a", || Ok(Changed::Yes), "un-a", || Ok(Changed::Yes))?;
        run.change("b", || Ok(Changed::AlreadySo), "un-b", || Ok(Changed::Yes))?;
        run.change("c", || Ok(Changed::Yes), "un-c", || Ok(Changed::Yes))?;
        run.check("d", || Err(refuse()))
    });
    assert!(matches!(outcome, Outcome::RolledBack(_)), "{outcome:?}");
    assert_eq!(
        lines,
        [
            "Done a",
            "AlreadySo b",
            "Done c",
            "Failed d",
            "Undone un-c",
            "Undone un-a"
        ]
    );
}

#[test]
fn a_deed_that_failed_is_taken_back_too() {
    let (_, lines) = timeline(Mode::Real, |run| {
        run.change("a", || Err(refuse()), "un-a", || Ok(Changed::Yes))
    });
    assert_eq!(lines, ["Failed a", "Undone un-a"]);
}

#[test]
fn nothing_is_taken_back_after_a_commit_and_the_outcome_says_what_stands() {
    let (outcome, lines) = timeline(Mode::Real, |run| {
        run.change("a", || Ok(Changed::Yes), "un-a", || Ok(Changed::Yes))?;
        run.commit("b", || Ok(Changed::Yes))?;
        run.act("c", || Err(refuse()))
    });
    assert!(matches!(outcome, Outcome::Partial { left, .. } if left == ["a", "b"]));
    assert_eq!(lines, ["Done a", "Done b", "Failed c"]);
}

#[test]
fn one_undo_that_fails_does_not_stop_the_others() {
    let (outcome, lines) = timeline(Mode::Real, |run| {
        run.change("a", || Ok(Changed::Yes), "un-a", || Ok(Changed::Yes))?;
        run.change("b", || Ok(Changed::Yes), "un-b", || panic!("broken"))?;
        Err(refuse())
    });
    assert!(matches!(outcome, Outcome::Partial { left, .. } if left == ["to do by hand: un-b"]));
    assert_eq!(lines, ["Done a", "Done b", "NotUndone un-b", "Undone un-a"]);
}

#[test]
fn a_panic_is_rolled_back() {
    let taken_back = Cell::new(false);
    let run = Run::new(Deadline::after(Duration::from_secs(60)), Mode::Real, |_| {});
    let outcome = run.carry_out(|run| {
        run.change(
            "a",
            || Ok(Changed::Yes),
            "un-a",
            || {
                taken_back.set(true);
                Ok(Changed::Yes)
            },
        )?;
        panic!("broken")
    });
    assert!(matches!(outcome, Outcome::RolledBack(e) if e.kind() == Kind::Bug));
    assert!(taken_back.get());
}

#[test]
fn a_dry_run_asks_but_does_nothing() {
    let asked = Cell::new(0);
    let (outcome, lines) = timeline(Mode::Dry, |run| {
        run.check("a", || {
            asked.set(asked.get() + 1);
            Ok(())
        })?;
        run.wait("b", Duration::from_secs(60), || {
            asked.set(asked.get() + 1);
            Ok(Some("4000 bytes behind".to_owned()))
        })?;
        run.act("c", || panic!("done"))?;
        run.change("d", || panic!("done"), "un-d", || panic!("undone"))?;
        run.commit("e", || panic!("done"))
    });
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    assert_eq!(asked.get(), 2);
    assert_eq!(
        lines,
        ["Done a", "WouldDo b", "WouldDo c", "WouldDo d", "WouldDo e"]
    );
}

#[test]
fn a_wait_that_runs_out_names_what_was_missing() {
    let (outcome, _) = timeline(Mode::Real, |run| {
        run.wait("catch up", Duration::from_millis(30), || {
            Ok(Some("5 bytes behind".to_owned()))
        })
    });
    let error = outcome.error().unwrap();
    assert_eq!(error.kind(), Kind::Timeout);
    assert_eq!(error.chain(), "catch up: still 5 bytes behind");
}

#[test]
fn an_overtaken_run_stops_before_its_next_step_and_undoes_in_new_time() {
    let deadline = Deadline::after(Duration::from_secs(60));
    let overtaken = Rc::new(Cell::new(false));
    let flag = overtaken.clone();
    deadline.watched_by(Rc::new(move || match flag.get() {
        true => Err(Error::new(Kind::Overtaken, "a newer notify_backup is here")),
        false => Ok(()),
    }));
    let later = deadline.clone();
    let (outcome, lines) = timeline_until(deadline, Mode::Real, |run| {
        run.change(
            "a",
            || Ok(Changed::Yes),
            "un-a",
            move || later.pause(Duration::from_millis(1)).map(|()| Changed::Yes),
        )?;
        overtaken.set(true);
        run.commit("b", || panic!("must not be reached"))
    });
    assert!(matches!(outcome, Outcome::RolledBack(e) if e.kind() == Kind::Overtaken));
    assert_eq!(lines, ["Done a", "Failed b", "Undone un-a"]);
}
