//! masterha_master_switch changes the primary while all work.

use std::time::{Duration, Instant};

use crate::lab::Load;
use crate::trial;
use crate::trial::assert_ended;

#[test]
fn a_primary_changes_under_load() {
    trial!(trial, Load::Transactions(Duration::ZERO));
    let began = Instant::now();
    let ended = trial.mha().change_online("10.77.0.12").end();
    assert_ended(&ended, 0, &["completed successfully"]);
    trial.end("online change under load", 2, began);
}
