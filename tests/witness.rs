//! Witnesses that answer, refuse, are silent or lose a packet, in network namespaces.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "helpers of tests; clippy knows only functions marked as tests"
)]

#[path = "support/net.rs"]
mod net;

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hookbox::error::{Kind, Result};
use hookbox::time::Deadline;
use hookbox::witness::{Asked, Witness};
use net::{Namespace, two_hosts};

const LIMIT: Duration = Duration::from_millis(400);
/// For those that answer: long, so that a busy machine is not taken for a lost packet.
const PATIENCE: Duration = Duration::from_secs(2);
/// Below half of that, when questions are repeated: the first one was answered.
const AT_ONCE: Duration = Duration::from_millis(900);

struct Heard {
    answer: Result<Option<String>>,
    silence: String,
    took: Duration,
}

/// Asks from inside `host`.
fn ask(host: &Namespace, limit: Duration, witnesses: &[&str]) -> Heard {
    let witnesses: Vec<Witness> = witnesses
        .iter()
        .map(|w| Witness::parse(w).unwrap())
        .collect();
    host.run(move || {
        let started = Instant::now();
        let asked = Asked::ask(&witnesses);
        assert!(started.elapsed() < AT_ONCE, "asking waits for nothing");
        let answer = asked.anyone(&Deadline::after(limit));
        Heard {
            answer: answer.map(|name| name.map(str::to_owned)),
            silence: asked.silence(),
            took: started.elapsed(),
        }
    })
}

fn answers_at_once(host: &Namespace, witness: &str) {
    let heard = ask(host, LIMIT, &[witness]);
    assert_eq!(
        heard.answer.unwrap().as_deref(),
        Some(witness),
        "{}",
        heard.silence
    );
    assert!(heard.took < AT_ONCE, "{witness} took {:?}", heard.took);
}

fn is_silent(host: &Namespace, witness: &str) -> String {
    let heard = ask(host, LIMIT, &[witness]);
    assert_eq!(heard.answer.unwrap(), None, "{witness}");
    assert!(
        heard.took < LIMIT + AT_ONCE,
        "{witness} took {:?}",
        heard.took
    );
    heard.silence
}

fn listener(host: &Namespace, address: &'static str) -> TcpListener {
    let listener = host.run(move || TcpListener::bind(address).unwrap());
    listener.set_nonblocking(true).unwrap();
    listener
}

#[test]
fn every_way_of_asking_gets_an_answer_at_once() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let _four = listener(&there, "10.7.0.2:3306");
    let _six = listener(&there, "[fd07::2]:3306");
    answers_at_once(&here, "tcp:10.7.0.2:3306");
    answers_at_once(&here, "tcp:[fd07::2]:3306");
    answers_at_once(&here, "arp:10.7.0.2%a0");
    let link_local = there.sh("ip -o -6 address show dev b0 scope link");
    let link_local = link_local
        .split_whitespace()
        .nth(3)
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    // A new namespace allows nobody an ICMP socket, so that the first round goes by raw sockets.
    for group_range in ["1 0", "0 2147483647"] {
        here.sh(&format!(
            "echo {group_range} > /proc/sys/net/ipv4/ping_group_range"
        ));
        answers_at_once(&here, "10.7.0.2");
        answers_at_once(&here, "fd07::2");
    }
    // Its own address has to come through duplicate address detection first.
    there.sh("while ip -6 address show dev b0 tentative | grep -q inet6; do sleep 0.05; done");
    here.sh("while ip -6 address show dev a0 tentative | grep -q inet6; do sleep 0.05; done");
    answers_at_once(&here, &format!("{link_local}%a0"));
}

#[test]
fn a_refused_connection_is_an_answer() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    answers_at_once(&here, "tcp:10.7.0.2:3306");
    answers_at_once(&here, "tcp:[fd07::2]:3306");
}

#[test]
fn a_server_never_gets_to_see_the_connection_of_a_question() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let listener = listener(&there, "10.7.0.2:3306");
    for _ in 0..20 {
        answers_at_once(&here, "tcp:10.7.0.2:3306");
    }
    // Longer than the ACK can be held back.
    std::thread::sleep(Duration::from_millis(500));
    let accepted = listener.accept().map(|(_, from)| from);
    assert_eq!(accepted.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn silence_is_none_within_the_limit_and_says_why() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    assert_eq!(is_silent(&here, "10.7.0.9"), "10.7.0.9: no answer");
    is_silent(&here, "tcp:10.7.0.9:3306");
    is_silent(&here, "arp:10.7.0.9%a0");
    assert!(
        is_silent(&here, "192.0.2.1").contains("unreachable"),
        "no route"
    );
    assert!(
        is_silent(&here, "tcp:192.0.2.1:3306").contains("unreachable"),
        "no route"
    );
    assert!(is_silent(&here, "arp:10.7.0.2%gone").contains("No such device"));
    assert!(is_silent(&here, "10.7.0.1").contains("this host itself"));
    there.sh("nft add table inet t
         nft 'add chain inet t in { type filter hook input priority 0; policy drop; }'");
    is_silent(&here, "10.7.0.2");
    is_silent(&here, "tcp:10.7.0.2:3306");
    there.sh("nft flush ruleset; ip link set b0 down");
    for witness in ["10.7.0.2", "tcp:10.7.0.2:3306", "arp:10.7.0.2%a0"] {
        is_silent(&here, witness);
    }
}

#[test]
fn a_host_that_says_somebody_else_is_unreachable_does_not_vouch() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    there.sh("echo 1 > /proc/sys/net/ipv4/ip_forward; ip route add unreachable 192.0.2.0/24");
    here.sh("ip route add default via 10.7.0.2");
    assert!(is_silent(&here, "tcp:192.0.2.1:3306").contains("No route to host"));
    is_silent(&here, "192.0.2.1");
}

#[test]
fn one_lost_packet_is_asked_again() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let _listener = listener(&there, "10.7.0.2:3306");
    for witness in ["10.7.0.2", "tcp:10.7.0.2:3306", "arp:10.7.0.2%a0"] {
        answers_at_once(&here, witness);
        // Every other packet from now on is lost, the first one first.
        there.sh(
            "nft 'add table inet t; add chain inet t in { type filter hook input priority 0; }'
             nft 'add rule inet t in meta l4proto { icmp, tcp } numgen inc mod 2 0 drop'
             nft 'add table arp t; add chain arp t in { type filter hook input priority 0; }'
             nft 'add rule arp t in arp saddr ip 0.0.0.0 numgen inc mod 2 0 drop'",
        );
        let heard = ask(&here, PATIENCE, &[witness]);
        assert_eq!(heard.answer.unwrap().as_deref(), Some(witness));
        assert!(
            heard.took >= PATIENCE / 2,
            "{witness} was not lost: {:?}",
            heard.took
        );
        assert!(heard.took < PATIENCE, "{witness} took {:?}", heard.took);
        there.sh("nft flush ruleset");
    }
}

#[test]
fn one_answer_among_many_silent_witnesses_is_enough() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    let witnesses = [
        "192.0.2.1",
        "10.7.0.9",
        "tcp:10.7.0.9:1",
        "arp:10.7.0.9%a0",
        "10.7.0.2",
    ];
    let heard = ask(&here, PATIENCE, &witnesses);
    assert_eq!(heard.answer.unwrap().as_deref(), Some("10.7.0.2"));
    assert!(heard.took < AT_ONCE, "{:?}", heard.took);
}

#[test]
fn another_programs_pings_are_not_taken_for_an_answer() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    // The reply to our own question is lost, replies to the other program are not.
    there.sh(
        "nft 'add table inet t; add chain inet t in { type filter hook input priority 0; }'
         nft 'add rule inet t in icmp type echo-request ip length 28 drop'",
    );
    let mut other = here.run(|| {
        let mut ping = Command::new("ping");
        ping.args(["-q", "-i", "0.01", "-c", "100", "10.7.0.2"])
            .stdout(Stdio::null());
        ping.spawn().unwrap()
    });
    is_silent(&here, "10.7.0.2");
    assert!(
        other.wait().unwrap().success(),
        "the other program is answered"
    );
}

#[test]
fn who_may_not_ask_is_told_so_unless_somebody_answers() {
    const NAME: &str = "who_may_not_ask_is_told_so_unless_somebody_answers";
    if std::env::var_os("HOOKBOX_TEST_WITHOUT_NET_RAW").is_some() {
        return ask_without_net_raw();
    }
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let _listener = listener(&there, "10.7.0.2:3306");
    let output = here.run(|| {
        Command::new("setpriv")
            .args(["--bounding-set=-net_raw", "--inh-caps=-net_raw"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env("HOOKBOX_TEST_WITHOUT_NET_RAW", "1")
            .output()
            .unwrap()
    });
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// The other half of that test, in a process without the capability.
fn ask_without_net_raw() {
    let anyone = |witnesses: &[&str]| {
        let witnesses: Vec<_> = witnesses
            .iter()
            .map(|w| Witness::parse(w).unwrap())
            .collect();
        let asked = Asked::ask(&witnesses);
        asked
            .anyone(&Deadline::after(LIMIT))
            .map(|name| name.map(str::to_owned))
    };
    let error = anyone(&["10.7.0.2"]).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.advice().unwrap().contains("CAP_NET_RAW"));
    let answer = anyone(&["10.7.0.2", "tcp:10.7.0.2:3306"]).unwrap();
    assert_eq!(answer.as_deref(), Some("tcp:10.7.0.2:3306"));
}
