//! What MHA passes on the command line: passwords are seen by nobody, and nothing that MHA or a
//! fork of it may add ends a hook.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of tests"
)]

mod scratch;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use scratch::Scratch;

const HOOKBOX: &str = env!("CARGO_BIN_EXE_hookbox");

/// Two servers that take connections and say nothing, so that a hook waits for its limit, and an
/// ssh client that never comes back and writes down what it was told.
struct Site {
    dir: Scratch,
    servers: [TcpListener; 2],
}

impl Site {
    fn new() -> Site {
        let listen = |_| TcpListener::bind("127.0.0.1:0").unwrap();
        let site = Site {
            dir: Scratch::new(),
            servers: [0, 1].map(listen),
        };
        let root = site.dir.path().display();
        let ssh = format!("#!/bin/sh\necho \"$@\" >> {root}/ssh.args\nexec sleep 5\n");
        fs::write(site.file("ssh"), ssh).unwrap();
        fs::set_permissions(site.file("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!(
            "vip = ['10.255.255.1/32 dev lo']\n[mha]\nlimit = '1s'\n[ssh]\nprogram = '{root}/ssh'\n\
             [paths]\nrun = '{root}/run'\nstate = '{root}/state'\njournal = '{root}/journal'\n"
        );
        fs::write(site.file("app1.toml"), config).unwrap();
        site
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, applet: &str, words: &[&str]) -> Child {
        let [orig, new] = [0, 1].map(|n| self.servers[n].local_addr().unwrap().port());
        Command::new(HOOKBOX)
            .arg(applet)
            .arg("--orig_master_host=127.0.0.1")
            .arg(format!("--orig_master_port={orig}"))
            .arg("--new_master_host=127.0.0.1")
            .arg(format!("--new_master_port={new}"))
            .args(words)
            .arg("--config")
            .arg(self.file("app1.toml"))
            .env("RUST_LOG", "debug")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Everything that was written anywhere below the site's directory.
    fn written(&self) -> String {
        read_all(self.dir.path())
    }
}

fn read_all(dir: &Path) -> String {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| match path.is_dir() {
        true => read_all(&path),
        false => String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned(),
    };
    entries.map(read).collect()
}

fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// The command line as soon as the passwords are covered; panics when they are not within 1 s.
fn covered(child: &Child) -> String {
    let started = Instant::now();
    loop {
        let line = command_line(child.id());
        if line.contains("hookbox") && !line.contains("s3cret") {
            return line;
        }
        assert!(started.elapsed() < Duration::from_secs(1), "{line}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn passwords_are_covered_in_ps_and_written_nowhere() {
    for words in [
        [
            "--command=stop",
            "--orig_master_user=mha",
            "--new_master_user=mha",
            "--orig_master_password=s3cret$one",
            "--new_master_password=s3cret\\$two",
        ]
        .as_slice(),
        &[
            "--command=start",
            "--new_master_user=mha",
            "--orig_master_user=mha",
            "--NEW_MASTER_PASSWORD",
            "s3cret\\ three",
            "-orig_master_pass=s3cret",
            "--unknown_password=s3cret",
        ],
    ] {
        let site = Site::new();
        let child = site.start("master_ip_online_change", words);
        let line = covered(&child);
        assert!(line.contains("xxxxxx"), "{line}");
        assert!(line.contains("--orig_master_host=127.0.0.1 "), "{line}");
        // What it waits for, by TCP and by ssh, comes after the passwords are covered.
        let output = child.wait_with_output().unwrap();
        assert_ne!(output.status.code(), Some(0));
        let said = said(&output);
        assert!(!said.contains("s3cret"), "{said}");
        let written = site.written();
        assert!(written.contains("BatchMode"), "ssh was started: {written}");
        assert!(written.contains("master_ip_online_change"), "{written}");
        assert!(!written.contains("s3cret"), "{written}");
    }
}

#[test]
fn every_applet_covers_a_password_that_it_was_given_by_mistake() {
    let output = Command::new("sh")
        .args(["-c", "exec \"$0\" status --password=s3cret 2>&1", HOOKBOX])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(!said(&output).contains("s3cret"), "{}", said(&output));
}

#[test]
fn what_a_hook_does_not_know_is_warned_about_by_name_and_ignored() {
    let site = Site::new();
    let words = [
        "--command=status",
        "--pid_file=/run/s3cret",
        "--frobnicate",
        "s3cret",
    ];
    let output = site
        .start("master_ip_failover", &words)
        .wait_with_output()
        .unwrap();
    let said = said(&output);
    assert!(said.contains("ignored --pid_file"), "{said}");
    assert!(said.contains("ignored --frobnicate"), "{said}");
    assert!(said.contains("a word that belongs to no option"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    // It went on: what it failed at is the host that does not answer.
    assert_eq!(output.status.code(), Some(1), "{said}");
}

#[test]
fn wrong_arguments_of_a_hook_are_one_clear_line_and_change_nothing() {
    for (words, line) in [
        (["", "--new_master_user=x"], "--command is missing"),
        (["--command=go", ""], "--command=go"),
        (
            ["--command=stop", "--orig_master_port=x"],
            "--orig_master_port=x: no port",
        ),
    ] {
        for applet in ["master_ip_failover", "master_ip_online_change"] {
            let site = Site::new();
            let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            let output = site.start(applet, &words).wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(2));
            assert!(said(&output).contains(line), "{}", said(&output));
            assert!(!site.file("state").exists());
        }
    }
}
