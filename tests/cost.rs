//! What a check costs that finds all well: counts, which no busy machine can move. Times are for
//! `make bench`.
//!
//! The program is the one that `make build` makes. Growth is refused here, so that it is noticed
//! while it is small. If it is wanted, or less was reached, change [`INSTRUCTIONS`] with what causes it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may panic, start programs and say what it measured"
)]

#[path = "support/compiled.rs"]
mod compiled;
mod lab;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use lab::{Host, Server, rows};

/// In user mode, as callgrind counts them: rustc 1.95, musl 1.2.5, x86_64.
const INSTRUCTIONS: u64 = 179_000;

/// How many more are let pass, in percent.
const TOLERANCE: u64 = 10;

/// The most there may ever be of each, whatever [`INSTRUCTIONS`] says.
const MOST_INSTRUCTIONS: u64 = 500_000;
const MOST_SYSTEM_CALLS: usize = 70;
const MOST_PAGE_FAULTS: u64 = 110;
const MOST_KIB: u64 = 2_000_000 / 1024;
const MOST_BYTES: usize = 5_000_000;

/// Where `make functions` wants the names of the functions that are called.
const FUNCTIONS: &str = "HOOKBOX_FUNCTIONS";

const CHECK: [&str; 2] = ["/usr/sbin/hookbox", "check_mysql"];

#[test]
fn a_check_that_finds_all_well_costs_no_more_than_is_written_here() {
    if !lab::is_possible() {
        return;
    }
    let functions = std::env::var_os(FUNCTIONS);
    let program = build(functions.is_some());
    let host = Arc::new(Host::new("cost"));
    let mut server = Server::new(&host, "", 1, "");
    server.start();
    host.write(CHECK[0], &program, 0o755);
    host.write("/etc/hookbox/password", "change-me\n", 0o600);
    let toml = "[mysql]\nsocket = \"/run/mysqld/mysqld.sock\"\n\
                password_file = \"/etc/hookbox/password\"\n";
    host.write("/etc/hookbox/hookbox.toml", toml, 0o644);
    // The first one writes down that all is well.
    host.sh("hookbox check_mysql");
    looks_once_at_the_server(&host, &server);
    if program.windows(5).any(|bytes| bytes == b"GLIBC") {
        let why =
            "what a check costs is counted on a program with musl, which is not to be had here";
        writeln!(std::io::stderr(), "SKIPPED: {why}").unwrap();
        return;
    }

    let instructions = instructions(&host, &CHECK);
    if let Some(path) = functions {
        write_functions(&host, path.as_ref());
        return;
    }
    let calls = system_calls(&host);
    let (faults, memory) = faults_and_memory(&host);
    let bytes = program.len();
    println!(
        "{instructions} instructions, {calls} system calls, {faults} page faults, {memory} KiB, \
         {bytes} bytes of program"
    );
    assert!(instructions <= MOST_INSTRUCTIONS, "{instructions}");
    assert!(
        instructions <= INSTRUCTIONS + INSTRUCTIONS * TOLERANCE / 100,
        "{instructions} instructions, over {TOLERANCE} % more than {INSTRUCTIONS}: find out by \
         `valgrind --tool=callgrind` where they are, or write the new number into tests/cost.rs"
    );
    assert!(calls <= MOST_SYSTEM_CALLS, "{calls} system calls");
    assert!(faults <= MOST_PAGE_FAULTS, "{faults} page faults");
    assert!(memory <= MOST_KIB, "{memory} KiB");
    assert!(bytes <= MOST_BYTES, "{bytes} bytes");
}

/// The program that users get; with its symbols, if they are wanted.
fn build(with_symbols: bool) -> Vec<u8> {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut build = Command::new(Path::new(root).join("scripts/build"));
    // Where cargo finds what it sets for this test, it compiles anew what asks for that.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            build.env_remove(&*name);
        }
    }
    if with_symbols {
        build.args(["-C", "strip=none"]);
    }
    let built = build.status().unwrap();
    assert!(built.success(), "scripts/build: {built}");
    // Cargo's directory for tests is beside those of its profiles.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    fs::read(target.join("release/hookbox")).unwrap()
}

fn instructions(host: &Host, command: &[&str]) -> u64 {
    let said = host
        .command("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/tmp/callgrind"])
        .args(["--demangle=no"])
        .args(command)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let (_, collected) = said.split_once("Collected : ").expect(&said);
    collected.lines().next().unwrap().trim().parse().unwrap()
}

fn system_calls(host: &Host) -> usize {
    // As keepalived starts it: all three streams lead nowhere.
    let status = host
        .command("strace")
        .args(["-f", "-o", "/tmp/strace"])
        .args(CHECK)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let trace = fs::read_to_string(host.path("/tmp/strace")).unwrap();
    // The others tell of signals and of the end.
    trace.lines().filter(|line| line.contains('(')).count()
}

/// The least of several runs: more has other reasons.
fn faults_and_memory(host: &Host) -> (u64, u64) {
    host.write(
        "/usr/local/bin/stopwatch",
        compiled::compile("stopwatch"),
        0o755,
    );
    let lines = host.sh(&format!("stopwatch 11 {}", CHECK.join(" ")));
    let column = |place| {
        let numbers = lines
            .lines()
            .map(|line| line.split(' ').nth(place).unwrap());
        numbers.map(|number| number.parse().unwrap()).min().unwrap()
    };
    (column(4), column(3))
}

/// One connection, at most two questions, and nothing that the server calls aborted.
fn looks_once_at_the_server(host: &Host, server: &Server) {
    let mut session = server.connect().unwrap();
    let mut counts = || -> Vec<u64> {
        let query =
            "SELECT variable_value FROM information_schema.global_status WHERE variable_name
                     IN ('Aborted_clients', 'Aborted_connects', 'Connections', 'Questions')
                     ORDER BY variable_name";
        let rows = rows(&mut session, query).unwrap();
        rows.iter().map(|row| row[0].parse().unwrap()).collect()
    };
    // What a look costs by itself.
    let (before, looked) = (counts(), counts());
    host.sh("hookbox check_mysql");
    // The server counts a goodbye when it comes to it.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let after = counts();
    let grown = |place: usize| after[place] + before[place] - 2 * looked[place];
    println!("{} connections, {} questions", grown(2), grown(3));
    assert_eq!(grown(0) + grown(1), 0, "aborted: {looked:?} {after:?}");
    assert_eq!(grown(2), 1, "connections: {looked:?} {after:?}");
    assert!(grown(3) <= 2, "questions: {looked:?} {after:?}");
}

/// Writes down what a check calls, and then what else bringing an address does, for
/// `scripts/link-in-order`: what must start soon.
fn write_functions(host: &Host, path: &Path) {
    let of_check = functions_called(host);
    host.sh("ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up");
    let add = "vip add 10.0.0.100/24 dev v0 --probe 0s";
    let words: Vec<&str> = [CHECK[0]].into_iter().chain(add.split(' ')).collect();
    instructions(host, &words);
    let of_add = functions_called(host);
    let names = of_check.iter().chain(of_add.difference(&of_check));
    let text: String = names.map(|name| format!("{name}\n")).collect();
    fs::write(path, text).unwrap();
}

/// The names in what callgrind wrote last.
fn functions_called(host: &Host) -> BTreeSet<String> {
    let profile = fs::read_to_string(host.path("/tmp/callgrind")).unwrap();
    let names = profile.lines().filter_map(|line| {
        // `fn=(12) name`, or `cfn=`, where it is met first; a recursion adds 'NUMBER.
        let (_, name) = line
            .strip_prefix('c')
            .unwrap_or(line)
            .strip_prefix("fn=(")?
            .split_once(") ")?;
        Some(name.split('\'').next()?.to_owned())
    });
    // The rest is code without a name.
    let is_name = |name: &String| !name.contains(' ') && !name.starts_with("0x");
    names.filter(is_name).collect()
}
