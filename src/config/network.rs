//! `[network]`: how virtual addresses come to a host.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;

/// What to do when another host has a virtual address already.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// The address does not come here.
    #[default]
    Refuse,
    /// If that is the host of a known peer: its writes are closed, and it loses the address.
    Fence,
    /// It comes here all the same.
    Take,
}

impl OnConflict {
    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            OnConflict::Refuse => "refuse",
            OnConflict::Fence => "fence",
            OnConflict::Take => "take",
        }
    }
}

/// `[network]`: how virtual addresses come to a host.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(expecting = "a table", deny_unknown_fields, default)]
pub struct Network {
    /// What to do when another host has the address already.
    pub on_conflict: OnConflict,
    /// How long the neighbours have to say that one has it; 0 to ask nobody. They are asked three
    /// times in that time, and once more afterwards.
    #[serde(with = "duration")]
    pub probe: Duration,
    /// When the neighbours are told where an address is, in ms from when it came. The first is 0.
    /// Frames get lost while a switch learns the new port, and a receiver may ignore what comes
    /// within 1 s of its last update (`locktime`).
    pub announce: Vec<u32>,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            on_conflict: OnConflict::default(),
            // A kernel answers within 1 ms, also one whose server hangs.
            probe: Duration::from_millis(60),
            announce: vec![0, 200, 1000, 2000, 5000],
        }
    }
}

/// The latest announcement, in ms: the process that sends it does not live for ever.
const LATEST: u32 = 60_000;

impl Network {
    /// What is wrong with `announce`.
    pub fn fault_of_announce(&self) -> Option<String> {
        let times = &self.announce;
        if times.first() != Some(&0) {
            return Some("`announce` must begin with 0".to_owned());
        }
        if !times.is_sorted_by(|a, b| a < b) {
            return Some("`announce` must be in ascending order".to_owned());
        }
        (times.last() > Some(&LATEST)).then(|| format!("`announce` goes beyond {LATEST} ms"))
    }
}
