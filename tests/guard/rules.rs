//! What holds for every hook: maintenance, dry run, one at a time, wrong configuration; the units.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::site;
use crate::site::{ms, unit};

#[test]
fn in_maintenance_it_only_says_so_and_only_once() {
    site!(site);
    let [db1, db2, _] = &site.db;
    site.fail_over(1, 2);
    db2.insert(1);
    db1.hookbox(&["maintenance", "on", "--for", "5m"]);
    for _ in 0..3 {
        assert_eq!(db1.guard(&[]).0, 0);
    }
    db1.assert_serves();
    assert_eq!(db1.runs(), 1, "{}", db1.told());
    assert!(db1.told().contains("maintenance until"));
    db1.hookbox(&["maintenance", "off"]);
    assert_eq!(db1.guard(&[]).0, 0);
    assert!(db1.has_given_up());
}

#[test]
fn a_dry_run_says_what_would_be_done_and_changes_nothing() {
    site!(site);
    let [db1, db2, _] = &site.db;
    site.fail_over(1, 2);
    db2.insert(1);
    let before = db1.host.sh("ls -A /run/hookbox 2> /dev/null || true");
    let (status, said, _) = db1.guard(&["--dry-run"]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("would do    close writes"), "{said}");
    assert!(
        said.contains("would do    take 10.77.0.100/24 dev eth0 off"),
        "{said}"
    );
    db1.assert_serves();
    assert_eq!(db1.host.sh("ls -A /run/hookbox"), before);
    db2.server.sql("SET GLOBAL read_only = 1");
    db2.drop_vip();
    let (status, said, _) = db2.guard(&["--dry-run"]);
    assert_eq!(
        (status, said.trim()),
        (0, "nothing to guard: no writes and no address here")
    );
}

#[test]
fn the_second_of_two_ends_at_once() {
    site!(site);
    let [db1, db2, _] = &site.db;
    site.fail_over(1, 2);
    db2.insert(1);
    db1.host
        .sh("mkdir -p /run/hookbox; flock /run/hookbox/guard sleep 1 > /dev/null 2>&1 &");
    sleep(ms(200));
    let (status, said, took) = db1.guard(&[]);
    assert_eq!((status, &said[..]), (0, ""));
    assert!(took < ms(300), "{took:?}");
    db1.assert_serves();
}

#[test]
fn writes_that_cannot_be_closed_do_not_keep_the_address() {
    site!(site);
    let [db1, db2, _] = &site.db;
    site.fail_over(1, 2);
    db2.insert(1);
    db1.server.sql("SET SESSION sql_log_bin = 0");
    let revoke = "SET SESSION sql_log_bin = 0;
        REVOKE READ_ONLY ADMIN ON *.* FROM hookbox@localhost";
    db1.host.sh(&format!("mariadb -e \"{revoke}\""));
    let (status, said, _) = db1.guard(&[]);
    assert_eq!(status, 5, "{said}");
    assert!(said.contains("FAILED"), "{said}");
    assert!(!db1.has_vip());
    let grant = revoke.replace("REVOKE", "GRANT").replace("FROM", "TO");
    db1.host.sh(&format!("mariadb -e \"{grant}\""));
    let (status, said, _) = db1.guard(&[]);
    assert_eq!(status, 0, "{said}");
    assert!(db1.has_given_up());
}

#[test]
fn a_peer_that_does_not_let_it_in_is_said_and_changes_nothing() {
    site!(site);
    let [db1, db2, _] = &site.db;
    db2.host.sh("mariadb -e \"SET SESSION sql_log_bin = 0;
        ALTER USER hookbox@'10.77.0.%' ACCOUNT LOCK\"");
    for _ in 0..2 {
        let (status, said, _) = db1.guard(&[]);
        assert_eq!(status, 3, "{said}");
        assert!(said.contains("[[peer]]"), "{said}");
    }
    assert_eq!(db1.runs(), 1, "{}", db1.told());
    db1.assert_serves();
    db2.host.sh("mariadb -e \"SET SESSION sql_log_bin = 0;
        ALTER USER hookbox@'10.77.0.%' ACCOUNT UNLOCK\"");
    assert_eq!(db1.guard(&[]).0, 0);
}

#[test]
fn with_nobody_to_ask_it_says_what_to_configure() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let config = dir.join(format!("guard-{}.toml", std::process::id()));
    let run = dir.join(format!("guard-{}", std::process::id()));
    let toml = format!(
        "[paths]\nrun = '{0}'\njournal = '{0}/journal'\n",
        run.display()
    );
    std::fs::write(&config, toml).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hookbox"))
        .args(["guard", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("[check] witness"), "{said}");
    std::fs::remove_file(&config).unwrap();
    std::fs::remove_dir_all(&run).unwrap();
}

#[test]
fn the_units_start_what_the_program_understands_and_systemd_understands_them() {
    let service = unit("hookbox-guard.service");
    let start = service
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    let mut words = start.split_whitespace();
    assert_eq!(words.next(), Some("/usr/sbin/hookbox"));
    let output = Command::new(env!("CARGO_BIN_EXE_hookbox"))
        .args(words)
        .arg("--help")
        .output();
    assert!(output.unwrap().status.success());
    let seconds = |unit: &str, key: &str| {
        let value = unit
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap()
            .to_owned();
        humantime::parse_duration(&value).unwrap()
    };
    let limit = hookbox::config::Guard::default().limit;
    assert!(seconds(&service, "TimeoutStartSec=") > limit + Duration::from_secs(1));
    // It is started more often than systemd allows by itself.
    assert!(service.contains("\nStartLimitIntervalSec=0\n"));
    let timer = unit("hookbox-guard.timer");
    assert_eq!(seconds(&timer, "OnUnitActiveSec="), Duration::from_secs(1));

    // In a directory of its own, with a program that is there.
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = dir.join(format!("units-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let program = env!("CARGO_BIN_EXE_hookbox");
    let service = service.replace("/usr/sbin/hookbox", program);
    std::fs::write(dir.join("hookbox-guard.service"), service).unwrap();
    std::fs::write(dir.join("hookbox-guard.timer"), timer).unwrap();
    let verify = Command::new("systemd-analyze")
        .args([
            "verify",
            "--man=no",
            "hookbox-guard.timer",
            "hookbox-guard.service",
        ])
        .current_dir(&dir)
        .output();
    std::fs::remove_dir_all(&dir).unwrap();
    match verify {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.success() && !said.contains("hookbox-guard"),
                "{said}"
            );
        }
        Err(error) => println!("systemd-analyze: {error}"),
    }
}

#[test]
fn the_capabilities_of_the_unit_are_enough() {
    site!(site);
    let [db1, db2, _] = &site.db;
    site.fail_over(1, 2);
    db2.insert(1);
    let service = unit("hookbox-guard.service");
    let mut lines = service.lines();
    let set = lines.find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let set = set
        .unwrap()
        .to_lowercase()
        .replace("cap_", "+")
        .replace(' ', ",");
    db1.host.sh(&format!(
        "setpriv --no-new-privs --bounding-set=-all,{set} hookbox guard"
    ));
    assert!(db1.has_given_up(), "{}", db1.told());
    assert!(
        db1.told().contains("another host answers"),
        "{}",
        db1.told()
    );
}
