//! masterha_manager replaces a primary that fails.

use std::time::Duration;

use crate::lab::{Cluster, Load};
use crate::trial;
use crate::trial::assert_ended;

const SHORT: Load = Load::Transactions(Duration::ZERO);

/// The manager sees `fault` and makes db2 the primary.
fn fails_over(what: &str, fault: impl FnOnce(&mut Cluster)) {
    trial!(trial, SHORT);
    let manager = trial.mha().manage();
    let failed = trial.fault(fault);
    let ended = manager.end();
    assert_ended(&ended, 0, &["completed successfully"]);
    trial.end(what, 2, failed);
}

#[test]
fn a_server_that_is_killed_is_replaced() {
    fails_over("kill -9", |cluster| cluster.db1.kill());
}

#[test]
fn a_server_that_hangs_is_replaced() {
    fails_over("SIGSTOP", |cluster| cluster.db1.freeze());
}
