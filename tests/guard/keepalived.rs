//! Beside keepalived and its hooks the guard is not needed, and does no harm.

use std::thread::sleep;
use std::time::Duration;

use crate::lab::{self, Pair, Replication, Shape, wait_until};
use crate::site;
use crate::site::ms;

#[test]
fn beside_keepalived_it_changes_nothing() {
    if !lab::is_possible() {
        return;
    }
    let program = env!("CARGO_BIN_EXE_hookbox");
    // The harder shape: each receives from the other, whoever takes writes.
    let mut pair = Pair::new(Shape::Circle, Replication::Gtid, program.as_ref());
    pair.start_keepalived();
    for node in [&pair.db1, &pair.db2] {
        let every_second = "while :; do hookbox guard & sleep 1; done";
        node.host
            .start("sh", &["-c", every_second], "/var/log/guard.log");
    }
    let sampler = pair.sampler();
    sleep(ms(2500));
    pair.switch.block(&pair.db1.host);
    wait_until("db2 is primary", Duration::from_secs(15), || {
        pair.db2.is_primary()
    });
    sleep(ms(1000));
    pair.switch.heal(&pair.db1.host);
    sleep(ms(4000));
    let told = |node: &lab::Node| {
        let journal = node.journal();
        let by_guard = journal
            .lines()
            .filter(|line| line.contains("\"applet\":\"guard\""));
        by_guard.collect::<Vec<_>>().join("\n")
    };
    let (db1, db2) = (told(&pair.db1), told(&pair.db2));
    assert!(pair.db2.is_primary(), "{db1}\n{db2}");
    assert!(!pair.db1.server.is_writable(), "{db1}\n{db2}");
    assert!(!db2.contains("close writes"), "{db2}");
    assert_eq!(sampler.overlap(), Duration::ZERO, "{:?}", sampler.changes());
}

#[test]
fn what_a_guard_left_unfinished_does_not_end_a_promotion_that_was_wished_for_since() {
    site!(site);
    let [db1, ..] = &site.db;
    // Giving up had begun when the server did not answer; keepalived wants it to be the primary now.
    let watch =
        r#"{"verdict":"fine","unfinished":true,"cut_off":false,"at":1,"first":1,"lasted":0}"#;
    db1.hookbox(&["notify_master"]);
    db1.host.write("/run/hookbox/guard.json", watch, 0o644);
    // A promotion at work: the address is here, and the server not open yet.
    db1.server.sql("SET GLOBAL read_only = 1");
    db1.guard(&[]);
    let has_vip = db1.has_vip();
    db1.server.sql("SET GLOBAL read_only = 0");
    assert!(has_vip, "{}", db1.told());
    // Without such a wish it is finished.
    db1.hookbox(&["notify_backup"]);
    db1.host.write("/run/hookbox/guard.json", watch, 0o644);
    db1.guard(&[]);
    assert!(db1.has_given_up(), "{}", db1.told());
}
