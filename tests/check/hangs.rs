//! However a server hangs, the check ends within its deadline.

use std::sync::Mutex;
use std::time::Duration;

use crate::fake::{self, Manners};
use crate::lab::Host;
use crate::site::{Site, database, let_in, ms};

/// `[check] deadline` by default.
const DEADLINE: Duration = ms(900);

/// What is started for a failing check is looked at elsewhere.
const NO_FENCE: &str = "fence = false";

#[test]
fn no_manners_of_a_server_hold_the_check() {
    let cases: [(&str, &str, Manners); 11] = [
        ("accepts and is silent", "hung", fake::silent),
        ("trickles its greeting", "hung", fake::trickles_its_greeting),
        (
            "greets, then is silent",
            "hung",
            fake::greets_and_then_is_silent,
        ),
        (
            "logs in, then is silent",
            "hung",
            fake::logs_in_and_then_is_silent,
        ),
        ("trickles its answer", "hung", fake::trickles_its_answer),
        ("closes at once", "down", fake::closes_at_once),
        ("speaks HTTP", "down", fake::speaks_http),
        ("greets with nonsense", "down", fake::greets_with_nonsense),
        ("refuses in many lines", "down", fake::refuses_in_many_lines),
        ("announces 16 MB", "hung", fake::announces_16_mb),
        ("answers after 300 ms", "ok", fake::slow),
    ];
    let cases = Mutex::new(cases.into_iter());
    let next = || cases.lock().unwrap().next();
    std::thread::scope(|scope| {
        // A few at a time: programs that start all at once would measure one another.
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((name, class, manners)) = next() {
                    let seen = fake::site(NO_FENCE, manners).check();
                    seen.told(name).within(DEADLINE);
                    match class {
                        "ok" => seen.passes(class),
                        _ => seen.fails(class),
                    };
                    let is_control = |c: char| c.is_control() && c != '\n';
                    assert!(!seen.line.contains(is_control), "{seen:?}");
                }
            });
        }
    });
}

#[test]
fn the_deadline_is_the_one_that_was_given() {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let site = fake::nobody_listens(NO_FENCE);
            let _full = fake::fill_backlog(&fake::socket(&site));
            site.check()
                .told("full backlog")
                .within(DEADLINE)
                .fails("hung");
        });
        scope.spawn(|| {
            let site = fake::site(NO_FENCE, fake::silent);
            let seen = site.run("check_mysql", &["--deadline", "300ms"]);
            seen.told("--deadline 300ms").within(ms(300)).fails("hung");
        });
        scope.spawn(|| {
            let site = fake::site("deadline = '2s'\nfence = false", fake::silent);
            let seen = site.check();
            seen.told("deadline = '2s'").within(ms(2000)).fails("hung");
            assert!(seen.took > ms(1900), "{seen:?}");
        });
    });
}

#[test]
fn a_server_that_never_stops_talking_does_not_hold_the_check() {
    // One after the other: each keeps a processor busy.
    let site = fake::site(NO_FENCE, fake::answers_without_end);
    site.check()
        .told("answers without end")
        .within(DEADLINE)
        .fails("hung");
    let site = fake::site(NO_FENCE, fake::greets_without_end);
    site.check()
        .told("greets without end")
        .within(DEADLINE)
        .fails("down");
}

#[test]
fn a_server_stopped_in_its_tracks_is_hung_by_socket_and_by_tcp() {
    need_lab!();
    let (host, server) = database("frozen", "");
    let by_socket = Site::on(&host, NO_FENCE);
    let by_tcp = Site::by_tcp(&host, "127.0.0.1", NO_FENCE);
    let_in(&server, "127.0.0.1");
    by_socket.check().told("well, by socket").passes("ok");
    by_tcp.check().told("well, by TCP").passes("ok");
    server.freeze();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            by_socket
                .check()
                .told("SIGSTOP, by socket")
                .within(DEADLINE)
                .fails("hung");
        });
        scope.spawn(|| {
            by_tcp
                .check()
                .told("SIGSTOP, by TCP")
                .within(DEADLINE)
                .fails("hung");
        });
    });
    server.thaw();
}

#[test]
fn an_address_that_swallows_everything_and_a_resolver_that_does_not_answer_hold_nothing() {
    need_lab!();
    let host = std::sync::Arc::new(Host::new("hole"));
    // What is sent leaves the host and arrives nowhere: nobody is at the other end of the wire.
    host.sh(
        "ip link add hole type veth peer name other; ip link set other up; ip link set hole up
         ip addr add 10.77.8.1/24 dev hole
         ip neigh add 10.77.8.2 lladdr 02:00:00:00:00:02 dev hole nud permanent",
    );
    let address = Site::by_tcp(&host, "10.77.8.2", NO_FENCE);
    let nobody = Site::by_tcp(&host, "10.77.8.1", NO_FENCE);
    let no_route = Site::by_tcp(&host, "10.66.0.1", NO_FENCE);
    let name = Site::by_tcp(&host, "db1.example.com", NO_FENCE);
    let resolv_conf = name.dir.join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 10.77.8.2\n").unwrap();
    let script = format!(
        "mount --bind {} /etc/resolv.conf; exec \"$@\"",
        resolv_conf.display()
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            address
                .check()
                .told("address that swallows all")
                .within(DEADLINE)
                .fails("hung");
        });
        scope.spawn(|| {
            nobody
                .check()
                .told("port where nobody listens")
                .within(DEADLINE)
                .fails("down");
        });
        scope.spawn(|| {
            no_route
                .check()
                .told("address without a route")
                .within(DEADLINE)
                .fails("down");
        });
        scope.spawn(|| {
            let started = std::time::Instant::now();
            let inner = name.program("check_mysql", &[]);
            let mut outer = std::process::Command::new("unshare");
            outer
                .args(["--mount", "sh", "-ec", &script, "sh"])
                .arg(inner.get_program());
            outer
                .args(inner.get_args())
                .stdout(std::process::Stdio::piped());
            outer.stderr(std::process::Stdio::piped());
            let seen = crate::site::finish(name.start(&mut outer), started);
            seen.told("resolver that does not answer")
                .within(DEADLINE)
                .fails("hung");
        });
    });
}

#[test]
fn a_name_is_looked_up_by_the_systems_resolver() {
    need_lab!();
    let (host, server) = database("named", "bind-address = 127.0.0.1");
    server.sql("CREATE USER hookbox@'127.0.0.1' IDENTIFIED BY 'change-me'");
    let check = |name: &str, path: &str| {
        let site = Site::by_tcp(&host, name, NO_FENCE);
        let hosts = site.dir.join("hosts");
        std::fs::write(
            &hosts,
            "127.0.0.9 db1.example.com\n127.0.0.1 db1.example.com\n",
        )
        .unwrap();
        let script = format!("mount --bind {} /etc/hosts; exec \"$@\"", hosts.display());
        let inner = site.program("check_mysql", &[]);
        let mut outer = std::process::Command::new("unshare");
        outer
            .args(["--mount", "sh", "-ec", &script, "sh", "env"])
            .arg(format!("PATH={path}"))
            .arg(inner.get_program())
            .args(inner.get_args())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let seen = crate::site::finish(site.start(&mut outer), std::time::Instant::now());
        seen.told(&format!("{name}, programs in {path}"));
        seen
    };
    let path = std::env::var("PATH").unwrap();
    // At one of its addresses nobody listens.
    check("db1.example.com", &path).passes("ok");
    let nobody = check("db9.invalid", &path);
    nobody.fails("down");
    assert!(
        nobody.line.contains("look up db9.invalid: no address"),
        "{nobody:?}"
    );
    let no_getent = check("db1.example.com", "/nowhere");
    no_getent.fails("config");
    assert!(no_getent.line.contains("start getent"), "{no_getent:?}");
}
