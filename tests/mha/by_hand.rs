//! `start` by hand, or after a `stop` that could write nothing down: the old primary is asked first.

use std::time::{Duration, Instant};

use crate::lab::wait_until;
use crate::trial;
use crate::trial::{APP, SHORT, assert_ended};

#[test]
fn a_failovers_start_without_a_stop_closes_the_old_primary_first() {
    trial!(trial);
    trial.write(APP, SHORT);
    let began = Instant::now();
    let ended = trial.mha().failover_hook("start").end();
    assert_ended(&ended, 0, &["10.77.0.11:3306 takes writes"]);
    assert!(trial.is_alone(2), "{}\n{}", ended.said, trial.story());
    trial.end("start by hand", 2, began);
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
