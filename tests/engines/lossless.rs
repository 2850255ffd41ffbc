//! What the old primary has and the new one has not is lost, and the promotion says so.

use std::time::Duration;

use crate::lab::wait_until;
use crate::server::Server;
use crate::site::{Site, assert_told, hook, succeed, told};

/// A check of `replica` looks at its source.
pub fn look(replica: &Server) {
    let file = replica.host.path("/run/hookbox/source");
    let before = std::fs::read(&file).ok();
    wait_until("a check looks", Duration::from_secs(10), || {
        succeed(replica, "check_mysql");
        std::fs::read(&file).ok() != before
    });
}

/// db1 has 100 rows that db2 has not received.
fn write_more(site: &Site) {
    site.db2.sql(&site.engine.word("STOP SLAVE IO_THREAD"));
    site.write_events(1, 100);
}

pub fn what_a_dead_source_was_seen_to_have_more_is_told(site: &mut Site) -> String {
    write_more(site);
    look(&site.db2);
    site.db1.kill();
    succeed(&site.db2, "notify_master");
    assert_told(&site.db2, &["lossless = violated: ", "had written up to"]);
    "violated, as it was last seen".to_owned()
}

pub fn what_a_source_that_answers_has_more_is_told(site: &mut Site) -> String {
    write_more(site);
    // And it can send them no more.
    site.db1.sql("FLUSH LOGS");
    let [file, _] = site.db1.written();
    wait_until("its log is gone", Duration::from_secs(10), || {
        site.db1.sql(&format!("PURGE BINARY LOGS TO '{file}'"));
        site.db1.sql("SHOW BINARY LOGS").len() == 1
    });
    let (status, _) = hook(&site.db2, "notify_master");
    assert_eq!(status, 1, "{}", told(&site.db2));
    assert_told(&site.db2, &["nothing more arrives"]);
    assert!(!site.db2.is_writable(), "{}", told(&site.db2));
    site.configure("[promote]\non_lag = \"force\"");
    succeed(&site.db2, "notify_master");
    assert_told(&site.db2, &["GIVING UP what only", "lossless = violated: "]);
    "refused; by force: violated".to_owned()
}
