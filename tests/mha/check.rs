//! masterha_check_repl, which asks `status`.

use crate::lab::Load;
use crate::trial;
use crate::trial::assert_ended;

#[test]
fn a_healthy_cluster_passes() {
    trial!(trial, Load::Rows);
    let ended = trial.mha().check_repl();
    assert_ended(&ended, 0, &["MySQL Replication Health is OK."]);
    println!("masterha_check_repl: {:?}", ended.took);
}
