//! Replication threads that do not get on, or do not stop.

use std::thread::sleep;
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::site::{Site, assert_told, assert_within, hook, start, succeed, told};

/// One of four workers waits for a lock on row 1 of lab.e, behind which 20 transactions of another
/// schema were received. Dropping the session lets it go.
fn stick_a_worker(site: &Site) -> Conn {
    site.db2.apply_with_workers(4);
    site.write_events(1, 2);
    site.db2.wait_until_applied(&site.db1, "");
    let mut holder = site.db2.root();
    let _ = holder.query_drop("SET GLOBAL super_read_only = 0");
    holder.query_drop("START TRANSACTION").unwrap();
    holder
        .query_drop("SELECT * FROM lab.e WHERE id = 1 FOR UPDATE")
        .unwrap();
    let _ = site.db2.root().query_drop("SET GLOBAL super_read_only = 1");
    site.db1.sql("UPDATE lab.e SET text = 'late' WHERE id = 1");
    for row in 1..=20 {
        site.db1
            .sql(&format!("INSERT INTO other.e VALUES ({row}, 'soon')"));
    }
    site.db2.wait_until_received(&site.db1, "");
    sleep(Duration::from_millis(400));
    holder
}

pub fn a_worker_that_is_stuck_is_waited_for(site: &mut Site) -> String {
    site.configure("[promote]\nlimit = \"1s\"");
    let before = site.db2.standing();
    let holder = stick_a_worker(site);
    site.db1.sql("SET GLOBAL read_only = 1");
    let (status, took) = hook(&site.db2, "notify_master");
    assert_eq!(status, 1, "{}", told(&site.db2));
    assert_within(took, Duration::from_millis(3500), &told(&site.db2));
    assert_told(&site.db2, &["Undone start receiving", "rolled-back"]);
    crate::lab::wait_until("all is as before", Duration::from_secs(5), || {
        site.db2.standing() == before
    });
    site.configure("");
    let mut hook = start(&site.db2, "notify_master");
    sleep(Duration::from_millis(800));
    assert!(hook.is_running() && !site.db2.is_writable());
    drop(holder);
    assert_eq!(hook.end().0, 0, "{}", told(&site.db2));
    let late = site.db2.ask("SELECT text FROM lab.e WHERE id = 1");
    assert_eq!(late, "late", "{}", told(&site.db2));
    assert_eq!(site.db2.ask("SELECT COUNT(*) FROM other.e"), "20");
    format!(
        "undone after {} ms; drained when it went on",
        took.as_millis()
    )
}

pub fn a_worker_that_stays_stuck_is_given_up_when_forced(site: &mut Site) -> String {
    site.configure("[promote]\nlimit = \"1s\"\non_lag = \"force\"");
    let holder = stick_a_worker(site);
    let took = succeed(&site.db2, "notify_master");
    assert!(site.db2.is_writable());
    assert_told(&site.db2, &["GIVING UP", "is not forgotten"]);
    assert_within(took, Duration::from_secs(5), &told(&site.db2));
    drop(holder);
    sleep(Duration::from_millis(500));
    let late = site.db2.ask("SELECT text FROM lab.e WHERE id = 1");
    assert_eq!(
        late,
        "event",
        "not applied later either: {}",
        told(&site.db2)
    );
    let ended = match told(&site.db2).contains("going on: stop applying") {
        true => "; its threads did not end",
        false => "",
    };
    format!("{} ms{ended}", took.as_millis())
}

pub fn the_cable_of_the_source_is_cut(site: &mut Site) -> String {
    site.write_events(1, 1000);
    site.db2.wait_until_applied(&site.db1, "");
    site.switch.block(&site.db1.host);
    let took = succeed(&site.db2, "notify_master");
    assert!(site.db2.is_writable());
    assert_told(&site.db2, &["going on without 10.77.0.11:3306"]);
    assert_within(took, Duration::from_secs(4), &told(&site.db2));
    site.switch.heal(&site.db1.host);
    format!("{} ms", took.as_millis())
}
