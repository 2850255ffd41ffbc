//! What can be wrong on the manager or on the way from it: each hook ends in time and says so in
//! one line. The hooks are called by hand with MHA's words.

use std::time::Duration;

use crate::lab::{Ended, Mha};
use crate::trial;
use crate::trial::Trial;

/// An ssh server that accepts connections and says nothing.
const SILENT_SSH: &str = "use IO::Socket::INET;
    my $listener = IO::Socket::INET->new(LocalPort => 2222, Listen => 9) or die;
    my @kept; push @kept, $listener->accept while 1;";

/// `words` with what MHA would say instead of some of them.
fn with(mut words: Vec<String>, changes: &[&str]) -> Vec<String> {
    for change in changes {
        let option = change.split('=').next().unwrap();
        words.retain(|word| word.split('=').next() != Some(option));
        words.push((*change).to_owned());
    }
    words
}

fn failover(trial: &Trial, command: &str, changes: &[&str]) -> Ended {
    let words = with(Mha::failover_words(command), changes);
    show(
        trial.mha().hook("master_ip_failover", &words).end(),
        command,
    )
}

fn online(trial: &Trial, command: &str, changes: &[&str]) -> Ended {
    let words = with(Mha::online_words(command), changes);
    show(
        trial.mha().hook("master_ip_online_change", &words).end(),
        command,
    )
}
fn show(ended: Ended, command: &str) -> Ended {
    println!(
        "{command} -> {} in {} ms\n{}",
        ended.status,
        ended.took.as_millis(),
        ended.said
    );
    ended
}

#[test]
fn an_ssh_that_never_answers() {
    trial!(trial);
    let _listener = trial
        .db(1)
        .host
        .start("perl", &["-e", SILENT_SSH], "/dev/null");
    let port = "--orig_master_ssh_port=2222";
    failover(&trial, "status", &[port]);
    online(&trial, "stop", &[port]);
    failover(&trial, "stop", &[port]);
    failover(&trial, "stopssh", &[port]);
}

#[test]
fn a_full_disk() {
    trial!(trial);
    trial.cluster().manager.sh("mkdir -p /var/lib/hookbox; mount -t tmpfs -o size=4k full /var/lib/hookbox; dd if=/dev/zero of=/var/lib/hookbox/x 2>/dev/null || true");
    failover(&trial, "status", &[]);
    online(&trial, "stop", &[]);
    failover(&trial, "stopssh", &[]);
    trial.cluster().manager.sh("umount /var/lib/hookbox");
}

#[test]
fn an_unresolvable_host() {
    trial!(trial);
    let nowhere = [
        "--orig_master_host=nowhere.invalid",
        "--orig_master_ip=nowhere.invalid",
    ];
    failover(&trial, "status", &nowhere);
    online(&trial, "stop", &nowhere);
    failover(&trial, "stop", &nowhere);
    failover(&trial, "stopssh", &nowhere);
    let nowhere = [
        "--new_master_host=nowhere.invalid",
        "--new_master_ip=nowhere.invalid",
    ];
    online(&trial, "stop", &nowhere);
    failover(&trial, "start", &nowhere);
}

#[test]
fn a_wrong_password() {
    trial!(trial);
    trial
        .cluster()
        .manager
        .write("/etc/hookbox/mha.password", "wrong\n", 0o600);
    failover(&trial, "status", &[]);
    online(&trial, "stop", &["--orig_master_password=wrong"]);
    online(&trial, "stop", &["--new_master_password=wrong"]);
    failover(&trial, "start", &["--new_master_password=wrong"]);
    failover(&trial, "stopssh", &[]);
}

#[test]
fn a_missing_interface() {
    trial!(trial);
    let toml = trial.cluster().manager.read("/etc/hookbox/hookbox.toml");
    trial.cluster().manager.write(
        "/etc/hookbox/hookbox.toml",
        toml.replace("dev eth0", "dev eth9"),
        0o644,
    );
    failover(&trial, "status", &[]);
    online(&trial, "stop", &[]);
    failover(&trial, "stopssh", &[]);
    failover(&trial, "start", &[]);
}

#[test]
fn a_connection_that_died() {
    trial!(trial);
    online(&trial, "stop", &[]);
    println!(
        "{}",
        trial.cluster().manager.sh("find /run/hookbox -ls; ps ax")
    );
}
