//! A promotion waits for everything that was received, and for nothing else.

use std::thread::sleep;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::lab::wait_until;
use crate::server::Server;
use crate::site::{Site, Watcher, assert_told, assert_within, hook, start, succeed, told};

/// Nothing in a promotion should take so long after the last row was applied.
const LATE: Duration = Duration::from_secs(1);

/// How often a server was asked how its replication stands, for a page of its relay log, and
/// altogether.
struct Looks {
    at: Instant,
    replication: u32,
    pages: u32,
    questions: u32,
}

impl Looks {
    fn at(server: &Server) -> Looks {
        let word = server.engine.word("slave");
        let count = |name: &str| {
            let rows = server.sql(&format!("SHOW GLOBAL STATUS LIKE '{name}'"));
            rows[0][1].parse().unwrap()
        };
        Looks {
            at: Instant::now(),
            replication: count(&format!("Com_show_{word}_status")),
            pages: count("Com_show_relaylog_events"),
            questions: count("Questions"),
        }
    }

    /// Since then it was not polled more than 50 times a second.
    fn assert_rare(&self, server: &Server) {
        let now = Looks::at(server);
        let polls = (self.at.elapsed().as_millis() / 20) as u32 + 2;
        let replication = now.replication - self.replication;
        assert!(
            replication > 0 && replication <= polls,
            "{replication} in {polls}"
        );
        // By GTID the sets, and on MySQL the states of the appliers; and these five.
        let pages = now.pages - self.pages;
        let questions = now.questions - self.questions - pages;
        assert!(questions <= 3 * polls + 5, "{questions} in {polls}");
    }
}

pub fn nothing_is_left_to_apply(site: &mut Site) -> String {
    site.write_events(1, 1000);
    site.db2.wait_until_applied(&site.db1, "");
    for server in [&site.db1, &site.db2] {
        succeed(server, "check_mysql");
    }
    let took = succeed(&site.db2, "notify_master");
    let closed = match site.has_super_read_only() {
        true => vec!["read_only OFF", "super_read_only OFF"],
        false => vec!["read_only OFF"],
    };
    assert_eq!(site.db2.standing(), closed, "{}", told(&site.db2));
    assert!(!site.db1.is_writable());
    assert_within(took, Duration::from_secs(1), &told(&site.db2));
    format!("{} ms", took.as_millis())
}

pub fn a_thousand_events_are_left_by_a_dead_source(site: &mut Site) -> String {
    site.db2.sql(&site.engine.word("STOP SLAVE SQL_THREAD"));
    site.write_events(1, 1000);
    site.db2.wait_until_received(&site.db1, "");
    site.db1.kill();
    let watcher = Watcher::start(&site.db2);
    let took = succeed(&site.db2, "notify_master");
    let late = watcher.opened_after(&site.db2, 1000);
    assert_within(late.opened, LATE, &told(&site.db2));
    // Nobody can say what the dead one had acknowledged besides.
    assert_told(&site.db2, &["lossless = unknown: ", "is silent"]);
    format!("{} ms, {late}", took.as_millis())
}

pub fn a_thousand_events_are_held_back_from_four_workers(site: &mut Site) -> String {
    hold_back(site, 1000)
}

pub fn two_hundred_thousand_events_are_held_back(site: &mut Site) -> String {
    hold_back(site, 200_000)
}

fn hold_back(site: &mut Site, events: u32) -> String {
    site.db2.apply_with_workers(4);
    let holder = site.hold("lab.e WRITE");
    site.write_events(1, events);
    site.db2.wait_until_received(&site.db1, "");
    let mut hook = start(&site.db2, "notify_master");
    hook.wait_for("apply what was received");
    let looks = Looks::at(&site.db2);
    sleep(Duration::from_millis(300));
    looks.assert_rare(&site.db2);
    assert!(hook.is_running() && !site.db2.is_writable());
    drop(holder);
    let watcher = Watcher::start(&site.db2);
    let (status, took) = hook.end();
    assert_eq!(status, 0, "{}", told(&site.db2));
    let late = watcher.opened_after(&site.db2, events);
    assert_within(late.opened, LATE, &told(&site.db2));
    format!("{} ms, {late}", took.as_millis())
}

pub fn what_is_held_back_is_read_before_it_is_applied(site: &mut Site) -> String {
    site.db2.apply_with_workers(4);
    let holder = site.hold("lab.e WRITE");
    site.write_events(1, 20_000);
    site.db2.wait_until_received(&site.db1, "");
    let mut hook = start(&site.db2, "notify_master");
    hook.wait_for("apply what was received");
    let mut read = 0;
    wait_until("nothing more is read", Duration::from_secs(20), || {
        sleep(Duration::from_millis(400));
        let before = std::mem::replace(&mut read, Looks::at(&site.db2).pages);
        before == read
    });
    assert!(hook.is_running() && !site.db2.is_writable());
    drop(holder);
    assert_eq!(hook.end().0, 0, "{}", told(&site.db2));
    assert_eq!(site.last_row(), "20000");
    // Of 20: the last, and whether there is another file, before the applier is stopped and after it.
    let late = Looks::at(&site.db2).pages - read;
    assert!(late <= 4, "{late} pages when all was applied");
    "not read again".to_owned()
}

pub fn an_applier_that_stopped_with_an_error_is_refused(site: &mut Site) -> String {
    {
        let mut root = site.db2.root();
        root.query_drop("SET SESSION sql_log_bin = 0").unwrap();
        let _ = root.query_drop("SET GLOBAL super_read_only = 0");
        root.query_drop("INSERT INTO lab.e VALUES (2, 'in the way')")
            .unwrap();
    }
    for row in 1..=3 {
        site.write_events(row, row);
    }
    wait_until("the applier stops", Duration::from_secs(10), || {
        site.db2.status("Last_SQL_Errno") == "1062" && site.db2.status("Slave_SQL_Running") == "No"
    });
    site.db2.wait_until_received(&site.db1, "");
    let before = site.db2.standing();
    let (status, took) = hook(&site.db2, "notify_master");
    assert_eq!(status, 1);
    assert_eq!(site.db2.standing(), before);
    assert!(site.db1.is_writable(), "the peer is left alone");
    assert_told(&site.db2, &["the applier stopped", "refused"]);
    assert_within(took, Duration::from_secs(1), &told(&site.db2));
    format!("refused after {} ms", took.as_millis())
}
