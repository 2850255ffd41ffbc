//! `rejoin` on real servers: an old primary becomes a replica of the new one.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test measures time itself, may sleep, and ends where something breaks"
)]

#[path = "../lab/mod.rs"]
mod lab;

#[path = "../notify/gate.rs"]
#[allow(dead_code, reason = "shared with the tests of notify")]
mod gate;
#[path = "../notify/site.rs"]
#[allow(dead_code, reason = "shared with the tests of notify")]
mod site;

mod automatic;
mod clean;
mod cut_short;
mod grants;
mod refused;

use lab::{Server, wait_until};
use site::{Site, run_by_hand, succeed, told};
use std::time::Duration;

/// db1.
pub const DB1: &str = "10.77.0.11";
/// db2.
pub const DB2: &str = "10.77.0.12";

/// The account for replication that every lab server has.
pub const REJOIN: &str =
    "[rejoin]\nuser = \"repl\"\npassword_file = \"/etc/hookbox/repl\"\nlimit = \"20s\"\n";

/// Configures `[rejoin]` on both hosts, with `more` in it.
pub fn configure(site: &Site, more: &str) {
    for server in [&site.db1, &site.db2] {
        server.host.write("/etc/hookbox/repl", "replpass\n", 0o600);
    }
    site.configure(&format!("{REJOIN}{more}"));
}

/// db2 takes over from db1, which is closed and has nothing that db2 lacks.
pub fn switch(site: &Site) {
    succeed(&site.db1, &["notify_backup"]);
    succeed(&site.db2, &["notify_master"]);
    site.db2.sql("INSERT INTO lab.e VALUES (9001, 'after')");
}

/// db2 takes over while db1 is cut off; db1 then writes rows `from` to `to` that db2 never gets.
pub fn split(site: &Site, from: u32, to: u32) {
    site.switch.block(&site.db1.host);
    succeed(&site.db2, &["notify_master"]);
    site.db2.sql("INSERT INTO lab.e VALUES (9001, 'after')");
    for row in from..=to {
        site.db1
            .sql(&format!("INSERT INTO lab.e VALUES ({row}, 'alone')"));
    }
    site.switch.heal(&site.db1.host);
}

/// Runs `hookbox rejoin` on `server`; gives its status and all that it said and wrote down.
pub fn rejoin(server: &Server, source: &str, more: &[&str]) -> (i32, String) {
    let args = [&["rejoin", "--source", source], more].concat();
    let (status, stdout, stderr) = run_by_hand(server, &args);
    (status, format!("{stdout}{stderr}{}", told(server)))
}

/// The same, which must succeed.
pub fn rejoined(server: &Server, source: &str) -> String {
    let (status, all) = rejoin(server, source, &[]);
    assert_eq!(status, 0, "{all}");
    all
}

/// Asserts that what is written on `source` arrives on `replica`, which takes no writes, and that
/// both have the same.
pub fn assert_follows(replica: &Server, source: &Server, all: &str) {
    assert!(!replica.is_writable(), "{all}");
    source.sql("REPLACE INTO lab.e VALUES (9999, 'new')");
    let sum = "SELECT COUNT(*), SUM(CRC32(CONCAT(id, text))) FROM lab.e";
    wait_until(
        &format!("both are alike: {all}"),
        Duration::from_secs(10),
        || replica.sql(sum) == source.sql(sum),
    );
    assert_eq!(replica.replica_status("Using_Gtid"), "Slave_Pos", "{all}");
}
