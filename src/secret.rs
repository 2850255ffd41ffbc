//! Accounts and passwords: where they come from, and that they go nowhere else.

use std::fmt;

/// A password that does not print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Wraps a password.
    pub fn new(password: impl Into<String>) -> Self {
        Password(password.into())
    }

    /// The password itself, for the login conversation only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An account of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Account name, without host.
    pub user: String,
    /// Empty for accounts that the unix socket identifies.
    pub password: Password,
}
