//! Two primaries in a circle, and a replica of two sources.

use std::sync::Arc;
use std::time::Duration;

use mysql::Row;
use mysql::prelude::Queryable;
use nix::sys::signal::Signal;

use crate::gate::{self, Gate};
use crate::lab::{Host, Replication, Server, wait_until};
use crate::site;
use crate::site::{Site, app, assert_told, assert_within, root, run, standing, succeed, told};

const BOTH: [Replication; 2] = [Replication::Gtid, Replication::FileAndPosition];

/// Each replicates from the other; db2 is the standby.
fn close_circle(site: &Site, by: Replication) {
    site.configure("[promote]\nforget_source = false");
    site.db1.replicate_from(&site.db2, by);
}

fn wait_for_rows(server: &Server, rows: u32) {
    let name = &server.host.name;
    wait_until(
        &format!("{name} has {rows} rows"),
        Duration::from_secs(10),
        || server.ask("SELECT COUNT(*) FROM lab.e") == rows.to_string(),
    );
}

#[test]
fn in_a_circle_own_events_come_back_and_both_directions_run_after_a_promotion() {
    for by in BOTH {
        site!(site, by);
        close_circle(site, by);
        // db2 writes, db1 sends it back, db2 leaves it out: its receiver advances all the same.
        site.db2
            .sql("INSERT INTO lab.e VALUES (1, 'there and back')");
        wait_for_rows(&site.db1, 1);
        site.write_events(2, 100);
        wait_for_rows(&site.db2, 100);
        site.db2
            .sql("INSERT INTO lab.e VALUES (101, 'there and back')");
        wait_for_rows(&site.db1, 101);
        let took = succeed(&site.db2, &["notify_master"]);
        assert_within(took, Duration::from_secs(1), told(&site.db2));
        assert!(site.db2.is_writable() && !site.db1.is_writable());
        site.db2.wait_until_replicating();
        site.db1.wait_until_replicating();
        // Already primary: nothing changes.
        let before = standing(&site.db2);
        succeed(&site.db2, &["notify_master"]);
        assert_eq!(standing(&site.db2), before);
        assert_told(&site.db2, &["is the primary already"]);
        // And back, with nothing lost on the way.
        app(&site.db2)
            .query_drop("INSERT INTO lab.e VALUES (102, 'on db2')")
            .unwrap();
        succeed(&site.db1, &["notify_master"]);
        assert!(
            site.db1.is_writable() && !site.db2.is_writable(),
            "{}",
            told(&site.db1)
        );
        assert_eq!(site.db1.ask("SELECT COUNT(*) FROM lab.e"), "102");
    }
}

#[test]
fn in_a_circle_a_promotion_killed_anywhere_is_finished_by_the_next() {
    let mut cuts = 0;
    for at in 0_usize.. {
        site!(site, Replication::Gtid);
        close_circle(site, Replication::Gtid);
        site.db1.sql("SET GLOBAL read_only = 1");
        let gated = format!("--config={}", gate::configure(&site.db2));
        let gate = Gate::new(&site.db2, at, Signal::SIGKILL);
        let (status, _) = run(&site.db2, &["notify_master", &gated]);
        let Some(question) = gate.signalled_at() else {
            assert_eq!(status, 0, "{}", told(&site.db2));
            break;
        };
        drop(gate);
        cuts += 1;
        succeed(&site.db2, &["notify_master"]);
        let all = format!("killed at {question}\n{}", told(&site.db2));
        assert!(site.db2.is_writable(), "{all}");
        wait_until(&all, Duration::from_secs(3), || {
            site.db2.replica_status("Slave_IO_Running") == "Yes"
                && site.db2.replica_status("Slave_SQL_Running") == "Yes"
        });
    }
    assert!(cuts > 8, "{cuts}");
}

#[test]
fn two_channels_are_both_drained_and_forgotten() {
    // Each has an address of its own, since neighbours remember where the last one was.
    for (by, address) in BOTH.into_iter().zip(["10.77.0.13", "10.77.0.14"]) {
        site!(site, by);
        let host = Arc::new(Host::new("db3"));
        site.switch.plug(&host, address);
        let mut db3 = Server::new(&host, address, 3, "gtid-domain-id = 3");
        db3.start();
        db3.sql("RESET MASTER");
        let place = match by {
            Replication::Gtid => "MASTER_USE_GTID = slave_pos",
            Replication::FileAndPosition => "MASTER_LOG_FILE = 'binlog.000001', MASTER_LOG_POS = 4",
        };
        site.db2.sql(&format!(
            "CHANGE MASTER 'east' TO MASTER_HOST = '{address}', MASTER_USER = 'repl',
             MASTER_PASSWORD = 'replpass', MASTER_CONNECT_RETRY = 1, {place}"
        ));
        site.db2.sql("START SLAVE 'east'");
        db3.sql("CREATE TABLE lab.east (id INT PRIMARY KEY)");
        let there = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_NAME = 'east'";
        wait_until("east flows", Duration::from_secs(5), || {
            site.db2.ask(there) == "1"
        });
        for name in ["", "east"] {
            site.db2.sql(&format!("STOP SLAVE '{name}' SQL_THREAD"));
        }
        db3.sql("INSERT INTO lab.east SELECT seq FROM lab.seq_1_to_500");
        site.write_events(1, 500);
        site.wait_until_received();
        let end = db3.sql("SHOW MASTER STATUS").remove(0)[1].clone();
        wait_until("east is received", Duration::from_secs(5), || {
            let row: Option<Row> = root(&site.db2)
                .query_first("SHOW SLAVE 'east' STATUS")
                .unwrap();
            row.unwrap().get::<String, _>("Read_Master_Log_Pos") == Some(end.clone())
        });
        site.db1.kill();
        db3.kill();
        succeed(&site.db2, &["notify_master"]);
        assert_eq!(standing(&site.db2), ["read_only 0"], "{}", told(&site.db2));
        let both = "SELECT (SELECT COUNT(*) FROM lab.e), (SELECT COUNT(*) FROM lab.east)";
        assert_eq!(site.db2.sql(both), [["500", "500"]], "{}", told(&site.db2));
    }
}
