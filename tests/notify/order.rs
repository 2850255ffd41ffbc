//! keepalived neither waits for its scripts nor keeps them in order: the newest wish wins.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::lab::{Replication, wait_until};
use crate::site;
use crate::site::{
    assert_told, assert_within, root, standing, start, start_in_order, succeed, told,
};

/// A few milliseconds, other ones each time.
fn jitter(seed: &mut u64) -> Duration {
    *seed = seed
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    Duration::from_micros((*seed >> 33) % 25_000)
}

/// Starts these hooks on db2 within 50 ms, 20 times; what the last one wants is what must be.
fn race(words: [&str; 3], writable: bool) {
    let mut seed = u64::from(std::process::id());
    let mut overtaken = 0;
    site!(site, Replication::Gtid);
    for round in 0..20 {
        let pauses = [jitter(&mut seed), jitter(&mut seed), Duration::ZERO];
        let (ended, took) = start_in_order(&site.db2, words, pauses);
        let told = told(&site.db2);
        assert_eq!(ended[2], 0, "round {round}: {told}");
        assert_within(took, Duration::from_secs(5), &told);
        assert_eq!(site.db2.is_writable(), writable, "round {round}: {told}");
        let failed = ended[..2].iter().filter(|status| **status != 0).count();
        let says = told
            .matches("a newer state change wants this server to be")
            .count();
        assert!(says >= failed, "round {round}: {told}");
        overtaken += failed;
        // As it was, for the next round.
        site.db2
            .host
            .sh("rm -rf /var/log/hookbox /run/hookbox /var/lib/hookbox");
        site.db1.sql("SET GLOBAL read_only = 0");
        site.db2.sql("SET GLOBAL read_only = 1");
        if site.db2.sql("SHOW ALL SLAVES STATUS").is_empty() {
            site.db2.replicate_from(&site.db1, Replication::Gtid);
        } else {
            site.db2.sql("START SLAVE");
            site.db2.wait_until_replicating();
        }
    }
    eprintln!("{words:?}: {overtaken} of 40 were overtaken");
    assert!(overtaken > 0);
}

#[test]
fn master_backup_master_ends_as_master() {
    race(["master", "backup", "master"], true);
}

#[test]
fn backup_master_backup_ends_as_backup() {
    race(["backup", "master", "backup"], false);
}

#[test]
fn a_promotion_that_waits_for_the_applier_stops_when_a_backup_arrives_and_undoes() {
    site!(site, Replication::Gtid);
    site.db1.sql("SET GLOBAL read_only = 1");
    let before = standing(&site.db2);
    let mut holder = root(&site.db2);
    holder.query_drop("LOCK TABLES lab.e WRITE").unwrap();
    site.write_events(1, 1000);
    site.wait_until_received();
    let mut master = start(&site.db2, &["notify_master"]);
    master.wait_for("started apply what was received".trim_start_matches("started "));
    let arrived = Instant::now();
    succeed(&site.db2, &["notify_backup"]);
    assert_within(
        arrived.elapsed(),
        Duration::from_millis(500),
        told(&site.db2),
    );
    assert_eq!(master.end().0, 1);
    wait_until("the receiver is back", Duration::from_secs(5), || {
        standing(&site.db2) == before
    });
    assert_told(
        &site.db2,
        &[
            "a newer state change wants this server to be standby",
            "undone start receiving",
        ],
    );
    drop(holder);
    site.db1.sql("SET GLOBAL read_only = 0");
    site.write_events(1001, 2000);
    site.wait_until_applied();
}
