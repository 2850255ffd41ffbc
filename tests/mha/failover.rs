//! masterha_manager replaces a primary that fails.

use std::time::{Duration, Instant};

use crate::lab::Cluster;
use crate::trial;
use crate::trial::{APP, SHORT, Trial, assert_ended};

const DONE: &str = "Master failover to 10.77.0.12(10.77.0.12:3306) completed successfully.";

/// MHA's own share of a failover with a ping interval of 1 s, and what a busy machine adds.
const GENEROUS: Duration = Duration::from_secs(30);

/// MHA sees `fault` and makes db2 the primary.
fn fail_over(trial: &mut Trial, command: &str, fault: impl FnOnce(&mut Cluster)) -> Instant {
    trial.write(APP, SHORT);
    let manager = trial.mha().manage();
    let failed = trial.fault(fault);
    let ended = manager.end();
    let command = format!("--command={command} ");
    assert_ended(&ended, 0, &[DONE, &command, "--command=start "]);
    trial.wait_until_served_by(2, failed);
    failed
}

#[test]
fn a_server_that_is_killed_is_replaced_and_closed_when_it_comes_back() {
    trial!(trial);
    trial.guard();
    let failed = fail_over(&mut trial, "stopssh", |cluster| cluster.db1.kill());
    assert!(trial.is_alone(2), "{}", trial.story());
    trial.comes_back_open(|cluster| cluster.db1.start());
    trial.wait_until_closed(1);
    assert!(trial.end("kill -9", 2, failed) < GENEROUS);
}

#[test]
fn a_server_that_hangs_is_replaced_and_closed_when_it_goes_on() {
    trial!(trial);
    trial.guard();
    let failed = fail_over(&mut trial, "stopssh", |cluster| cluster.db1.freeze());
    trial.comes_back_open(|cluster| cluster.db1.thaw());
    trial.wait_until_closed(1);
    assert!(trial.end("SIGSTOP", 2, failed) < GENEROUS);
}

#[test]
fn a_host_without_carrier_is_replaced_and_closed_before_the_cable_is_back() {
    trial!(trial);
    trial.guard();
    let failed = fail_over(&mut trial, "stop", |cluster| {
        cluster.switch.unplug(&cluster.db1.host);
    });
    trial.fault(|cluster| cluster.switch.heal(&cluster.db1.host));
    trial.wait_until_closed(1);
    assert!(trial.end("carrier lost", 2, failed) < GENEROUS);
}

#[test]
fn a_host_that_is_cut_off_is_replaced_and_closed_before_the_port_is_healed() {
    trial!(trial);
    trial.guard();
    let failed = fail_over(&mut trial, "stop", |cluster| {
        cluster.switch.block(&cluster.db1.host);
    });
    trial.fault(|cluster| cluster.switch.heal(&cluster.db1.host));
    trial.wait_until_closed(1);
    assert!(trial.end("cut off", 2, failed) < GENEROUS);
}

/// MHA and the application reach neither ssh nor the server on db1, but the host is there.
const FILTER: &str = "nft 'add table inet lab
    add chain inet lab in { type filter hook input priority 0; }
    add rule inet lab in tcp dport 22 drop
    add rule inet lab in tcp dport 3306 reject with tcp reset'";

#[test]
fn a_host_that_still_answers_for_the_vip_ends_the_failover() {
    trial!(trial);
    trial.write(APP, SHORT);
    let manager = trial.mha().manage();
    let failed = trial.fault(|cluster| drop(cluster.db1.host.sh(FILTER)));
    let ended = manager.end();
    let aborted = "Failed to deactivate master IP with return code 1:0";
    assert_ended(&ended, 1, &["--command=stop", aborted]);
    assert!(!ended.said.contains("--command=start"), "{}", ended.said);
    trial.fault(|cluster| drop(cluster.db1.host.sh("nft flush ruleset")));
    trial.end("filtered, abort", 1, failed);
}

#[test]
fn a_host_that_still_answers_for_the_vip_is_replaced_where_that_is_configured() {
    trial!(trial);
    trial.may_share_vip();
    trial.guard();
    trial.cluster().configure("unfenced = \"proceed\"");
    trial.write(APP, SHORT);
    let manager = trial.mha().manage();
    let failed = trial.fault(|cluster| drop(cluster.db1.host.sh(FILTER)));
    let ended = manager.end();
    let proceeded = "Failed to deactivate master IP with return code 10:0";
    assert_ended(&ended, 0, &["--command=stop", proceeded, DONE]);
    trial.wait_until_closed(1);
    trial.fault(|cluster| drop(cluster.db1.host.sh("nft flush ruleset")));
    trial.end("filtered, proceed", 2, failed);
}
