//! A small data centre in namespaces: hosts, a switch, real MariaDB, real keepalived, a client that
//! writes all the time and a watcher that sees who may write.
//!
//! Needs root. Nothing here has a name outside its own namespaces, so labs can run side by side
//! and nothing stays when the process that made one ends, however it ends.
#![allow(dead_code, unused_imports, reason = "every user needs a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a lab that breaks ends the test, and it measures time itself"
)]

mod cluster;
mod host;
mod keepalived;
mod mha;
mod pair;
mod sampler;
mod server;
mod sshd;
mod switch;
mod writer;

use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use cluster::Cluster;
pub use host::{Host, Process};
pub use keepalived::Keepalived;
pub use mha::{Ended, Mha, Running};
pub use pair::{Node, Pair, Shape};
pub use sampler::{Change, Sampler};
pub use server::{Replication, Server, connect, rows};
pub use sshd::{Sshd, as_root_of};
pub use switch::{GATEWAY, Switch};
pub use writer::{Ack, Writer, application, lost, outage};

/// The virtual address that follows the primary.
pub const VIP: &str = "10.77.0.100";

/// Puts [`VIP`] on; the word is what becomes of another host that has it.
pub fn add_vip(on_conflict: &str) -> [&str; 7] {
    let address = "10.77.0.100/24";
    [
        "vip",
        "add",
        address,
        "dev",
        "eth0",
        "--on-conflict",
        on_conflict,
    ]
}

/// Whether a lab can be built here. If not it says so, past the test harness that hides what a
/// passed test prints.
pub fn is_possible() -> bool {
    let missing = missing();
    if let Some(missing) = &missing {
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIPPED: no lab here: {missing}").unwrap();
    }
    missing.is_none()
}

/// What this machine lacks for a lab.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    [
        "unshare",
        "nsenter",
        "ip",
        "bridge",
        "mariadbd",
        "mariadb-install-db",
        "keepalived",
        "sshd",
    ]
    .into_iter()
    .find(|program| !is_installed(program))
    .map(|program| format!("{program} is not installed"))
}

fn is_installed(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|dir| std::path::Path::new(dir).join(program).exists())
}

/// Looks every 10 ms until `done`; panics when that takes longer than `limit`.
pub fn wait_until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(
            started.elapsed() < limit,
            "still not so after {limit:?}: {what}"
        );
        sleep(Duration::from_millis(10));
    }
}
