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

mod announcements;
mod come_and_go;
mod command_line;
mod conflicts;
mod interfaces;
mod many;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use hookbox::link::{Host, Link, Vip};
use hookbox::run::Changed;
use hookbox::time::Deadline;
use net::{Namespace, three_hosts_on_a_switch, two_hosts};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
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
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(all)).unwrap();
        // Enough for 400 frames.
        setsockopt(&socket, RcvBufForce, &(4 << 20)).unwrap();
        socket
    })
}

/// The frames from `a0` of this kind that came until now, but for questions, whose sender is 0.0.0.0
/// or `::`.
fn frames(capture: &Socket, kind: [u8; 2]) -> Vec<Vec<u8>> {
    frames_from(capture, A0, kind)
}

fn frames_from(mut capture: &Socket, mac: [u8; 6], kind: [u8; 2]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut buffer = [0; 2000];
    while let Ok(length) = capture.read(&mut buffer) {
        let sender = if kind == ARP {
            &buffer[28..32]
        } else {
            &buffer[22..38]
        };
        let is_question = sender.iter().all(|byte| *byte == 0);
        if buffer[6..12] == mac && buffer[12..14] == kind && !is_question {
            frames.push(buffer[..length].to_vec());
        }
    }
    frames
}

/// The neighbour advertisements that came until now.
fn advertisements(capture: &Socket) -> Vec<Vec<u8>> {
    let mut found = frames(capture, IPV6);
    found.retain(|frame| frame[54] == 136);
    found
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
