//! A rejoin that is cut short at any question it asks: the next one ends well.

use nix::sys::signal::Signal;

use crate::gate::{self, Gate};
use crate::lab::Replication;
use crate::site::{run, standing, start, succeed, told};
use crate::{DB2, assert_follows, configure, rejoined, site, split, switch};

#[test]
fn killed_anywhere_it_is_finished_by_the_next() {
    let mut cuts = 0;
    for at in 0_usize.. {
        site!(site, Replication::Gtid);
        configure(site, "");
        site.write_events(1, 20);
        site.wait_until_applied();
        split(site, 1, 0);
        let gated = format!("--config={}", gate::configure(&site.db1));
        let gate = Gate::new(&site.db1, at, Signal::SIGKILL);
        let (status, _) = run(&site.db1, &["rejoin", "--source", DB2, &gated]);
        let Some(question) = gate.signalled_at() else {
            assert_eq!(status, 0, "{}", told(&site.db1));
            break;
        };
        drop(gate);
        cuts += 1;
        assert_eq!(status, -1, "{question}");
        let all = format!("killed at {question}\n{}", rejoined(&site.db1, DB2));
        assert_follows(&site.db1, &site.db2, &all);
    }
    assert!(cuts > 15, "{cuts}");
}

#[test]
fn a_promotion_that_comes_ends_it_and_what_it_did_is_taken_back() {
    site!(site, Replication::Gtid);
    configure(site, "");
    site.write_events(1, 20);
    site.wait_until_applied();
    split(site, 1, 0);
    let gated = format!("--config={}", gate::configure(&site.db1));
    let gate = Gate::new(&site.db1, "CHANGE MASTER", Signal::SIGTERM);
    let (status, _) = run(&site.db1, &["rejoin", "--source", DB2, &gated]);
    assert!(gate.signalled_at().is_some());
    drop(gate);
    let all = told(&site.db1);
    assert_eq!(status, 5, "{all}"); // closed it stays
    assert!(all.contains("SIGTERM arrived"), "{all}");
    assert_eq!(standing(&site.db1), ["read_only 1"], "{all}");
    succeed(&site.db1, &["notify_backup"]);
}

#[test]
fn ctrl_c_ends_it_while_its_source_hangs_with_nothing_changed() {
    site!(site, Replication::Gtid);
    configure(site, "");
    site.write_events(1, 20);
    site.wait_until_applied();
    switch(site);
    let before = standing(&site.db1);
    site.db2.freeze();
    let mut rejoin = start(&site.db1, &["rejoin", "--source", DB2]);
    rejoin.wait_for("this server is to be a standby");
    rejoin.signal(Signal::SIGINT);
    let (status, _) = rejoin.end();
    site.db2.thaw();
    let all = told(&site.db1);
    assert_eq!(status, 3, "{all}");
    assert!(all.contains("SIGINT arrived"), "{all}");
    assert_eq!(standing(&site.db1), before, "{all}");
    rejoined(&site.db1, DB2);
}

#[test]
fn a_rejoin_that_is_refused_does_not_hide_that_the_run_before_was_cut_short() {
    site!(site, Replication::Gtid);
    configure(site, "");
    let gated = format!("--config={}", gate::configure(&site.db2));
    let gate = Gate::new(&site.db2, "SET GLOBAL read_only", Signal::SIGKILL);
    run(&site.db2, &["notify_master", &gated]);
    assert!(gate.signalled_at().is_some());
    drop(gate);
    site.db2.host.sh("rm /run/hookbox/wish");
    let (status, _) = run(&site.db2, &["rejoin", "--source", DB2]);
    assert_eq!(status, 3);
    succeed(&site.db2, &["notify_backup"]);
    site.db2.wait_until_replicating();
}
