//! Arguments, help, dry runs.

use std::time::Duration;

use mysql::Row;
use mysql::prelude::Queryable;

use crate::lab::{Replication, Server};
use crate::site;
use crate::site::{app, run, run_by_hand, succeed, told};

const APPLETS: [&str; 6] = [
    "notify_master",
    "notify_backup",
    "notify_fault",
    "notify_stop",
    "notify",
    "fence",
];

#[test]
fn the_generic_notify_takes_four_words_after_its_own_arguments() {
    site!(site, Replication::Gtid);
    let config = "--config=/etc/hookbox/hookbox.toml";
    for (kind, name) in [("INSTANCE", "mysql"), ("GROUP", "all")] {
        succeed(&site.db2, &["notify", config, kind, name, "MASTER", "100"]);
        assert!(site.db2.is_writable(), "{}", told(&site.db2));
        for state in ["BACKUP", "FAULT", "STOP", "DELETED"] {
            site.db2.sql("SET GLOBAL read_only = 0");
            succeed(&site.db2, &["notify", config, kind, name, state, "0"]);
            assert!(!site.db2.is_writable(), "{state}: {}", told(&site.db2));
        }
    }
    site.db2.host.sh("rm -f /var/log/hookbox/journal.jsonl");
    for state in ["MASTER_RX_LOWER_PRI", "INIT", "", "no such state"] {
        succeed(&site.db2, &["notify", "INSTANCE", "mysql", state, "100"]);
    }
    assert_eq!(told(&site.db2), "", "nothing was even begun");
    assert!(!site.db2.is_writable());
}

#[test]
fn a_hook_for_one_state_does_nothing_when_keepalived_says_another() {
    site!(site, Replication::Gtid);
    for (hook, state) in [("notify_master", "BACKUP"), ("notify_master", "STOP")] {
        let (status, _, err) = run_by_hand(&site.db2, &[hook, "INSTANCE", "mysql", state, "100"]);
        assert_eq!(status, 2, "{err}");
        assert!(
            err.contains(&format!("{hook} is not for the state {state}")),
            "{err}"
        );
        assert!(!site.db2.is_writable());
    }
    let words = ["notify_backup", "INSTANCE", "mysql", "MASTER", "100"];
    assert_eq!(run(&site.db1, &words).0, 2);
    assert!(site.db1.is_writable());
    succeed(
        &site.db2,
        &["notify_fault", "INSTANCE", "mysql", "BACKUP", "100"],
    );
}

#[test]
fn help_has_an_example_and_wrong_arguments_one_line() {
    site!(site, Replication::Gtid);
    for applet in APPLETS {
        let (status, out, _) = run_by_hand(&site.db2, &[applet, "--help"]);
        assert_eq!(status, 0);
        assert!(out.contains(&format!("    hookbox {applet} --")), "{out}");
        let (status, _, err) = run_by_hand(&site.db2, &[applet, "--no-such-thing"]);
        assert_eq!(status, 2, "{err}");
        let complaints: Vec<&str> = err.lines().filter(|line| !line.contains("try: ")).collect();
        assert_eq!(complaints.len(), 1, "{err}");
        assert!(complaints[0].contains("--no-such-thing"), "{err}");
        // As keepalived would start it, with nowhere to say anything.
        assert_eq!(run(&site.db2, &[applet, "--no-such-thing"]).0, 2);
    }
    let (status, _, err) = run_by_hand(&site.db2, &["notify", "INSTANCE"]);
    assert_eq!(status, 2, "{err}");
}

/// Everything about `server` that a hook could change, and the addresses of its host.
fn everything(server: &Server) -> Vec<String> {
    let mut root = site::root(server);
    let mut all = Vec::new();
    let rows: Vec<(String, String)> = root.query("SHOW GLOBAL VARIABLES").unwrap();
    // GTID positions move with the heartbeat of no one; these name a time or a random number.
    let volatile = |name: &str| name.contains("timestamp") || name.contains("rand_seed");
    all.extend(
        rows.into_iter()
            .filter(|(n, _)| !volatile(n))
            .map(|(n, v)| format!("{n} = {v}")),
    );
    let rows: Vec<Row> = root.query("SHOW ALL SLAVES STATUS").unwrap();
    for row in rows {
        for column in row.columns_ref() {
            let name = column.name_str().into_owned();
            if name.contains("heartbeat") || name.contains("Heartbeat") || name.contains("Seconds")
            {
                continue;
            }
            let value: Option<String> = row.get::<Option<String>, _>(&*name).flatten();
            all.push(format!("{name}: {value:?}"));
        }
    }
    let own = root.connection_id();
    let sessions: Vec<(u32, String, String)> = root
        .query(format!("SELECT ID, USER, COMMAND FROM information_schema.PROCESSLIST WHERE ID <> {own} ORDER BY ID"))
        .unwrap();
    all.extend(sessions.iter().map(|session| format!("{session:?}")));
    all.extend(
        server
            .host
            .sh("ip -o addr show; ip -o neigh show nud permanent")
            .lines()
            .map(str::to_owned),
    );
    all
}

#[test]
fn a_dry_run_changes_nothing() {
    site!(site, Replication::Gtid);
    let vip = "vip = [\"10.77.0.100/24 dev eth0\"]\n";
    for server in [&site.db1, &site.db2] {
        let toml = server.host.read("/etc/hookbox/hookbox.toml");
        server
            .host
            .write("/etc/hookbox/hookbox.toml", format!("{vip}{toml}"), 0o644);
    }
    site.db2.sql("STOP SLAVE IO_THREAD");
    let mut idle = [app(&site.db1), app(&site.db2)];
    site.write_events(1, 100);
    std::thread::sleep(Duration::from_millis(200));
    let (on_db1, on_db2) = (everything(&site.db1), everything(&site.db2));
    for applet in APPLETS {
        let mut args = vec![applet, "--dry-run"];
        if applet == "notify" {
            args.extend(["INSTANCE", "mysql", "MASTER", "100"]);
        }
        let mut said = String::new();
        for server in [&site.db1, &site.db2] {
            let (status, _, err) = run_by_hand(server, &args);
            assert_eq!(status, 0, "{applet}: {err}");
            assert_eq!(told(server), "", "{applet}: what is not done is no record");
            said += &err;
        }
        assert!(said.contains("would do"), "{applet}: {said}");
        assert_eq!(everything(&site.db1), on_db1, "{applet}: {said}");
        assert_eq!(everything(&site.db2), on_db2, "{applet}: {said}");
    }
    for session in &mut idle {
        session.query_drop("SELECT 1").unwrap();
    }
}

#[test]
fn in_maintenance_every_hook_only_says_so() {
    site!(site, Replication::Gtid);
    for server in [&site.db1, &site.db2] {
        succeed(server, &["maintenance", "on", "--for", "5m"]);
    }
    // The case before has left sessions behind, which the server ends in its own time.
    std::thread::sleep(Duration::from_millis(500));
    let (on_db1, on_db2) = (everything(&site.db1), everything(&site.db2));
    for applet in ["notify_backup", "notify_fault", "notify_stop"] {
        succeed(&site.db1, &[applet]);
    }
    succeed(&site.db2, &["notify_master"]);
    succeed(&site.db2, &["notify", "INSTANCE", "mysql", "MASTER", "100"]);
    assert_eq!(everything(&site.db1), on_db1, "{}", told(&site.db1));
    assert_eq!(everything(&site.db2), on_db2, "{}", told(&site.db2));
    assert!(told(&site.db1).contains("maintenance until"));
    assert!(told(&site.db2).contains("maintenance until"));

    for server in [&site.db1, &site.db2] {
        succeed(server, &["maintenance", "off"]);
    }
    succeed(&site.db1, &["notify_backup"]);
    assert!(!site.db1.is_writable(), "{}", told(&site.db1));
}
