//! `hookbox maintenance`, as it is typed.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod scratch;

use std::fs;
use std::process::{Command, Output};

use scratch::Scratch;

struct Host(Scratch);

impl Host {
    fn new() -> Self {
        let dir = Scratch::new();
        let config = format!("[paths]\nstate = \"{}/lib\"\n", dir.path().display());
        fs::write(dir.path().join("hookbox.toml"), config).unwrap();
        Host(dir)
    }

    fn maintenance(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_hookbox"))
            .arg("maintenance")
            .args(words)
            .env("HOOKBOX_CONFIG", self.0.path().join("hookbox.toml"))
            .env("SUDO_USER", "alice")
            .output()
            .unwrap()
    }

    #[track_caller]
    fn says(&self, words: &[&str], start: &str) -> String {
        let output = self.maintenance(words);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(said.starts_with(start), "{words:?}: {said}");
        said
    }

    fn is_untouched(&self) -> bool {
        !self.0.path().join("lib").exists()
    }
}

#[test]
fn it_is_switched_on_shown_and_switched_off() {
    let host = Host::new();
    host.says(&["show"], "off\n");
    let on = host.says(&["on"], "on until ");
    assert!(
        on.contains("(30m left)") && on.ends_with("by alice\n"),
        "{on}"
    );
    let on = host.says(&["on", "--for", "2h"], "on until ");
    assert!(on.contains("(2h left)"), "{on}");
    host.says(&["show"], "on until ");
    host.says(&["off"], "off\n");
    host.says(&["off"], "was off\n");
}

#[test]
fn a_dry_run_changes_nothing() {
    let host = Host::new();
    host.says(&["on", "--dry-run"], "would be on for 30m\n");
    assert!(host.is_untouched());
    host.says(&["on"], "on until ");
    host.says(&["off", "--dry-run"], "would be off\n");
    host.says(&["show"], "on until ");
}

#[test]
fn wrong_words_change_nothing_and_exit_2() {
    let host = Host::new();
    let wrong: [&[&str]; 6] = [
        &[],
        &["yes"],
        &["on", "--for", "25h"],
        &["on", "--for", "0s"],
        &["on", "--for", "soon"],
        &["show", "--config", "/nonexistent"],
    ];
    for words in wrong {
        let output = host.maintenance(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(!output.stderr.is_empty());
    }
    assert!(host.is_untouched());
}
