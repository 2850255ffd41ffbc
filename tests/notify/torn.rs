//! A source that dies in the middle of sending a large transaction.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::lab::{Replication, Server, wait_until};
use crate::site;
use crate::site::{Site, app, assert_told, assert_within, in_background, start, succeed, told};

/// 50 MB in rows of 1000 bytes.
const LARGE: &str =
    "INSERT INTO lab.e SELECT seq + 100000, REPEAT('x', 1000) FROM lab.seq_1_to_50000";

/// Cuts `large` when db2 has received several MB of it, and asserts that it was cut in the middle.
fn cut_while_sending(site: &mut Site, large: &str) {
    site.wait_until_applied();
    let relay = || relay_size(&site.db2);
    let slow = "tc qdisc add dev eth0 root tbf rate 80mbit burst 256kb latency 1s";
    site.db1.host.sh(slow);
    let before = relay();
    let sending = in_background(&site.db1, large);
    wait_until("some of it has arrived", Duration::from_secs(20), || {
        relay() > before + 5_000_000
    });
    site.db1.kill();
    let _ = sending.join().unwrap(); // without semi-sync it waits for nobody
    let read = || site.db2.replica_status("Read_Master_Log_Pos");
    assert_ne!(
        read(),
        site.db2.replica_status("Exec_Master_Log_Pos"),
        "not torn"
    );
    let received = relay() - before;
    assert!(
        (5_000_000..45_000_000).contains(&received),
        "{received} bytes are all or nothing"
    );
    let file = site.db2.replica_status("Relay_Log_File");
    let events = site.db2.sql(&format!("SHOW RELAYLOG EVENTS IN '{file}'"));
    let last = events.iter().rfind(|event| event[2] != "Rotate").unwrap();
    assert!(
        !["Xid", "Query"].contains(&last[2].as_str()),
        "it ends with {last:?}"
    );
}

fn relay_size(server: &Server) -> u64 {
    let size = server.host.sh("cat /var/lib/mysql/relay.0* | wc -c");
    size.trim().parse().unwrap()
}

fn promote(site: &Site) {
    let started = Instant::now();
    let took = succeed(&site.db2, &["notify_master"]);
    eprintln!("with a torn tail: {took:?}");
    assert!(site.db2.is_writable());
    assert_within(
        started.elapsed(),
        Duration::from_millis(2500),
        told(&site.db2),
    );
    assert_eq!(
        site.db2.ask("SELECT COUNT(*) FROM lab.e WHERE id > 100000"),
        "0"
    );
    app(&site.db2)
        .query_drop("INSERT INTO lab.e VALUES (0, 'open')")
        .unwrap();
}

#[test]
fn a_torn_transaction_is_not_waited_for_and_nothing_before_it_is_lost() {
    for by in [Replication::Gtid, Replication::FileAndPosition] {
        site!(site, by);
        // Held back, so that it is the promotion that applies what is whole.
        let mut holder = app(&site.db2);
        holder.query_drop("SELECT 1").unwrap();
        site.db1
            .sql("CREATE TABLE lab.aria (id INT PRIMARY KEY) ENGINE = Aria");
        site.write_events(1, 2000);
        site.db1.sql("INSERT INTO lab.aria VALUES (1), (2)");
        site.db1.sql("CREATE TABLE lab.last (id INT)");
        cut_while_sending(site, LARGE);
        promote(site);
        assert_eq!(
            site.db2
                .ask("SELECT COUNT(*) FROM lab.e WHERE id <= 100000"),
            "2001"
        );
        assert_eq!(site.db2.ask("SELECT COUNT(*) FROM lab.aria"), "2");
        assert_eq!(site.db2.ask("SELECT COUNT(*) FROM lab.last"), "0");
        assert_told(&site.db2, &["going on without 10.77.0.11:3306"]);
    }
}

#[test]
fn what_stands_before_a_torn_transaction_and_is_not_applied_yet_is_applied() {
    for (by, before) in [
        (Replication::Gtid, "CREATE TABLE lab.last (id INT)"),
        (
            Replication::FileAndPosition,
            "CREATE TABLE lab.last (id INT)",
        ),
        (Replication::Gtid, "INSERT INTO lab.last VALUES (1)"),
        (
            Replication::FileAndPosition,
            "INSERT INTO lab.last VALUES (1)",
        ),
    ] {
        site!(site, by);
        if before.starts_with("INSERT") {
            site.db1.sql("CREATE TABLE lab.last (id INT) ENGINE = Aria");
        }
        cut_with_unapplied(site, before);
        promote(site);
        assert_eq!(
            site.db2
                .ask("SELECT COUNT(*) FROM lab.e WHERE id <= 100000"),
            "1001"
        );
        let expected = before.starts_with("INSERT").to_string();
        let found = site
            .db2
            .ask("SELECT IF(COUNT(*) = 1, 'true', 'false') FROM lab.last");
        assert_eq!(found, expected, "{by:?} {before}");
    }
}

/// As [`cut_while_sending`], with 1000 transactions and `before` received and not applied.
fn cut_with_unapplied(site: &mut Site, before: &str) {
    site.wait_until_applied();
    site.db2.sql("STOP SLAVE SQL_THREAD");
    for row in [1, 501] {
        site.write_events(row, row + 499);
    }
    site.db1.sql(before);
    site.wait_until_received();
    let slow = "tc qdisc add dev eth0 root tbf rate 80mbit burst 256kb latency 1s";
    site.db1.host.sh(slow);
    let whole = relay_size(&site.db2);
    let sending = in_background(&site.db1, LARGE);
    let arrived = || relay_size(&site.db2) > whole + 5_000_000;
    wait_until("some of it has arrived", Duration::from_secs(20), arrived);
    site.db1.kill();
    let _ = sending.join().unwrap(); // without semi-sync it waits for nobody
    let received = relay_size(&site.db2) - whole;
    assert!(
        (5_000_000..45_000_000).contains(&received),
        "{received} bytes are all or nothing"
    );
}

#[test]
fn a_torn_statement_that_cannot_be_rolled_back_does_not_hold_the_promotion_up() {
    site!(site, Replication::Gtid);
    site.db1
        .sql("CREATE TABLE lab.aria (id INT PRIMARY KEY, text TEXT) ENGINE = Aria");
    cut_while_sending(site, &LARGE.replace("lab.e", "lab.aria"));
    let mut hook = start(&site.db2, &["notify_master"]);
    wait_until("db2 takes writes", Duration::from_millis(2500), || {
        site.db2.is_writable()
    });
    // Now it waits for the applier, which takes 60 s to stop, before it forgets the source.
    wait_until("it is at its next step", Duration::from_secs(2), || {
        told(&site.db2).contains("started forget the source")
    });
    assert!(hook.is_running());
    assert_told(
        &site.db2,
        &["going on: stop applying", "started forget the source"],
    );
    site.db2.kill();
    assert_eq!(hook.end().0, 1);
    assert_told(&site.db2, &["stands: ", "writable partial"]);
}
