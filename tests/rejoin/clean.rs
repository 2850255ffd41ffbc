//! An old primary that has nothing of its own.

use crate::lab::{Replication, Server};
use crate::site::{run_by_hand, standing, told};
use crate::{DB2, assert_follows, configure, rejoin, rejoined, site, split, switch};

#[test]
fn an_old_primary_becomes_a_replica_and_says_so_when_asked_again() {
    site!(site, Replication::Gtid);
    configure(site, "");
    site.write_events(1, 200);
    site.wait_until_applied();
    switch(site);
    let all = rejoined(&site.db1, DB2);
    assert_follows(&site.db1, &site.db2, &all);
    assert!(!all.contains("replpass"), "{all}");
    let before = standing(&site.db1);
    let all = rejoined(&site.db1, DB2);
    assert!(
        all.contains("is a replica of 10.77.0.12:3306 already"),
        "{all}"
    );
    assert_eq!(standing(&site.db1), before);
}

#[test]
fn after_a_crash_with_both_writable_it_is_closed_first() {
    site!(site, Replication::Gtid);
    configure(site, "");
    let strict = |server: &Server, on| server.sql(&format!("SET GLOBAL gtid_strict_mode = {on}"));
    site.write_events(1, 10);
    site.wait_until_applied();
    site.db1.kill();
    crate::site::succeed(&site.db2, &["notify_master"]);
    site.db2.sql("INSERT INTO lab.e VALUES (9001, 'after')");
    site.db1.start();
    assert!(site.db1.is_writable());
    strict(&site.db1, 1);
    let all = rejoined(&site.db1, DB2);
    assert_follows(&site.db1, &site.db2, &all);
    strict(&site.db1, 0);
}

/// MHA knows no GTIDs of MariaDB: it leaves its replicas with file and position, and the servers
/// with gtid_strict_mode off.
#[test]
fn after_a_switch_by_file_and_position_it_goes_on_by_gtid() {
    site!(site, Replication::FileAndPosition);
    configure(site, "");
    site.write_events(1, 200);
    site.wait_until_applied();
    site.db1.sql("SET GLOBAL read_only = 1");
    for sql in ["STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0"] {
        site.db2.sql(sql);
    }
    site.db2.sql("INSERT INTO lab.e VALUES (9001, 'after')");
    let all = rejoined(&site.db1, DB2);
    assert_follows(&site.db1, &site.db2, &all);
}

#[test]
fn a_primary_that_changes_place_again_and_again_rejoins_each_time() {
    site!(site, Replication::Gtid);
    configure(site, "");
    site.write_events(1, 10);
    site.wait_until_applied();
    for round in 0..2 {
        switch(site);
        rejoined(&site.db1, DB2);
        let all = told(&site.db1);
        assert_follows(&site.db1, &site.db2, &all);
        crate::site::succeed(&site.db2, &["notify_backup"]);
        crate::site::succeed(&site.db1, &["notify_master"]);
        site.db1
            .sql(&format!("INSERT INTO lab.e VALUES (90{round}0, 'back')"));
        site.db1.sql("DELETE FROM lab.e WHERE id = 9001");
        let all = rejoined(&site.db2, crate::DB1);
        assert_follows(&site.db2, &site.db1, &all);
    }
}

#[test]
fn a_replica_that_was_only_stopped_goes_on_without_an_account() {
    site!(site, Replication::FileAndPosition);
    site.write_events(1, 10);
    site.wait_until_applied();
    site.db2.sql("STOP SLAVE");
    site.write_events(11, 20);
    let all = rejoined(&site.db2, crate::DB1);
    assert!(all.contains("goes on where it stopped"), "{all}");
    site.wait_until_applied();
    assert_eq!(site.db2.replica_status("Using_Gtid"), "No");
    assert_eq!(site.db2.ask("SELECT COUNT(*) FROM lab.e"), "20");
}

#[test]
fn explain_prints_every_statement_without_the_password_and_changes_nothing() {
    site!(site, Replication::Gtid);
    configure(site, "");
    site.write_events(1, 10);
    site.wait_until_applied();
    split(site, 1, 0);
    let before = standing(&site.db1);
    let args = ["rejoin", "--source", DB2, "--explain"];
    let (status, stdout, stderr) = run_by_hand(&site.db1, &args);
    assert_eq!(status, 0, "{stderr}");
    let statements: Vec<&str> = stdout
        .lines()
        .filter(|line| !line.starts_with("--"))
        .collect();
    let expected = [
        "SET GLOBAL read_only = 1",
        "SET GLOBAL gtid_slave_pos = '0-1-",
        "CHANGE MASTER '' TO MASTER_HOST = '10.77.0.12'",
        "START SLAVE '' SQL_THREAD",
        "START SLAVE '' IO_THREAD",
    ];
    let told: Vec<&str> = expected
        .iter()
        .filter_map(|start| {
            statements
                .iter()
                .find(|sql| sql.starts_with(start))
                .copied()
        })
        .collect();
    assert_eq!(told.len(), expected.len(), "{stdout}");
    assert!(told[2].contains("MASTER_PASSWORD = '***'"), "{stdout}");
    assert!(!format!("{stdout}{stderr}").contains("replpass"));
    assert_eq!(standing(&site.db1), before);
    assert_eq!(rejoin(&site.db1, DB2, &["--dry-run"]).0, 0);
    assert_eq!(standing(&site.db1), before);
}
