//! Another host by ssh: real sshd, real ssh, and whatever may go wrong between them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test measures time itself, may sleep, and ends where something breaks"
)]

#[path = "../lab/mod.rs"]
mod lab;
#[path = "../scratch/mod.rs"]
mod scratch;

mod site;

mod addresses;
mod login;
mod reuse;
mod session;
