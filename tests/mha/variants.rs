//! Other configurations than the example: hosts that differ, no virtual address, two clusters.

use crate::lab::{Ended, Mha, VIP};
use crate::trial;
use crate::trial::Trial;

const CONFIG: &str = "/etc/hookbox/hookbox.toml";

fn online(trial: &Trial, order: &str, more: &[&str]) -> Ended {
    let mut words = Mha::online_words(order);
    words.extend(more.iter().map(|word| (*word).to_owned()));
    trial.mha().hook("master_ip_online_change", &words).end()
}

fn must(trial: &Trial, order: &str, more: &[&str]) {
    let ended = online(trial, order, more);
    assert_eq!(ended.status, 0, "{order}: {}", ended.said);
}

#[test]
fn a_host_may_have_the_address_on_another_interface_and_ssh_elsewhere() {
    trial!(trial);
    let (manager, db2) = (&trial.cluster().manager, &trial.db(2).host);
    let rename = |from: &str, to: &str| {
        db2.sh(&format!(
            "ip link set {from} down; ip link set {from} name {to}; ip link set {to} up"
        ));
    };
    rename("eth0", "lan0");
    // MHA's word for its port is wrong on purpose.
    let own = "[host.\"10.77.0.12\"]\ninterface = \"lan0\"\nssh_port = 22\n";
    manager.write(CONFIG, manager.read(CONFIG) + own, 0o644);
    must(&trial, "stop", &[]);
    let started = online(&trial, "start", &["--new_master_ssh_port=2299"]);
    let shown = db2.sh("ip -o addr show dev lan0");
    rename("lan0", "eth0");
    assert_eq!(started.status, 0, "{}", started.said);
    assert!(shown.contains(VIP), "{shown}");
}

#[test]
fn without_a_virtual_address_writes_and_sessions_are_seen_to_and_ssh_is_not_needed() {
    trial!(trial);
    let manager = &trial.cluster().manager;
    let vip = format!("vip = [\"{VIP}/24 dev eth0\"]\n");
    let toml = manager.read(CONFIG).replace(&vip, "");
    let toml = toml.replace("[ssh] ", "[ssh]\nprogram = \"/nonexistent\" #");
    manager.write(CONFIG, &toml, 0o644);
    let ended = online(&trial, "stop", &[]);
    assert_eq!(ended.status, 1, "{}", ended.said);
    assert!(ended.said.contains("no_vip = true"), "{}", ended.said);
    assert!(trial.is_alone(1), "{}", trial.story());

    let toml = toml.replace("[mha] ", "[mha]\nno_vip = true #");
    manager.write(CONFIG, toml, 0o644);
    let status = trial.mha().failover_hook("status").end();
    assert_eq!(status.status, 0, "{}", status.said);
    must(&trial, "stop", &[]);
    assert!(!trial.db(1).is_writable());
    must(&trial, "start", &[]);
    assert!(trial.db(2).is_writable());
    assert!(trial.db(1).host.has_vip(), "it is not hookbox's");
}

#[test]
fn the_switches_of_two_clusters_do_not_meet() {
    trial!(trial);
    let manager = &trial.cluster().manager;
    for app in ["app1", "app2"] {
        manager.write(
            &format!("/etc/hookbox/{app}.toml"),
            manager.read(CONFIG),
            0o644,
        );
    }
    must(&trial, "stop", &["--config=/etc/hookbox/app1.toml"]);
    let other = ["--config", "/etc/hookbox/app2.toml"];
    let status = |words: &[&str]| {
        let script = format!("hookbox status {} 2>&1 || true", words.join(" "));
        manager.sh(&script)
    };
    assert!(!status(&other).contains("undo"), "{}", status(&other));
    let own = status(&["--config", "/etc/hookbox/app1.toml"]);
    assert!(
        own.contains("hookbox undo --config /etc/hookbox/app1.toml"),
        "{own}"
    );
    must(&trial, "start", &["--config=/etc/hookbox/app1.toml"]);
    assert!(trial.is_alone(2), "{}", trial.story());
}
