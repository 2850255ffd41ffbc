//! `hookbox install`: files that keepalived trusts, and no others.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod scratch;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use scratch::Scratch;

const HOOKS: [&str; 9] = [
    "check_mysql",
    "master_ip_failover",
    "master_ip_online_change",
    "notify",
    "notify_backup",
    "notify_down",
    "notify_fault",
    "notify_master",
    "notify_stop",
];

/// A trusted directory with a program that says how it was started.
struct Place {
    scratch: Scratch,
    program: PathBuf,
}

impl Place {
    /// `None`, loudly, where the test cannot make files that belong to root.
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skipped("installing takes root");
            return None;
        }
        let scratch = Scratch::new();
        chmod(scratch.path(), 0o755);
        let program = scratch.path().join("hookbox");
        fs::write(&program, "#!/bin/sh\necho \"$@\"\n").unwrap();
        chmod(&program, 0o755);
        let place = Place { scratch, program };
        fs::create_dir(place.dir()).unwrap();
        chmod(&place.dir(), 0o755);
        Some(place)
    }

    fn dir(&self) -> PathBuf {
        self.scratch.path().join("hooks")
    }

    fn install(&self, more: &[&str]) -> Output {
        self.install_into(&self.dir(), more)
    }

    fn install_into(&self, dir: &Path, more: &[&str]) -> Output {
        // As keepalived would start it: with umask 0177.
        Command::new("sh")
            .args(["-c", "umask 0177; exec \"$0\" install \"$@\""])
            .arg(env!("CARGO_BIN_EXE_hookbox"))
            .arg(dir)
            .arg("--program")
            .arg(&self.program)
            .args(more)
            .output()
            .unwrap()
    }

    fn installed(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[track_caller]
    fn is_refused(&self, dir: &Path, why: &str, advice: &str) {
        let output = self.install_into(dir, &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(said.contains(advice), "{said}");
        assert_eq!(self.installed(), [""; 0]);
    }
}

/// Not by a macro: what those print is kept back when a test passes.
fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// What keepalived says of the configuration with these hooks: 0 is fine, 5 is that a script is
/// not secure. It sees a network of its own, gone when it ends.
fn keepalived(dir: &Path) -> Option<i32> {
    let config = dir.with_file_name("keepalived.conf");
    let dir = dir.display();
    let text = format!(
        "global_defs {{\n enable_script_security\n script_user root\n}}\n\
         vrrp_script check {{\n script \"{dir}/check_mysql\"\n interval 1\n}}\n\
         vrrp_instance V {{\n interface k0\n state BACKUP\n virtual_router_id 1\n priority 100\n \
         virtual_ipaddress {{\n 10.9.9.9/32\n }}\n track_script {{\n check\n }}\n \
         notify_master {dir}/notify_master\n notify {dir}/notify\n}}\n"
    );
    fs::write(&config, text).unwrap();
    let look = "ip link add k0 type veth peer name k1 && ip link set k0 up && exec keepalived -t -f \"$0\"";
    let output = Command::new("unshare")
        .args(["-n", "sh", "-c", look])
        .arg(config)
        .output();
    output.unwrap().status.code()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn makes_an_executable_file_for_every_hook_and_nothing_else() {
    let Some(place) = Place::new() else { return };
    let output = place.install(&[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(place.installed(), HOOKS);
    for name in HOOKS {
        let path = place.dir().join(name);
        assert_eq!(
            path.metadata().unwrap().permissions().mode() & 0o7777,
            0o755
        );
        let run = Command::new(path)
            .args(["INSTANCE", "V I", "MASTER"])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(run.stdout).unwrap(),
            format!("{name} INSTANCE V I MASTER\n")
        );
    }
}

#[test]
fn a_second_time_changes_nothing_and_a_moved_program_is_followed() {
    let Some(mut place) = Place::new() else {
        return;
    };
    place.install(&[]);
    let check = place.dir().join("check_mysql");
    let before = check.metadata().unwrap().modified().unwrap();
    let said = String::from_utf8(place.install(&[]).stdout).unwrap();
    assert_eq!(
        said.lines()
            .filter(|line| line.starts_with("is so"))
            .count(),
        HOOKS.len()
    );
    assert_eq!(check.metadata().unwrap().modified().unwrap(), before);

    let moved = place.scratch.path().join("hookbox2");
    fs::rename(&place.program, &moved).unwrap();
    place.program = moved;
    assert!(place.install(&[]).status.success());
    assert!(
        fs::read_to_string(check)
            .unwrap()
            .contains("/hookbox2 check_mysql ")
    );
    assert_eq!(place.installed(), HOOKS);
}

#[test]
fn a_file_is_there_at_every_moment_while_it_is_replaced() {
    let Some(mut place) = Place::new() else {
        return;
    };
    place.install(&[]);
    let check = place.dir().join("check_mysql");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                let text = fs::read_to_string(&check).unwrap();
                assert!(text.ends_with("check_mysql \"$@\"\n"), "{text}");
                looks += 1;
            }
            looks
        });
        for n in 0..10 {
            let moved = place.scratch.path().join(format!("hookbox{n}"));
            fs::rename(&place.program, &moved).unwrap();
            place.program = moved;
            assert!(place.install(&[]).status.success());
        }
        done.store(true, Ordering::Relaxed);
        assert!(watcher.join().unwrap() > 10);
    });
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let Some(place) = Place::new() else { return };
    let output = place.install(&["--dry-run"]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        said.lines()
            .filter(|line| line.starts_with("would write"))
            .count(),
        HOOKS.len()
    );
    assert_eq!(place.installed(), [""; 0]);
}

#[test]
fn what_it_did_not_write_is_left_alone_and_then_nothing_is_written() {
    let Some(place) = Place::new() else { return };
    let theirs = place.dir().join("notify_stop");
    let foreign: [&dyn Fn(); 4] = [
        &|| fs::write(&theirs, "#!/bin/sh\nexec systemctl stop mariadb\n").unwrap(),
        &|| fs::write(&theirs, "#!/bin/sh\nexec /x notify_master \"$@\"\n").unwrap(),
        &|| symlink(&place.program, &theirs).unwrap(),
        &|| symlink("/nonexistent", &theirs).unwrap(),
    ];
    for make in foreign {
        make();
        let output = place.install(&[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("was not made by hookbox install"), "{said}");
        assert_eq!(place.installed(), ["notify_stop"]);
        fs::remove_file(&theirs).unwrap();
    }
}

#[test]
fn directories_that_keepalived_distrusts_are_refused_with_what_to_type() {
    let Some(place) = Place::new() else { return };
    let dir = place.dir();
    let shown = dir.display();

    let link = place.scratch.path().join("link");
    symlink(&dir, &link).unwrap();
    place.is_refused(&link, "is a symlink", &format!("use {shown} instead"));

    chmod(&dir, 0o757);
    place.is_refused(
        &dir,
        "writable for others (mode 0757)",
        &format!("chmod go-w {shown}"),
    );
    chmod(&dir, 0o775);
    chown(&dir, None, Some(12345)).unwrap();
    place.is_refused(
        &dir,
        "writable for others (mode 0775)",
        &format!("chmod go-w {shown}"),
    );
    chmod(&dir, 0o755);
    chown(&dir, Some(12345), None).unwrap();
    place.is_refused(
        &dir,
        "belongs to uid 12345",
        &format!("chown -h root {shown}"),
    );
    chown(&dir, Some(0), Some(0)).unwrap();

    // Root's own group may write, and so may all where the sticky bit is.
    chmod(&dir, 0o775);
    assert!(place.install(&[]).status.success());
    chmod(&dir, 0o1777);
    assert!(place.install(&[]).status.success());

    let missing = place.scratch.path().join("missing");
    let output = place.install_into(&missing, &[]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains(&format!("install -d -m 755 {}", missing.display())),
        "{said}"
    );
}

#[test]
fn keepalived_trusts_the_directories_that_are_taken_and_no_others() {
    let Some(place) = Place::new() else { return };
    if !Path::new("/usr/sbin/keepalived").exists() {
        return skipped("keepalived is not installed");
    }
    let dir = place.dir();
    assert!(place.install(&[]).status.success());
    let above = place.scratch.path();
    for (path, mode, uid, gid) in [
        (dir.as_path(), 0o755, 0, 0),
        (&dir, 0o775, 0, 0),
        (&dir, 0o1777, 0, 12345),
        (&dir, 0o757, 0, 0),
        (&dir, 0o775, 0, 12345),
        (&dir, 0o755, 12345, 0),
        (above, 0o777, 0, 0),
        (above, 0o755, 12345, 0),
    ] {
        chmod(path, mode);
        chown(path, Some(uid), Some(gid)).unwrap();
        let taken = match place.install(&[]).status.code() {
            Some(0) => true,
            Some(3) => false,
            status => panic!("{status:?}"),
        };
        let trusted = match keepalived(&dir) {
            Some(0) => true,
            Some(5) => false,
            status => panic!("{status:?}"),
        };
        assert_eq!(taken, trusted, "{} {mode:o} {uid} {gid}", path.display());
        chmod(path, 0o755);
        chown(path, Some(0), Some(0)).unwrap();
    }
}

#[test]
fn the_program_is_looked_at_in_the_same_way() {
    let Some(mut place) = Place::new() else {
        return;
    };
    let dir = place.dir();
    chmod(&place.program, 0o700);
    place.is_refused(&dir, "is not executable for all", "chmod 755");
    chmod(&place.program, 0o757);
    place.is_refused(&dir, "is writable for others", "chmod go-w");
    chmod(&place.program, 0o755);

    // A link to it is fine, one on the way to it is not, and neither is what the link leads to.
    let real = place.program.clone();
    let link = place.scratch.path().join("link");
    symlink(&real, &link).unwrap();
    let way = place.scratch.path().join("way");
    symlink(place.scratch.path(), &way).unwrap();
    place.program = way.join("hookbox");
    place.is_refused(&dir, "is a symlink", "use ");
    place.program = link;
    chmod(&real, 0o757);
    place.is_refused(&dir, "is writable for others", "chmod go-w");
    chmod(&real, 0o755);
    assert!(place.install(&[]).status.success());
}

#[test]
fn a_program_path_that_a_shell_would_not_take_as_one_word_is_a_usage_error() {
    for program in ["hookbox", "/a b", "/a;b", "/$a"] {
        let output = Command::new(env!("CARGO_BIN_EXE_hookbox"))
            .args(["install", "/nonexistent", "--program", program])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{program}");
    }
}
