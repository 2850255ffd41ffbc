//! Semi-sync goes with the role, and nobody waits for a replica that is not there.

use std::thread::spawn;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::engine::Engine;
use crate::lab::wait_until;
use crate::rejoin;
use crate::server::Server;
use crate::site::{Site, assert_within, succeed, told};

/// What is found where there is no semi-sync.
const NONE: &str = "this package has no semi-sync";

/// Longer than any case takes.
const TIMEOUT: &str = "60000";

/// db1's commits wait for db2, also when it is not there; false where there is no semi-sync.
fn semi_sync(site: &Site) -> bool {
    match site.engine {
        // The server alone: the plugins come with Oracle's archives, which these are not.
        Engine::MySql56 | Engine::MySql57 => return false,
        Engine::MySql97 => {
            install(&site.db1);
            install(&site.db2);
        }
        _ => {} // built in
    }
    for server in [&site.db1, &site.db2] {
        set(server, "master_wait_no_slave", "1");
        set(server, "master_timeout", TIMEOUT);
    }
    set(&site.db1, "master_enabled", "1");
    set(&site.db2, "slave_enabled", "1");
    site.db2.sql(&site.engine.word("STOP SLAVE IO_THREAD"));
    site.db2.sql(&site.engine.word("START SLAVE IO_THREAD"));
    wait_for_a_client(&site.db1);
    true
}

fn wait_for_a_client(source: &Server) {
    let clients = source.engine.word("Rpl_semi_sync_master_clients");
    wait_until("a replica acknowledges", Duration::from_secs(10), || {
        source.sql(&format!("SHOW GLOBAL STATUS LIKE '{clients}'"))[0][1] == "1"
    });
}

fn install(server: &Server) {
    let plugins = "SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync%enabled'";
    if server.sql(plugins).is_empty() {
        server.in_spite_of_super_read_only(|| {
            for side in ["source", "replica"] {
                let library = format!("semisync_{side}.so");
                server.sql(&format!(
                    "INSTALL PLUGIN rpl_semi_sync_{side} SONAME '{library}'"
                ));
            }
        });
    }
}

fn set(server: &Server, what: &str, value: &str) {
    let name = server.engine.word(&format!("rpl_semi_sync_{what}"));
    server.sql(&format!("SET GLOBAL {name} = {value}"));
}

/// Leaves no semi-sync behind for the next case.
fn silence(site: &mut Site) {
    for server in [&mut site.db1, &mut site.db2] {
        if !server.is_running() {
            server.start();
        }
        set(server, "master_enabled", "0");
        set(server, "slave_enabled", "0");
    }
}

/// Whether commits wait for replicas, and whether it acknowledges.
fn sides(server: &Server) -> [String; 2] {
    ["master", "slave"].map(|side| {
        let name = server.engine.word(&format!("rpl_semi_sync_{side}_enabled"));
        server.ask(&format!("SELECT @@global.{name}"))
    })
}

fn commit(server: &Server, row: u32) -> Duration {
    let (mut app, began) = (server.app(), Instant::now());
    app.query_drop(format!("INSERT INTO lab.e VALUES ({row}, 'commit')"))
        .unwrap();
    began.elapsed()
}

pub fn semi_sync_goes_with_the_role(site: &mut Site) -> String {
    if !semi_sync(site) {
        return NONE.to_owned();
    }
    let second = Duration::from_secs(1);
    assert_within(commit(&site.db1, 1), second, "db2 acknowledges");
    site.db1.kill();
    succeed(&site.db2, "notify_master");
    assert_eq!(sides(&site.db2), ["1", "0"], "{}", told(&site.db2));
    // No replica is left.
    let first = commit(&site.db2, 2);
    assert_within(first, second, &told(&site.db2));
    // As its configuration file may say.
    site.db1.start();
    set(&site.db1, "master_enabled", "1");
    rejoin::configure(site, "");
    rejoin::rejoins(&site.db1, &site.db2);
    assert_eq!(sides(&site.db1), ["0", "1"], "{}", told(&site.db1));
    wait_for_a_client(&site.db2);
    assert_within(commit(&site.db2, 3), second, "db1 acknowledges");
    succeed(&site.db2, "notify_backup");
    assert_eq!(sides(&site.db2), ["0", "1"], "{}", told(&site.db2));
    silence(site);
    format!("turned round; first commit in {} ms", first.as_millis())
}

pub fn a_commit_that_waits_for_a_replica_does_not_hold_up_closing(site: &mut Site) -> String {
    if !semi_sync(site) {
        return NONE.to_owned();
    }
    site.db2.sql(&site.engine.word("STOP SLAVE IO_THREAD"));
    let mut app = site.db1.app();
    let commit = spawn(move || app.query_drop("INSERT INTO lab.e VALUES (1, 'waits')"));
    wait_until("it waits", Duration::from_secs(5), || {
        let mut sessions = site.db1.sql("SHOW FULL PROCESSLIST").into_iter().flatten();
        sessions.any(|column| column.starts_with("Waiting for semi-sync ACK"))
    });
    let took = succeed(&site.db1, "notify_backup");
    assert!(!site.db1.is_writable());
    assert_within(took, Duration::from_secs(3), &told(&site.db1));
    assert_eq!(sides(&site.db1), ["0", "1"], "{}", told(&site.db1));
    commit.join().unwrap().unwrap_err();
    // Nobody has heard of it, and it is not lost.
    succeed(&site.db2, "notify_master");
    for server in [&site.db1, &site.db2] {
        let rows = server.ask("SELECT COUNT(*) FROM lab.e");
        assert_eq!(rows, "1", "{}", told(&site.db2));
    }
    silence(site);
    format!("closed after {} ms, the commit is kept", took.as_millis())
}
