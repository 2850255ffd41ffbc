//! What can be wrong on the manager or on the way from it: each hook ends in time and says in one
//! line what it was. The hooks are called by hand with MHA's words.

use std::time::Duration;

use mysql::prelude::Queryable;

use crate::lab::{Ended, Mha, VIP, wait_until};
use crate::trial;
use crate::trial::Trial;

/// An ssh server that accepts connections and says nothing.
const SILENT_SSH: &str = "use IO::Socket::INET;
    my $listener = IO::Socket::INET->new(LocalPort => 2222, Listen => 9) or die;
    my @kept; push @kept, $listener->accept while 1;";

/// What a busy machine may add to any limit.
const SLACK: Duration = Duration::from_secs(5);

/// `words` with these in the place of those of the same name.
fn with(mut words: Vec<String>, changes: &[&str]) -> Vec<String> {
    let name = |word: &str| word.split('=').next().unwrap().to_owned();
    for change in changes {
        words.retain(|word| name(word) != name(change));
        words.push((*change).to_owned());
    }
    words
}

fn failover(trial: &Trial, command: &str, changes: &[&str]) -> Ended {
    let words = with(Mha::failover_words(command), changes);
    trial.mha().hook("master_ip_failover", &words).end()
}

fn online(trial: &Trial, command: &str, changes: &[&str]) -> Ended {
    let words = with(Mha::online_words(command), changes);
    trial.mha().hook("master_ip_online_change", &words).end()
}

/// Asserts how a hook ended, and that what it says at the end, its timeline aside, names `cause`
/// once.
fn assert_says(ended: &Ended, status: i32, limit: Duration, cause: &str) {
    assert_eq!(ended.status, status, "{}", ended.said);
    assert!(ended.took < limit + SLACK, "{ended:?}");
    let causes = ended
        .said
        .lines()
        .filter(|line| !is_of_timeline(line) && line.contains(cause))
        .count();
    assert_eq!(causes, 1, "{cause:?} in\n{}", ended.said);
}

/// `master_ip_failover:   0.002s  done        …`
fn is_of_timeline(line: &str) -> bool {
    let second = line.split_whitespace().nth(1).unwrap_or_default();
    second
        .strip_suffix('s')
        .is_some_and(|seconds| seconds.parse::<f64>().is_ok())
}

#[test]
fn an_ssh_that_never_answers_costs_no_more_than_its_limit() {
    trial!(trial);
    let host = &trial.db(1).host;
    let _listener = host.start("perl", &["-e", SILENT_SSH], "/dev/null");
    wait_until("it listens", Duration::from_secs(5), || {
        !host.sh("ss -Hltn 'sport = :2222'").is_empty()
    });
    let port = ["--orig_master_ssh_port=2222"];
    let (connect, last_try) = (Duration::from_secs(5), Duration::from_secs(1));
    let silent = "no login within 5.0s";
    assert_says(&failover(&trial, "status", &port), 1, connect, silent);
    assert_says(&online(&trial, "stop", &port), 1, connect, silent);
    let answers = "answers, and its host cannot be reached by ssh";
    assert_says(&failover(&trial, "stop", &port), 1, last_try, answers);
    assert_says(&failover(&trial, "stopssh", &port), 1, connect, answers);
    assert!(trial.is_alone(1), "{}", trial.story());
}

#[test]
fn a_full_disk_ends_an_online_change_and_holds_up_no_failover() {
    trial!(trial);
    let fill = "mkdir -p /var/lib/hookbox; mount -t tmpfs -o size=4k lab /var/lib/hookbox
        cat /dev/zero > /var/lib/hookbox/full || true";
    trial.cluster().manager.sh(fill);
    let soon = Duration::from_secs(1);
    let full = "No space left on device";
    assert_says(&online(&trial, "stop", &[]), 1, soon, full);
    assert!(trial.is_alone(1), "{}", trial.story());
    let ended = failover(&trial, "stopssh", &[]);
    assert_eq!(ended.status, 0, "{}", ended.said);
    assert!(ended.said.contains("undo will not be possible"));
    assert!(trial.is_alone(0), "{}", trial.story());
    assert_eq!(failover(&trial, "start", &[]).status, 0);
    assert!(trial.is_alone(2), "{}", trial.story());
    trial.cluster().manager.sh("umount /var/lib/hookbox");
}

#[test]
fn an_unresolvable_host_is_named() {
    trial!(trial);
    let soon = Duration::from_secs(1);
    let orig = [
        "--orig_master_host=nowhere.invalid",
        "--orig_master_ip=nowhere.invalid",
    ];
    let new = [
        "--new_master_host=nowhere.invalid",
        "--new_master_ip=nowhere.invalid",
    ];
    let name = "Could not resolve hostname nowhere.invalid";
    let name_or = "look up nowhere.invalid";
    assert_says(&failover(&trial, "status", &orig), 1, soon, name);
    assert_says(&online(&trial, "stop", &orig), 1, soon, name);
    assert_says(&online(&trial, "stop", &new), 1, soon, name_or);
    assert!(trial.is_alone(1), "{}", trial.story());
    assert_says(&failover(&trial, "start", &new), 10, soon, name_or);
}

#[test]
fn a_wrong_password_changes_nothing_online_and_is_told_in_a_failover() {
    trial!(trial);
    let soon = Duration::from_secs(1);
    let denied = "error 1045: Access denied";
    let manager = &trial.cluster().manager;
    manager.write("/etc/hookbox/mha.password", "wrong\n", 0o600);
    assert_says(&online(&trial, "stop", &[]), 1, soon, denied);
    // Who put away an old primary that tells nothing is for a person to say, or for MHA by `stop`.
    assert_says(&failover(&trial, "start", &[]), 1, soon, denied);
    assert_eq!(failover(&trial, "stopssh", &[]).status, 0);
    assert_says(&failover(&trial, "start", &[]), 10, soon, denied);
    // Without an account of its own hookbox takes the one that MHA passes.
    let path = "/etc/hookbox/hookbox.toml";
    let account = "user = \"mha\"\n\npassword_file = \"/etc/hookbox/mha.password\"\n";
    let toml = manager.read(path);
    assert!(toml.contains(account), "{toml}");
    manager.write(path, toml.replace(account, ""), 0o644);
    let wrong = "--orig_master_password=wrong";
    assert_says(&online(&trial, "stop", &[wrong]), 1, soon, denied);
    let wrong = "--new_master_password=wrong";
    assert_says(&online(&trial, "stop", &[wrong]), 1, soon, denied);
    assert!(trial.db(1).is_writable() && !trial.db(2).is_writable());
}

#[test]
fn a_new_primary_that_hangs_costs_no_more_than_a_few_answers_and_has_the_address() {
    trial!(trial);
    assert_eq!(failover(&trial, "stopssh", &[]).status, 0);
    trial.fault(|cluster| cluster.db2.freeze());
    let ended = failover(&trial, "start", &[]);
    trial.fault(|cluster| cluster.db2.thaw());
    let (answers, silent) = (Duration::from_secs(8), "10.77.0.12:3306 writable: log in");
    assert_says(&ended, 10, answers, silent);
    assert!(trial.db(2).host.has_vip(), "{}", trial.story());
    assert!(!trial.db(2).is_writable(), "{}", trial.story());
}

#[test]
fn a_missing_interface_is_named_and_leaves_the_primary_as_it_was() {
    trial!(trial);
    let path = "/etc/hookbox/hookbox.toml";
    let manager = &trial.cluster().manager;
    let toml = manager.read(path).replace("dev eth0", "dev eth9");
    manager.write(path, toml, 0o644);
    let soon = Duration::from_secs(1);
    let missing = "no interface eth9";
    assert_says(&failover(&trial, "status", &[]), 1, soon, missing);
    let mut session = trial.db(1).connect().unwrap();
    assert_says(&online(&trial, "stop", &[]), 1, soon, missing);
    assert!(trial.is_alone(1), "{}", trial.story());
    session.query_drop("SELECT 1").unwrap();
    let elsewhere = "is on this host as 10.77.0.100/24 dev eth0";
    assert_says(&failover(&trial, "stopssh", &[]), 1, soon, elsewhere);
    assert!(trial.is_alone(1), "{}", trial.story());
    // Nobody has put the old primary away, so that nothing is changed.
    assert_says(&failover(&trial, "start", &[]), 1, soon, missing);
    assert!(trial.is_alone(1), "{}", trial.story());
}

#[test]
fn the_old_primary_is_no_peer_that_has_taken_over_whatever_it_is_called() {
    trial!(trial);
    let manager = &trial.cluster().manager;
    let path = "/etc/hookbox/hookbox.toml";
    let named = manager
        .read(path)
        .replace("host = \"10.77.0.11\"", "host = \"db1\"");
    manager.write(path, named, 0o644);
    manager.sh("echo 10.77.0.11 db1 >> /etc/hosts");
    let no_ssh = "nft 'add table inet lab
        add chain inet lab in { type filter hook input priority 0; }
        add rule inet lab in tcp dport 22 drop'";
    trial.db(1).host.sh(no_ssh);
    let answers = "answers, and its host cannot be reached by ssh";
    let last_try = Duration::from_secs(1);
    assert_says(&failover(&trial, "stop", &[]), 1, last_try, answers);
    assert!(trial.is_alone(1), "{}", trial.story());
}

#[test]
fn a_connection_whose_client_died_is_replaced() {
    trial!(trial);
    let manager = &trial.cluster().manager;
    assert_eq!(online(&trial, "stop", &[]).status, 0);
    // Its sockets stay, and nobody is behind them any more.
    manager.sh("kill -KILL $(pgrep -x ssh)");
    assert!(!manager.sh("find /run/hookbox/ssh -type s").is_empty());
    let ended = online(&trial, "start", &[]);
    assert_eq!(ended.status, 0, "{}", ended.said);
    assert!(ended.took < Duration::from_secs(2) + SLACK, "{ended:?}");
    assert!(trial.is_alone(2), "{}", trial.story());
}

#[test]
fn a_connection_to_a_host_that_went_is_given_up_in_time() {
    trial!(trial);
    assert_eq!(failover(&trial, "status", &[]).status, 0);
    let sockets = trial
        .cluster()
        .manager
        .sh("find /run/hookbox/ssh -type s || true");
    trial.fault(|cluster| cluster.switch.block(&cluster.db1.host));
    let ended = failover(&trial, "stop", &[]);
    assert_eq!(ended.status, 0, "{}", ended.said);
    let limit = Duration::from_secs(2);
    assert!(ended.took < limit + SLACK, "{ended:?}");
    println!(
        "cut off with {} connections: {} ms",
        sockets.lines().count(),
        ended.took.as_millis()
    );
    assert!(
        !ended.said.contains(VIP) || !ended.said.contains("FAILED"),
        "{}",
        ended.said
    );
}

#[test]
fn an_address_for_which_nothing_but_arp_answers_ends_a_failover() {
    trial!(trial);
    let filter = "nft 'add table inet lab
        add chain inet lab in { type filter hook input priority 0; }
        add rule inet lab in tcp dport { 22, 3306 } drop'";
    trial.db(1).host.sh(filter);
    let last_try = Duration::from_secs(1);
    let answers = "arp:10.77.0.100%eth0 answers, and its host cannot be reached by ssh";
    assert_says(&failover(&trial, "stop", &[]), 1, last_try, answers);
    trial.db(1).host.sh("nft flush ruleset");
    assert!(trial.is_alone(1), "{}", trial.story());
}
