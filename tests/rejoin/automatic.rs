//! From notify_backup.

use std::time::Duration;

use crate::lab::{Replication, wait_until};
use crate::site::{records, standing, succeed, told};
use crate::{assert_follows, configure, site, split, switch};

#[test]
fn notify_backup_starts_it_when_a_peer_took_over_and_only_if_configured() {
    site!(site, Replication::Gtid);
    configure(site, "");
    site.write_events(1, 10);
    site.wait_until_applied();
    split(site, 1, 0);
    succeed(&site.db1, &["notify_backup"]);
    assert!(!told(&site.db1).contains("rejoin"), "{}", told(&site.db1));
    assert_eq!(standing(&site.db1), ["read_only 1"]);
    configure(site, "automatic = true\n");
    succeed(&site.db1, &["notify_backup"]);
    wait_until("db1 replicates", Duration::from_secs(10), || {
        records(&site.db1)
            .iter()
            .any(|r| r.run.starts_with("rejoin") && r.outcome.as_deref() == Some("done"))
    });
    assert_follows(&site.db1, &site.db2, &told(&site.db1));
}

#[test]
fn a_check_starts_it_when_the_peer_opened_later() {
    site!(site, Replication::Gtid);
    configure(site, "automatic = true\n");
    site.write_events(1, 10);
    site.wait_until_applied();
    switch(site);
    assert!(!told(&site.db1).contains("rejoin"), "{}", told(&site.db1));
    wait_until("db1 replicates", Duration::from_secs(20), || {
        succeed(&site.db1, &["check_mysql"]);
        records(&site.db1)
            .iter()
            .any(|r| r.run.starts_with("rejoin") && r.outcome.as_deref() == Some("done"))
    });
    assert_follows(&site.db1, &site.db2, &told(&site.db1));
}

#[test]
fn what_by_hand_is_refused_is_refused() {
    site!(site, Replication::Gtid);
    configure(site, "automatic = true\n");
    site.write_events(1, 10);
    site.wait_until_applied();
    split(site, 101, 103);
    succeed(&site.db1, &["notify_backup"]);
    wait_until("it is refused", Duration::from_secs(10), || {
        told(&site.db1).contains(" refused")
    });
    assert_eq!(standing(&site.db1), ["read_only 1"]);
}
