//! What rejoin does not do.

use std::time::{Duration, Instant};

use crate::lab::{Replication, wait_until};
use crate::site::standing;
use crate::{DB1, DB2, configure, rejoin, rejoined, site, split, switch};

#[test]
fn what_only_the_old_primary_has_is_named_and_it_is_closed_and_nothing_else() {
    site!(site, Replication::Gtid);
    configure(site, "");
    site.write_events(1, 3);
    site.wait_until_applied();
    let last = site.db1.ask("SELECT @@gtid_binlog_pos");
    let number: u64 = last.strip_prefix("0-1-").unwrap().parse().unwrap();
    split(site, 101, 105);
    let (status, all) = rejoin(&site.db1, DB2, &[]);
    assert_eq!(status, 5, "{all}");
    let range = format!("0-1-{}..0-1-{}", number + 1, number + 5);
    assert!(all.contains(&range), "{range}: {all}");
    assert!(all.contains(&format!("--start-position={last} ")), "{all}");
    assert_eq!(standing(&site.db1), ["read_only 1"], "{all}");
    // Once closed, asking again changes nothing.
    assert_eq!(rejoin(&site.db1, DB2, &[]).0, 3);
    // The command that is advised shows exactly those.
    let command = all.split("look at them: ").nth(1).unwrap();
    let command = command.split(';').next().unwrap();
    let shown = site.db1.host.sh(command);
    let rows = shown.matches("### INSERT INTO `lab`.`e`").count();
    assert_eq!(rows, 5, "{command}\n{shown}");
    // Who takes them back as the help says has a replica again.
    for sql in [
        "DELETE FROM lab.e WHERE id > 100",
        "RESET MASTER",
        &format!("SET GLOBAL gtid_slave_pos = '{last}'"),
    ] {
        site.db1.sql(sql);
    }
    let all = rejoined(&site.db1, DB2);
    crate::assert_follows(&site.db1, &site.db2, &all);
}

#[test]
fn a_source_that_cannot_be_reached_leaves_everything_as_it_was() {
    site!(site, Replication::Gtid);
    configure(site, "");
    for source in ["10.77.0.99", "10.77.0.12:3399"] {
        let began = Instant::now();
        let (status, all) = rejoin(&site.db1, source, &[]);
        assert_eq!(status, 3, "{all}");
        assert_eq!(standing(&site.db1), ["read_only 0"], "{all}");
        assert!(began.elapsed() < Duration::from_secs(8), "{all}");
    }
}

#[test]
fn this_server_and_its_own_replica_and_an_address_that_moves_are_no_source() {
    site!(site, Replication::Gtid);
    configure(site, "");
    for (source, why) in [
        (DB1, "it is this server"),
        (DB2, "it replicates from this server"),
    ] {
        let (status, all) = rejoin(&site.db1, source, &[]);
        assert_eq!(status, 3, "{all}");
        assert!(all.contains(why), "{all}");
    }
    let toml = site.db1.host.read("/etc/hookbox/hookbox.toml");
    let toml = format!("vip = [\"10.77.0.100/24 dev eth0\"]\n{toml}");
    site.db1
        .host
        .write("/etc/hookbox/hookbox.toml", toml, 0o644);
    let (status, all) = rejoin(&site.db1, "10.77.0.100", &[]);
    assert_eq!(status, 2, "{all}");
    site.db1.host.sh("ip addr add 10.77.0.100/24 dev eth0");
    let (status, all) = rejoin(&site.db1, DB2, &[]);
    site.db1.host.sh("ip addr del 10.77.0.100/24 dev eth0");
    assert_eq!(status, 3, "{all}");
    assert!(all.contains("is on this host"), "{all}");
    assert_eq!(standing(&site.db1), ["read_only 0"]);
}

#[test]
fn the_only_server_that_takes_writes_is_not_closed_for_one_that_does_not() {
    site!(site, Replication::Gtid);
    configure(site, "");
    site.db2.sql("STOP SLAVE");
    site.db2.sql("RESET SLAVE ALL");
    let (status, all) = rejoin(&site.db1, DB2, &[]);
    assert_eq!(status, 3, "{all}");
    assert!(all.contains("nobody would"), "{all}");
    assert!(site.db1.is_writable());
}

#[test]
fn a_server_that_was_told_to_be_the_primary_is_left_alone() {
    site!(site, Replication::Gtid);
    configure(site, "");
    switch(site);
    let (status, all) = rejoin(&site.db2, DB1, &[]);
    assert_eq!(status, 3, "{all}");
    assert!(all.contains("last told to be the primary"), "{all}");
    assert!(site.db2.is_writable());
}

#[test]
fn a_wrong_password_is_said_soon_and_taken_back_and_the_right_one_then_does() {
    site!(site, Replication::Gtid);
    configure(site, "");
    site.write_events(1, 10);
    site.wait_until_applied();
    switch(site);
    site.db1
        .host
        .write("/etc/hookbox/repl", "it's-wrong\\\n", 0o600);
    let began = Instant::now();
    let (status, all) = rejoin(&site.db1, DB2, &[]);
    assert_eq!(status, 4, "{all}");
    assert!(all.contains("Access denied"), "{all}");
    assert!(!all.contains("it's-wrong"), "{all}");
    assert!(began.elapsed() < Duration::from_secs(8), "{all}");
    assert_eq!(standing(&site.db1), ["read_only 1"], "{all}");
    configure(site, "");
    let all = rejoined(&site.db1, DB2);
    crate::assert_follows(&site.db1, &site.db2, &all);
}

#[test]
fn without_an_account_for_replication_it_says_which_key_is_missing() {
    site!(site, Replication::Gtid);
    site.write_events(1, 10);
    site.wait_until_applied();
    switch(site);
    let (status, all) = rejoin(&site.db1, DB2, &[]);
    assert_eq!(status, 2, "{all}");
    assert!(all.contains("[rejoin] user"), "{all}");
    assert_eq!(standing(&site.db1), ["read_only 1"]);
}

#[test]
fn a_source_without_the_logs_that_are_needed_is_found_out_and_left_again() {
    site!(site, Replication::Gtid);
    configure(site, "");
    site.write_events(1, 10);
    site.wait_until_applied();
    switch(site);
    site.db2.sql("FLUSH BINARY LOGS");
    let log = site.db2.sql("SHOW MASTER STATUS").remove(0).remove(0);
    wait_until("the old log is gone", Duration::from_secs(10), || {
        site.db2.sql(&format!("PURGE BINARY LOGS TO '{log}'"));
        site.db2.sql("SHOW BINARY LOGS").len() == 1
    });
    let (status, all) = rejoin(&site.db1, DB2, &[]);
    assert_eq!(status, 4, "{all}");
    assert!(all.contains("the receiver stopped"), "{all}");
    assert_eq!(standing(&site.db1), ["read_only 1"], "{all}");
}

#[test]
fn a_server_that_does_not_know_what_it_has_is_not_started_from_the_beginning() {
    site!(site, Replication::Gtid);
    configure(site, "");
    site.write_events(1, 10);
    site.wait_until_applied();
    switch(site);
    site.db1.sql("RESET MASTER");
    let (status, all) = rejoin(&site.db1, DB2, &[]);
    assert_eq!(status, 3, "{all}");
    assert!(all.contains("it names none"), "{all}");
}
