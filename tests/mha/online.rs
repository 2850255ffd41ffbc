//! masterha_master_switch changes the primary while all work.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::lab::Ended;
use crate::trial;
use crate::trial::{APP, SHORT, SUPER, Trial, assert_ended};

const DONE: &str = "Switching master to 10.77.0.12(10.77.0.12:3306) completed successfully.";

/// The two waits of the example configuration and what may come on top, generously.
const LIMIT: Duration = Duration::from_secs(10);

fn change(trial: Trial, what: &str) {
    let began = Instant::now();
    let ended: Ended = trial.mha().change_online("10.77.0.12").end();
    assert_ended(&ended, 0, &[DONE]);
    let outage = trial.end(what, 2, began);
    assert!(outage < LIMIT, "{outage:?}");
}

#[test]
fn an_idle_primary_changes() {
    trial!(trial);
    change(trial, "online change, idle");
}

#[test]
fn a_primary_changes_under_load() {
    trial!(trial);
    trial.write(APP, SHORT);
    change(trial, "online change under load");
}

#[test]
fn a_primary_changes_under_long_transactions() {
    trial!(trial);
    trial.write(APP, Duration::from_millis(400));
    change(trial, "online change, 400 ms transactions");
}

#[test]
fn a_primary_changes_though_a_session_has_locked_a_table() {
    trial!(trial);
    trial.write(APP, SHORT);
    let mut session = trial.db(1).connect().unwrap();
    session.query_drop("LOCK TABLES lab.t WRITE").unwrap();
    change(trial, "online change, LOCK TABLES WRITE");
    assert!(session.query_drop("SELECT 1").is_err());
}

#[test]
fn a_primary_changes_though_somebody_writes_whom_read_only_does_not_keep_from_it() {
    trial!(trial);
    trial.write(APP, SHORT);
    trial.write(SUPER, SHORT);
    change(trial, "online change, SUPER user writes");
}
