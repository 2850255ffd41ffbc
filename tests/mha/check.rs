//! masterha_check_repl, which asks `status`.

use std::process::Command;

use crate::lab::VIP;
use crate::scratch::Scratch;
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

#[test]
fn mending_refuses_modules_that_are_not_those_of_mha_0_58() {
    let scratch = Scratch::new();
    for module in ["NodeUtil.pm", "SlaveUtil.pm"] {
        std::fs::write(scratch.path().join(module), "use strict;\n").unwrap();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mend-mha");
    let output = Command::new(script).arg(scratch.path()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("NodeUtil.pm is not that of MHA 0.58"),
        "{stderr}"
    );
}
