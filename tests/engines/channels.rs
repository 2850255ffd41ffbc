//! A replica of two sources: all that was received from either is applied, or nothing is changed.

use std::time::Duration;

use mysql::prelude::Queryable;

use crate::lab::wait_until;
use crate::site::{Site, assert_told, hook, start, succeed, told};

const NONE: &str = "one channel only";

pub fn both_channels_are_drained(site: &mut Site) -> String {
    if !site.engine.has_channels() {
        return NONE.to_owned();
    }
    site.add_source();
    let holder = site.hold("lab.e WRITE, lab.e3 WRITE");
    site.write_events(1, 1000);
    let db3 = site.second_source();
    for row in 1..=100 {
        db3.sql(&format!("INSERT INTO lab.e3 VALUES ({row}, 'second')"));
    }
    site.db2.wait_until_received(&site.db1, "one");
    site.db2.wait_until_received(db3, "two");
    let mut hook = start(&site.db2, "notify_master");
    hook.wait_for("apply what was received");
    std::thread::sleep(Duration::from_millis(300));
    assert!(hook.is_running() && !site.db2.is_writable());
    drop(holder);
    let (status, took) = hook.end();
    assert_eq!(status, 0, "{}", told(&site.db2));
    assert!(site.db2.is_writable());
    assert_eq!(site.last_row(), "1000", "{}", told(&site.db2));
    assert_eq!(site.db2.ask("SELECT COUNT(*) FROM lab.e3"), "100");
    assert_eq!(
        site.db2
            .standing()
            .iter()
            .filter(|s| s.contains("from"))
            .count(),
        0
    );
    format!("drained, {} ms", took.as_millis())
}

pub fn an_error_in_one_of_two_channels_is_refused(site: &mut Site) -> String {
    if !site.engine.has_channels() {
        return NONE.to_owned();
    }
    site.add_source();
    {
        let mut root = site.db2.root();
        root.query_drop("SET SESSION sql_log_bin = 0").unwrap();
        root.query_drop("INSERT INTO lab.e3 VALUES (1, 'in the way')")
            .unwrap();
    }
    let db3 = site.second_source();
    db3.sql("INSERT INTO lab.e3 VALUES (1, 'second')");
    wait_until("the applier stops", Duration::from_secs(10), || {
        site.db2.status_of("two", "Slave_SQL_Running") == "No"
    });
    let before = site.db2.standing();
    assert_eq!(hook(&site.db2, "notify_master").0, 1);
    assert_eq!(site.db2.standing(), before);
    assert_told(&site.db2, &["the applier stopped", "refused"]);
    // Mended, it goes on.
    site.db2.sql("DELETE FROM lab.e3");
    site.db2
        .sql(&site.engine.on_channel("START SLAVE @ SQL_THREAD", "two"));
    succeed(&site.db2, "notify_master");
    assert_eq!(site.db2.ask("SELECT text FROM lab.e3"), "second");
    "refused".to_owned()
}
