//! A journal that cannot be written changes nothing, and its modes do not hang on the umask.
//!
//! What belongs to a process as a whole (its umask, its mounts, its logger) is tested in a second
//! process: this program started again for one of the tests marked as ignored.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod scratch;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hookbox::journal::{Journal, last_run, tail};
use hookbox::run::{Entry, Mark, Outcome};
use nix::sys::stat::{Mode, umask};
use scratch::Scratch;

/// Starts this program again for the ignored test `name`, after the shell commands `first`.
#[track_caller]
fn again(name: &str, dir: &Path, wrapper: &[&str], first: &str) {
    let output = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .args(["sh", "-ec", &format!("{first}\nexec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("HOOKBOX_TEST_DIR", dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn given_dir() -> PathBuf {
    std::env::var_os("HOOKBOX_TEST_DIR").unwrap().into()
}

/// Begins, enters a step `n` times, ends.
fn write_run(journal: &Journal, n: usize) {
    journal.begin();
    for _ in 0..n {
        journal.step(&Entry {
            at: Duration::ZERO,
            mark: Mark::Note,
            step: "a fact".to_owned(),
            note: Some("x".repeat(300)),
        });
    }
    journal.end(&Outcome::Done);
}

#[test]
fn modes_are_explicit_whatever_the_umask() {
    let dir = Scratch::new();
    again("with_keepalived_s_umask", dir.path(), &["env"], "");
}

#[test]
#[ignore = "started by modes_are_explicit_whatever_the_umask"]
fn with_keepalived_s_umask() {
    umask(Mode::from_bits_truncate(0o177));
    let path = given_dir().join("log/hookbox/journal.jsonl");
    write_run(&Journal::open(&path, "vip", None), 0);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o640);
    assert_eq!(mode(&given_dir().join("log/hookbox")), 0o750);
    assert_eq!(mode(&given_dir().join("log")), 0o750);

    // What an administrator has set stays.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    write_run(&Journal::open(&path, "vip", None), 0);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(tail(&path, 9).unwrap().len(), 4);
}

#[test]
fn a_full_or_read_only_disk_is_warned_of_once_and_changes_nothing() {
    if !nix::unistd::geteuid().is_root() {
        // Not by a macro: what those print is kept back when a test passes.
        writeln!(std::io::stderr(), "SKIPPED: a disk of its own takes root").unwrap();
        return;
    }
    let dir = Scratch::new();
    let mount = "mount -t tmpfs -o size=64k tmpfs \"$HOOKBOX_TEST_DIR\"";
    again("on_a_disk_of_64_kib", dir.path(), &["unshare", "-m"], mount);
    // The mount went with its namespace.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

static WARNINGS: AtomicUsize = AtomicUsize::new(0);

struct Count;

impl log::Log for Count {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        assert!(
            record
                .args()
                .to_string()
                .starts_with("the journal is not written: ")
        );
        WARNINGS.fetch_add(1, Ordering::Relaxed);
    }

    fn flush(&self) {}
}

#[test]
#[ignore = "started by a_full_or_read_only_disk_is_warned_of_once_and_changes_nothing"]
fn on_a_disk_of_64_kib() {
    log::set_logger(&Count).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let warnings = || WARNINGS.swap(0, Ordering::Relaxed);
    let path = given_dir().join("journal.jsonl");

    // It fills up in the middle of a run: a line is torn.
    let journal = Journal::open(&path, "vip", None);
    let ballast = given_dir().join("ballast");
    File::create(&ballast)
        .unwrap()
        .write_all(&[0; 40_000])
        .unwrap();
    write_run(&journal, 200);
    assert_eq!(warnings(), 1);
    let kept = tail(&path, 1000).unwrap().len();
    assert!((10..190).contains(&kept), "{kept}");
    assert!(
        !fs::read(&path).unwrap().ends_with(b"\n"),
        "no line was torn"
    );

    // A run that finds it full.
    let late = Journal::open(&path, "late", None);
    write_run(&late, 3);
    assert_eq!(warnings(), 1);
    assert_eq!(tail(&path, 1000).unwrap().len(), kept);

    // Space again: every line counts again, in that run and in the next.
    fs::remove_file(&ballast).unwrap();
    write_run(&late, 3);
    write_run(&Journal::open(&path, "next", None), 3);
    assert_eq!(warnings(), 0);
    assert_eq!(tail(&path, 1000).unwrap().len(), kept + 10);
    assert_eq!(last_run(&path).unwrap().len(), 5);

    // Remounting waits for nobody: it fails while a file is open for writing.
    drop((journal, late));
    let remount = ["-o", "remount,ro"];
    let mounted = Command::new("mount")
        .args(remount)
        .arg(given_dir())
        .status()
        .unwrap();
    assert!(mounted.success());
    for name in ["journal.jsonl", "other/journal.jsonl"] {
        write_run(&Journal::open(&given_dir().join(name), "vip", None), 3);
        assert_eq!(warnings(), 1);
    }
}
