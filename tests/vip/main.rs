//! `hookbox vip` between two hosts in network namespaces: what the kernel has and what the
//! neighbour sees.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "helpers of tests; clippy knows only functions marked as tests"
)]

#[path = "../support/net.rs"]
mod net;
mod owners;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use hookbox::link::{Host, Link, Vip};
use hookbox::run::Changed;
use hookbox::time::Deadline;
use net::{Namespace, two_hosts};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

const A0: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];

const HOOKBOX: &str = env!("CARGO_BIN_EXE_hookbox");

/// A command that keeps its journal among the test's own files.
fn hookbox(mut command: Command) -> Command {
    static CONFIG: OnceLock<PathBuf> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let config = place.join("vip.toml");
        let journal = place.join("vip-journal.jsonl");
        std::fs::write(&config, format!("[paths]\njournal = {journal:?}\n")).unwrap();
        config
    });
    command.env("HOOKBOX_CONFIG", config).env("PW", "s3cret");
    command
}

struct Said {
    status: i32,
    stdout: String,
    stderr: String,
    took: Duration,
}

/// Runs `hookbox vip ARGS` in the namespace.
fn vip(host: &Namespace, args: &str) -> Said {
    let args = args.to_owned();
    host.run(move || {
        let started = Instant::now();
        let output: Output = hookbox(Command::new(HOOKBOX))
            .arg("vip")
            .args(args.split_whitespace())
            .output()
            .unwrap();
        Said {
            status: output.status.code().expect("an exit status"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            took: started.elapsed(),
        }
    })
}

fn done(host: &Namespace, args: &str) -> String {
    let said = vip(host, args);
    assert_eq!(said.status, 0, "{args}: {}{}", said.stdout, said.stderr);
    said.stdout + &said.stderr
}

/// It has to refuse, in words that contain `why`, and to leave the addresses alone.
fn refused(host: &Namespace, status: i32, args: &str, why: &str) {
    let before = addresses(host);
    let said = vip(host, args);
    assert_eq!(
        said.status, status,
        "{args}: {}{}",
        said.stdout, said.stderr
    );
    assert!(said.stderr.contains(why), "{args}: {}", said.stderr);
    assert_eq!(addresses(host), before, "{args}");
}

/// Without those that the kernel gives itself, when it sees fit.
fn addresses(host: &Namespace) -> String {
    host.sh("ip -o address show | grep -v 'scope link' | sed 's/valid_lft.*//'")
}

fn capture(host: &Namespace) -> Socket {
    host.run(|| {
        let all = Protocol::from(i32::from(3_u16.to_be()));
        Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(all)).unwrap()
    })
}

/// The frames from `a0` of this kind that came until now, but for questions, whose sender is 0.0.0.0
/// or `::`.
fn frames(mut capture: &Socket, kind: [u8; 2]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut buffer = [0; 2000];
    while let Ok(length) = capture.read(&mut buffer) {
        let sender = if kind == ARP {
            &buffer[28..32]
        } else {
            &buffer[22..38]
        };
        let is_question = sender.iter().all(|byte| *byte == 0);
        if buffer[6..12] == A0 && buffer[12..14] == kind && !is_question {
            frames.push(buffer[..length].to_vec());
        }
    }
    frames
}

fn sleep_until(since: Instant, at_ms: u64) {
    sleep(Duration::from_millis(at_ms).saturating_sub(since.elapsed()));
}

/// The detached announcers on this host, as process ids.
fn announcers(host: &Namespace) -> Vec<i32> {
    let network = host.run(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
    let is_one = |pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.starts_with(b"hookbox\0vip\0announce\0--repeats\0")
            && std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|of| of == network)
    };
    let pids = std::fs::read_dir("/proc").unwrap();
    pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(is_one)
        .collect()
}

#[rustfmt::skip]
fn gratuitous(operation: u8, target: [u8; 6], ip: [u8; 4]) -> Vec<u8> {
    let mut frame = [
        &[0xff; 6][..], &A0, &ARP, &[0, 1, 8, 0, 6, 4, 0, operation], &A0, &ip, &target, &ip,
    ].concat();
    frame.resize(60, 0);
    frame
}

#[test]
fn an_added_address_is_announced_in_both_forms_until_it_leaves() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let capture = capture(&there);
    let began = Instant::now();
    let ip = [10, 7, 0, 77];
    let said = vip(&here, "add 10.7.0.77/24 dev a0 --probe 0s");
    assert_eq!(said.status, 0, "{}", said.stderr);
    assert!(
        said.took < Duration::from_millis(190),
        "the caller was held {:?}",
        said.took
    );
    let pair = [gratuitous(1, [0; 6], ip), gratuitous(2, A0, ip)];
    assert_eq!(frames(&capture, ARP), pair);
    let pids = announcers(&here);
    assert_eq!(pids.len(), 1);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pids[0])).unwrap();
    let group = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .nth(2)
        .unwrap();
    assert_eq!(group, pids[0].to_string(), "a process group of its own");
    let environment = std::fs::read(format!("/proc/{}/environ", pids[0])).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("s3cret"));

    for at_ms in [500, 1500, 2500] {
        sleep_until(began, at_ms);
        assert_eq!(frames(&capture, ARP), pair, "until {at_ms} ms");
    }
    done(&here, "del 10.7.0.77/24 dev a0");
    sleep_until(began, 5500);
    assert!(frames(&capture, ARP).is_empty(), "the address has left");
    assert!(announcers(&here).is_empty());
}

#[test]
fn the_last_repeat_comes_after_five_seconds() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let began = Instant::now();
    done(&here, "add 10.7.0.78/32 dev a0");
    sleep_until(began, 4500);
    let capture = capture(&there);
    sleep_until(began, 5500);
    assert_eq!(frames(&capture, ARP).len(), 2);
    assert!(announcers(&here).is_empty());
}

#[test]
fn a_neighbour_with_a_stale_entry_learns_the_new_place_at_once() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    there.sh(
        "ip neighbour replace 10.7.0.100 lladdr 02:de:ad:00:00:01 dev b0 nud reachable
         ip neighbour replace fd07::100 lladdr 02:de:ad:00:00:01 dev b0 nud reachable",
    );
    done(&here, "add 10.7.0.100/24 dev a0");
    done(&here, "add fd07::100/64 dev a0");
    let neighbours = there.sh("ip neighbour show dev b0");
    assert!(!neighbours.contains("02:de:ad"), "{neighbours}");
    for address in ["10.7.0.100", "fd07::100"] {
        assert!(
            neighbours.contains(&format!("{address} lladdr 02:00:00:00:00:0a")),
            "{neighbours}"
        );
    }
}

#[test]
fn adding_and_deleting_twice_is_no_failure_and_no_change() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    for vip in ["10.7.0.100/24 dev a0", "fd07::100/64 dev a0"] {
        let before = addresses(&here);
        assert!(done(&here, &format!("add {vip}")).contains(&format!("done        add {vip}")));
        let with = addresses(&here);
        assert_ne!(with, before);
        assert!(done(&here, &format!("add {vip}")).contains(&format!("was so      add {vip}")));
        assert_eq!(addresses(&here), with);
        assert!(done(&here, &format!("del {vip}")).contains("done        delete"));
        assert_eq!(addresses(&here), before);
        assert!(done(&here, &format!("del {vip}")).contains("was so      delete"));
        assert_eq!(addresses(&here), before);
    }
}

#[test]
fn addresses_are_compared_as_addresses() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    done(&here, "add 192.168.1.100/24 dev a0");
    refused(&here, 3, "show 192.168.1.10/24 dev a0", "not on this host");
    refused(&here, 3, "show 92.168.1.100/24 dev a0", "not on this host");
    refused(&here, 3, "show 192.168.1.100/24 dev lo", "not on this host");
    assert!(done(&here, "del 192.168.1.10/24 dev a0").contains("was so      delete"));
    done(&here, "show 192.168.1.100/24 dev a0");
    done(&here, "add 192.168.1.10/24 dev a0");
    done(&here, "del 192.168.1.10/24 dev a0");
    assert!(addresses(&here).contains("192.168.1.100/24"));
    done(&here, "add fd07:0:0::0a0/64 dev a0");
    done(&here, "show fd07::a0/64 dev a0");
}

#[test]
fn the_same_address_with_another_prefix_or_elsewhere_is_refused_not_overlooked() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    done(&here, "add 10.7.0.100/32 dev a0");
    for elsewhere in [
        "10.7.0.100/24 dev a0",
        "10.7.0.100/32 dev lo",
        "10.7.0.100/32 dev gone",
    ] {
        refused(&here, 3, &format!("show {elsewhere}"), "not on this host");
        let why = "10.7.0.100 is on this host as 10.7.0.100/32 dev a0";
        refused(&here, 3, &format!("del {elsewhere}"), why);
        if !elsewhere.ends_with("gone") {
            refused(&here, 3, &format!("add {elsewhere}"), why);
        }
    }
}

#[test]
fn a_label_is_set_and_does_not_matter_when_deleting() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    done(&here, "add 10.7.0.100/24 dev a0 --label a0:vip");
    assert!(addresses(&here).contains("a0:vip"));
    assert!(done(&here, "show").contains("10.7.0.100/24 dev a0 label a0:vip\n"));
    assert!(done(&here, "add 10.7.0.100/24 dev a0").contains("was so      add"));
    assert!(done(&here, "del 10.7.0.100/24 dev a0").contains("done        delete"));
}

#[test]
fn a_link_that_cannot_carry_the_address_is_refused() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    refused(
        &here,
        3,
        "add 10.7.0.100/24 dev gone",
        "there is no interface gone",
    );
    assert!(done(&here, "del 10.7.0.100/24 dev gone").contains("was so      delete"));
    there.sh("ip link set b0 down");
    refused(&here, 3, "add 10.7.0.100/24 dev a0", "a0 has no carrier");
    here.sh("ip link set a0 down");
    refused(&here, 3, "add 10.7.0.100/24 dev a0", "a0 is down");
    refused(&here, 3, "add 10.7.0.100/24 dev a0 --dry-run", "a0 is down");
}

#[test]
fn an_address_that_would_take_others_with_it_is_not_deleted() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    here.sh("echo 0 > /proc/sys/net/ipv4/conf/all/promote_secondaries");
    here.sh("echo 0 > /proc/sys/net/ipv4/conf/a0/promote_secondaries");
    here.sh("ip address add 10.8.0.100/24 dev a0; ip address add 10.8.0.1/24 dev a0");
    refused(
        &here,
        3,
        "del 10.8.0.100/24 dev a0",
        "10.8.0.1 would go away with",
    );
    here.sh("echo 1 > /proc/sys/net/ipv4/conf/a0/promote_secondaries");
    done(&here, "del 10.8.0.100/24 dev a0");
    assert!(addresses(&here).contains("10.8.0.1/24"));
}

#[test]
fn an_ipv6_address_is_usable_at_once_and_advertised_to_all_nodes() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let capture = capture(&there);
    let began = Instant::now();
    done(&here, "add fd07::100/64 dev a0");
    here.run(|| std::net::TcpListener::bind("[fd07::100]:3306").expect("not tentative"));
    let advertisements = || {
        let mut found = frames(&capture, IPV6);
        found.retain(|frame| frame[54] == 136);
        found
    };
    let first = advertisements();
    assert_eq!(first.len(), 1);
    let vip = "fd07::100".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let all_nodes = "ff02::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let frame = &first[0];
    assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(frame[18..22], [0, 32, 58, 255], "length, ICMPv6, hop limit");
    assert_eq!(frame[22..54], [vip, all_nodes].concat());
    assert_eq!(frame[58], 0x20, "override alone");
    assert_eq!(frame[62..], [&vip[..], &[2, 1], &A0].concat());
    sleep_until(began, 1500);
    assert_eq!(advertisements(), first);
    sleep_until(began, 2500);
    assert_eq!(advertisements(), first, "three times in all");
    assert!(announcers(&here).is_empty());
}

#[test]
fn a_dry_run_asks_everything_and_changes_nothing() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let before = addresses(&here);
    let capture = capture(&there);
    let said = done(&here, "add 10.7.0.79/24 dev a0 --dry-run");
    assert!(
        said.contains("would do    add 10.7.0.79/24 dev a0"),
        "{said}"
    );
    assert!(said.contains("would do    announce"), "{said}");
    done(&here, "announce 10.7.0.1/24 dev a0 --dry-run");
    assert!(done(&here, "del 10.7.0.1/24 dev a0 --dry-run").contains("would do    delete"));
    assert_eq!(addresses(&here), before);
    assert!(frames(&capture, ARP).is_empty());
    assert!(announcers(&here).is_empty());
}

#[test]
fn json_is_one_line_of_a_stable_form() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    let json = |args: &str| -> Value {
        let said = vip(&here, args);
        assert_eq!(said.stdout.lines().count(), 1, "{}", said.stdout);
        serde_json::from_str(&said.stdout).unwrap()
    };
    let added = json("add 10.7.0.100/24 dev a0 --json");
    assert_eq!(added["v"], 1);
    assert_eq!(added["hookbox"], env!("CARGO_PKG_VERSION"));
    assert_eq!(added["outcome"], "done");
    assert_eq!(added["changed"], true);
    assert_eq!(added["vips"][0], "10.7.0.100/24 dev a0");
    let steps = added["timeline"].as_array().unwrap();
    let adding = steps
        .iter()
        .find(|step| step["step"] == "add 10.7.0.100/24 dev a0");
    assert_eq!(adding.unwrap()["mark"], "done");
    assert_eq!(added["error"], Value::Null);
    assert_eq!(json("add 10.7.0.100/24 dev a0 --json")["changed"], false);
    let all = json("show --json");
    assert!(
        all["vips"]
            .as_array()
            .unwrap()
            .contains(&"10.7.0.1/24 dev a0".into()),
        "{all}"
    );
    let refused = json("add 10.7.0.100/32 dev a0 --json");
    assert_eq!(refused["outcome"], "refused");
    assert!(
        refused["error"]
            .as_str()
            .unwrap()
            .contains("is on this host")
    );
    assert!(
        refused["advice"]
            .as_str()
            .unwrap()
            .starts_with("hookbox vip del")
    );
    let bad = json("add 10.7.0.100 dev a0 --json");
    assert!(bad["error"].as_str().unwrap().contains("no prefix length"));
}

#[test]
fn an_announcement_that_fails_takes_the_address_off_again() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    let before = addresses(&here);
    let said = here.run(|| {
        hookbox(Command::new("setpriv"))
            .args(["--bounding-set=-net_raw", "--inh-caps=-net_raw"])
            .arg(HOOKBOX)
            .args(["vip", "add", "10.7.0.100/24", "dev", "a0", "--probe", "0s"])
            .output()
            .unwrap()
    });
    assert_eq!(said.status.code(), Some(4));
    let stderr = String::from_utf8(said.stderr).unwrap();
    assert!(stderr.contains("CAP_NET_RAW"), "{stderr}");
    assert_eq!(addresses(&here), before);
}

#[test]
fn an_account_without_rights_is_told_what_it_lacks() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    let said = here.run(|| {
        hookbox(Command::new("setpriv"))
            .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
            .arg(HOOKBOX)
            .args(["vip", "add", "10.7.0.100/24", "dev", "a0"])
            .output()
            .unwrap()
    });
    let stderr = String::from_utf8(said.stderr).unwrap();
    assert!(stderr.contains("CAP_NET_ADMIN"), "{stderr}");
    assert!(!addresses(&here).contains("10.7.0.100"));
}

#[test]
fn wrong_arguments_get_one_line_and_status_2() {
    for args in [
        "add 10.7.0.100 dev a0",
        "del 10.7.0.100/33 dev a0",
        "show a0",
    ] {
        let output = hookbox(Command::new(HOOKBOX))
            .arg("vip")
            .args(args.split(' '))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{args}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with("vip: "), "{stderr}");
        assert_eq!(
            stderr.lines().count(),
            2,
            "the fault, and what to try: {stderr}"
        );
    }
    for args in [
        &["vip"][..],
        &["vip", "add"],
        &["vip", "move"],
        &["vip", "add", "--limit", "x"],
    ] {
        let output = hookbox(Command::new(HOOKBOX)).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn one_conversation_serves_two_hundred_addresses() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    here.run(|| {
        let host = Host::open(&Deadline::after(Duration::from_secs(20))).unwrap();
        let vips: Vec<Vip> = (1..=200)
            .map(|n| format!("10.9.0.{n}/32 dev a0").parse().unwrap())
            .collect();
        for vip in &vips {
            assert_eq!(host.add(vip).unwrap(), Changed::Yes);
        }
        let held = host.list().unwrap();
        assert!(vips.iter().all(|vip| held.contains(vip)));
        assert!(host.holds("10.9.0.200".parse().unwrap()).unwrap());
        assert!(!host.holds("10.9.0.201".parse().unwrap()).unwrap());
        for vip in &vips {
            assert_eq!(host.del(vip).unwrap(), Changed::Yes);
        }
        assert!(!host.list().unwrap().iter().any(|held| vips.contains(held)));
    });
}
