//! Stock MHA drives hookbox over real MariaDB servers and real ssh, with the example files, while an
//! application writes through the virtual address.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test may look at the clock, tell what it saw, and break"
)]

#[path = "../lab/mod.rs"]
mod lab;
#[path = "../scratch/mod.rs"]
mod scratch;

mod trial;

mod by_hand;
mod check;
mod children;
mod clients;
mod cut_short;
mod failover;
mod faults;
mod manual;
mod online;
mod rejoin;
mod variants;
