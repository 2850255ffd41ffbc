//! Events run where the primary is: exactly those that ran before.

use std::time::Duration;

use mysql::prelude::Queryable;

use crate::lab::wait_until;
use crate::lossless::look;
use crate::server::{ForEvents, Server};
use crate::site::{Site, succeed, told};

fn scheduler(server: &Server) -> String {
    server.ask("SELECT @@global.event_scheduler")
}

/// Whether an event is enabled, and whose it is.
fn event(server: &Server, name: &str) -> (bool, String) {
    let row = server
        .sql(&format!(
            "SELECT STATUS, DEFINER FROM information_schema.EVENTS WHERE EVENT_NAME = '{name}'"
        ))
        .remove(0);
    (row[0] == "ENABLED", row[1].clone())
}

fn ticks(server: &Server) -> u32 {
    let ticks = server.ask("SELECT COUNT(*) FROM lab.ticks");
    ticks.parse().unwrap()
}

pub fn events_run_where_the_primary_is(site: &mut Site) -> String {
    for server in [&site.db1, &site.db2] {
        server.make_account_again(ForEvents(true));
    }
    site.db1.sql("SET GLOBAL event_scheduler = ON");
    site.db2.sql("SET GLOBAL event_scheduler = OFF");
    let mut root = site.db1.root();
    root.query_drop("CREATE TABLE lab.ticks (id INT AUTO_INCREMENT PRIMARY KEY)")
        .unwrap();
    for (name, how) in [("ticks", ""), ("`does not`", "DISABLE")] {
        root.query_drop(format!(
            "CREATE DEFINER = app@localhost EVENT lab.{name} ON SCHEDULE EVERY 1 SECOND {how}
             DO INSERT INTO lab.ticks VALUES ()"
        ))
        .unwrap();
    }
    drop(root);
    let last = "SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_NAME = 'does not'";
    wait_until("db2 has the events", Duration::from_secs(10), || {
        site.db2.ask(last) == "1"
    });
    look(&site.db2);
    succeed(&site.db1, "notify_backup");
    let all = told(&site.db1);
    assert_eq!(scheduler(&site.db1), "OFF", "{all}");
    let [stopped, closed] = ["Done stop the event scheduler", "Done close writes"]
        .map(|deed| all.find(deed).unwrap_or_else(|| panic!("no {deed}: {all}")));
    assert!(stopped < closed, "{all}");
    succeed(&site.db2, "notify_master");
    let all = told(&site.db2);
    assert_eq!(scheduler(&site.db2), "ON", "{all}");
    let definer = || "app@localhost".to_owned();
    assert_eq!(event(&site.db2, "ticks"), (true, definer()), "{all}");
    assert_eq!(event(&site.db2, "does not"), (false, definer()), "{all}");
    let before = ticks(&site.db2);
    wait_until("the event runs", Duration::from_secs(5), || {
        ticks(&site.db2) > before
    });
    for server in [&site.db1, &site.db2] {
        server.sql("SET GLOBAL event_scheduler = DEFAULT");
        server.make_account_again(ForEvents(false));
    }
    "exactly those that ran before".to_owned()
}
