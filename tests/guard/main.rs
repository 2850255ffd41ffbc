//! `guard` on a primary and two replicas, started every second as its timer does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may panic, look at the clock, start programs and say what it measured"
)]

#[path = "../lab/mod.rs"]
mod lab;

mod alone;
mod keepalived;
mod replaced;
mod rules;
mod site;
