//! What clients see of a `stop`: their sessions, their commits, their accounts. The hooks are called
//! by hand with MHA's words.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::lab::{Host, Mha, Server, VIP, application, wait_until};
use crate::trial;
use crate::trial::{Trial, assert_ended};

/// The application's account, as `lock_accounts` has it.
const ACCOUNT: &str = "app@10.77.0.%";

/// A session of the application through the VIP, and the port that it comes from.
fn session(trial: &Trial) -> (Conn, u16) {
    let client = &trial.cluster().client;
    in_network(client, || {
        let mut session = Conn::new(application(VIP, Duration::from_secs(60))).unwrap();
        let whence = "SELECT host FROM information_schema.processlist WHERE id = CONNECTION_ID()";
        let whence: String = session.query_first(whence).unwrap().unwrap();
        let (_, port) = whence.rsplit_once(':').unwrap();
        (session, port.parse().unwrap())
    })
}

fn in_network<T: Send>(host: &Host, job: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let inside = || {
            host.enter_network();
            job()
        };
        scope.spawn(inside).join().unwrap()
    })
}

/// Whether the client's kernel takes its connection from `port` for alive: neither FIN nor RST came.
fn seems_alive(client: &Host, port: u16) -> bool {
    let table = in_network(client, || {
        fs::read_to_string("/proc/thread-self/net/tcp").unwrap()
    });
    let vip: Ipv4Addr = VIP.parse().unwrap();
    let vip = u32::from_ne_bytes(vip.octets());
    let mut lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.any(|words| {
        let own = words[1].rsplit_once(':').unwrap_or_default().1;
        // 01 is ESTABLISHED (include/net/tcp_states.h).
        words[2] == format!("{vip:08X}:{:04X}", 3306)
            && own == format!("{port:04X}")
            && words[3] == "01"
    })
}

#[test]
fn an_idle_session_hears_of_its_end_before_the_address_goes() {
    trial!(trial);
    for (hook, words) in [
        ("master_ip_online_change", Mha::online_words("stop")),
        ("master_ip_failover", Mha::failover_words("stopssh")),
        ("master_ip_failover", Mha::failover_words("stop")),
    ] {
        let (idle, port) = session(&trial);
        let client = &trial.cluster().client;
        assert!(seems_alive(client, port), "{words:?}");
        let ended = trial.mha().hook(hook, &words).end();
        assert_ended(&ended, 0, &[]);
        // Nothing that is sent from an address that has gone arrives: it heard of it before.
        assert!(!trial.db(1).host.has_vip(), "{words:?}");
        assert!(!seems_alive(client, port), "{}", ended.said);
        drop(idle);
        assert_ended(&trial.mha().hook("undo", &[]).end(), 0, &[]);
    }
}

#[test]
fn a_commit_that_waits_for_semi_sync_does_not_hold_up_an_online_stop() {
    trial!(trial);
    let db1 = trial.db(1);
    let usual = db1.ask("SELECT @@rpl_semi_sync_master_timeout");
    db1.sql("SET GLOBAL rpl_semi_sync_master_timeout = 600000");
    db1.sql("SET GLOBAL rpl_semi_sync_master_wait_no_slave = 1");
    for replica in [2, 3] {
        trial.db(replica).sql("STOP SLAVE IO_THREAD");
    }
    let (mut writer, _) = session(&trial);
    let insert = "INSERT INTO lab.t (w, seq, server) VALUES (5, 1, 1)";
    let commit = std::thread::spawn(move || writer.query_drop(insert));
    let waiting =
        "SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE '%semi-sync ACK%'";
    wait_until("a commit waits", Duration::from_secs(10), || {
        db1.ask(waiting) == "1"
    });
    let ended = trial.mha().online_hook("stop").end();
    let acknowledged = commit.join().unwrap();
    let undone = trial.mha().hook("undo", &[]).end();
    db1.sql(&format!(
        "SET GLOBAL rpl_semi_sync_master_timeout = {usual}"
    ));
    db1.sql("SET GLOBAL rpl_semi_sync_master_wait_no_slave = 0");
    assert_ended(&ended, 0, &[]);
    // `finish` and `grace` are 0.8 s; the rest is for a busy machine.
    assert!(ended.took < Duration::from_secs(8), "{ended:?}");
    assert!(acknowledged.is_err(), "nobody has acknowledged it");
    assert_ended(&undone, 0, &[]);
}

fn is_locked(server: &Server) -> bool {
    let account = server.ask("SHOW CREATE USER app@'10.77.0.%'");
    account.contains("ACCOUNT LOCK")
}

/// Events as schema, name and status.
fn events(server: &Server) -> Vec<Vec<String>> {
    server.sql("SELECT event_schema, event_name, status FROM information_schema.events ORDER BY 2")
}

#[test]
fn events_go_on_with_the_new_primary_and_accounts_are_let_in_on_the_old_one() {
    trial!(trial);
    let servers = [1, 2, 3].map(|number| trial.db(number));
    let forget = || {
        for server in servers {
            server.sql("SET GLOBAL event_scheduler = OFF");
            for event in ["runs", "rests"] {
                let drop = format!("DROP EVENT IF EXISTS lab.{event}");
                server.sql(&format!("SET STATEMENT sql_log_bin = 0 FOR {drop}"));
            }
            let unlock = "ALTER USER app@'10.77.0.%' ACCOUNT UNLOCK";
            server.sql(&format!("SET STATEMENT sql_log_bin = 0 FOR {unlock}"));
        }
    };
    forget();
    trial
        .cluster()
        .configure(&format!("lock_accounts = [\"{ACCOUNT}\"]"));
    let [db1, db2, _] = servers;
    db1.sql("CREATE EVENT lab.runs ON SCHEDULE EVERY 1 DAY DO SELECT 1");
    db1.sql("CREATE EVENT lab.rests ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1");
    db1.sql("SET GLOBAL event_scheduler = ON");
    wait_until("they are on db2", Duration::from_secs(10), || {
        events(db2).len() == 2
    });

    assert_ended(&trial.mha().online_hook("stop").end(), 0, &[]);
    assert!(is_locked(db1) && !is_locked(db2));
    assert_eq!(db1.ask("SELECT @@event_scheduler"), "OFF");
    assert_eq!(db2.ask("SELECT @@event_scheduler"), "OFF");

    let started = trial.mha().online_hook("start").end();
    let seen = (
        is_locked(db1) || is_locked(db2),
        db1.ask("SELECT @@event_scheduler"),
        db2.ask("SELECT @@event_scheduler"),
        events(db2),
    );
    let client = &trial.cluster().client;
    let through_vip = in_network(client, || {
        let mut session = Conn::new(application(VIP, Duration::from_secs(10))).unwrap();
        let insert = "INSERT INTO lab.t (w, seq, server) VALUES (6, 1, @@server_id)";
        session.query_drop(insert).map(|()| session)
    });
    forget();
    assert_ended(&started, 0, &[]);
    let (locked, on_old, on_new, events) = seen;
    assert!(!locked);
    assert_eq!((on_old.as_str(), on_new.as_str()), ("OFF", "ON"));
    let event = |name: &str, status: &str| ["lab", name, status].map(str::to_owned).to_vec();
    assert_eq!(events[1], event("runs", "ENABLED"));
    assert_ne!(events[0], event("rests", "ENABLED"));
    through_vip.unwrap();
    assert_eq!(db2.ask("SELECT server FROM lab.t WHERE w = 6"), "2");
}

#[test]
fn an_account_that_mha_itself_uses_is_not_locked() {
    trial!(trial);
    for account in ["mha@10.77.0.%", "mha"] {
        trial
            .cluster()
            .configure(&format!("lock_accounts = [\"{ACCOUNT}\", \"{account}\"]"));
        let ended = trial.mha().online_hook("stop").end();
        let what = format!("[mha] lock_accounts has {account}, which MHA itself uses");
        assert_ended(&ended, 1, &[&what]);
        assert!(!is_locked(trial.db(1)));
        assert!(trial.is_alone(1), "{}", trial.story());
    }
}
