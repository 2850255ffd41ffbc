//! Another host, by the system's OpenSSH client.

use serde::{Deserialize, Serialize};

/// Where ssh goes and as whom.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Place {
    /// What to call the host in the timeline, as MHA names it: `db1`.
    pub name: String,
    /// Where it is: an IP address, or a name that this host can look up.
    pub address: String,
    /// The account there; None for what the client's own configuration says.
    pub user: Option<String>,
    /// TCP port; None for what the client's own configuration says.
    pub port: Option<u16>,
    /// Words for the client that the caller passed, as in `-o StrictHostKeyChecking=no`.
    pub options: Vec<String>,
}
