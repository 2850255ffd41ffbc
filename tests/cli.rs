//! The command line: which applet is meant, and that every applet explains itself and refuses
//! what it does not understand.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod scratch;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use hookbox::time::Deadline;
use scratch::Scratch;

const HOOKBOX: &str = env!("CARGO_BIN_EXE_hookbox");

fn hookbox(args: &[&str]) -> Output {
    run(Path::new(HOOKBOX), args)
}

fn run(program: &Path, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .env("HOOKBOX_CONFIG", "/nonexistent/hookbox.toml")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A configuration of which all that is written goes into a directory of its own.
fn empty_configuration() -> (Scratch, PathBuf) {
    let dir = Scratch::new();
    let at = dir.path().display();
    let text = format!(
        "[mysql]\nsocket = \"{at}/none.sock\"\n\
         [paths]\nrun = \"{at}/run\"\nstate = \"{at}/state\"\njournal = \"{at}/journal\"\n"
    );
    let path = dir.path().join("hookbox.toml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

/// The names in the list that the program prints of itself.
fn applets() -> Vec<String> {
    let listing = text(&hookbox(&["--help"]).stdout);
    let lines = listing.lines().filter_map(|line| line.strip_prefix("  "));
    lines
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect()
}

#[test]
fn alone_it_lists_its_applets_and_vouches_for_nothing() {
    let output = hookbox(&[]);
    assert_eq!(output.status.code(), Some(2));
    let names = applets();
    for name in ["check_mysql", "notify_master", "master_ip_failover", "undo"] {
        assert!(names.contains(&name.to_owned()), "{names:?}");
        assert!(text(&output.stdout).contains(name));
    }
}

#[test]
fn an_unknown_applet_is_refused_with_the_nearest_name() {
    let output = hookbox(&["check_mysq"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "hookbox: no applet is called check_mysq; did you mean check_mysql?\n"
    );
}

#[test]
fn what_may_have_been_meant_is_said() {
    for (words, meant) in [
        (&["statsu"][..], "did you mean status?"),
        (&["verify"], "did you mean vip verify?"),
        (&["xyzzy"], "`hookbox` alone lists them"),
        (&["--config", "f", "status"], "hookbox APPLET --config"),
        (&["help", "statsu"], "did you mean status?"),
        (&["status", "--limt", "1s"], "'--limit'"),
        (&["vip", "ad"], "'add'"),
    ] {
        let output = hookbox(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let stderr = text(&output.stderr);
        let first = stderr.lines().next().unwrap();
        assert!(first.contains(meant), "{words:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{words:?}");
    }
}

#[test]
fn help_of_an_applet_comes_either_way_round() {
    for (words, same) in [
        (&["help", "status"][..], &["status", "--help"][..]),
        (&["help", "vip", "add"], &["vip", "add", "--help"]),
        (&["help"], &["--help"]),
    ] {
        let output = hookbox(words);
        assert!(output.status.success(), "{words:?}");
        assert_eq!(
            text(&output.stdout),
            text(&hookbox(same).stdout),
            "{words:?}"
        );
    }
}

#[test]
fn a_limit_in_which_nothing_can_be_done_is_refused() {
    for words in [
        &["check_mysql", "--deadline", "0s"][..],
        &["status", "--limit", "0s"],
        &["vip", "verify", "--limit", "0ms"],
        &["vip", "add", "10.0.0.1/24", "dev", "lo", "--limit", "0s"],
        &["status", "--limit", "25h"],
    ] {
        let output = hookbox(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let stderr = text(&output.stderr);
        let why = ["it cannot be 0", "longer than a day"];
        assert!(why.iter().any(|why| stderr.contains(why)), "{stderr}");
    }
}

#[test]
fn an_answer_that_could_not_be_written_is_a_failure_unless_its_reader_has_gone() {
    let grants = ["grants", "--version", "8.0.36", "--from", "10.0.0.%"];
    let (_dir, config) = empty_configuration();
    let with_output = |output: Stdio| {
        Command::new(HOOKBOX)
            .args(grants)
            .env("HOOKBOX_CONFIG", &config)
            .stdout(output)
            .output()
            .unwrap()
    };
    let full = with_output(fs::File::create("/dev/full").unwrap().into());
    assert_eq!(full.status.code(), Some(3), "{}", text(&full.stderr));
    assert!(text(&full.stderr).contains("No space left on device"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let gone = with_output(writer.into());
    assert_eq!(gone.status.code(), Some(0), "{}", text(&gone.stderr));
}

#[test]
fn a_link_is_the_applet_of_exactly_its_name() {
    let dir = Scratch::new();
    let named = dir.path().join("notify_backup");
    let nearly = dir.path().join("my_notify_backup");
    symlink(HOOKBOX, &named).unwrap();
    symlink(HOOKBOX, &nearly).unwrap();
    let help = text(&run(&named, &["--help"]).stdout);
    assert!(help.contains("hookbox notify_backup --dry-run"), "{help}");
    assert_eq!(run(&nearly, &[]).status.code(), Some(2));
    let help = text(&run(&nearly, &["notify_backup", "--help"]).stdout);
    assert!(help.contains("hookbox notify_backup --dry-run"), "{help}");
}

#[test]
fn every_applet_has_help_with_an_example() {
    for name in applets() {
        let output = hookbox(&[&name, "--help"]);
        assert!(output.status.success(), "{name}");
        let help = text(&output.stdout);
        let example = help.lines().any(|line| {
            let line = line.trim_start();
            line.starts_with(&format!("hookbox {name}"))
                || line.starts_with(&format!("# hookbox {name}"))
                || line.contains(&format!("/usr/sbin/hookbox {name}"))
        });
        assert!(example, "{name}:\n{help}");
    }
}

#[test]
fn wrong_arguments_are_one_line_and_status_2() {
    // MHA's hooks ignore what they do not know: `tests/mha_args.rs`.
    let strict = |name: &String| !name.starts_with("master_ip_");
    for name in applets().into_iter().filter(strict) {
        let output = hookbox(&[&name, "--no-such-option"]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        let stderr = text(&output.stderr);
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{name}: {stderr}");
        assert!(lines[0].contains("--no-such-option"), "{name}: {stderr}");
        assert!(lines[1].contains("--help"), "{name}: {stderr}");
        assert!(output.stdout.is_empty(), "{name}");
    }
}

/// The verbs of an applet, by its help.
fn verbs(applet: &str) -> Vec<String> {
    let help = text(&hookbox(&[applet, "--help"]).stdout);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.starts_with("  "));
    let name = |line: &str| line.split_whitespace().next().unwrap().to_owned();
    listed.map(name).filter(|name| name != "help").collect()
}

#[test]
fn a_wrong_argument_of_a_verb_points_at_the_help_of_that_verb() {
    let mut all = Vec::new();
    for applet in applets() {
        for verb in verbs(&applet) {
            for words in [
                &[&applet, &verb, "--no-such-option"][..],
                &[&applet, "--no-such-option", &verb],
            ] {
                let output = hookbox(words);
                assert_eq!(output.status.code(), Some(2), "{words:?}");
                let stderr = text(&output.stderr);
                assert!(!stderr.contains("-- --no-such-option"), "{stderr}");
                let try_this = format!("{applet}: try: hookbox {applet} {verb} --help");
                assert_eq!(stderr.lines().last(), Some(&try_this[..]), "{words:?}");
                assert!(hookbox(&[&applet, &verb, "--help"]).status.success());
            }
            all.push(format!("{applet} {verb}"));
        }
    }
    for known in ["vip add", "vip ensure", "vip verify", "maintenance on"] {
        assert!(all.contains(&known.to_owned()), "{all:?}");
    }
}

#[test]
fn an_argument_that_is_missing_is_named_in_the_first_line() {
    let missing = |words: &[&str], what: &str| {
        let output = hookbox(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let stderr = text(&output.stderr);
        assert_eq!(stderr.lines().count(), 2, "{stderr}");
        assert!(stderr.lines().next().unwrap().contains(what), "{stderr}");
    };
    missing(&["rejoin"], "--source <HOST[:PORT]>");
    for hook in ["master_ip_failover", "master_ip_online_change"] {
        missing(&[hook], "--command is missing");
        missing(&[hook, "--command=stop"], "--orig_master_host is missing");
        let start = ["--command=start", "--orig_master_host=db1"];
        missing(
            &[&[hook], &start[..]].concat(),
            "--new_master_host is missing",
        );
    }
}

#[test]
fn a_configuration_that_is_not_there_fails_every_applet_that_needs_one() {
    for name in [
        "notify_master",
        "notify_backup",
        "notify_fault",
        "notify_stop",
        "status",
        "fence",
        "undo",
        "grants",
        "guard",
    ] {
        let output = hookbox(&[name]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(
            text(&output.stderr).contains("/nonexistent/hookbox.toml"),
            "{name}"
        );
    }
    // For a check every failure means the same, and a broken one must not pass.
    assert_eq!(hookbox(&["check_mysql"]).status.code(), Some(1));
    let passes = hookbox(&["check_mysql", "--on-config-error", "pass"]);
    assert_eq!(passes.status.code(), Some(0));
}

#[test]
fn watching_ends_when_nobody_reads_any_more() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (_dir, config) = empty_configuration();
    let mut watching = Command::new(HOOKBOX)
        .args(["status", "--watch", "--limit", "100ms"])
        .env("HOOKBOX_CONFIG", &config)
        .stdout(writer)
        .spawn()
        .unwrap();
    let deadline = Deadline::after(Duration::from_secs(20));
    while watching.try_wait().unwrap().is_none() {
        if deadline.pause(Duration::from_millis(20)).is_err() {
            watching.kill().unwrap();
            panic!("it goes on");
        }
    }
    assert_eq!(
        watching.wait().unwrap().code(),
        Some(3),
        "no server answers"
    );
}
