//! What is done to servers, as straight-line code over a [`crate::run::Run`].
//!
//! Invariants:
//! 1. Nothing is made writable before the other side is fenced or does not answer, on record.
//! 2. A replica never loses what it has received.
//! 3. Who cannot see does not vouch.
//! 4. Every deed can be done twice.
//! 5. Each added step makes the outage longer; it says what it is worth that.

pub mod demote;
pub mod promote;
