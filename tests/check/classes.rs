//! Every class, on real servers.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::thread::sleep;
use std::time::Instant;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use nix::fcntl::{Flock, FlockArg};

use crate::fake;
use crate::lab::{Host, Server, wait_until};
use crate::site::{PASSWORD, Site, database, finish, let_in, ms};

const NO_FENCE: &str = "fence = false";

fn counter(server: &Server, name: &str) -> u64 {
    let query = format!(
        "SELECT variable_value FROM information_schema.global_status WHERE variable_name = '{name}'"
    );
    server.ask(&query).parse().unwrap()
}

/// A session of `user` on the server of `host`, by its socket.
fn session(host: &Host, user: &str) -> mysql::Result<Conn> {
    Conn::new(
        OptsBuilder::new()
            .socket(host.path("/run/mysqld/mysqld.sock").to_str())
            .user(Some(user))
            .pass((user != "root").then_some(PASSWORD)),
    )
}

#[test]
fn a_healthy_check_is_one_connection_and_one_question_and_aborts_nothing() {
    need_lab!();
    let (host, server) = database("healthy", "");
    let_in(&server, "127.0.0.1");
    let count = || {
        let names = [
            "Connections",
            "Com_select",
            "Questions",
            "Aborted_connects",
            "Aborted_clients",
        ];
        names.map(|name| counter(&server, name))
    };
    for site in [Site::on(&host, ""), Site::by_tcp(&host, "127.0.0.1", "")] {
        let (cost, _) = (count(), sleep(ms(50)));
        let before = count();
        let own = std::array::from_fn::<u64, 5, _>(|i| before[i] - cost[i]);
        let mut took: Vec<_> = (0..50).map(|_| site.check().passes("ok").took).collect();
        sleep(ms(50));
        let after = count();
        let grew = std::array::from_fn::<u64, 5, _>(|i| after[i] - before[i] - own[i]);
        // MariaDB counts the goodbye as a question too.
        assert_eq!(
            grew,
            [50, 50, 100, 0, 0],
            "Connections, Com_select, Questions, Aborted_*"
        );
        took.sort();
        println!(
            "{:7.1} ms  median of 50 healthy checks",
            took[25].as_secs_f64() * 1000.0
        );
        assert_eq!(
            site.told("check_mysql", "step"),
            1,
            "nothing changed after the first"
        );
    }
}

#[test]
fn a_server_that_refuses_the_account_is_alive() {
    need_lab!();
    let (host, server) = database("auth", "");
    server.sql("CREATE USER locked@localhost IDENTIFIED BY 'wr0ng-S3cret' ACCOUNT LOCK");
    for user in ["hookbox", "nobody", "locked"] {
        let site = Site::on(&host, "");
        site.reconfigure("[mysql]\n", &format!("[mysql]\nuser = '{user}'\n"));
        site.secret("wr0ng-S3cret");
        let seen = site.check();
        assert!(
            seen.told(user).passes("auth").line.contains("(passes)"),
            "{seen:?}"
        );
        site.wait_until_quiet();
        site.reconfigure("[check]\n", "[check]\npass_on = []\n");
        site.check().fails("auth");
        site.wait_until_quiet();
        assert!(site.told("check_mysql", "step") > 0);
        assert_eq!(
            site.told("fence", "begin"),
            0,
            "an account that fails closes no server"
        );
        let said = format!("{seen:?}{}", site.everything_written());
        assert!(!said.contains("wr0ng-S3cret"), "{said}");
    }
    assert!(server.is_writable());
}

#[test]
fn a_full_server_is_alive_and_its_other_doors_are_tried() {
    need_lab!();
    let (host, server) = database(
        "full",
        "max-connections = 10\nextra-port = 3307\nextra-max-connections = 2\nmax-user-connections = 50",
    );
    let_in(&server, "127.0.0.1");
    for user in ["filler@localhost", "plain@localhost"] {
        server.sql(&format!("CREATE USER {user} IDENTIFIED BY '{PASSWORD}'"));
    }
    let site = Site::on(&host, "fence = false");
    let open = |user: &str| {
        let mut last = String::new();
        for _ in 0..50 {
            match session(&host, user) {
                Ok(session) => return session,
                Err(error) => last = error.to_string(),
            }
            sleep(ms(20)); // a session that said goodbye a moment ago still counts
        }
        panic!("{user}: {last}");
    };
    let fillers: Vec<Conn> = (0..10).map(|_| open("filler")).collect();
    // CONNECTION ADMIN has one more.
    site.check()
        .told("full, with the reserved slot")
        .passes("ok");
    let reserved = open("root");
    let seen = site.check();
    assert!(
        seen.told("full")
            .passes("connections")
            .line
            .contains("1040"),
        "{seen:?}"
    );
    assert!(seen.line.contains("(passes)"), "{seen:?}");
    site.reconfigure("[check]\n", "[check]\npass_on = []\n");
    site.check().fails("connections");
    site.reconfigure("[mysql]\n", "[mysql]\nextra_port = 3307\n");
    let seen = site.check();
    assert!(
        seen.told("full, by the extra port")
            .passes("ok")
            .line
            .contains("1040"),
        "{seen:?}"
    );
    drop((reserved, fillers));

    let one = Site::on(&host, NO_FENCE);
    one.reconfigure("[mysql]\n", "[mysql]\nuser = 'plain'\n");
    drop(open("plain"));
    server.sql("GRANT USAGE ON *.* TO plain@localhost WITH MAX_USER_CONNECTIONS 1");
    let held = open("plain");
    let seen = one.check();
    assert!(seen.passes("connections").line.contains("1226"), "{seen:?}");
    drop(held);
    server.sql("GRANT USAGE ON *.* TO plain@localhost WITH MAX_USER_CONNECTIONS 0");
    server.sql("SET GLOBAL max_user_connections = 1");
    let _held = open("plain");
    let seen = one.check();
    assert!(seen.passes("connections").line.contains("1203"), "{seen:?}");
}

#[test]
fn a_server_that_refuses_this_host_is_alive() {
    need_lab!();
    let (host, server) = database("blocked", "skip-name-resolve = 0\nmax-connect-errors = 1");
    host.sh("ip addr add 10.77.9.1/32 dev lo; echo '10.77.9.1 itself' >> /etc/hosts");
    let site = Site::by_tcp(&host, "10.77.9.1", "");
    let seen = site.check();
    assert!(
        seen.told("no account for this host")
            .passes("blocked")
            .line
            .contains("1130"),
        "{seen:?}"
    );
    let_in(&server, "10.77.9.1");
    site.check().passes("ok");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            host.enter_network();
            for _ in 0..4 {
                drop(TcpStream::connect("10.77.9.1:3306").unwrap());
                sleep(ms(30));
            }
        });
    });
    let seen = site.check();
    assert!(
        seen.told("too many errors")
            .passes("blocked")
            .line
            .contains("1129"),
        "{seen:?}"
    );
    site.reconfigure("[check]\n", "[check]\npass_on = ['auth']\nfence = false\n");
    site.check().fails("blocked");
}

#[test]
fn a_server_that_is_down_is_asked_a_second_time() {
    need_lab!();
    let (host, mut server) = database("down", "");
    let patient = Site::on(&host, "fence = false\nconfirm = '800ms'\ndeadline = '5s'");
    let site = Site::on(&host, NO_FENCE);
    let once = Site::on(&host, "fence = false\nconfirm = '0s'");
    server.kill();
    let seen = site.check();
    seen.told("killed, confirmed").fails("down");
    assert!((ms(200)..ms(350)).contains(&seen.took), "{seen:?}");
    let seen = once.check();
    seen.told("killed, asked once").fails("down");
    assert!(seen.took < ms(150), "{seen:?}");
    // The server comes up between the first and the second question.
    patient.reconfigure("800ms", "3s");
    let started = Instant::now();
    let check = patient.start(&mut patient.program("check_mysql", &[]));
    sleep(ms(100));
    server.start();
    finish(check, started)
        .told("came up in between")
        .passes("ok");
    server.stop();
    site.check().told("stopped").fails("down");
}

#[test]
fn a_read_only_server_fails_where_the_vip_is_unless_a_promotion_is_at_work() {
    need_lab!();
    let (host, server) = database("read_only", "");
    let site = Site::on(
        &host,
        "vip = ['10.77.0.100/32 dev lo']\nread_only_grace = '0s'",
    );
    server.sql("SET GLOBAL read_only = 1");
    site.check().passes("ok");
    host.sh("ip addr add 10.77.0.100/32 dev lo");
    site.check()
        .told("read-only with the VIP")
        .fails("read_only");
    site.wait_until_quiet();
    assert_eq!(site.told("fence", "begin"), 0, "it is closed already");

    let turn = hold(&site, "turn");
    site.check().told("with a run at work").passes("ok");
    drop(turn);

    site.reconfigure("read_only_grace = '0s'", "read_only_grace = '600ms'");
    let _ = std::fs::remove_file(site.dir.join("run/verdict"));
    let first = Instant::now();
    site.check().passes("ok");
    site.check().passes("ok");
    sleep(ms(650).saturating_sub(first.elapsed()));
    site.check()
        .told("longer than the grace")
        .fails("read_only");
    site.check().fails("read_only");

    server.sql("SET GLOBAL read_only = 0");
    site.check().passes("ok");
    server.sql("SET GLOBAL read_only = 1");
    site.check().passes("ok"); // the grace begins anew
    site.reconfigure(
        "read_only_grace",
        "writable_with_vip = false\nread_only_grace",
    );
    sleep(ms(650));
    site.check().passes("ok");
}

/// Takes the right called `name`, as another process of the site would.
fn hold(site: &Site, name: &str) -> Flock<File> {
    let mut file = File::options();
    let file = file.create(true).truncate(false).write(true).mode(0o644);
    let file = file.open(site.dir.join("run").join(name)).unwrap();
    Flock::lock(file, FlockArg::LockExclusive).unwrap()
}

#[test]
fn a_heartbeat_that_cannot_be_written_fails_within_its_own_limit() {
    need_lab!();
    let (host, server) = database("write", "");
    server.sql("CREATE TABLE lab.heartbeat (id INT UNSIGNED PRIMARY KEY, at DATETIME NOT NULL)");
    let site = Site::on(&host, "fence = false\nwrite_table = 'lab.heartbeat'");
    site.check().told("without the grant").fails("write");
    let mut grants = std::process::Command::new(env!("CARGO_BIN_EXE_hookbox"));
    let grants = grants.args(["grants", "--version", "10.11.6-MariaDB", "--config"]);
    let printed = grants.arg(site.config()).output().unwrap().stdout;
    let printed = String::from_utf8(printed).unwrap();
    let is_for_table = |line: &&str| line.starts_with("GRANT") && line.contains("heartbeat");
    server.sql(printed.lines().find(is_for_table).expect(&printed));
    for _ in 0..3 {
        site.check().passes("ok");
    }
    assert_eq!(server.ask("SELECT COUNT(*) FROM lab.heartbeat"), "1");

    let mut locker = session(&host, "root").unwrap();
    locker
        .query_drop("LOCK TABLES lab.heartbeat WRITE")
        .unwrap();
    let seen = site.check();
    seen.told("locked table").fails("write");
    assert!((ms(300)..ms(450)).contains(&seen.took), "{seen:?}");
    locker.query_drop("UNLOCK TABLES").unwrap();
    locker.query_drop("BEGIN").unwrap();
    locker
        .query_drop("UPDATE lab.heartbeat SET at = NOW()")
        .unwrap();
    let seen = site.check();
    seen.told("locked row").fails("write");
    assert!((ms(300)..ms(450)).contains(&seen.took), "{seen:?}");
    // What was given up does not stay behind in the server.
    wait_until("no heartbeat waits", ms(1500), || {
        let waits =
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'REPLACE%'";
        server.ask(waits) == "0"
    });
    locker.query_drop("ROLLBACK").unwrap();
    site.check().passes("ok");
    server.sql("SET GLOBAL read_only = 1");
    site.check()
        .told("read-only: nothing to write")
        .passes("ok");
    assert_eq!(server.ask("SELECT COUNT(*) FROM lab.heartbeat"), "1");
}

#[test]
fn a_disk_that_is_full_missing_or_stuck_is_told_and_holds_nothing() {
    need_lab!();
    let (host, _server) = database("disk", "");
    let site = Site::on(&host, "fence = false\ndisk_path = '/'\ndisk_min_mib = 1");
    site.check().told("enough space").passes("ok");
    site.reconfigure("disk_min_mib = 1", "disk_min_mib = 1000000000");
    site.check().told("not enough").fails("disk");
    site.reconfigure("disk_path = '/'", "disk_path = '/nowhere'");
    site.check().told("no such directory").fails("disk");
    let turn = hold(&site, "disk");
    let seen = site.check();
    seen.told("asked before and unanswered").fails("disk");
    assert!(
        seen.took < ms(200) && seen.line.contains("unanswered"),
        "{seen:?}"
    );
    drop(turn);
    // A file system whose other side never answers.
    let held = host.start(
        "sh",
        &[
            "-ec",
            "mkdir /mnt/stuck; mknod /dev/fuse c 10 229; exec 3<> /dev/fuse
             mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 stuck /mnt/stuck
             exec sleep 1000",
        ],
        "/tmp/stuck.log",
    );
    let mounted = || host.sh("cat /proc/mounts").contains("/mnt/stuck");
    wait_until("a stuck file system", ms(5000), mounted);
    let stuck = host.path("/mnt/stuck");
    site.reconfigure(
        "disk_path = '/nowhere'",
        &format!("disk_path = '{}'", stuck.display()),
    );
    for _ in 0..3 {
        site.check().told("stuck").fails("disk").within(ms(900));
    }
    let waiting = site.processes();
    assert!(waiting.len() <= 1, "they pile up: {waiting:?}");
    held.signal("KILL");
    site.wait_until_quiet();
}

#[test]
fn a_login_plugin_that_is_not_there_or_makes_no_sense_is_an_error_and_no_more() {
    for plugin in ["dialog", "auth_gssapi_client", "", "\u{1b}[31m"] {
        let site = fake::site(NO_FENCE, move |stream| {
            fake::asks_for(plugin, &[b'x'; 20], stream)
        });
        let seen = site.check();
        let what = "which is not supported";
        assert!(seen.passes("auth").line.contains(what), "{seen:?}");
    }
    for plugin in [
        "mysql_native_password",
        "caching_sha2_password",
        "client_ed25519",
        "parsec",
        "sha256_password",
        "mysql_old_password",
    ] {
        let site = fake::site(NO_FENCE, move |stream| {
            fake::asks_for(plugin, b"short", stream)
        });
        site.check().told(plugin).passes("auth");
    }
}

#[test]
fn a_public_key_that_is_none_is_an_error_and_no_more() {
    // Nothing, an empty sequence, one that ends too soon, and one of small numbers.
    for der in ["", "MAA=", "MIIBIjANBgkq", "MAYCAQMCAQM="] {
        for kind in ["PUBLIC KEY", "RSA PUBLIC KEY"] {
            let site = fake::site(NO_FENCE, move |stream| {
                let key = format!("-----BEGIN {kind}-----\n{der}\n-----END {kind}-----\n");
                fake::sends_for_its_key(&key, stream)
            });
            site.reconfigure(
                "[mysql]\n",
                &format!(
                    "[mysql]\npassword_file = '{}'\n",
                    site.secret("pass").display()
                ),
            );
            let seen = site.check();
            let what = "the login conversation failed";
            assert!(seen.passes("auth").line.contains(what), "{seen:?}");
        }
    }
}
