//! What a switch of primaries has put away and not yet restored.

use serde::{Deserialize, Serialize};

use crate::ssh::Place;

/// One of the two servers of a switch.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Side {
    /// As MHA names it: `db1`.
    pub name: String,
    /// Where the server is: an IP address, or a name that this host can look up.
    pub address: String,
    /// TCP port of the server.
    pub port: u16,
    /// How its host is reached.
    pub ssh: Place,
}
