//! keepalived's notify scripts on real servers: promotion, demotion, their order, and what is left
//! when one is cut short.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test measures time itself, may sleep, and ends where something breaks"
)]

#[path = "../support/round_trips.rs"]
mod counter;
#[path = "../lab/mod.rs"]
mod lab;

mod gate;
mod site;

mod addresses;
mod cut_short;
mod demote;
mod events;
mod full;
mod lossless;
mod order;
mod peers;
mod promote;
mod round_trips;
mod semisync;
mod shapes;
mod torn;
mod words;
