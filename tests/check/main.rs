//! `check_mysql` and the fence it starts, measured around the real program: against servers that
//! misbehave in every way a socket allows, and against real ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may panic, look at the clock, start programs and say what it measured"
)]

#[path = "../lab/mod.rs"]
mod lab;

/// Ends the test, loudly, where no lab can be built.
macro_rules! need_lab {
    () => {
        if !crate::lab::is_possible() {
            return;
        }
    };
}

mod calls;
mod classes;
mod fake;
mod fence;
mod hangs;
mod network;
#[path = "../support/packets.rs"]
mod packets;
mod site;
