//! Roles on real servers: where their addresses are, go, stay, and what is told of that.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic, look at the clock and start programs"
)]

#[path = "../lab/mod.rs"]
mod lab;

mod ensure;
mod fence;
mod mha;
mod notify_down;
mod site;
mod status;
mod units;
mod verify;
