//! Which exit status each caller gets for each outcome: the whole table in one place.

use std::process::ExitCode;

use hookbox::config::Unfenced;
use hookbox::error::{Error, Kind, Result};
use hookbox::run::Outcome;

use crate::context::complain;

/// MHA logs it and goes on (MasterFailover.pm, MasterRotate.pm); any other status but 0 ends the
/// failover or the online change. MHA takes statuses modulo 256.
const PROCEED: u8 = 10;

/// Who started this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Keepalived's notify scripts. It ignores the status; people and tests read it.
    Keepalived,
    /// MHA, before it begins to watch. Here 10 is an error like any other (MasterMonitor.pm).
    MhaStatus,
    /// MHA, at the beginning of a failover, with what is configured for an old primary that may
    /// still be in service.
    MhaStop(Unfenced),
    /// MHA, at the beginning of an online change. It undoes nothing, so `stop` does.
    MhaOnlineStop,
    /// MHA, towards the end of both. Going on is better than no primary, unless it would split.
    MhaStart,
    /// A person, or a program that a person wrote.
    Person,
}

/// The exit status for how a run ended.
pub fn status(caller: Caller, outcome: &Outcome) -> u8 {
    match (caller, outcome) {
        (_, Outcome::Done) => 0,
        (Caller::MhaStatus | Caller::MhaOnlineStop, _) => 1,
        (Caller::MhaStop(Unfenced::Proceed), Outcome::Partial { .. }) => PROCEED,
        (Caller::MhaStop(_), _) => 1,
        (Caller::MhaStart, Outcome::RolledBack(_)) => 1,
        (Caller::MhaStart, Outcome::Partial { .. }) => PROCEED,
        (caller, Outcome::Refused(error)) => failure(caller, error),
        (Caller::Keepalived, _) => 1,
        (Caller::Person, Outcome::RolledBack(_)) => 4,
        (Caller::Person, Outcome::Partial { .. }) => 5,
    }
}

/// The exit status for a failure before any run began, or before anything was changed.
pub fn failure(caller: Caller, error: &Error) -> u8 {
    match (caller, error.kind()) {
        (_, Kind::Usage) => 2,
        (Caller::Keepalived | Caller::Person, Kind::Config) => 2,
        (Caller::Keepalived, _) => 1,
        (Caller::MhaStatus | Caller::MhaStop(_) | Caller::MhaOnlineStop, _) => 1,
        (Caller::MhaStart, Kind::Refused | Kind::Overtaken) => 1,
        (Caller::MhaStart, _) => PROCEED,
        (Caller::Person, _) => 3,
    }
}

/// As [`status`], for `main`.
pub fn exit(caller: Caller, outcome: &Outcome) -> ExitCode {
    ExitCode::from(status(caller, outcome))
}

/// As [`failure`], for `main`; it says why.
pub fn fail(caller: Caller, error: &Error) -> ExitCode {
    complain(error);
    ExitCode::from(failure(caller, error))
}

/// One of both. Why a run failed was said by the run.
pub fn finish(caller: Caller, result: Result<Outcome>) -> ExitCode {
    match result {
        Ok(outcome) => exit(caller, &outcome),
        Err(error) => fail(caller, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLERS: [Caller; 7] = [
        Caller::Keepalived,
        Caller::Person,
        Caller::MhaStatus,
        Caller::MhaStop(Unfenced::Abort),
        Caller::MhaStop(Unfenced::Proceed),
        Caller::MhaOnlineStop,
        Caller::MhaStart,
    ];

    #[test]
    fn every_outcome_has_its_status() {
        let error = |kind| Error::new(kind, "no");
        let refused = |kind| Outcome::Refused(error(kind));
        let partial = Outcome::Partial {
            error: error(Kind::Timeout),
            left: vec![],
        };
        let outcomes = [
            (Outcome::Done, [0, 0, 0, 0, 0, 0, 0]),
            (refused(Kind::Usage), [2, 2, 1, 1, 1, 1, 2]),
            (refused(Kind::Config), [2, 2, 1, 1, 1, 1, 10]),
            (refused(Kind::Refused), [1, 3, 1, 1, 1, 1, 1]),
            (refused(Kind::Unreachable), [1, 3, 1, 1, 1, 1, 10]),
            (refused(Kind::Overtaken), [1, 3, 1, 1, 1, 1, 1]),
            (
                Outcome::RolledBack(error(Kind::Timeout)),
                [1, 4, 1, 1, 1, 1, 1],
            ),
            (partial, [1, 5, 1, 1, 10, 1, 10]),
        ];
        for (outcome, expected) in outcomes {
            assert_eq!(
                CALLERS.map(|c| status(c, &outcome)),
                expected,
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn what_fails_before_a_run_has_its_status() {
        let expected = [
            (Kind::Usage, [2, 2, 2, 2, 2, 2, 2]),
            (Kind::Config, [2, 2, 1, 1, 1, 1, 10]),
            (Kind::Refused, [1, 3, 1, 1, 1, 1, 1]),
            (Kind::Unreachable, [1, 3, 1, 1, 1, 1, 10]),
        ];
        for (kind, expected) in expected {
            let error = Error::new(kind, "no");
            assert_eq!(CALLERS.map(|c| failure(c, &error)), expected, "{kind:?}");
        }
    }
}
