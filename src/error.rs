//! What failed, why, and what to do next: one error type for the whole program.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// The result of anything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// What sort of failure it was. Exit codes and undo decisions hang on this, never on text.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The command line is wrong; nothing was changed.
    Usage,
    /// The configuration is wrong; nothing was changed.
    Config,
    /// A server or host could not be reached.
    Unreachable,
    /// A server or the kernel answered: you may not.
    Denied,
    /// The answer was understood and says no: going on would not be safe.
    Refused,
    /// Time ran out.
    Timeout,
    /// SIGTERM arrived, or a newer state change of the orchestrator overtook this one.
    Overtaken,
    /// Something that should not be possible.
    Bug,
}

/// A failure: what was being done, why it failed, and what a person can do about it.
///
/// `Display` prints only what was being done; [`Error::chain`] joins it with its causes in one line.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    advice: Option<String>,
    server_code: Option<u16>,
}

impl Error {
    /// A new failure. `what` is lower case, without a full stop.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Error {
            kind,
            what: what.into(),
            cause: None,
            advice: None,
            server_code: None,
        }
    }

    /// Adds why it failed.
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds what to do next: a command to type or a configuration key to set.
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Marks this as an answer of the database server, with its error number.
    pub fn answered(mut self, code: u16) -> Self {
        self.server_code = Some(code);
        self
    }

    /// Says what was being done when this happened, keeping kind, advice and error number.
    pub fn during(self, what: impl Into<String>) -> Self {
        Error {
            kind: self.kind,
            what: what.into(),
            advice: self.advice.clone(),
            server_code: self.server_code,
            cause: Some(Box::new(self)),
        }
    }

    /// The sort of failure.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What to do next, if somebody knew.
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// The database server's error number, when it was the server that said no.
    pub fn server_code(&self) -> Option<u16> {
        self.server_code
    }

    /// Whether nobody was heard. Every other failure to ask a server comes from one that is alive,
    /// or from this side: it says nothing of whether that server takes writes.
    pub fn is_silence(&self) -> bool {
        matches!(self.kind, Kind::Unreachable | Kind::Timeout)
    }

    /// Whether the kernel said: you may not.
    pub fn is_lack_of_rights(&self) -> bool {
        let mut cause = self.source();
        while let Some(error) = cause {
            let by_std = error.downcast_ref::<io::Error>().map(io::Error::kind);
            let by_nix = error.downcast_ref::<Errno>();
            if by_std == Some(io::ErrorKind::PermissionDenied)
                || matches!(by_nix, Some(Errno::EACCES | Errno::EPERM))
            {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// The failure and all its causes in one line, outermost first.
    pub fn chain(&self) -> String {
        let mut line = self.what.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }
}

/// An answer, or why there is none. An interruption is neither: it ends what is being done.
///
/// # Errors
/// [`Kind::Overtaken`].
pub fn uninterrupted<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(error) if error.kind() == Kind::Overtaken => Err(error),
        result => Ok(result),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_rights_is_the_kernels_word_however_deep() {
        let of = |cause: io::Error| Error::new(Kind::Config, "read").because(cause);
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(of(denied()).during("load").is_lack_of_rights());
        assert!(!of(io::ErrorKind::NotFound.into()).is_lack_of_rights());
        let sent = Error::new(Kind::Denied, "send").because(Errno::EPERM);
        assert!(sent.is_lack_of_rights());
        let server = Error::new(Kind::Denied, "log in").because("Access denied");
        assert!(!server.is_lack_of_rights());
    }

    #[test]
    fn chain_names_every_cause_once_and_advice_survives() {
        let error = Error::new(Kind::Denied, "SET GLOBAL read_only = 1")
            .because("Access denied")
            .advise("GRANT SUPER")
            .answered(1227)
            .during("close writes on db1:3306");
        assert_eq!(
            error.chain(),
            "close writes on db1:3306: SET GLOBAL read_only = 1: Access denied"
        );
        assert_eq!(error.advice(), Some("GRANT SUPER"));
        assert_eq!(error.server_code(), Some(1227));
        assert_eq!(error.kind(), Kind::Denied);
    }
}
