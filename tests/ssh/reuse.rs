//! A connection that one hook leaves to the next.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hookbox::config;
use hookbox::error::Kind;
use hookbox::ssh::{Place, Shell};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::wait_until;
use crate::site::{DB1, Site, root_at};

/// Logs in, reusing what there is, runs a command, and says how long the login took.
fn log_in(site: &Site, how: &config::Ssh) -> Duration {
    site.on_manager(|deadline| {
        let started = Instant::now();
        let sockets = site.sockets();
        let mut shell = Shell::open(&root_at(DB1), how, Some(&sockets), deadline).unwrap();
        shell.ready().unwrap();
        let took = started.elapsed();
        assert_eq!(shell.run(&["hostname"]).unwrap().output, "db1\n");
        took
    })
}

fn masters(site: &Site) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mark = site.sockets().display().to_string();
    let is_master = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("[mux]") && line.contains(&mark)
    };
    processes
        .filter_map(|it| it.file_name().to_str()?.parse().ok())
        .filter(is_master)
        .collect()
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid as i32), signal).unwrap();
}

#[test]
fn a_connection_serves_the_next_hook_and_ends_by_itself() {
    let Some(site) = Site::new() else {
        return;
    };
    let how = config::Ssh {
        reuse: Duration::from_secs(2),
        ..site.how()
    };
    let cold = log_in(&site, &how);
    let warm = log_in(&site, &how);
    println!("cold {cold:.1?}, warm {warm:.1?}");
    assert_eq!(site.sshd.log().matches("Accepted publickey").count(), 1);
    assert_eq!(
        site.clients().len(),
        1,
        "the master alone: {:?}",
        site.clients()
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&site.sockets()), 0o700);
    wait_until("it ends by itself", Duration::from_secs(5), || {
        site.clients().is_empty()
    });

    let forever = config::Ssh {
        reuse: Duration::ZERO,
        ..site.how()
    };
    log_in(&site, &forever);
    site.nothing_is_left();
}

#[test]
fn a_connection_left_behind_holds_up_nobody_and_serves_the_next_hook() {
    let Some(site) = Site::new() else {
        return;
    };
    let how = config::Ssh {
        reuse: Duration::from_secs(3),
        ..site.how()
    };
    let warm_up = |place: &Place| {
        site.on_manager(|_| {
            let started = Instant::now();
            Shell::warm_up(place, &how, &site.sockets());
            assert!(started.elapsed() < Duration::from_millis(100));
        });
    };
    warm_up(&root_at(DB1));
    wait_until("it is there", Duration::from_secs(3), || {
        masters(&site).len() == 1
    });
    wait_until("its maker has gone", Duration::from_secs(3), || {
        site.clients().len() == 1
    });
    log_in(&site, &how);
    assert_eq!(site.sshd.log().matches("Accepted publickey").count(), 1);
    wait_until("it ends by itself", Duration::from_secs(6), || {
        site.clients().is_empty()
    });

    site.sshd.freeze();
    warm_up(&root_at(DB1));
    assert!(!site.clients().is_empty());
    wait_until(
        "a login that hangs is ended",
        Duration::from_secs(4),
        || site.clients().is_empty(),
    );
}

#[test]
fn an_old_connection_that_does_not_answer_is_not_waited_for() {
    let Some(site) = Site::new() else {
        return;
    };
    let how = config::Ssh {
        reuse: Duration::from_secs(2),
        ..site.how()
    };
    let cold = log_in(&site, &how);

    // Killed: its socket stays, and nobody listens.
    signal(masters(&site)[0], Signal::SIGKILL);
    let stale = log_in(&site, &how);
    println!("cold {cold:.1?}, past a socket left behind {stale:.1?}");
    assert!(stale < cold + Duration::from_millis(400), "{stale:?}");

    // Stopped: it is connected to and never answers.
    let frozen = masters(&site)[0];
    signal(frozen, Signal::SIGSTOP);
    let hung = log_in(&site, &how);
    println!("past a frozen one {hung:.1?}");
    assert!(hung >= Duration::from_millis(500));
    assert!(hung < cold + Duration::from_millis(900), "{hung:?}");
    let next = log_in(&site, &how);
    assert!(
        next < cold + Duration::from_millis(400),
        "the next one is not held up: {next:?}"
    );
    signal(frozen, Signal::SIGCONT);
    wait_until("all end by themselves", Duration::from_secs(6), || {
        site.clients().is_empty()
    });

    // Alive, but the host behind it is not.
    log_in(&site, &how);
    site.sshd.freeze();
    let started = Instant::now();
    site.on_manager(|deadline| {
        let sockets = site.sockets();
        let mut shell = Shell::open(&root_at(DB1), &how, Some(&sockets), deadline).unwrap();
        assert_eq!(shell.ready().unwrap_err().kind(), Kind::Timeout);
    });
    assert!(started.elapsed() < how.connect + Duration::from_millis(900));
    wait_until("all end by themselves", Duration::from_secs(6), || {
        site.clients().is_empty()
    });
}

#[test]
fn a_directory_that_others_may_use_holds_no_connections() {
    let Some(site) = Site::new() else {
        return;
    };
    fs::create_dir(site.sockets()).unwrap();
    std::process::Command::new("chmod")
        .arg("755")
        .arg(site.sockets())
        .status()
        .unwrap();
    log_in(&site, &site.how());
    site.nothing_is_left();
    assert_eq!(fs::read_dir(site.sockets()).unwrap().count(), 0);
}
