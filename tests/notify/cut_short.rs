//! A run that is cut short at any question it asks: the next one ends well, and nothing is lost.

use std::time::Duration;

use mysql::prelude::Queryable;
use nix::sys::signal::Signal;

use crate::gate::{self, Gate};
use crate::lab::{Replication, wait_until};
use crate::site;
use crate::site::{app, run, standing, succeed, told};

#[test]
fn a_promotion_killed_anywhere_is_finished_by_the_next() {
    let mut cuts = 0;
    for at in 0_usize.. {
        site!(site, Replication::Gtid);
        site.db2.sql("STOP SLAVE SQL_THREAD");
        site.write_events(1, 200);
        site.wait_until_received();
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
        assert_eq!(status, -1, "{question}");
        let told_first = told(&site.db2);
        if site.db2.is_writable() {
            assert_eq!(
                site.db2.ask("SELECT COUNT(*) FROM lab.e"),
                "200",
                "{question}"
            );
        }
        succeed(&site.db2, &["notify_master"]);
        let all = format!("killed at {question}\n{told_first}\n{}", told(&site.db2));
        assert!(
            all.contains("the run before was cut short: notify_master"),
            "{all}"
        );
        assert_eq!(standing(&site.db2), ["read_only 0"], "{all}");
        assert_eq!(site.db2.ask("SELECT COUNT(*) FROM lab.e"), "200", "{all}");
    }
    assert!(cuts > 8, "{cuts}");
}

#[test]
fn a_promotion_ended_by_sigterm_anywhere_is_undone_or_finished_by_the_next() {
    let mut cuts = 0;
    for at in 0_usize.. {
        site!(site, Replication::Gtid);
        site.write_events(1, 200);
        site.wait_until_applied();
        site.db1.sql("SET GLOBAL read_only = 1");
        let before = standing(&site.db2);
        let gated = format!("--config={}", gate::configure(&site.db2));
        let gate = Gate::new(&site.db2, at, Signal::SIGTERM);
        let (status, _) = run(&site.db2, &["notify_master", &gated]);
        let Some(question) = gate.signalled_at() else {
            assert_eq!(status, 0, "{}", told(&site.db2));
            break;
        };
        drop(gate);
        cuts += 1;
        let all = format!("SIGTERM at {question}\n{}", told(&site.db2));
        if site.db2.is_writable() {
            // All may be done before it looks for signals again.
            let is_done = standing(&site.db2) == ["read_only 0"];
            assert!(status == 1 || is_done, "{all}");
            assert!(status == 0 || all.contains("partial"), "{all}");
            succeed(&site.db2, &["notify_master"]);
            assert_eq!(standing(&site.db2), ["read_only 0"], "{all}");
        } else {
            assert_eq!(status, 1, "{all}");
            assert!(all.contains("SIGTERM arrived"), "{all}");
            assert!(
                all.contains("rolled-back") || all.contains("refused"),
                "{all}"
            );
            wait_until(&all, Duration::from_secs(5), || {
                standing(&site.db2) == before
            });
        }
    }
    assert!(cuts > 8, "{cuts}");
}

#[test]
fn a_demotion_killed_anywhere_is_finished_by_the_next() {
    let mut cuts = 0;
    for at in 0_usize.. {
        site!(site, Replication::Gtid);
        let mut session = app(&site.db1);
        let gated = format!("--config={}", gate::configure(&site.db1));
        let gate = Gate::new(&site.db1, at, Signal::SIGKILL);
        let (status, _) = run(&site.db1, &["notify_backup", &gated]);
        let Some(question) = gate.signalled_at() else {
            assert_eq!(status, 0, "{}", told(&site.db1));
            break;
        };
        drop(gate);
        cuts += 1;
        assert_eq!(status, -1, "{question}");
        succeed(&site.db1, &["notify_backup"]);
        let all = format!("killed at {question}\n{}", told(&site.db1));
        assert!(!site.db1.is_writable(), "{all}");
        assert!(session.query_drop("SELECT 1").is_err(), "{all}");
    }
    assert!(cuts > 4, "{cuts}");
}

#[test]
fn a_demotion_ended_by_sigterm_anywhere_says_so_and_is_finished_by_the_next() {
    let mut cuts = 0;
    for at in 0_usize.. {
        site!(site, Replication::Gtid);
        let mut session = app(&site.db1);
        let gated = format!("--config={}", gate::configure(&site.db1));
        let gate = Gate::new(&site.db1, at, Signal::SIGTERM);
        let (status, _) = run(&site.db1, &["notify_backup", &gated]);
        let Some(question) = gate.signalled_at() else {
            assert_eq!(status, 0, "{}", told(&site.db1));
            break;
        };
        drop(gate);
        cuts += 1;
        let all = format!("SIGTERM at {question}\n{}", told(&site.db1));
        if status == 0 {
            assert!(session.query_drop("SELECT 1").is_err(), "{all}");
        } else {
            assert!(all.contains("SIGTERM arrived"), "{all}");
            succeed(&site.db1, &["notify_fault"]);
            assert!(session.query_drop("SELECT 1").is_err(), "{all}");
        }
        assert!(!site.db1.is_writable(), "{all}");
    }
    assert!(cuts > 4, "{cuts}");
}
