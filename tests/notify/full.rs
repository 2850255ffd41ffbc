//! What hookbox cannot write down keeps no server open.

use crate::lab::{Replication, Server};
use crate::site;
use crate::site::{run_by_hand, standing};

const RECORDS: &str = "/run/hookbox /var/lib/hookbox /var/log/hookbox";

/// Puts file systems on which nothing can be written where hookbox writes, and takes them away.
fn with_records_on(server: &Server, options: &str, story: impl FnOnce()) {
    server.host.sh(&format!(
        "for dir in {RECORDS}; do
            mkdir -p $dir; mount -t tmpfs {options} none $dir
            cat /dev/zero 2> /dev/null > $dir/full || true
         done"
    ));
    story();
    server.host.sh(&format!("umount {RECORDS}"));
}

#[test]
fn writes_are_closed_though_nothing_can_be_written_down() {
    site!(site, Replication::Gtid);
    let db1 = &site.db1;
    for hook in ["notify_backup", "notify_fault", "notify_stop", "fence"] {
        for options in ["-o size=4k", "-o ro"] {
            db1.sql("SET GLOBAL read_only = 0");
            with_records_on(db1, options, || {
                let (status, _, stderr) = run_by_hand(db1, &[hook]);
                assert_eq!(status, 0, "{hook} {options}: {stderr}");
                assert!(!db1.is_writable(), "{hook} {options}: {stderr}");
            });
        }
    }
}

#[test]
fn no_server_is_opened_while_its_wish_cannot_be_written_down() {
    site!(site, Replication::Gtid);
    let db2 = &site.db2;
    let before = standing(db2);
    with_records_on(db2, "-o size=4k", || {
        let (status, _, stderr) = run_by_hand(db2, &["notify_master"]);
        assert_eq!(status, 1, "{stderr}");
        assert!(stderr.contains("/run/hookbox/wish: No space"), "{stderr}");
        assert!(stderr.contains("try: make room there"), "{stderr}");
        assert_eq!(standing(db2), before, "{stderr}");
    });
}

#[test]
fn a_file_system_that_fills_up_later_does_not_keep_a_server_from_being_the_primary() {
    site!(site, Replication::Gtid);
    let db2 = &site.db2;
    db2.host
        .sh("mkdir -p /run/hookbox; mount -t tmpfs -o size=64k none /run/hookbox");
    let (status, _, stderr) = run_by_hand(db2, &["notify_backup"]);
    assert_eq!(status, 0, "{stderr}");
    db2.host
        .sh("cat /dev/zero 2> /dev/null > /run/hookbox/full || true");
    let (status, _, stderr) = run_by_hand(db2, &["notify_master"]);
    db2.host.sh("umount /run/hookbox");
    assert_eq!(status, 0, "{stderr}");
    assert!(db2.is_writable(), "{stderr}");
}
