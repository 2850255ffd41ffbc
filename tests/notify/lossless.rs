//! Is everything that the old primary acknowledged here? The timeline says so, and why.

use std::time::Duration;

use crate::lab::{Replication, wait_until};
use crate::semisync::{semi_sync, silence};
use crate::site;
use crate::site::{Site, assert_told, run, run_by_hand, standing, succeed, told};

/// The check of db2 looks at db1, `times` times.
fn look(site: &Site, times: usize) {
    let file = site.db2.host.path("/run/hookbox/source");
    for _ in 0..times {
        let before = std::fs::read(&file).ok();
        wait_until("a check looks", Duration::from_secs(10), || {
            succeed(&site.db2, &["check_mysql"]);
            std::fs::read(&file).ok() != before
        });
    }
}

#[test]
fn a_source_that_answers_is_asked_itself() {
    for by in [Replication::Gtid, Replication::FileAndPosition] {
        site!(site, by);
        site.write_events(1, 1000);
        succeed(&site.db2, &["notify_master"]);
        assert_told(&site.db2, &["lossless = proven: ", "which answers"]);
        let (status, text, _) = run_by_hand(&site.db2, &["status"]);
        assert!(status == 0 && text.contains("lossless: proven: "), "{text}");
    }
}

#[test]
fn a_silent_source_without_semi_sync_is_unknown_and_refused_if_proof_is_required() {
    site!(site, Replication::Gtid);
    site.configure("[promote]\nrequire = \"proven\"");
    look(site, 1);
    site.write_events(1, 100);
    site.wait_until_applied();
    site.db1.kill();
    let before = standing(&site.db2);
    assert_eq!(run(&site.db2, &["notify_master"]).0, 1);
    assert_eq!(standing(&site.db2), before);
    let why = ["lossless = unknown: ", "semi-sync is off", "refused"];
    assert_told(&site.db2, &why);
    site.configure("");
    succeed(&site.db2, &["notify_master"]);
    assert!(site.db2.is_writable());
}

#[test]
fn what_was_seen_to_be_written_and_never_arrived_is_a_violation() {
    site!(site, Replication::Gtid);
    site.db2.sql("STOP SLAVE IO_THREAD");
    site.write_events(1, 100);
    look(site, 2);
    site.db1.kill();
    succeed(&site.db2, &["notify_master"]);
    assert_told(&site.db2, &["lossless = violated: ", "had written up to"]);
}

#[test]
fn with_semi_sync_a_source_that_falls_silent_soon_after_it_was_seen_is_proven() {
    site!(site, Replication::Gtid);
    site.configure("[promote]\nrequire = \"proven\"");
    semi_sync(site, 10_000);
    look(site, 1);
    site.write_events(1, 100);
    look(site, 1);
    site.db1.kill();
    succeed(&site.db2, &["notify_master"]);
    assert_told(&site.db2, &["lossless = proven: every commit"]);
    assert_eq!(site.db2.ask("SELECT COUNT(*) FROM lab.e"), "100");
    silence(site);
}

#[test]
fn semi_sync_that_timed_out_unseen_by_this_server_proves_nothing() {
    site!(site, Replication::Gtid);
    semi_sync(site, 500);
    look(site, 1);
    site.db2.sql("STOP SLAVE IO_THREAD");
    site.write_events(1, 100);
    site.db1.kill();
    succeed(&site.db2, &["notify_master"]);
    let told = told(&site.db2);
    assert!(told.contains("lossless = unknown: "), "{told}");
    silence(site);
}

#[test]
fn a_look_holds_up_no_check_and_a_directory_that_cannot_be_written_is_no_failure() {
    site!(site, Replication::Gtid);
    site.switch.block(&site.db1.host);
    let took = succeed(&site.db2, &["check_mysql"]);
    assert!(took < Duration::from_millis(300), "{took:?}");
    // Before the source can be heard again, or the look that waits for it would write its file.
    site.db2.host.sh("mkdir -p /run/hookbox/source");
    site.switch.heal(&site.db1.host);
    for _ in 0..3 {
        succeed(&site.db2, &["check_mysql"]);
    }
    site.db2.host.sh("rmdir /run/hookbox/source");
}
