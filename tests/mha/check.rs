//! masterha_check_repl, which asks `status`.

use crate::lab::VIP;
use crate::trial;
use crate::trial::assert_ended;

#[test]
fn a_healthy_cluster_passes() {
    trial!(trial);
    let ended = trial.mha().check_repl();
    assert_ended(&ended, 0, &["MySQL Replication Health is OK."]);
    println!("masterha_check_repl: {} ms", ended.took.as_millis());
}

#[test]
fn a_missing_vip_is_warned_about_or_fails_as_configured() {
    trial!(trial);
    let cluster = trial.cluster();
    cluster
        .db1
        .host
        .sh(&format!("ip addr del {VIP}/24 dev eth0"));
    let ended = trial.mha().check_repl();
    assert_ended(&ended, 0, &[VIP, "MySQL Replication Health is OK."]);
    cluster.configure("vip_missing = \"fail\"");
    let ended = trial.mha().check_repl();
    let failed = "Failed to get master_ip_failover_script status with return code 1:0";
    assert_ended(
        &ended,
        1,
        &[VIP, failed, "MySQL Replication Health is NOT OK!"],
    );
}
