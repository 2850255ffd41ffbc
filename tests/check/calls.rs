//! How the check behaves towards whoever calls it.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fake;
use crate::site::{Site, finish, ms, set_mode};

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

/// Starts a check that hangs for its whole deadline, and waits until it does.
fn hanging(site: &Site) -> (Child, Instant) {
    let started = Instant::now();
    let child = site.start(&mut site.program("check_mysql", &["--deadline", "3s"]));
    sleep(ms(150));
    (child, started)
}

#[test]
fn sigterm_ends_a_hanging_check_at_once_and_not_with_0() {
    let site = fake::site("fence = false", fake::silent);
    let (child, _) = hanging(&site);
    let told = Instant::now();
    kill(pid(&child), Signal::SIGTERM).unwrap();
    let seen = finish(child, told);
    assert_ne!(seen.status, Some(0));
    assert!(seen.took < ms(100), "{seen:?}");
    println!(
        "{:7.1} ms  from SIGTERM to exit",
        seen.took.as_secs_f64() * 1000.0
    );
}

#[test]
fn a_second_check_repeats_the_last_verdict_at_once_and_never_makes_one_up() {
    let site = fake::site("fence = false", fake::silent);
    let (child, started) = hanging(&site);
    let seen = site.check();
    seen.told("no verdict to repeat")
        .fails("hung")
        .within(ms(0));
    kill(pid(&child), Signal::SIGKILL).unwrap();
    finish(child, started);

    site.reconfigure("/s'", "/nobody'");
    site.check().fails("down");
    site.reconfigure("/nobody'", "/s'");
    let (child, started) = hanging(&site);
    site.check()
        .told("failed before")
        .fails("down")
        .within(ms(0));
    kill(pid(&child), Signal::SIGKILL).unwrap();
    finish(child, started);

    site.reconfigure("fence = false", "fence = false\npass_on = ['down']");
    site.reconfigure("/s'", "/nobody'");
    site.check().passes("down");
    let passed = Instant::now();
    site.reconfigure("/nobody'", "/s'");
    let (mut child, _) = hanging(&site);
    site.check()
        .told("passed before")
        .passes("down")
        .within(ms(0));
    // A verdict is older than three deadlines of 100 ms by now, but not than three of 700 ms.
    sleep(ms(320).saturating_sub(passed.elapsed()));
    let seen = site.run("check_mysql", &["--deadline", "100ms"]);
    seen.told("passed too long ago").fails("hung").within(ms(0));
    kill(pid(&child), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
}

#[test]
fn a_broken_configuration_fails_unless_told_otherwise() {
    let site = fake::site("fence = false", fake::healthy);
    site.check().passes("ok");
    let password = site.secret("S3cret");
    set_mode(&password, 0o644);
    site.reconfigure(
        "[mysql]",
        &format!("[mysql]\npassword_file = '{}'", password.display()),
    );
    assert_fails_closed(&site, "open to others");
    set_mode(&password, 0o600);
    site.check().passes("ok");

    site.reconfigure("fence", "fense");
    assert_fails_closed(&site, "unknown key");
    site.reconfigure("fense", "fence");
    site.reconfigure("/run'", "/hookbox.toml/run'");
    assert_fails_closed(&site, "no directory for locks");
}

#[track_caller]
fn assert_fails_closed(site: &Site, what: &str) {
    let seen = site.check();
    let words = format!("{}{}", seen.line, seen.log);
    println!("{what}: {words}");
    assert_eq!(seen.status, Some(1), "{what}: {seen:?}");
    assert!(words.contains("config: "), "{what}: {seen:?}");
    let seen = site.run("check_mysql", &["--on-config-error", "pass"]);
    assert_eq!(seen.status, Some(0), "{what}: {seen:?}");
    let seen = site.run("check_mysql", &["--on-config-error", "perhaps"]);
    assert_eq!(seen.status, Some(2), "{what}: {seen:?}");
}

#[test]
fn every_class_can_be_made_to_pass() {
    let site = fake::nobody_listens("fence = false");
    site.check().fails("down");
    site.reconfigure("fence = false", "fence = false\npass_on = ['down']");
    let seen = site.check();
    assert!(seen.passes("down").line.contains("(passes)"), "{seen:?}");
    let site = fake::site(
        "fence = false\npass_on = ['hung']\ndeadline = '300ms'\nconfirm = '50ms'",
        fake::silent,
    );
    site.reconfigure(
        "confirm",
        "witness_limit = '100ms'\nwrite_limit = '100ms'\nconfirm",
    );
    site.check().passes("hung");
}

#[test]
fn a_reader_that_is_gone_or_does_not_read_holds_nothing() {
    let site = fake::nobody_listens("fence = false");
    for (name, stdout) in outputs() {
        let started = Instant::now();
        let mut command = site.program("check_mysql", &[]);
        command.stdout(stdout.try_clone().unwrap()).stderr(stdout);
        let seen = finish(site.start(&mut command), started);
        seen.told(name).within(ms(300)); // 200 ms until it is asked again, 50 ms for each output
        assert_eq!(seen.status, Some(1), "{name}");
        let _ = fs::remove_file(site.dir.join("run/verdict")); // so that it logs the change again
    }
    let started = Instant::now();
    let mut command = std::process::Command::new("sh");
    let inner = site.program("check_mysql", &[]);
    command
        .args(["-c", "exec \"$@\" >&- 2>&-", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let seen = finish(site.start(&mut command), started);
    assert_eq!(seen.status, Some(1), "closed: {seen:?}");
}

/// Standard outputs that nobody reads. The pipe that is full keeps a reader that does not read.
fn outputs() -> Vec<(&'static str, OwnedFd)> {
    let (gone, broken) = std::io::pipe().unwrap();
    drop(gone);
    let (unread, mut full) = std::io::pipe().unwrap();
    nix::fcntl::fcntl(&full, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    full.write_all(&[b'x'; 4096]).unwrap();
    std::mem::forget(unread);
    vec![
        ("reader gone", broken.into()),
        ("pipe full", full.into()),
        (
            "device full",
            File::options()
                .write(true)
                .open("/dev/full")
                .unwrap()
                .into(),
        ),
    ]
}

#[test]
fn a_dry_run_leaves_no_trace_and_starts_nothing() {
    let site = fake::nobody_listens("");
    fs::create_dir(site.dir.join("run")).unwrap();
    File::create(site.dir.join("run/check")).unwrap(); // the lock itself
    let before = (site.files(), site.everything_written());
    site.run("check_mysql", &["--dry-run"]).fails("down");
    assert_eq!((site.files(), site.everything_written()), before);
    assert_eq!(site.processes(), []);
    // It would have been seen: a real run does leave one.
    site.check().fails("down");
    assert_ne!(site.files(), before.0);
}

#[test]
fn maintenance_passes_without_asking_until_it_ends_by_itself() {
    let site = fake::nobody_listens("fence = false");
    site.check().fails("down");
    site.run("maintenance", &["on", "--for", "1s"]);
    let seen = site.check();
    assert!(seen.passes("ok").line.contains("was not asked"), "{seen:?}");
    assert_eq!(seen.log, "", "a check a second must not fill the log");
    sleep(ms(2000));
    site.check().fails("down");
    site.run("maintenance", &["on"]);
    site.check().passes("ok");
    site.run("maintenance", &["off"]);
    site.check().fails("down");
}

#[test]
fn two_instances_on_one_host_are_checked_apart() {
    let site = fake::site("fence = false\nconfirm = \"0s\"", fake::silent);
    site.add("[instance.second.mysql]\nsocket = '/nonexistent/second.sock'\n");
    site.run("check_mysql", &["--deadline", "300ms"])
        .fails("hung");
    let second = ["--instance", "second", "--deadline", "300ms"];
    site.run("check_mysql", &second).fails("down");
    let verdict = |place: &str| fs::read_to_string(site.dir.join(place)).unwrap();
    assert!(verdict("run/verdict").contains("hung"));
    assert!(verdict("run/second/verdict").contains("down"));
    let unknown = site.run("check_mysql", &["--instance", "third"]);
    assert_eq!(unknown.status, Some(1), "{unknown:?}");
}
