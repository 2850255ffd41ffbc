//! A failing check closes writes by itself.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::fake;
use crate::lab::{Host, Server, wait_until};
use crate::site::{Site, database, finish, ms};

const PATIENCE: Duration = Duration::from_secs(10);

/// Runs one check as keepalived does, in a process group of its own that is killed afterwards.
fn check_as_keepalived_does(site: &Site) -> crate::site::Seen {
    let started = Instant::now();
    let mut command = site.program("check_mysql", &["--deadline", "300ms"]);
    let child = site.start(command.process_group(0));
    let group = Pid::from_raw(child.id() as i32);
    let seen = finish(child, started);
    let _ = killpg(group, Signal::SIGTERM);
    let _ = killpg(group, Signal::SIGKILL);
    seen
}

#[test]
fn a_server_that_was_stopped_takes_no_writes_when_it_goes_on() {
    need_lab!();
    let (host, server) = database("thawed", "");
    let site = Site::on(&host, "");
    check_as_keepalived_does(&site).passes("ok");
    server.freeze();
    for _ in 0..8 {
        check_as_keepalived_does(&site).fails("hung");
        sleep(ms(100));
    }
    assert_eq!(site.processes().len(), 1, "{:?}", site.processes());
    assert!(!site.processes()[0].1.contains("change-me"));
    let lines = site.journal().len();
    assert!((1..=5).contains(&lines), "{:?}", site.journal());
    let thawed = Instant::now();
    server.thaw();
    wait_until("writes are closed", PATIENCE, || !server.is_writable());
    println!(
        "{:7.1} ms  from SIGCONT until writes are closed",
        thawed.elapsed().as_secs_f64() * 1000.0
    );
    site.wait_until_quiet();
    assert_eq!(site.told("fence", "begin"), 1);
    assert_eq!(site.told("fence", "end"), 1);
    let journal = site.journal();
    assert_eq!(journal.last().unwrap()["outcome"], "done", "{journal:#?}");
    let because = journal
        .iter()
        .any(|r| r.to_string().contains("check_mysql said hung"));
    assert!(because, "{journal:#?}");
    assert!(!site.everything_written().contains("change-me"));
    check_as_keepalived_does(&site).passes("ok");
}

#[test]
fn a_server_that_crashed_and_starts_again_takes_no_writes() {
    need_lab!();
    let (host, mut server) = database("crashed", "");
    let site = Site::on(&host, "");
    check_as_keepalived_does(&site).passes("ok");
    server.kill();
    check_as_keepalived_does(&site).fails("down");
    server.start();
    wait_until("writes are closed", PATIENCE, || !server.is_writable());
    site.wait_until_quiet();
    assert_eq!(site.told("fence", "end"), 1);
}

#[test]
fn a_full_server_is_fenced_as_soon_as_there_is_room() {
    need_lab!();
    let (host, server) = database("crowded", "max-connections = 10");
    let site = Site::on(&host, "pass_on = []");
    server.sql("CREATE USER filler@localhost IDENTIFIED BY 'change-me'");
    let open = |user: &str| {
        mysql::Conn::new(
            mysql::OptsBuilder::new()
                .socket(host.path("/run/mysqld/mysqld.sock").to_str())
                .user(Some(user))
                .pass((user == "filler").then_some("change-me")),
        )
        .unwrap()
    };
    sleep(ms(100));
    let fillers: Vec<_> = (0..10).map(|_| open("filler")).collect();
    let reserved = open("root");
    check_as_keepalived_does(&site).fails("connections");
    sleep(ms(300));
    drop((fillers, reserved));
    wait_until("writes are closed", PATIENCE, || !server.is_writable());
    site.wait_until_quiet();
}

#[test]
fn without_fence_or_in_maintenance_the_server_is_left_alone() {
    need_lab!();
    let (host, server) = database("spared", "");
    let off = Site::on(&host, "fence = false");
    let maintained = Site::on(&host, "");
    server.freeze();
    check_as_keepalived_does(&off).fails("hung");
    check_as_keepalived_does(&maintained).fails("hung");
    off.wait_until_quiet();
    assert_eq!(off.told("fence", "begin"), 0, "{:?}", off.journal());
    assert_eq!(
        off.told("check_mysql", "step"),
        1,
        "what changed is noted: {:?}",
        off.journal()
    );
    // A fence already waits at the door when maintenance begins.
    assert_eq!(maintained.processes().len(), 1);
    assert_eq!(maintained.run("maintenance", &["on"]).status, Some(0));
    check_as_keepalived_does(&maintained).passes("ok");
    server.thaw();
    maintained.wait_until_quiet();
    sleep(ms(200));
    assert!(server.is_writable(), "{:#?}", maintained.journal());
    maintained.run("maintenance", &["off"]);
    check_as_keepalived_does(&maintained).passes("ok");
}

#[test]
fn a_fence_starts_after_as_many_failed_checks_in_a_row_as_were_asked_for() {
    let site = fake::nobody_listens("fence_after = 3\nconfirm = '0s'");
    let fail_twice = || {
        site.check().fails("down");
        site.check().fails("down");
        site.wait_until_quiet();
        assert_eq!(site.told("fence", "begin"), 0);
    };
    fail_twice();
    site.reconfigure("confirm", "pass_on = ['down']\nconfirm");
    site.check().passes("down");
    site.reconfigure("pass_on = ['down']\n", "");
    fail_twice();
    site.check().fails("down");
    wait_until("a fence waits", PATIENCE, || {
        site.told("fence", "begin") == 1
    });
}

/// Starts a server beside what its unit starts with it; gives for how long it was seen open.
fn start_with_its_unit(site: &Site, server: &mut Server) -> Duration {
    let unit = site.start(&mut site.program("fence", &["--boot"]));
    sleep(ms(100));
    server.start();
    let answered = Instant::now();
    wait_until("writes are closed", PATIENCE, || !server.is_writable());
    let open = answered.elapsed();
    let ended = finish(unit, answered);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    open
}

#[test]
fn a_server_that_starts_is_closed_until_it_is_made_the_primary_and_again_at_the_next_start() {
    need_lab!();
    let host = Arc::new(Host::new("booted"));
    let mut server = Server::new(&host, "127.0.0.1", 1, "");
    let site = Site::on(&host, "");
    for _ in 0..3 {
        let open = start_with_its_unit(&site, &mut server);
        println!(
            "{:7.1} ms  seen open after its first answer",
            open.as_secs_f64() * 1000.0
        );
        let journal = site.journal();
        let advised = |record: &Value| record.to_string().contains("read_only = 1 below [mysqld]");
        assert!(journal.iter().any(advised), "{journal:#?}");
        assert!(open < Duration::from_secs(1), "{open:?}");
        let promoted = site.run("notify_master", &[]);
        assert_eq!(promoted.status, Some(0), "{promoted:?}");
        assert!(server.is_writable());
        server.kill();
    }
}

#[test]
fn a_server_that_comes_up_closed_is_left_as_it_is() {
    need_lab!();
    let host = Arc::new(Host::new("closed"));
    let mut server = Server::new(&host, "127.0.0.1", 1, "read-only = 1");
    let site = Site::on(&host, "");
    start_with_its_unit(&site, &mut server);
    let journal = site.journal();
    let said = |text: &str| journal.iter().any(|r| r.to_string().contains(text));
    assert!(said("takes no writes already"), "{journal:#?}");
    assert!(!said("my.cnf"), "{journal:#?}");
}

#[test]
fn enabling_the_unit_beside_a_server_that_works_does_not_close_it() {
    for site in [
        fake::site("", fake::up_for_an_hour),
        fake::site("", fake::up_for_an_hour_and_full_at_first),
    ] {
        let seen = site.run("fence", &["--boot"]);
        assert_eq!(seen.status, Some(0), "{seen:?}");
        let journal = site.journal();
        let left = |record: &Value| record.to_string().contains("did not start just now");
        assert!(journal.iter().any(left), "{journal:#?}");
    }
}

#[test]
fn the_unit_starts_what_the_program_understands_and_systemd_understands_it() {
    let service = include_str!("../../examples/hookbox-fence-boot.service");
    let program = env!("CARGO_BIN_EXE_hookbox");
    assert!(service.contains("\nExecStart=/usr/sbin/hookbox fence --boot --because "));
    let help = Command::new(program)
        .args(["fence", "--boot", "--because", "x", "--help"])
        .output();
    assert!(help.unwrap().status.success());
    let site = Site::new("");
    let service = service.replace("/usr/sbin/hookbox", program);
    std::fs::write(site.dir.join("hookbox-fence-boot.service"), service).unwrap();
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "hookbox-fence-boot.service"])
        .current_dir(&site.dir)
        .output();
    match verify {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let is_good = output.status.success() && !said.contains("hookbox-fence-boot");
            assert!(is_good, "{said}");
        }
        Err(error) => println!("systemd-analyze: {error}"),
    }
}
