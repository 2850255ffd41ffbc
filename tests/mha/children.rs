//! What a hook starts and leaves behind.

use std::process::{Command, Output};
use std::time::Duration;

use crate::lab::{Mha, wait_until};
use crate::trial;
use crate::trial::Trial;

const CONFIG: &str = "/etc/hookbox/hookbox.toml";

/// A hook of an online change, in the environment that `change` leaves.
fn online(trial: &Trial, order: &str, change: impl FnOnce(&mut Command)) -> Output {
    let mut hook = trial.cluster().manager.command("/usr/sbin/hookbox");
    hook.arg("master_ip_online_change")
        .args(Mha::online_words(order));
    change(&mut hook);
    hook.output().unwrap()
}

/// The process numbers, on the manager, of the connections that are kept.
fn connections(trial: &Trial) -> Vec<String> {
    let pids = trial.cluster().manager.sh("pgrep -x ssh || true");
    pids.lines().map(str::to_owned).collect()
}

#[test]
fn ssh_is_started_without_the_variables_that_hold_passwords() {
    trial!(trial);
    let manager = &trial.cluster().manager;
    // Not looked at later: a connection that is kept writes its title over its environment.
    let ssh = "#!/bin/sh\ncat /proc/$$/environ >> /run/environ\nexec /usr/bin/ssh \"$@\"\n";
    manager.write("/usr/local/bin/ssh-told", ssh, 0o755);
    let variables = ["PW_OF_MHA", "PW_HERE", "PW_OF_PEER", "PW_ELSEWHERE"];
    let by_file = |name: &str| format!("password_file = \"/etc/hookbox/{name}\"");
    let toml = manager
        .read(CONFIG)
        .replace(&by_file("mha.password"), "password_env = \"PW_OF_MHA\"")
        .replace(&by_file("password"), "password_env = \"PW_HERE\"")
        .replace("[ssh] ", "[ssh]\nprogram = \"/usr/local/bin/ssh-told\" #")
        + "password_env = \"PW_OF_PEER\"\n[instance.b.mysql]\npassword_env = \"PW_ELSEWHERE\"\n";
    manager.write(CONFIG, toml, 0o644);
    let stop = online(&trial, "stop", |hook| {
        hook.env("HARMLESS", "kept");
        hook.envs(variables.map(|name| (name, "change-me")));
    });
    assert!(stop.status.success(), "{stop:?}");
    let environment = manager.read("/run/environ");
    // One that logs in to the old primary, and one that is left for `start`.
    assert_eq!(environment.matches("HARMLESS=kept").count(), 2);
    assert!(!environment.contains("change-me"), "{environment:?}");
}

#[test]
fn a_connection_that_is_kept_ends_when_it_is_told_to() {
    trial!(trial);
    assert!(online(&trial, "stop", |_| {}).status.success());
    assert!(!connections(&trial).is_empty());
    trial.cluster().manager.sh("kill -s TERM $(pgrep -x ssh)");
    wait_until("they end", Duration::from_secs(10), || {
        connections(&trial).is_empty()
    });
    assert!(online(&trial, "start", |_| {}).status.success());
    assert!(trial.is_alone(2), "{}", trial.story());
}
