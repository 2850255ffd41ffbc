//! Events run where the primary is: exactly those that ran before.

use mysql::prelude::Queryable;

use crate::lab::{Replication, Server, wait_until};
use crate::site;
use crate::site::{Site, assert_told, root, succeed, told};

/// The accounts as they are printed for who has events, and three events: one that runs, two that do
/// not.
fn with_events(site: &Site) {
    for server in [&site.db1, &site.db2] {
        server.host.sh(
            "(echo 'SET sql_log_bin = 0; DROP USER hookbox@localhost, hookbox@`10.77.0.%`;'
              hookbox grants --version 10.11.6-MariaDB --from 10.77.0.% --events) |
             mariadb --abort-source-on-error",
        );
    }
    let mut root = root(&site.db1);
    let mut create = |name: &str, how: &str| {
        root.query_drop(format!(
            "CREATE DEFINER = app@localhost EVENT lab.{name} ON SCHEDULE EVERY 1 HOUR {how} DO SET @a = 1"
        ))
        .unwrap();
    };
    create("runs", "");
    create("`does not`", "DISABLE");
    site.wait_until_applied();
}

fn events(server: &Server) -> Vec<Vec<String>> {
    server.sql(
        "SELECT EVENT_NAME, STATUS, DEFINER FROM information_schema.EVENTS ORDER BY EVENT_NAME DESC",
    )
}

fn row(name: &str, status: &str) -> Vec<String> {
    [name, status, "app@localhost"].map(str::to_owned).to_vec()
}

fn scheduler(server: &Server) -> String {
    server.ask("SELECT @@global.event_scheduler")
}

#[test]
fn the_new_primary_runs_exactly_those_that_ran_on_the_old_one() {
    site!(site, Replication::Gtid);
    with_events(site);
    site.db2.sql("SET GLOBAL event_scheduler = OFF");
    assert_eq!(events(&site.db2)[0], row("runs", "SLAVESIDE_DISABLED"));
    assert_eq!(events(&site.db2)[1], row("does not", "SLAVESIDE_DISABLED"));
    succeed(&site.db2, &["check_mysql"]);
    let file = site.db2.host.path("/run/hookbox/source");
    wait_until(
        "it was looked at",
        std::time::Duration::from_secs(5),
        || file.exists(),
    );
    succeed(&site.db1, &["notify_backup"]);
    assert_eq!(scheduler(&site.db1), "OFF", "{}", told(&site.db1));
    succeed(&site.db2, &["notify_master"]);
    assert_eq!(scheduler(&site.db2), "ON", "{}", told(&site.db2));
    assert_eq!(events(&site.db2)[0], row("runs", "ENABLED"));
    assert_eq!(events(&site.db2)[1], row("does not", "SLAVESIDE_DISABLED"));
    site.db1.sql("SET GLOBAL event_scheduler = ON");
}

#[test]
fn a_primary_that_was_closed_for_a_moment_runs_its_events_again() {
    site!(site, Replication::Gtid);
    with_events(site);
    succeed(&site.db1, &["notify_backup"]);
    assert_eq!(scheduler(&site.db1), "OFF", "{}", told(&site.db1));
    succeed(&site.db1, &["notify_master"]);
    assert_eq!(scheduler(&site.db1), "ON", "{}", told(&site.db1));
    assert_eq!(events(&site.db1)[0], row("runs", "ENABLED"));
}

#[test]
fn events_of_which_nobody_knows_whether_they_ran_stay_disabled_and_are_named() {
    site!(site, Replication::Gtid);
    with_events(site);
    site.db1.kill();
    succeed(&site.db2, &["notify_master"]);
    assert_eq!(events(&site.db2)[0], row("runs", "SLAVESIDE_DISABLED"));
    assert_told(&site.db2, &["stay disabled", "`lab`.`runs`"]);
}

#[test]
fn a_peer_closed_by_a_promotion_runs_no_more_events_either() {
    site!(site, Replication::Gtid);
    with_events(site);
    // Its definer may write in spite of read_only.
    site.db1
        .sql("CREATE TABLE lab.ticks (id INT AUTO_INCREMENT PRIMARY KEY)");
    site.db1.sql(
        "CREATE EVENT lab.ticks ON SCHEDULE EVERY 1 SECOND DO INSERT INTO lab.ticks VALUES ()",
    );
    let ticks = |server: &Server| server.ask("SELECT COUNT(*) FROM lab.ticks");
    wait_until("it runs", std::time::Duration::from_secs(5), || {
        ticks(&site.db1) != "0"
    });
    succeed(&site.db2, &["notify_master"]);
    assert!(!site.db1.is_writable());
    assert_eq!(scheduler(&site.db1), "OFF", "{}", told(&site.db2));
    let before = ticks(&site.db1);
    std::thread::sleep(std::time::Duration::from_millis(2200));
    assert_eq!(ticks(&site.db1), before, "{}", told(&site.db2));
    assert_eq!(ticks(&site.db2), before, "all of it has arrived");
    site.db1.sql("SET GLOBAL event_scheduler = ON");
}
