//! A connection that one hook leaves to the next.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use hookbox::config;
use hookbox::error::Kind;
use hookbox::ssh::Shell;
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

/// Logs in until one did so over a connection that was there: on a machine that has much to do it
/// may be given up for a new one.
fn reuse(site: &Site, how: &config::Ssh) -> Duration {
    for _ in 0..10 {
        let before = logins(site);
        let took = log_in(site, how);
        if logins(site) == before {
            return took;
        }
    }
    panic!("never reused");
}

/// How often sshd let somebody in.
fn logins(site: &Site) -> usize {
    site.sshd.log().matches("Accepted publickey").count()
}

fn all_end(site: &Site) {
    wait_until("all end by themselves", Duration::from_secs(8), || {
        site.clients().is_empty()
    });
}

/// The connections that are kept, as process numbers.
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

/// Whether a socket is there and nobody behind it.
fn is_refused(socket: &Path) -> bool {
    let refused = UnixStream::connect(socket).map_err(|error| error.kind());
    matches!(refused, Err(ErrorKind::ConnectionRefused))
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid as i32), signal).unwrap();
}

#[test]
fn a_connection_serves_the_next_hook_and_ends_by_itself() {
    let Some(site) = Site::new() else {
        return;
    };
    let how = site.how();
    let cold = log_in(&site, &how);
    let warm = reuse(&site, &how);
    println!("cold {cold:.1?}, warm {warm:.1?}");
    // One for each login: a busy machine may have had one made beside the first.
    let clients = site.clients();
    assert_eq!(clients.len(), masters(&site).len(), "{clients:?}");
    assert!((1..=logins(&site)).contains(&clients.len()), "{clients:?}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&site.sockets()), 0o700);
    all_end(&site);

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
        connect: Duration::from_secs(3),
        ..site.how()
    };
    let warm_up = || {
        site.on_manager(|_| {
            let started = Instant::now();
            Shell::warm_up(&root_at(DB1), &how, &site.sockets());
            assert!(started.elapsed() < Duration::from_millis(300));
        });
    };
    warm_up();
    wait_until("it is there alone", Duration::from_secs(4), || {
        masters(&site).len() == 1 && site.clients().len() == 1
    });
    reuse(&site, &how);
    all_end(&site);

    site.sshd.freeze();
    warm_up();
    assert!(!site.clients().is_empty());
    all_end(&site);
}

#[test]
fn an_old_connection_that_does_not_answer_is_not_waited_for() {
    let Some(site) = Site::new() else {
        return;
    };
    let how = site.how();
    log_in(&site, &how);
    let socket = fs::read_dir(site.sockets()).unwrap().next();
    let socket = socket.unwrap().unwrap().path();

    // Killed: its socket stays, and nobody listens.
    signal(masters(&site)[0], Signal::SIGKILL);
    wait_until("nobody listens", Duration::from_secs(5), || {
        is_refused(&socket)
    });
    let before = logins(&site);
    let stale = log_in(&site, &how);
    assert_eq!(logins(&site), before + 1, "one login is enough");

    // Stopped: it is connected to and never answers.
    let frozen = masters(&site)[0];
    signal(frozen, Signal::SIGSTOP);
    let hung = log_in(&site, &how);
    println!("past a socket left behind {stale:.1?}, past a frozen connection {hung:.1?}");
    assert!((500..3000).contains(&hung.as_millis()), "{hung:?}");
    log_in(&site, &how);
    assert_eq!(masters(&site).len(), 2, "the next one is not held up");
    signal(frozen, Signal::SIGCONT);
    all_end(&site);

    // Alive, but the host behind it is not.
    let how = config::Ssh {
        connect: Duration::from_secs(2),
        ..how
    };
    log_in(&site, &how);
    site.sshd.freeze();
    site.on_manager(|deadline| {
        let (started, sockets) = (Instant::now(), site.sockets());
        let mut shell = Shell::open(&root_at(DB1), &how, Some(&sockets), deadline).unwrap();
        assert_eq!(shell.ready().unwrap_err().kind(), Kind::Timeout);
        assert!(started.elapsed() < Duration::from_millis(3000));
    });
    all_end(&site);
}

#[test]
fn a_directory_that_others_may_use_holds_no_connections() {
    let Some(site) = Site::new() else {
        return;
    };
    fs::create_dir(site.sockets()).unwrap();
    fs::set_permissions(site.sockets(), fs::Permissions::from_mode(0o755)).unwrap();
    log_in(&site, &site.how());
    site.nothing_is_left();
    assert_eq!(fs::read_dir(site.sockets()).unwrap().count(), 0);
}
