//! A server that is to take no more writes takes none soon, whoever is in the way.

use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;
use nix::sys::signal::Signal;

use crate::lab::{Replication, Server, wait_until};
use crate::site;
use crate::site::{
    app, assert_told, assert_within, in_background, root, run, session, standing, start, succeed,
    told,
};

/// How many sessions of this account there are.
fn sessions(server: &Server, user: &str) -> usize {
    let query = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = ";
    server.ask(&format!("{query}'{user}'")).parse().unwrap()
}

/// An update that takes minutes.
fn long_update(server: &Server) -> std::thread::JoinHandle<mysql::Result<()>> {
    let running = in_background(server, "UPDATE lab.e SET text = SLEEP(1) WHERE id <= 600");
    let query = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'UPDATE%'";
    wait_until("it runs", Duration::from_secs(5), || {
        server.ask(query) == "1"
    });
    running
}

#[test]
fn writes_are_closed_and_sessions_ended_whatever_is_in_the_way() {
    for hook in ["notify_backup", "notify_fault"] {
        site!(site, Replication::Gtid);
        site.configure("[demote]\nspare_users = [\"batch\"]");
        site.write_events(1, 600);
        let db1 = &site.db1;
        // The tests of events let hookbox stop the scheduler.
        let revoke = "REVOKE SUPER ON *.* FROM hookbox@localhost";
        let mut root = root(db1);
        for sql in ["SET SESSION sql_log_bin = 0", revoke] {
            root.query_drop(sql).unwrap();
        }
        drop(root);
        let mut open = app(db1);
        open.query_drop("START TRANSACTION").unwrap();
        open.query_drop("INSERT INTO lab.e VALUES (5000, 'open')")
            .unwrap();
        let mut table = app(db1);
        table.query_drop("LOCK TABLES lab.t WRITE").unwrap();
        let idle: Vec<Conn> = (0..80).map(|_| app(db1)).collect();
        let mut batch = session(db1, "batch", Some("apppass"));
        let writer = in_background(
            db1,
            "BEGIN NOT ATOMIC FOR i IN 10000..9999999 DO INSERT INTO lab.e VALUES (i, 'x'); END FOR; END",
        );
        let update = long_update(db1);
        let scheduler =
            db1.ask("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'event_scheduler'");
        assert!(!scheduler.is_empty());
        let took = succeed(db1, &[hook]);
        assert!(!db1.is_writable());
        assert_within(took, Duration::from_secs(2), told(db1));
        assert_eq!(sessions(db1, "app"), 0, "{}", told(db1));
        writer.join().unwrap().unwrap_err();
        update.join().unwrap().unwrap_err();
        assert!(open.query_drop("COMMIT").is_err());
        assert_eq!(db1.ask("SELECT COUNT(*) FROM lab.e WHERE id = 5000"), "0");
        drop(idle);
        // Spared: an account that is named, the event scheduler, replication.
        batch.query_drop("SELECT 1").unwrap();
        let now =
            db1.ask("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'event_scheduler'");
        assert_eq!(now, scheduler);
        site.wait_until_applied();
        assert_eq!(sessions(db1, "repl"), 1);
    }
}

/// Of each kind. The answers to as many KILLs do not fit into the buffer of a unix socket.
const MANY: usize = 200;

#[test]
fn sessions_end_in_hundreds_whatever_they_wait_for() {
    site!(site, Replication::Gtid);
    site.configure("[demote]\nspare_users = [\"batch\"]");
    let db1 = &site.db1;
    db1.sql("SET GLOBAL max_connections = 800");
    db1.sql("INSERT INTO lab.e VALUES (1, 'one')");
    let mut batch = session(db1, "batch", Some("apppass"));
    let idle: Vec<Conn> = (0..MANY).map(|_| app(db1)).collect();
    let mut row = app(db1);
    row.query_drop("START TRANSACTION").unwrap();
    row.query_drop("UPDATE lab.e SET text = 'held' WHERE id = 1")
        .unwrap();
    let mut table = app(db1);
    table.query_drop("LOCK TABLES lab.t WRITE").unwrap();
    let waiting: Vec<_> = (0..MANY)
        .flat_map(|_| {
            [
                "UPDATE lab.e SET text = 'late' WHERE id = 1",
                "SELECT * FROM lab.t",
            ]
        })
        .map(|sql| in_background(db1, sql))
        .collect();
    let query = "SELECT COUNT(*) FROM information_schema.PROCESSLIST
                 WHERE USER = 'app' AND COMMAND = 'Query'";
    wait_until("they wait", Duration::from_secs(30), || {
        db1.ask(query) == (2 * MANY).to_string()
    });
    let took = succeed(db1, &["notify_backup"]);
    assert_eq!(sessions(db1, "app"), 0, "{}", told(db1));
    assert_within(took, Duration::from_secs(5), told(db1));
    for session in waiting {
        session.join().unwrap().unwrap_err();
    }
    assert_eq!(db1.ask("SELECT text FROM lab.e WHERE id = 1"), "one");
    batch.query_drop("SELECT 1").unwrap();
    assert_eq!(sessions(db1, "repl"), 1);
    drop((idle, row, table));
}

#[test]
fn a_server_that_is_closed_already_keeps_its_readers() {
    site!(site, Replication::Gtid);
    let before = standing(&site.db2);
    let mut reader = app(&site.db2);
    for hook in ["notify_backup", "notify_fault", "notify_stop"] {
        succeed(&site.db2, &[hook]);
        reader.query_drop("SELECT 1").unwrap();
    }
    assert_eq!(standing(&site.db2), before);
    assert_told(&site.db2, &["takes no writes already"]);
}

#[test]
fn notify_stop_has_done_its_work_after_800_ms() {
    site!(site, Replication::Gtid);
    let mut table = app(&site.db1);
    table.query_drop("LOCK TABLES lab.t WRITE").unwrap();
    let took = succeed(&site.db1, &["notify_stop"]);
    assert!(!site.db1.is_writable());
    assert_eq!(sessions(&site.db1, "app"), 0);
    eprintln!("notify_stop: {took:?}");
    assert_within(took, Duration::from_millis(800), told(&site.db1));
}

#[test]
fn a_run_killed_between_closing_and_ending_sessions_is_resumed_by_the_next() {
    for next in ["notify_fault", "notify_stop", "fence"] {
        site!(site, Replication::Gtid);
        // With the update in the way there is time to kill it in.
        site.write_events(1, 600);
        let mut reader = app(&site.db1);
        let gate = crate::gate::Gate::new(
            &site.db1,
            "FROM information_schema.PROCESSLIST",
            Signal::SIGKILL,
        );
        let gated = format!("--config={}", crate::gate::configure(&site.db1));
        let (status, _) = run(&site.db1, &["notify_backup", &gated]);
        drop(gate);
        assert_ne!(status, 0);
        assert!(!site.db1.is_writable());
        reader.query_drop("SELECT 1").unwrap();
        succeed(&site.db1, &[next]);
        assert!(
            reader.query_drop("SELECT 1").is_err(),
            "{}",
            told(&site.db1)
        );
        if next != "fence" {
            assert_told(&site.db1, &["the run before was cut short: notify_backup"]);
        }
    }
}

/// Whether somebody waits to close writes on `server`.
fn somebody_closes(server: &Server) -> bool {
    let query = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SET GLOBAL%'";
    server.ask(query) != "0"
}

#[test]
fn closing_that_did_not_come_to_pass_in_time_does_not_come_to_pass_later() {
    for signal in [None, Some(Signal::SIGTERM)] {
        site!(site, Replication::Gtid);
        // Nobody may end this one, so the limit passes.
        site.configure("[demote]\nspare_users = [\"batch\"]\nlimit = \"1500ms\"");
        let mut batch = session(&site.db1, "batch", Some("apppass"));
        batch.query_drop("LOCK TABLES lab.t WRITE").unwrap();
        let hook = start(&site.db1, &["notify_backup"]);
        if let Some(signal) = signal {
            wait_until("it closes", Duration::from_secs(3), || {
                somebody_closes(&site.db1)
            });
            hook.signal(signal);
        }
        let (status, took) = hook.end();
        assert_eq!(status, 1, "{}", told(&site.db1));
        assert_within(took, Duration::from_millis(2100), told(&site.db1));
        assert!(!somebody_closes(&site.db1), "{}", told(&site.db1));
        batch.query_drop("UNLOCK TABLES").unwrap();
        app(&site.db1)
            .query_drop("INSERT INTO lab.e VALUES (1, 'still open')")
            .unwrap();
        assert!(site.db1.is_writable());
        let why = if signal.is_some() {
            "SIGTERM arrived"
        } else {
            ""
        };
        assert_told(&site.db1, &["FAILED close writes", why]);
    }
}

#[test]
fn closing_is_cancelled_when_sessions_in_the_way_may_not_be_ended() {
    site!(site, Replication::Gtid);
    let mut root = root(&site.db1);
    root.query_drop("SET SESSION sql_log_bin = 0").unwrap();
    root.query_drop("CREATE OR REPLACE USER weak@localhost IDENTIFIED BY 'change-me'")
        .unwrap();
    root.query_drop("GRANT PROCESS, READ_ONLY ADMIN, SLAVE MONITOR ON *.* TO weak@localhost")
        .unwrap();
    site::configure(&site.db1, "[demote]\nlimit = \"900ms\"");
    site.db1.host.sh("sed -i s/hookbox/weak/ /etc/hookbox/hookbox.toml; sed -i s,/etc/weak/,/etc/hookbox/, /etc/hookbox/hookbox.toml");
    let mut table = app(&site.db1);
    table.query_drop("LOCK TABLES lab.t WRITE").unwrap();
    drop(root);
    let (status, took) = run(&site.db1, &["notify_backup"]);
    assert_eq!(status, 1, "{}", told(&site.db1));
    assert_within(took, Duration::from_millis(2100), told(&site.db1));
    assert_told(
        &site.db1,
        &["running writes do not end", "You are not owner"],
    );
    assert!(!somebody_closes(&site.db1), "{}", told(&site.db1));
    table.query_drop("UNLOCK TABLES").unwrap();
    assert!(site.db1.is_writable(), "{}", told(&site.db1));
}
