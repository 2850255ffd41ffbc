//! The quick start of the README, as it stands there, on two hosts.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod lab;

use std::fs;
use std::time::Duration;

use lab::{Node, Pair, Replication, Shape, VIP, wait_until};

/// The commands of the quick start, in order: what is indented by seven columns there.
fn quick_start() -> Vec<String> {
    let readme = include_str!("../README.md");
    let (_, rest) = readme.split_once("\n## Quick start").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let commands = section
        .lines()
        .filter_map(|line| line.strip_prefix("       "));
    commands.map(str::to_owned).collect()
}

/// A host as it is before hookbox comes to it.
fn take_hookbox_away(node: &Node) {
    node.host.sh(
        "mariadb -e \"SET SESSION sql_log_bin = 0; DROP USER hookbox@localhost, hookbox@'10.77.0.%'\"
         rm -rf /etc/hookbox /usr/sbin/hookbox /etc/keepalived/keepalived.conf",
    );
}

/// Carries out one command; the two that a host in namespaces cannot are done by other means.
fn carry_out(node: &mut Node, command: &str) {
    match command.split('#').next().unwrap().trim() {
        // There is no compiler to wait for: the program under test is put where it puts it.
        "make install" => {
            let program = fs::read(env!("CARGO_BIN_EXE_hookbox")).unwrap();
            node.host.write("/usr/sbin/hookbox", program, 0o755);
        }
        "systemctl restart keepalived" => node.keepalived.start(),
        command => {
            let root = env!("CARGO_MANIFEST_DIR");
            node.host.sh(&format!("cd {root}; {command}"));
        }
    }
}

#[test]
fn the_quick_start_leads_to_a_pair_whose_primary_has_the_address() {
    if !lab::is_possible() {
        return;
    }
    let program = env!("CARGO_BIN_EXE_hookbox");
    let mut pair = Pair::new(
        Shape::PrimaryAndReplica,
        Replication::Gtid,
        program.as_ref(),
    );
    take_hookbox_away(&pair.db1);
    take_hookbox_away(&pair.db2);
    for command in quick_start() {
        carry_out(&mut pair.db1, &command);
        if command.contains("systemctl restart keepalived") {
            wait_until("db1 is primary", Duration::from_secs(15), || {
                pair.db1.is_primary()
            });
        }
        carry_out(&mut pair.db2, &command);
        if command.contains("/etc/hookbox/password") && command.starts_with("echo") {
            // The sentence after the commands: on db2 the peer is db1.
            pair.db2
                .host
                .sh("sed -i s/10.77.0.12/10.77.0.11/ /etc/hookbox/hookbox.toml");
        }
    }
    wait_until("db2 is closed", Duration::from_secs(15), || {
        !pair.db2.server.is_writable()
    });
    let status = pair.db1.host.sh("hookbox status");
    assert!(
        status.starts_with("primary at /run/mysqld/mysqld.sock"),
        "{status}"
    );
    assert!(
        status.contains(&format!("vip {VIP}/24 dev eth0: here")),
        "{status}"
    );
    let status = pair.db2.host.sh("hookbox status");
    assert!(
        status.starts_with("replica at /run/mysqld/mysqld.sock"),
        "{status}"
    );
}

#[test]
fn both_readmes_have_the_same_commands() {
    let commands = |readme: &str| -> Vec<String> {
        let indented = readme.lines().filter_map(|line| line.strip_prefix("    "));
        let words = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
        indented.map(words).collect()
    };
    assert_eq!(
        commands(include_str!("../README.md")),
        commands(include_str!("../README.zh-CN.md"))
    );
}
