//! Which exit status each caller gets for each outcome: the whole table in one place.

use std::process::ExitCode;

use hookbox::error::{Error, Kind};
use hookbox::run::Outcome;

/// Who started this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Keepalived's notify scripts. It ignores the status; people and tests read it.
    Keepalived,
    /// A person, or a program that a person wrote.
    Person,
}

/// The exit status for how a run ended.
pub fn status(caller: Caller, outcome: &Outcome) -> u8 {
    match (caller, outcome) {
        (_, Outcome::Done) => 0,
        (Caller::Keepalived, _) => 1,
        (Caller::Person, Outcome::Refused(error)) => refused(error),
        (Caller::Person, Outcome::RolledBack(_)) => 4,
        (Caller::Person, Outcome::Partial { .. }) => 5,
    }
}

/// The exit status for a failure before any run began.
pub fn failure(caller: Caller, error: &Error) -> u8 {
    match caller {
        Caller::Keepalived if matches!(error.kind(), Kind::Usage | Kind::Config) => 2,
        Caller::Keepalived => 1,
        Caller::Person => refused(error),
    }
}

/// As [`status`], for `main`.
pub fn exit(caller: Caller, outcome: &Outcome) -> ExitCode {
    ExitCode::from(status(caller, outcome))
}

fn refused(error: &Error) -> u8 {
    match error.kind() {
        Kind::Usage | Kind::Config => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_status() {
        let error = |kind| Error::new(kind, "no");
        let outcomes = [
            (Outcome::Done, [0, 0]),
            (Outcome::Refused(error(Kind::Refused)), [1, 3]),
            (Outcome::Refused(error(Kind::Config)), [1, 2]),
            (Outcome::RolledBack(error(Kind::Timeout)), [1, 4]),
            (
                Outcome::Partial {
                    error: error(Kind::Timeout),
                    left: vec![],
                },
                [1, 5],
            ),
        ];
        for (outcome, expected) in outcomes {
            let got = [Caller::Keepalived, Caller::Person].map(|c| status(c, &outcome));
            assert_eq!(got, expected, "{outcome:?}");
        }
    }
}
