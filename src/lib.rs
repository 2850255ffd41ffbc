//! What hookbox does, without knowing who calls it.
//!
//! The programs in `hooks/` turn a caller's command line into one procedure of this library and
//! its [`run::Outcome`] into an exit status. Read [`run`] first.

pub mod check;
mod child;
pub mod cluster;
pub mod config;
pub mod db;
pub mod error;
pub mod files;
pub mod guard;
pub mod journal;
pub mod keepalived;
pub mod last_seen;
pub mod link;
pub mod log;
pub mod maintenance;
pub mod memory;
pub mod option_file;
pub mod procedure;
pub mod run;
#[cfg(test)]
#[path = "../tests/scratch/mod.rs"]
mod scratch;
pub mod script_security;
pub mod secret;
pub mod ssh;
pub mod successor;
pub mod switch;
pub mod time;
pub mod turn;
pub mod verdict;
pub mod witness;
