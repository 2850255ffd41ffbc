//! `start` by hand, or after a `stop` that could write nothing down: the old primary is asked first.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use nix::sys::signal::Signal;

use crate::lab::{Mha, wait_until};
use crate::trial;
use crate::trial::{APP, SHORT, assert_ended};

#[test]
fn a_failovers_start_without_a_stop_closes_the_old_primary_first() {
    trial!(trial);
    trial.db(1).sql("SET GLOBAL event_scheduler = ON");
    trial.write(APP, SHORT);
    let began = Instant::now();
    let ended = trial.mha().failover_hook("start").end();
    let events = [1, 2].map(|number| trial.db(number).ask("SELECT @@event_scheduler"));
    trial.db(2).sql("SET GLOBAL event_scheduler = OFF");
    trial.db(1).sql("SET GLOBAL event_scheduler = OFF");
    assert_ended(&ended, 0, &["10.77.0.11:3306 takes writes"]);
    assert_eq!(events, ["OFF", "ON"]);
    assert!(trial.is_alone(2), "{}\n{}", ended.said, trial.story());
    trial.end("start by hand", 2, began);
}

#[test]
fn a_dry_run_of_start_changes_nothing_and_is_not_in_the_journal() {
    trial!(trial);
    for (hook, mut words) in [
        ("master_ip_failover", Mha::failover_words("start")),
        ("master_ip_online_change", Mha::online_words("start")),
    ] {
        words.push("--dry-run".to_owned());
        let ended = trial.mha().hook(hook, &words).end();
        assert_ended(&ended, 0, &["would do    close writes on 10.77.0.11:3306"]);
        assert!(trial.is_alone(1), "{}", trial.story());
        assert_eq!(trial.cluster().journal(), "");
    }
}

#[test]
fn a_start_without_a_stop_closes_nobody_for_a_new_primary_that_is_dead() {
    trial!(trial);
    trial.fault(|cluster| cluster.db2.kill());
    for start in [Mha::failover_hook, Mha::online_hook] {
        let ended = start(trial.mha(), "start").end();
        assert_ended(
            &ended,
            10,
            &[
                "10.77.0.12:3306 replicates from 10.77.0.11:3306",
                "Connection refused",
            ],
        );
        assert!(trial.is_alone(1), "{}", trial.story());
    }
}

#[test]
fn a_start_without_a_stop_waits_for_what_the_new_primary_lacks() {
    trial!(trial);
    let (db1, db2) = (trial.db(1), trial.db(2));
    let mut hold = db2.connect().unwrap();
    hold.query_drop("LOCK TABLES lab.t READ").unwrap();
    db1.sql("INSERT INTO lab.t (w, seq, server) VALUES (7, 1, 1)");
    let mut start = trial.mha().failover_hook("start");
    start.wait_for("end application sessions on 10.77.0.11:3306");
    std::thread::sleep(Duration::from_millis(500));
    assert!(start.is_running() && !db2.is_writable());
    drop(hold);
    assert_ended(&start.end(), 0, &[]);
    assert_eq!(db2.ask("SELECT COUNT(*) FROM lab.t"), "1");
    assert!(trial.is_alone(2), "{}", trial.story());
}

#[test]
fn a_start_without_a_stop_is_refused_for_a_server_that_replicates_from_somebody_else() {
    trial!(trial);
    trial.db(2).sql("STOP SLAVE");
    trial.db(2).sql("RESET SLAVE ALL");
    let ended = trial.mha().failover_hook("start").end();
    assert_ended(
        &ended,
        1,
        &["10.77.0.12:3306 replicates from 10.77.0.11:3306"],
    );
    assert!(trial.is_alone(1), "{}", trial.story());
}

#[test]
fn a_start_without_a_stop_that_is_told_to_end_puts_everything_back() {
    trial!(trial);
    trial.write(APP, SHORT);
    let began = Instant::now();
    for number in 0.. {
        let mut start = trial.mha().failover_hook("start");
        let step = start.signal_at(number, Signal::SIGTERM);
        let step = step.unwrap_or_else(|| "its end".to_owned());
        let ended = start.end();
        let story = || format!("{step}: {}\n{}", ended.said, trial.story());
        if ended.status != 1 {
            // Clients may have written on db2, and only a person brings db1 back.
            assert!(number > 0 && !trial.is_alone(1), "{}", story());
            break;
        }
        assert!(trial.is_alone(1), "{}", story());
        let status = trial.mha().hook("status", &[]).end();
        assert!(!status.said.contains("SWITCH OPEN"), "{}", status.said);
    }
    assert_ended(&trial.mha().failover_hook("start").end(), 0, &[]);
    trial.end("start by hand told to end", 2, began);
}

#[test]
fn a_failovers_start_without_a_stop_is_refused_by_an_old_primary_that_tells_nothing() {
    trial!(trial);
    let password = "SET STATEMENT sql_log_bin = 0 FOR SET PASSWORD FOR mha@'10.77.0.%' = PASSWORD";
    trial.db(1).sql(&format!("{password}('another')"));
    let ended = trial.mha().failover_hook("start").end();
    trial.db(1).sql(&format!("{password}('change-me')"));
    assert_ended(&ended, 1, &["let MHA's account log in there"]);
    assert!(trial.is_alone(1), "{}", trial.story());
}

#[test]
fn a_failovers_start_leaves_replication_as_it_was() {
    trial!(trial);
    assert_ended(&trial.mha().failover_hook("stopssh").end(), 0, &[]);
    let db2 = trial.db(2);
    let state = || {
        let mut status = db2.sql("SHOW ALL SLAVES STATUS");
        status.extend(db2.sql("SELECT @@gtid_slave_pos, @@gtid_binlog_pos"));
        status
    };
    // MHA stops the receiver before; somebody else may have started it again.
    for receiver in ["STOP SLAVE IO_THREAD", "START SLAVE IO_THREAD"] {
        db2.sql(receiver);
        wait_until("it is so", Duration::from_secs(10), || {
            let running = db2.replica_status("Slave_IO_Running");
            running
                == if receiver.starts_with("STOP") {
                    "No"
                } else {
                    "Yes"
                }
        });
        let before = state();
        assert_eq!(
            before[0]
                .iter()
                .filter(|value| *value == "10.77.0.11")
                .count(),
            1
        );
        assert_ended(&trial.mha().failover_hook("start").end(), 0, &[]);
        assert!(trial.is_alone(2), "{}", trial.story());
        assert_eq!(state(), before);
        db2.sql("SET GLOBAL read_only = 1");
    }
}

#[test]
fn a_start_does_not_wait_long_for_an_old_primary_that_says_nothing() {
    trial!(trial);
    assert_ended(&trial.mha().online_hook("stop").end(), 0, &[]);
    trial.fault(|cluster| cluster.switch.block(&cluster.db1.host));
    let ended = trial.mha().online_hook("start").end();
    assert_ended(&ended, 0, &["going on without 10.77.0.11:3306"]);
    assert!(ended.took < Duration::from_secs(8), "{ended:?}");
    assert!(trial.db(2).is_writable() && trial.db(2).host.has_vip());

    trial.db(2).sql("SET GLOBAL read_only = 1");
    let ended = trial.mha().failover_hook("start").end();
    assert_ended(&ended, 0, &["going on without 10.77.0.11:3306"]);
    assert!(trial.db(2).is_writable() && trial.db(2).host.has_vip());
}
