//! Logins that cannot be: each ends in time with one clear line.

use std::time::Duration;

use hookbox::config;
use hookbox::error::Kind;
use hookbox::ssh::Place;

use crate::site::{DB1, Site, mute_listener, operator, root_at};

/// How long a refusal may take that somebody answers with at once.
const SOON: Duration = Duration::from_secs(4);

/// A login that ends with `why` within `limit`; the line is printed for whoever reads tests.
fn fails(site: &Site, place: &Place, how: &config::Ssh, why: (Kind, &str), limit: Duration) {
    let (error, took) = site.failure(place, how);
    let (line, advice) = (error.chain(), error.advice().unwrap());
    println!("{took:7.1?}  {line}\n         try: {advice}");
    assert!(line.starts_with("ssh to db1 ("), "{line}");
    assert!(line.contains(why.1), "{}: {line}", why.1);
    assert!(!line.contains('\n'), "{line}");
    assert!(advice.contains("ssh"), "{advice}");
    assert_eq!(error.kind(), why.0, "{line}");
    assert!(took < limit, "{line}: {took:?}");
}

/// Nothing is said at all: it is given up when `[ssh] connect` is over, not before.
fn hangs(site: &Site, place: &Place) {
    let how = config::Ssh {
        connect: Duration::from_secs(2),
        ..site.how()
    };
    let why = (Kind::Timeout, "no login within 2.0s");
    fails(site, place, &how, why, Duration::from_millis(2500));
}

fn port(port: u16) -> Place {
    Place {
        port: Some(port),
        ..root_at(DB1)
    }
}

#[test]
fn who_is_not_admitted_is_told_so_and_nobody_is_asked_for_a_password() {
    let Some(mut site) = Site::new() else {
        return;
    };
    site.db1.sh("rm /etc/ssh/authorized_keys
         sed -i 's/^PasswordAuthentication no/PasswordAuthentication yes/' /etc/ssh/sshd_lab");
    site.sshd.restart();
    let stranger = Place {
        user: Some("daemon".to_owned()),
        ..root_at(DB1)
    };
    let why = (Kind::Denied, "Permission denied (publickey");
    for place in [root_at(DB1), stranger] {
        fails(&site, &place, &site.how(), why, SOON);
    }
}

#[test]
fn an_account_without_a_shell_is_named_by_what_it_says_instead() {
    let Some(site) = Site::new() else {
        return;
    };
    let place = operator(&site);
    site.db1.sh("usermod --shell /usr/sbin/nologin dba");
    // As MHA has it: the client warns that it has added the key.
    let trusting = [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ];
    let mut how = site.how();
    how.options.splice(0..0, trusting.map(str::to_owned));
    let why = (Kind::Unreachable, "This account is currently not available");
    fails(&site, &place, &how, why, SOON);
}

#[test]
fn a_host_key_that_is_another_or_unknown_is_not_accepted() {
    let Some(mut site) = Site::new() else {
        return;
    };
    let unknown = config::Ssh {
        options: ["-F", "none", "-o", "UserKnownHostsFile=/dev/null"]
            .map(str::to_owned)
            .to_vec(),
        ..site.how()
    };
    let why = (Kind::Denied, "its host key is not known here");
    fails(&site, &root_at(DB1), &unknown, why, SOON);
    site.sshd.change_host_key();
    site.sshd.restart();
    let why = (Kind::Denied, "its host key is not the one that is known");
    fails(&site, &root_at(DB1), &site.how(), why, SOON);
}

#[test]
fn what_cannot_be_reached_is_said_as_ssh_says_it() {
    let Some(site) = Site::new() else {
        return;
    };
    let how = site.how();
    for (place, why) in [
        (port(2), "port 2: Connection refused"),
        (root_at("10.78.0.1"), "Network is unreachable"),
        (root_at("db1.invalid"), "Could not resolve hostname"),
    ] {
        fails(&site, &place, &how, (Kind::Unreachable, why), SOON);
    }
    let nobody = config::Ssh {
        connect: Duration::from_secs(8),
        ..how
    };
    let why = (Kind::Unreachable, "No route to host");
    fails(&site, &root_at("10.77.0.99"), &nobody, why, nobody.connect);
}

#[test]
fn who_says_nothing_is_given_up_in_time() {
    let Some(site) = Site::new() else {
        return;
    };
    let mute = mute_listener(&site);
    hangs(&site, &port(2222));
    mute.signal("KILL");

    site.sshd.freeze();
    hangs(&site, &root_at(DB1));
    site.sshd.thaw();

    // What a filter does that drops everything: no answer comes back.
    site.db1.sh("ip route add blackhole 10.77.0.30");
    hangs(&site, &root_at(DB1));
    site.db1.sh("ip route del blackhole 10.77.0.30");

    site.switch.block(&site.db1);
    hangs(&site, &root_at(DB1));
}
