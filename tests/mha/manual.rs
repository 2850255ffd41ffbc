//! docs/mha.md, word for word: what it tells to type makes a cluster that MHA can switch.

use std::sync::Arc;

use crate::lab::{Host, Server};
use crate::trial;
use crate::trial::assert_ended;

/// The commands of the section on installation, in order, each with the line that says where.
fn commands() -> Vec<(String, String)> {
    let manual = include_str!("../../docs/mha.md");
    let (_, rest) = manual.split_once("\n## Install").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let mut commands = Vec::new();
    let mut place = "";
    for line in section.lines() {
        match line.strip_prefix("       ") {
            Some(command) => commands.push((place.to_owned(), command.to_owned())),
            None if line.starts_with("On ") => place = line,
            None => {}
        }
    }
    commands
}

/// Carries out one command; what a host in namespaces cannot do is done by other means.
fn carry_out(host: &Arc<Host>, command: &str, program: &[u8]) {
    match command.split('#').next().unwrap().trim() {
        // There is no compiler to wait for.
        "make install" => host.write("/usr/sbin/hookbox", program, 0o755),
        // No systemd: the unit must at least be one that can be run.
        "systemctl enable --now hookbox-guard.timer" => {
            let unit = host.read("/etc/systemd/system/hookbox-guard.service");
            let start = unit
                .lines()
                .find_map(|line| line.strip_prefix("ExecStart="));
            host.sh(start.unwrap());
        }
        command => {
            let root = env!("CARGO_MANIFEST_DIR");
            host.sh(&format!(
                "mkdir -p /etc/systemd/system; cd {root}; {command}"
            ));
        }
    }
}

#[test]
fn what_the_manual_says_leads_to_a_cluster_that_mha_can_switch() {
    trial!(trial);
    let cluster = trial.cluster();
    let program = std::fs::read(env!("CARGO_BIN_EXE_hookbox")).unwrap();
    for host in cluster.hosts() {
        host.sh("rm -rf /etc/hookbox /usr/sbin/hookbox /etc/mha");
    }
    let without_accounts = |server: &&Server| {
        server.sql("SET SESSION sql_log_bin = 0");
        let drop = "DROP USER hookbox@localhost, hookbox@'10.77.0.%', mha@'10.77.0.%'";
        server.host.sh(&format!(
            "mariadb -e \"SET SESSION sql_log_bin = 0; {drop}\""
        ));
    };
    cluster.servers().iter().for_each(without_accounts);
    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    for (place, command) in commands {
        let servers = cluster.servers().map(|server| &server.host);
        let hosts: Vec<&Arc<Host>> = match place.as_str() {
            "On the manager and on every database host:" => cluster.hosts().to_vec(),
            place if place.starts_with("On the manager:") => vec![&cluster.manager],
            place if place.starts_with("On every database host") => servers.to_vec(),
            // The files keep the accounts out of the binary log, as it says there.
            place if place.starts_with("On the primary") => servers.to_vec(),
            place => panic!("where is that? {place}"),
        };
        for host in hosts {
            carry_out(host, &command, &program);
        }
    }
    trial.mha().configure(|cnf| cnf); // the lab's own password of replication
    assert_ended(
        &trial.mha().check_repl(),
        0,
        &["MySQL Replication Health is OK."],
    );
    let ended = trial.mha().change_online("10.77.0.12").end();
    assert_ended(&ended, 0, &["completed successfully"]);
    assert!(trial.is_alone(2), "{}", trial.story());
}
