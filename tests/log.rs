//! Where lines go: stderr when that goes anywhere, else syslog.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod scratch;

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use scratch::Scratch;

/// An applet that says why it changes nothing.
fn talkative() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookbox"));
    command.args(["maintenance", "on"]);
    command
        .env("HOOKBOX_CONFIG", "/nonexistent")
        .env_remove("RUST_LOG");
    command
}

#[test]
fn lines_on_stderr_name_the_applet() {
    let output = talkative().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.is_empty());
    assert!(
        said.lines().all(|line| line.starts_with("maintenance: ")),
        "{said}"
    );
}

#[test]
fn rust_log_chooses_the_level() {
    let output = talkative().env("RUST_LOG", "off").output().unwrap();
    assert!(output.stderr.is_empty());
}

#[test]
fn lines_go_to_syslog_where_stderr_is_the_null_device() {
    if !nix::unistd::geteuid().is_root() {
        // Not by a macro: what those print is kept back when a test passes.
        writeln!(std::io::stderr(), "SKIPPED: a /dev of its own takes root").unwrap();
        return;
    }
    // A /dev with nothing but null, seen by a second process of this program alone.
    let dir = Scratch::new();
    let mounts = "mount -t tmpfs tmpfs \"$HOOKBOX_TEST_DIR\"\n\
                  touch \"$HOOKBOX_TEST_DIR/null\"\n\
                  mount --bind /dev/null \"$HOOKBOX_TEST_DIR/null\"\n\
                  mount --rbind \"$HOOKBOX_TEST_DIR\" /dev\n\
                  exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-ec", mounts])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "with_a_dev_of_its_own",
            "--ignored",
            "--nocapture",
        ])
        .env("HOOKBOX_TEST_DIR", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let cried = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{cried}"
    );
}

#[test]
#[ignore = "started by lines_go_to_syslog_where_stderr_is_the_null_device"]
fn with_a_dev_of_its_own() {
    // Nobody listens: nothing is held, nothing fails that would not fail otherwise.
    let status = talkative().stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(2));

    let listener = UnixDatagram::bind("/dev/log").unwrap();
    listener
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut child = talkative().stderr(Stdio::null()).spawn().unwrap();
    let start = format!("<27>maintenance[{}]: ", child.id());
    let mut line = [0; 1024];
    let n = listener.recv(&mut line).unwrap();
    let line = std::str::from_utf8(&line[..n]).unwrap();
    assert!(line.starts_with(&start), "{line}");
    assert!(!line.ends_with('\n'));
    assert_eq!(child.wait().unwrap().code(), Some(2));
}
