//! Semi-sync goes with the role where it is in use: the primary's commits wait, replicas
//! acknowledge.

use super::or_note;
use crate::db::{Database, SemiSync, Side};
use crate::error::Result;
use crate::run::Run;

/// Before a replica, whose semi-sync was just seen so, becomes the primary: its commits will wait for
/// replicas if it acknowledged before, but not for replicas that are not there, or the first one would
/// take the whole timeout.
/// So do an applier's commits where the source's side is on already: this comes before it is waited
/// for. True where that is to be switched on [`after_opening`].
///
/// Taken back if a later step fails. What cannot be done is told: it is no reason to stay a replica.
///
/// # Errors
/// [`crate::error::Kind::Overtaken`].
pub fn before_opening<'a>(
    run: &mut Run<'a>,
    db: &'a dyn Database,
    semi: &SemiSync,
) -> Result<bool> {
    let name = db.name();
    let is_on = semi.source == Some(true);
    let comes_into_use = semi.replica == Some(true) && semi.source == Some(false);
    let hangs = semi.waits_for_nobody && semi.lacks_replicas();
    let is_late = semi.first_waits && semi.lacks_replicas();
    if is_on && (hangs || is_late) {
        // A commit that waits already is not let go by the next step alone.
        let done = run.change(
            &format!("let go the commits on {name} that wait for replicas"),
            || db.set_semi_sync(Side::Source, false),
            &format!("let commits on {name} wait for replicas again"),
            || db.set_semi_sync(Side::Source, true),
        );
        or_note(run, "semi-sync", done)?;
    }
    if (is_on || comes_into_use) && hangs {
        let done = run.change(
            &format!("let commits on {name} go on alone while too few replicas are connected"),
            || db.wait_for_nobody(false),
            &format!("let commits on {name} wait for replicas that are not connected again"),
            || db.wait_for_nobody(true),
        );
        if or_note(run, "semi-sync", done)?.is_some() {
            run.note(
                "until its replicas are connected and rpl_semi_sync_master_wait_no_slave (MySQL 9: \
                 rpl_semi_sync_source_wait_no_replica) is 1 there again, semi-sync proves nothing",
            );
        }
    }
    if is_late {
        return Ok(is_on || comes_into_use);
    }
    if comes_into_use || is_on && hangs {
        let done = run.change(
            &format!("let commits on {name} wait for semi-sync replicas"),
            || db.set_semi_sync(Side::Source, true),
            &format!("let commits on {name} wait no more"),
            || db.set_semi_sync(Side::Source, false),
        );
        or_note(run, "semi-sync", done)?;
    }
    Ok(false)
}

/// Switches the source's side on if it `is_late`. A primary that has forgotten its source
/// acknowledges to nobody.
///
/// # Errors
/// As [`before_opening`].
pub fn after_opening(
    run: &mut Run<'_>,
    db: &dyn Database,
    is_late: bool,
    has_forgotten: bool,
) -> Result<()> {
    if is_late {
        let step = format!(
            "let commits on {} wait for semi-sync replicas once one has connected",
            db.name()
        );
        let done = run.act(&step, || db.begin_semi_sync());
        or_note(run, "semi-sync", done)?;
    }
    match has_forgotten {
        true => switch(run, db, Side::Source, Side::Replica),
        false => Ok(()),
    }
}

/// A server that was closed is to acknowledge to the next primary, and its own commits wait no
/// more: that would hold up its applier.
///
/// # Errors
/// As [`before_opening`].
pub fn after_closing(run: &mut Run<'_>, db: &dyn Database) -> Result<()> {
    let name = db.name();
    let Some(semi) = or_note(run, "semi-sync", db.semi_sync())? else {
        return Ok(());
    };
    if semi.source == Some(true) && semi.replica == Some(false) {
        let step = format!("{name} acknowledges as a semi-sync replica");
        let done = run.act(&step, || db.set_semi_sync(Side::Replica, true));
        or_note(run, "semi-sync", done)?;
    }
    switch(run, db, Side::Replica, Side::Source)
}

/// Switches `off` off if `on` is on.
fn switch(run: &mut Run<'_>, db: &dyn Database, on: Side, off: Side) -> Result<()> {
    let Some(semi) = or_note(run, "semi-sync", db.semi_sync())? else {
        return Ok(());
    };
    let of = |side| match side {
        Side::Source => semi.source,
        Side::Replica => semi.replica,
    };
    if (of(on), of(off)) != (Some(true), Some(true)) {
        return Ok(());
    }
    let name = db.name();
    let step = match off {
        Side::Source => format!("commits on {name} wait for no replica"),
        Side::Replica => format!("{name} acknowledges to nobody"),
    };
    let done = run.act(&step, || db.set_semi_sync(off, false));
    or_note(run, "semi-sync", done).map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fake::{Fake, World};
    use super::*;
    use crate::error::{Error, Kind};
    use crate::run::{Mode, Outcome};
    use crate::time::Deadline;

    fn with(source: Option<bool>, replica: Option<bool>) -> Fake {
        with_first(false, source, replica)
    }

    fn with_first(first_waits: bool, source: Option<bool>, replica: Option<bool>) -> Fake {
        Fake::new(World {
            semi_sync: SemiSync {
                source,
                replica,
                needed: 1,
                waits: source == Some(true),
                waits_for_nobody: true,
                first_waits,
                ..SemiSync::default()
            },
            ..World::replica(0)
        })
    }

    fn carry_out<'a>(procedure: impl FnOnce(&mut Run<'a>) -> Result<()>) -> Outcome {
        Run::new(Deadline::after(Duration::from_secs(5)), Mode::Real, |_| {}).carry_out(procedure)
    }

    fn promoted(fake: &Fake) -> SemiSync {
        let outcome = carry_out(|run| {
            let is_late = before_opening(run, fake, &fake.semi_sync()?)?;
            assert!(!fake.world.borrow().semi_sync.waits);
            fake.open_writes()?;
            after_opening(run, fake, is_late, true)
        });
        assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
        fake.world.borrow().semi_sync.clone()
    }

    #[test]
    fn it_goes_with_the_role_and_no_commit_waits_for_replicas_that_are_not_there() {
        for (source, first_waits) in [(false, false), (true, false), (false, true), (true, true)] {
            let fake = with_first(first_waits, Some(source), Some(true));
            let semi = promoted(&fake);
            assert_eq!((semi.source, semi.replica), (Some(true), Some(false)));
            assert!(!semi.waits_for_nobody && !semi.waits);
            carry_out(|run| after_closing(run, &fake));
            let semi = fake.world.borrow().semi_sync.clone();
            assert_eq!((semi.source, semi.replica), (Some(false), Some(true)));
        }
    }

    #[test]
    fn what_nobody_uses_is_not_switched_on() {
        for (source, replica) in [
            (None, None),
            (Some(false), Some(false)),
            (Some(false), None),
        ] {
            let fake = with(source, replica);
            let before = fake.world.borrow().semi_sync.clone();
            promoted(&fake);
            carry_out(|run| after_closing(run, &fake));
            assert_eq!(fake.world.borrow().semi_sync, before);
        }
    }

    #[test]
    fn a_promotion_that_fails_leaves_it_as_it_was() {
        let fake = with(Some(false), Some(true));
        let before = fake.world.borrow().clone();
        let outcome = carry_out(|run| {
            before_opening(run, &fake, &fake.semi_sync()?)?;
            run.check("no", || Err(Error::new(Kind::Refused, "no")))
        });
        assert!(matches!(outcome, Outcome::RolledBack(_)), "{outcome:?}");
        assert_eq!(*fake.world.borrow(), before);
    }
}
