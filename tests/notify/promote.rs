//! A promotion waits for everything that was received, and for nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::lab::{Replication, Server};
use crate::site;
use crate::site::{assert_told, assert_within, root, run, standing, start, succeed, told};

/// Looks all the time which row was applied last and whether the server takes writes.
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Instant, bool, u32)>>,
}

impl Watcher {
    fn start(server: &Server) -> Watcher {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut root, stopped) = (root(server), stop.clone());
        let thread = spawn(move || {
            let mut seen = Vec::new();
            let mut is_last = false;
            while !is_last {
                is_last = stopped.load(Ordering::Relaxed); // and then once more
                // In this order: what is applied at the moment of opening is there afterwards.
                let closed: Option<bool> = root.query_first("SELECT @@global.read_only").unwrap();
                let last: Option<Option<u32>> =
                    root.query_first("SELECT MAX(id) FROM lab.e").unwrap();
                seen.push((
                    Instant::now(),
                    closed == Some(false),
                    last.flatten().unwrap_or(0),
                ));
                sleep(Duration::from_millis(2));
            }
            seen
        });
        Watcher { stop, thread }
    }

    /// Asserts that the server opened after it had applied row `last`; gives how long after.
    fn opened_after(self, last: u32) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().unwrap();
        let early = seen.iter().find(|(_, open, row)| *open && *row < last);
        assert_eq!(early, None, "open before row {last}");
        let applied = seen
            .iter()
            .find(|(_, _, row)| *row == last)
            .expect("all is applied")
            .0;
        let opened = seen.iter().find(|(_, open, _)| *open).expect("it opens").0;
        opened.saturating_duration_since(applied)
    }
}

#[test]
fn with_nothing_left_to_apply_it_takes_no_time() {
    site!(site, Replication::Gtid);
    site.write_events(1, 1000);
    site.wait_until_applied();
    let took = succeed(&site.db2, &["notify_master"]);
    assert!(site.db2.is_writable());
    assert_eq!(standing(&site.db2), ["read_only 0"], "{}", told(&site.db2));
    eprintln!("nothing left: {took:?}");
    assert_within(took, Duration::from_millis(500), told(&site.db2));
    // Again: nothing is left to do.
    let before = site.db2.sql("SHOW MASTER STATUS");
    succeed(&site.db2, &["notify_master"]);
    assert_eq!(site.db2.sql("SHOW MASTER STATUS"), before);
    assert_told(&site.db2, &["is the primary already"]);
}

#[test]
fn it_is_not_writable_before_a_held_back_applier_has_applied_all() {
    for (events, workers) in [(1_000, 0), (1_000, 4), (100_000, 0), (100_000, 4)] {
        site!(site, Replication::Gtid);
        apply_with(site, workers);
        let mut holder = root(&site.db2);
        holder.query_drop("LOCK TABLES lab.e WRITE").unwrap();
        site.write_events(1, events);
        site.wait_until_received();
        site.db1.sql("SET GLOBAL read_only = 1");
        let mut hook = start(&site.db2, &["notify_master"]);
        hook.wait_for("apply what was received");
        sleep(Duration::from_millis(300));
        assert!(hook.is_running() && !site.db2.is_writable());
        holder.query_drop("UNLOCK TABLES").unwrap();
        let watcher = Watcher::start(&site.db2);
        let (status, took) = hook.end();
        assert_eq!(status, 0, "{}", told(&site.db2));
        let late = watcher.opened_after(events);
        eprintln!("{events} events, {workers} workers: {took:?}, open {late:?} after the last");
        assert_within(late, Duration::from_millis(150), told(&site.db2));
    }
}

/// Makes db2 apply with so many workers; 0 for the applier alone.
fn apply_with(site: &site::Site, workers: u32) {
    site.db2.sql("STOP SLAVE SQL_THREAD");
    site.db2
        .sql(&format!("SET GLOBAL slave_parallel_threads = {workers}"));
    site.db2.sql("START SLAVE SQL_THREAD");
}

#[test]
fn an_applier_that_was_stopped_without_error_is_started_and_drained() {
    for by in [Replication::FileAndPosition, Replication::Gtid] {
        site!(site, by);
        site.db2.sql("STOP SLAVE SQL_THREAD");
        site.write_events(1, 1000);
        site.wait_until_received();
        site.db1.kill();
        let watcher = Watcher::start(&site.db2);
        succeed(&site.db2, &["notify_master"]);
        let late = watcher.opened_after(1000);
        assert_within(late, Duration::from_millis(150), told(&site.db2));
    }
}

#[test]
fn a_relay_log_that_would_be_deleted_by_starting_the_applier_is_kept() {
    site!(site, Replication::Gtid);
    site.db2.sql("STOP SLAVE SQL_THREAD");
    site.write_events(1, 1000);
    site.wait_until_received();
    site.db1.kill();
    site.db2.sql("STOP SLAVE");
    let before = standing(&site.db2);
    assert_eq!(run(&site.db2, &["notify_master"]).0, 1);
    assert_eq!(standing(&site.db2), before);
    assert_told(&site.db2, &["a start would delete the relay log"]);
    // What is advised helps.
    apply_relay_log(&site.db2);
    let watcher = Watcher::start(&site.db2);
    succeed(&site.db2, &["notify_master"]);
    watcher.opened_after(1000);
}

/// As the advice says.
fn apply_relay_log(server: &Server) {
    let (file, offset) = (
        server.replica_status("Relay_Log_File"),
        server.replica_status("Relay_Log_Pos"),
    );
    server.sql(&format!(
        "CHANGE MASTER '' TO MASTER_USE_GTID = no, RELAY_LOG_FILE = '{file}', \
         RELAY_LOG_POS = {offset}"
    ));
    server.sql("START SLAVE '' SQL_THREAD");
}

/// Makes the applier of db2 stop with error 1062 at row 2 of three.
fn break_applier(site: &site::Site) {
    site.db2.sql("INSERT INTO lab.e VALUES (2, 'in the way')");
    site.write_events(1, 1);
    site.write_events(2, 2);
    site.write_events(3, 3);
    crate::lab::wait_until("the applier stops", Duration::from_secs(10), || {
        site.db2.replica_status("Last_SQL_Errno") == "1062"
            && site.db2.replica_status("Slave_SQL_Running") == "No"
    });
    site.wait_until_received();
}

#[test]
fn an_applier_that_stopped_with_an_error_is_refused() {
    site!(site, Replication::Gtid);
    break_applier(site);
    let before = standing(&site.db2);
    let (status, took) = run(&site.db2, &["notify_master"]);
    assert_eq!(status, 1);
    assert_eq!(standing(&site.db2), before);
    assert!(site.db1.is_writable(), "the peer is left alone");
    assert_told(&site.db2, &["Duplicate entry", "refused"]);
    assert_within(took, Duration::from_millis(500), told(&site.db2));
}

#[test]
fn an_applier_that_stopped_with_an_error_is_given_up_when_forced_and_not_waited_for() {
    site!(site, Replication::Gtid);
    break_applier(site);
    site.configure("[promote]\non_lag = \"force\"");
    let took = succeed(&site.db2, &["notify_master"]);
    assert!(site.db2.is_writable());
    assert_eq!(site.db2.ask("SELECT MAX(id) FROM lab.e"), "2");
    let end = site.db1.sql("SHOW MASTER STATUS").remove(0);
    assert_told(
        &site.db2,
        &[
            "GIVING UP",
            "Duplicate entry",
            &format!("of {}:{}", end[0], end[1]),
        ],
    );
    assert_within(took, Duration::from_secs(1), told(&site.db2));
    assert_can_be_mended(site);
}

#[test]
fn an_applier_that_stops_with_an_error_while_it_is_waited_for_is_not_waited_for_any_longer() {
    site!(site, Replication::Gtid);
    let mut holder = root(&site.db2);
    holder.query_drop("LOCK TABLES lab.e WRITE").unwrap();
    holder
        .query_drop("INSERT INTO lab.e VALUES (2, 'in the way')")
        .unwrap();
    site.write_events(1, 3);
    site.wait_until_received();
    site.db1.sql("SET GLOBAL read_only = 1");
    let mut hook = start(&site.db2, &["notify_master"]);
    hook.wait_for("apply what was received");
    holder.query_drop("UNLOCK TABLES").unwrap();
    let released = Instant::now();
    assert_eq!(hook.end().0, 1);
    assert_within(released.elapsed(), Duration::from_secs(2), told(&site.db2));
    assert!(!site.db2.is_writable());
    crate::lab::wait_until("the receiver is back", Duration::from_secs(5), || {
        site.db2.replica_status("Slave_IO_Running") == "Yes"
    });
    assert_told(&site.db2, &["Duplicate entry", "rolled-back"]);
}

#[test]
fn what_a_dead_source_left_is_kept_when_the_applier_stops_with_an_error() {
    site!(site, Replication::Gtid);
    let mut holder = root(&site.db2);
    holder.query_drop("LOCK TABLES lab.e WRITE").unwrap();
    holder
        .query_drop("INSERT INTO lab.e VALUES (2, 'in the way')")
        .unwrap();
    for row in 1..=3 {
        site.write_events(row, row);
    }
    site.wait_until_received();
    site.db1.kill();
    let mut hook = start(&site.db2, &["notify_master"]);
    hook.wait_for("apply what was received");
    holder.query_drop("UNLOCK TABLES").unwrap();
    assert_eq!(hook.end().0, 1);
    assert!(!site.db2.is_writable());
    assert_told(
        &site.db2,
        &["NOT-UNDONE start receiving", "Duplicate entry"],
    );
    assert_can_be_mended(site);
}

/// Asserts that what was given up is still there for a person to apply.
fn assert_can_be_mended(site: &site::Site) {
    site.db2.sql("DELETE FROM lab.e WHERE text = 'in the way'");
    apply_relay_log(&site.db2);
    crate::lab::wait_until("the rest is applied", Duration::from_secs(10), || {
        site.db2.ask("SELECT MAX(id) FROM lab.e") == "3"
    });
}

#[test]
fn when_the_limit_is_passed_everything_is_undone() {
    site!(site, Replication::Gtid);
    site.configure("[promote]\nlimit = \"1s\"");
    let before = standing(&site.db2);
    let mut holder = root(&site.db2);
    holder.query_drop("LOCK TABLES lab.e WRITE").unwrap();
    site.write_events(1, 1000);
    site.wait_until_received();
    site.db1.sql("SET GLOBAL read_only = 1");
    let (status, took) = run(&site.db2, &["notify_master"]);
    assert_eq!(status, 1);
    assert!(took > Duration::from_secs(1));
    assert_within(took, Duration::from_millis(1600), told(&site.db2));
    crate::lab::wait_until("the receiver is back", Duration::from_secs(5), || {
        standing(&site.db2) == before
    });
    assert_told(
        &site.db2,
        &["still at", "undone start receiving", "rolled-back"],
    );
    drop(holder);
    site.db1.sql("SET GLOBAL read_only = 0");
    site.write_events(1001, 2000);
    site.wait_until_applied();
}

#[test]
fn when_the_limit_is_passed_and_it_is_forced_the_journal_says_what_was_given_up() {
    for workers in [0, 4] {
        give_up_with(workers);
    }
}

fn give_up_with(workers: u32) {
    site!(site, Replication::Gtid);
    apply_with(site, workers);
    site.configure("[promote]\nlimit = \"1s\"\non_lag = \"force\"");
    site.write_events(1, 1000);
    site.wait_until_applied();
    let applied = site.db2.replica_status("Exec_Master_Log_Pos");
    let mut holder = root(&site.db2);
    holder.query_drop("LOCK TABLES lab.e WRITE").unwrap();
    site.write_events(1001, 2000);
    site.wait_until_received();
    let end = site.db1.sql("SHOW MASTER STATUS").remove(0);
    let hook = start(&site.db2, &["notify_master"]);
    let (status, took) = hook.end();
    assert_eq!(status, 0, "{}", told(&site.db2));
    assert!(site.db2.is_writable());
    assert_within(took, Duration::from_millis(2500), told(&site.db2));
    let exactly = format!("at {}:{applied} of {}:{}", end[0], end[0], end[1]);
    assert_told(&site.db2, &["GIVING UP", &exactly]);
    drop(holder);
    assert_eq!(
        site.db2.ask("SELECT MAX(id) FROM lab.e"),
        "1000",
        "not applied later either"
    );
    // A person who wants it can have it.
    apply_relay_log(&site.db2);
    crate::lab::wait_until("the rest is applied", Duration::from_secs(10), || {
        site.db2.ask("SELECT MAX(id) FROM lab.e") == "2000"
    });
}
