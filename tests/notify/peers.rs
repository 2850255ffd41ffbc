//! Nothing is made writable before the other side is closed, or silent on record.

use std::time::Duration;

use mysql::prelude::Queryable;

use crate::lab::{Replication, wait_until};
use crate::semisync::{semi_sync, silence};
use crate::site;
use crate::site::{
    Site, app, assert_told, assert_within, configure, root, run, standing, start, succeed, told,
};

/// [promote] peer_limit is 500 ms; and a semi-sync receiver spends another second on an attempt to
/// end its session at the source, which nothing shortens.
const SILENT_PEER: Duration = Duration::from_millis(1800);

#[test]
fn a_writable_peer_is_closed_first_and_what_it_still_has_is_received() {
    site!(site, Replication::Gtid);
    // The replica hears of nothing for a while, so that there is something left to receive.
    site.db1
        .host
        .sh("tc qdisc add dev eth0 root tbf rate 40mbit burst 64kb latency 50ms");
    let mut reader = app(&site.db1);
    reader.query_drop("SELECT 1").unwrap();
    site.db1.sql("SET GLOBAL rpl_semi_sync_master_enabled = 0");
    site.configure("[promote]\npeer_limit = \"3s\"");
    let writing = site::in_background(
        &site.db1,
        "BEGIN NOT ATOMIC FOR i IN 1..100000 DO INSERT INTO lab.e VALUES (i, 'x'); END FOR; END",
    );
    wait_until("writes flow", Duration::from_secs(5), || {
        site.db1
            .ask("SELECT COUNT(*) FROM lab.e")
            .parse::<u32>()
            .unwrap()
            > 200
    });
    let took = succeed(&site.db2, &["notify_master"]);
    writing.join().unwrap().unwrap_err();
    assert!(
        reader.query_drop("SELECT 1").is_err(),
        "sessions there are ended"
    );
    assert!(!site.db1.is_writable() && site.db2.is_writable());
    let count = "SELECT COUNT(*), MAX(id) FROM lab.e";
    assert_eq!(
        site.db1.sql(count),
        site.db2.sql(count),
        "{took:?} {}",
        told(&site.db2)
    );
    site.db1.sql("SET GLOBAL rpl_semi_sync_master_enabled = 1");
}

#[test]
fn a_writable_peer_is_a_reason_to_refuse_if_so_configured() {
    site!(site, Replication::Gtid);
    site.configure("[promote]\non_writable_peer = \"refuse\"");
    let before = (standing(&site.db1), standing(&site.db2));
    let mut session = app(&site.db1);
    assert_eq!(run(&site.db2, &["notify_master"]).0, 1);
    assert_eq!((standing(&site.db1), standing(&site.db2)), before);
    session.query_drop("SELECT 1").unwrap();
    assert_told(&site.db2, &["10.77.0.11:3306 takes no writes", "refused"]);
}

#[test]
fn a_peer_that_lets_nobody_look_is_a_reason_to_refuse() {
    site!(site, Replication::Gtid);
    let peer = "[[peer]]\nhost = \"10.77.0.11\"\nuser = \"nobody\"\n";
    configure(&site.db2, peer);
    let before = (standing(&site.db1), standing(&site.db2));
    assert_eq!(run(&site.db2, &["notify_master"]).0, 1);
    assert_eq!((standing(&site.db1), standing(&site.db2)), before);
    assert_told(&site.db2, &["Access denied", "refused"]);
}

#[test]
fn a_dead_peer_is_gone_on_without() {
    site!(site, Replication::Gtid);
    site.db1.kill();
    let took = succeed(&site.db2, &["notify_master"]);
    assert!(site.db2.is_writable());
    assert_eq!(standing(&site.db2), ["read_only 0"]);
    assert_told(&site.db2, &["going on without 10.77.0.11:3306", "refused"]);
    assert_within(took, Duration::from_millis(500), told(&site.db2));
}

#[test]
fn a_peer_that_is_back_and_takes_writes_when_all_is_applied_stays_the_only_one() {
    site!(site, Replication::Gtid);
    let mut holder = root(&site.db2);
    holder.query_drop("LOCK TABLES lab.e WRITE").unwrap();
    site.write_events(1, 1000);
    site.wait_until_received();
    site.db1.kill();
    let mut master = start(&site.db2, &["notify_master"]);
    master.wait_for("apply what was received");
    site.db1.start();
    assert!(site.db1.is_writable(), "its my.cnf does not close it");
    drop(holder);
    let (status, _) = master.end();
    assert_eq!(status, 1, "{}", told(&site.db2));
    assert!(site.db1.is_writable() && !site.db2.is_writable());
    assert_told(&site.db2, &["10.77.0.11:3306 does", "rolled-back"]);
    site.wait_until_applied();
}

/// As a rule it closes before the other opens, and hears of nothing more from keepalived.
#[test]
fn a_replaced_primary_notices_who_took_over_though_that_opened_later() {
    site!(site, Replication::Gtid);
    site.write_events(1, 10);
    site.wait_until_applied();
    succeed(&site.db1, &["notify_backup"]);
    succeed(&site.db2, &["notify_master"]);
    site.db2.sql("INSERT INTO lab.e VALUES (11, 'only here')");
    let file = site.db1.host.path("/var/lib/hookbox/successor");
    wait_until("a check has noticed", Duration::from_secs(10), || {
        succeed(&site.db1, &["check_mysql"]);
        file.exists()
    });
    site.db2.kill();
    let (status, _) = run(&site.db1, &["notify_master"]);
    assert_eq!(status, 1, "{}", told(&site.db1));
    assert!(!site.db1.is_writable());
    assert_told(&site.db1, &["10.77.0.12:3306 was the primary"]);
}

#[test]
fn a_frozen_peer_is_gone_on_without() {
    site!(site, Replication::Gtid);
    site.db1.freeze();
    let (status, took) = run(&site.db2, &["notify_master"]);
    let (open, stands) = (site.db2.is_writable(), standing(&site.db2));
    site.db1.thaw();
    assert_eq!((status, open), (0, true), "{}", told(&site.db2));
    assert_eq!(stands, ["read_only 0"]);
    assert_told(&site.db2, &["going on without 10.77.0.11:3306"]);
    assert_within(took, SILENT_PEER, told(&site.db2));
}

#[test]
fn a_receiver_that_looks_for_a_frozen_source_on_its_way_out_is_not_waited_for() {
    site!(site, Replication::Gtid);
    // In seconds; 5 is MariaDB's default.
    let patience = |site: &Site, seconds| {
        let set = format!("SET GLOBAL rpl_semi_sync_slave_kill_conn_timeout = {seconds}");
        site.db2.sql(&set);
    };
    semi_sync(site, 1000);
    patience(site, 5);
    site.db1.freeze();
    let (status, _) = run(&site.db2, &["notify_master"]);
    let stands = standing(&site.db2);
    site.db1.thaw();
    patience(site, 1);
    silence(site);
    assert_eq!(status, 0, "{}", told(&site.db2));
    assert_eq!(stands, ["read_only 0"]);
    assert_told(&site.db2, &["the receiver still looks for its source"]);
}

/// db1 behind a blocked port; what db2 says on its way there is lost.
fn black_hole(site: &Site) {
    site.switch.block(&site.db1.host);
}

#[test]
fn a_black_holed_peer_is_gone_on_without_while_the_receiver_is_still_connected() {
    site!(site, Replication::Gtid);
    black_hole(site);
    let took = succeed(&site.db2, &["notify_master"]);
    assert_eq!(standing(&site.db2), ["read_only 0"]);
    assert_told(&site.db2, &["going on without 10.77.0.11:3306"]);
    assert_within(took, SILENT_PEER, told(&site.db2));
}

#[test]
fn a_receiver_stuck_on_its_way_to_a_black_hole_does_not_hold_the_promotion_up() {
    for by in [Replication::Gtid, Replication::FileAndPosition] {
        site!(site, by);
        site.write_events(1, 1000);
        site.wait_until_applied();
        black_hole(site);
        site.db2.sql("STOP SLAVE IO_THREAD");
        site.db2.sql("START SLAVE IO_THREAD");
        // Not only "Connecting" between two tries, but in the middle of one. The neighbour entry
        // fails after 3 s, then connect fails at once; a permanent one makes it wait.
        site.db2
            .host
            .sh("ip neigh replace 10.77.0.11 lladdr 02:00:00:00:00:11 dev eth0 nud permanent");
        wait_until("it is connecting", Duration::from_secs(10), || {
            let sockets = site.db2.host.sh("ss -Htn state syn-sent dst 10.77.0.11");
            sockets.contains("10.77.0.11")
        });
        let hook = start(&site.db2, &["notify_master"]);
        let (status, took) = hook.end();
        site.db2.host.sh("ip neigh del 10.77.0.11 dev eth0");

        assert_eq!(status, 0, "{}", told(&site.db2));
        assert!(site.db2.is_writable());
        assert_eq!(site.db2.ask("SELECT COUNT(*) FROM lab.e"), "1000");
        assert_eq!(standing(&site.db2), ["read_only 0"]);
        assert_within(took, Duration::from_secs(4), told(&site.db2));
    }
}

#[test]
fn what_a_closed_source_has_is_received_also_when_replication_was_stopped() {
    for by in [Replication::Gtid, Replication::FileAndPosition] {
        for stop in ["STOP SLAVE IO_THREAD", "STOP SLAVE"] {
            site!(site, by);
            site.db2.sql(stop);
            site.write_events(1, 1000);
            site.db1.sql("SET GLOBAL read_only = 1");
            let took = succeed(&site.db2, &["notify_master"]);
            let rows = site.db2.ask("SELECT COUNT(*) FROM lab.e");
            assert_eq!(rows, "1000", "{by:?} {stop}: {}", told(&site.db2));
            assert_eq!(standing(&site.db2), ["read_only 0"]);
            assert_within(took, Duration::from_secs(3), told(&site.db2));
        }
    }
}
