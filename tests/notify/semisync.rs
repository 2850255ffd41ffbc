//! Semi-sync goes with the role, and nobody waits for a replica that is not there.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::lab::{Replication, Server, wait_until};
use crate::site;
use crate::site::{Site, app, assert_told, assert_within, in_background, succeed, told};

const OFF: &str = "SET GLOBAL rpl_semi_sync_master_enabled = 0,
    GLOBAL rpl_semi_sync_slave_enabled = 0, GLOBAL rpl_semi_sync_master_wait_no_slave = 0,
    GLOBAL rpl_semi_sync_master_timeout = 3000";

/// db1's commits wait `timeout` ms for db2, also when it is not there.
pub fn semi_sync(site: &Site, timeout: u32) {
    for server in [&site.db1, &site.db2] {
        server.sql(&format!(
            "SET GLOBAL rpl_semi_sync_master_wait_no_slave = 1,
             GLOBAL rpl_semi_sync_master_timeout = {timeout}"
        ));
    }
    site.db1.sql("SET GLOBAL rpl_semi_sync_master_enabled = 1");
    site.db2.sql("SET GLOBAL rpl_semi_sync_slave_enabled = 1");
    site.db2.sql("STOP SLAVE IO_THREAD");
    site.db2.sql("START SLAVE IO_THREAD");
    site.db2.wait_until_replicating();
    wait_until("db2 acknowledges", Duration::from_secs(10), || {
        let clients = "SELECT variable_value FROM information_schema.global_status
                       WHERE variable_name = 'Rpl_semi_sync_master_clients'";
        site.db1.ask(clients) == "1"
    });
}

/// Leaves no semi-sync behind for the next case.
pub fn silence(site: &mut Site) {
    for server in [&mut site.db1, &mut site.db2] {
        if server.connect().is_err() {
            server.start();
        }
        server.sql(OFF);
    }
}

fn sides(server: &Server) -> (String, String) {
    let sql = |side| format!("SELECT @@global.rpl_semi_sync_{side}_enabled");
    (server.ask(&sql("master")), server.ask(&sql("slave")))
}

fn commit(server: &Server, id: u32) -> Duration {
    let (mut session, began) = (app(server), Instant::now());
    let insert = format!("INSERT INTO lab.e VALUES ({id}, 'commit')");
    session.query_drop(insert).unwrap();
    began.elapsed()
}

#[test]
fn the_first_commit_after_a_failover_with_no_replica_left_does_not_wait() {
    for on_already in ["0", "1"] {
        site!(site, Replication::Gtid);
        semi_sync(site, 60_000);
        site.db2.sql(&format!(
            "SET GLOBAL rpl_semi_sync_master_enabled = {on_already}"
        ));
        let first = commit(&site.db1, 1);
        assert_within(first, Duration::from_secs(1), "db2 acknowledges");
        site.db1.kill();
        succeed(&site.db2, &["notify_master"]);
        assert_within(
            commit(&site.db2, 2),
            Duration::from_secs(1),
            told(&site.db2),
        );
        assert_eq!(sides(&site.db2), ("1".to_owned(), "0".to_owned()));
        silence(site);
    }
}

#[test]
fn a_primary_closed_and_opened_again_waits_for_its_replica_as_before() {
    site!(site, Replication::Gtid);
    semi_sync(site, 10_000);
    commit(&site.db1, 1);
    succeed(&site.db1, &["notify_backup"]);
    assert_eq!(sides(&site.db1), ("0".to_owned(), "1".to_owned()));
    // Also for one that connects meanwhile.
    site.db2.sql("STOP SLAVE IO_THREAD");
    site.db2.sql("START SLAVE IO_THREAD");
    site.db2.wait_until_replicating();
    succeed(&site.db1, &["notify_master"]);
    assert_eq!(sides(&site.db1), ("1".to_owned(), "0".to_owned()));
    commit(&site.db1, 2);
    site.db1.wait_until_semi_sync();
    silence(site);
}

#[test]
fn semi_sync_that_nobody_uses_is_left_alone() {
    site!(site, Replication::Gtid);
    site.db1.sql("SET GLOBAL read_only = 1");
    succeed(&site.db2, &["notify_master"]);
    assert_eq!(sides(&site.db2), ("0".to_owned(), "0".to_owned()));
}

#[test]
fn semi_sync_that_is_to_be_kept_is_left_alone() {
    site!(site, Replication::Gtid);
    site.configure("[promote]\nsemi_sync = \"keep\"");
    semi_sync(site, 10_000);
    site.db1.kill();
    succeed(&site.db2, &["notify_master"]);
    assert_eq!(sides(&site.db2), ("0".to_owned(), "1".to_owned()));
    silence(site);
}

#[test]
fn a_primary_closed_by_its_failing_check_acknowledges_to_the_next_one() {
    site!(site, Replication::Gtid);
    semi_sync(site, 10_000);
    commit(&site.db1, 1);
    succeed(&site.db1, &["fence", "--because", "the check failed"]);
    assert_eq!(
        sides(&site.db1),
        ("0".to_owned(), "1".to_owned()),
        "{}",
        told(&site.db1)
    );
    silence(site);
}

#[test]
fn semi_sync_that_is_to_be_kept_is_left_alone_by_the_failing_check_too() {
    site!(site, Replication::Gtid);
    site.configure("[promote]\nsemi_sync = \"keep\"");
    semi_sync(site, 10_000);
    succeed(&site.db1, &["fence"]);
    assert_eq!(sides(&site.db1), ("1".to_owned(), "0".to_owned()));
    silence(site);
}

/// Leaves a commit on db1 that waits for db2; gives the client that waits for it.
fn waiting_commit(site: &Site) -> std::thread::JoinHandle<mysql::Result<()>> {
    semi_sync(site, 60_000);
    site.db2.sql("STOP SLAVE IO_THREAD");
    let commit = in_background(&site.db1, "INSERT INTO lab.e VALUES (1, 'waits')");
    let waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST
                   WHERE STATE LIKE 'Waiting for semi-sync ACK%'";
    wait_until("it waits", Duration::from_secs(5), || {
        site.db1.ask(waiting) == "1"
    });
    commit
}

#[test]
fn a_commit_that_waits_for_a_replica_does_not_hold_up_the_failing_check() {
    site!(site, Replication::Gtid);
    let commit = waiting_commit(site);
    let took = succeed(&site.db1, &["fence"]);
    assert!(!site.db1.is_writable());
    assert_within(took, Duration::from_secs(2), told(&site.db1));
    commit.join().unwrap().unwrap_err();
    assert_eq!(sides(&site.db1), ("0".to_owned(), "1".to_owned()));
    silence(site);
}

#[test]
fn a_commit_that_waits_for_a_replica_does_not_hold_up_the_promotion_of_that() {
    site!(site, Replication::Gtid);
    let commit = waiting_commit(site);
    let took = succeed(&site.db2, &["notify_master"]);
    assert!(site.db2.is_writable() && !site.db1.is_writable());
    assert_within(took, Duration::from_secs(4), told(&site.db2));
    let _ = commit.join().unwrap(); // acknowledged it may be: db2 has it
    assert_eq!(site.db2.ask("SELECT COUNT(*) FROM lab.e"), "1");
    silence(site);
}

#[test]
fn a_commit_that_waits_for_a_replica_does_not_hold_up_closing_and_is_never_acknowledged() {
    site!(site, Replication::Gtid);
    let commit = waiting_commit(site);
    let took = succeed(&site.db1, &["notify_backup"]);
    assert!(!site.db1.is_writable());
    assert_within(took, Duration::from_secs(2), told(&site.db1));
    commit.join().unwrap().unwrap_err();
    assert_told(&site.db1, &["done close writes"]);
    silence(site);
}
