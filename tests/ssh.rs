//! Another host by ssh: real sshd, real ssh, and whatever may go wrong between them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of tests; clippy knows only functions marked as tests"
)]

mod lab;
mod scratch;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use hookbox::config;
use hookbox::error::{Error, Kind};
use hookbox::link::{Link, Remote, Vip};
use hookbox::run::{Changed, Mark};
use hookbox::ssh::{Place, Shell};
use hookbox::time::Deadline;
use lab::{Host, Process, Sshd, Switch, as_root_of, wait_until};
use scratch::Scratch;

const DB1: &str = "10.77.0.11";

/// A database host with sshd, and the manager that may log in there.
struct Site {
    db1: Arc<Host>,
    manager: Arc<Host>,
    sshd: Sshd,
    switch: Switch,
    scratch: Scratch,
}

impl Site {
    fn new() -> Option<Site> {
        if !lab::is_possible() {
            return None;
        }
        let switch = Switch::new();
        let (db1, manager) = (Arc::new(Host::new("db1")), Arc::new(Host::new("manager")));
        switch.plug(&db1, DB1);
        switch.plug(&manager, "10.77.0.30");
        let sshd = Sshd::start(&db1);
        sshd.admit(&manager, DB1);
        // A link that is plugged in sends nothing until the kernel has looked at it.
        manager.sh(&format!(
            "until ping -qc1 -W1 {DB1} > /dev/null; do :; done"
        ));
        Some(Site {
            db1,
            manager,
            sshd,
            switch,
            scratch: Scratch::new(),
        })
    }

    fn with_hookbox() -> Option<Site> {
        let site = Site::new()?;
        let program = fs::read(env!("CARGO_BIN_EXE_hookbox")).unwrap();
        site.db1.write("/usr/sbin/hookbox", program, 0o755);
        Some(site)
    }

    fn how(&self) -> config::Ssh {
        config::Ssh {
            options: as_root_of(&self.manager),
            connect: Duration::from_secs(2),
            ..config::Ssh::default()
        }
    }

    fn sockets(&self) -> PathBuf {
        self.scratch.path().join("ssh")
    }

    /// Does it where the manager is in the network, within 20 s.
    fn on_manager<T: Send>(&self, job: impl FnOnce(&Deadline) -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.manager.enter_network();
                job(&Deadline::after(Duration::from_secs(20)))
            });
            thread.join().unwrap()
        })
    }

    /// Does it with db1 as the manager sees it.
    fn with_db1<T: Send>(&self, how: &config::Ssh, job: impl FnOnce(&Remote) -> T + Send) -> T {
        self.on_manager(|deadline| job(&Remote::open(&root_at(DB1), how, None, deadline).unwrap()))
    }

    /// The end of a login that must fail, and how long that took.
    fn failure(&self, place: &Place, how: &config::Ssh) -> (Error, Duration) {
        let result = self.on_manager(|deadline| {
            let started = Instant::now();
            let error = Shell::open(place, how, None, deadline)
                .and_then(|mut shell| shell.ready())
                .unwrap_err();
            (error, started.elapsed())
        });
        self.nothing_is_left();
        result
    }

    /// Every ssh that was started for this site.
    fn clients(&self) -> Vec<String> {
        let marks = [
            as_root_of(&self.manager)[3].clone(),
            self.sockets().display().to_string(),
        ];
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|it| fs::read(it.path().join("cmdline")).ok());
        lines
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| marks.iter().any(|mark| line.contains(mark)))
            .collect()
    }

    fn nothing_is_left(&self) {
        assert_eq!(self.clients(), [""; 0]);
    }

    fn addresses(&self) -> String {
        self.db1
            .sh("ip -o -4 addr show dev eth0 | awk '{print $4}' | sort | xargs")
            .trim()
            .to_owned()
    }
}

fn root_at(address: &str) -> Place {
    Place {
        name: "db1".to_owned(),
        address: address.to_owned(),
        user: Some("root".to_owned()),
        port: None,
        options: Vec::new(),
    }
}

fn vip(text: &str) -> Vip {
    text.parse().unwrap()
}

/// The whole life of an address, whoever does it there.
fn an_address_comes_and_goes(site: &Site, how: &config::Ssh) {
    let address = vip("10.77.0.100/24 dev eth0 label eth0:vip");
    let neighbour = vip("10.77.0.10/24 dev eth0");
    site.with_db1(how, |db1| {
        db1.ready(&address).unwrap();
        assert!(!db1.has(&address).unwrap());
        assert_eq!(db1.del(&address).unwrap(), Changed::AlreadySo);
        assert_eq!(site.addresses(), "10.77.0.11/24");

        assert_eq!(db1.add(&address).unwrap(), Changed::Yes);
        assert_eq!(db1.add(&address).unwrap(), Changed::AlreadySo);
        db1.announce(&address).unwrap();
        assert!(db1.has(&address).unwrap());
        assert!(!db1.has(&neighbour).unwrap());
        assert!(db1.list().unwrap().contains(&address));
        assert_eq!(db1.del(&neighbour).unwrap(), Changed::AlreadySo);
        assert_eq!(site.addresses(), "10.77.0.100/24 10.77.0.11/24");

        for (wrong, why) in [
            (
                "10.77.0.100/32 dev eth0",
                "is on this host as 10.77.0.100/24",
            ),
            ("10.77.0.100/24 dev lo", "is on this host as 10.77.0.100/24"),
        ] {
            for error in [
                db1.ready(&vip(wrong)).unwrap_err(),
                db1.add(&vip(wrong)).unwrap_err(),
                db1.del(&vip(wrong)).unwrap_err(),
            ] {
                assert_eq!(error.kind(), Kind::Refused);
                let line = error.chain();
                assert!(line.starts_with("db1: ") && line.contains(why), "{line}");
                assert!(error.advice().unwrap().starts_with("on db1: "));
            }
        }
        let error = db1.ready(&vip("10.77.0.101/24 dev eth9")).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.chain().contains("eth9"), "{}", error.chain());

        assert_eq!(db1.del(&address).unwrap(), Changed::Yes);
        assert_eq!(db1.del(&address).unwrap(), Changed::AlreadySo);
        assert_eq!(site.addresses(), "10.77.0.11/24");

        site.db1.sh("ip link add down0 type bridge");
        let error = db1.add(&vip("10.77.0.101/24 dev down0")).unwrap_err();
        assert!(error.chain().contains("down0 is down"), "{}", error.chain());
        site.db1
            .sh("echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
        let six = vip("fd07::100/64 dev eth0");
        assert_eq!(db1.add(&six).unwrap(), Changed::Yes);
        assert!(db1.has(&six).unwrap());
        assert_eq!(db1.del(&six).unwrap(), Changed::Yes);
    });
    site.nothing_is_left();
}

#[test]
fn addresses_come_and_go_by_the_hookbox_that_is_there() {
    let Some(site) = Site::with_hookbox() else {
        return;
    };
    an_address_comes_and_goes(&site, &site.how());
    assert_eq!(site.sshd.log().matches("Accepted publickey").count(), 1);
    let journal = site.db1.read("/var/log/hookbox/journal.jsonl");
    assert!(journal.contains("add 10.77.0.100/24 dev eth0"), "{journal}");
}

#[test]
fn addresses_come_and_go_by_ip_where_there_is_no_hookbox() {
    let Some(site) = Site::new() else {
        return;
    };
    an_address_comes_and_goes(&site, &site.how());
    assert_eq!(site.sshd.log().matches("Accepted publickey").count(), 1);
    site.with_db1(&site.how(), |db1| {
        assert_eq!(db1.hookbox_version().unwrap(), None);
        assert!(db1.timeline().is_empty());
    });
}

#[test]
fn what_was_done_there_is_told_step_by_step() {
    let Some(site) = Site::with_hookbox() else {
        return;
    };
    site.with_db1(&site.how(), |db1| {
        let version = db1.hookbox_version().unwrap();
        assert_eq!(version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
        let address = vip("10.77.0.100/24 dev eth0");
        db1.ready(&address).unwrap();
        assert!(db1.timeline().is_empty(), "a question is no deed");
        db1.add(&address).unwrap();
        let steps = |db1: &Remote| -> Vec<(Mark, String)> {
            let entries = db1.timeline().into_iter();
            entries.map(|entry| (entry.mark, entry.step)).collect()
        };
        assert_eq!(
            steps(db1),
            [
                (Mark::Done, "eth0 can take 10.77.0.100".to_owned()),
                (Mark::Done, format!("add {address}")),
                (Mark::Done, format!("announce {address}")),
            ]
        );
        assert_eq!(db1.announce(&address).unwrap(), Changed::AlreadySo);
        assert!(
            db1.timeline().is_empty(),
            "it was announced when it was added"
        );
        db1.announce(&address).unwrap();
        assert_eq!(steps(db1).last().unwrap().1, format!("announce {address}"));
        db1.add(&vip("10.77.0.100/32 dev eth0")).unwrap_err();
        assert_eq!(steps(db1)[0].0, Mark::Failed);
    });
}

#[test]
fn neighbours_learn_the_address_by_arping_without_the_caller_waiting_for_it() {
    let Some(site) = Site::new() else {
        return;
    };
    // An entry that there is, of another host: gratuitous ARP changes it, and makes none.
    site.manager
        .sh("ip neigh replace 10.77.0.100 lladdr 02:00:00:00:00:99 dev eth0 nud stale");
    site.with_db1(&site.how(), |db1| {
        let address = vip("10.77.0.100/24 dev eth0");
        db1.add(&address).unwrap();
        let started = Instant::now();
        assert_eq!(db1.announce(&address).unwrap(), Changed::Yes);
        assert!(started.elapsed() < Duration::from_millis(500));
    });
    let mac = site.db1.sh("cat /sys/class/net/eth0/address");
    wait_until("the manager knows", Duration::from_secs(5), || {
        site.manager
            .sh("ip neigh show 10.77.0.100")
            .contains(mac.trim())
    });
    wait_until("arping ends", Duration::from_secs(8), || {
        site.db1.sh("pgrep -x arping || true").is_empty()
    });
    site.db1.sh("rm $(command -v arping)");
    site.with_db1(&site.how(), |db1| {
        let address = vip("10.77.0.101/24 dev eth0");
        let error = db1.ready(&address).unwrap_err();
        assert!(error.advice().unwrap().contains("iputils-arping"));
        db1.announce(&address).unwrap_err();
    });
}

#[test]
fn the_only_address_of_a_subnet_does_not_take_others_with_it() {
    let Some(site) = Site::new() else {
        return;
    };
    site.db1
        .sh("ip addr add 10.9.0.1/24 dev eth0; ip addr add 10.9.0.2/24 dev eth0");
    let first = vip("10.9.0.1/24 dev eth0");
    let setting = "/proc/sys/net/ipv4/conf/all/promote_secondaries";
    site.db1.sh(&format!(
        "echo 0 > {setting}; echo 0 > {}",
        setting.replace("all", "eth0")
    ));
    site.with_db1(&site.how(), |db1| {
        let error = db1.del(&first).unwrap_err();
        assert!(
            error.chain().contains("10.9.0.2 would go away"),
            "{}",
            error.chain()
        );
        assert!(db1.has(&first).unwrap());
        site.db1.sh(&format!("echo 1 > {setting}"));
        assert_eq!(db1.del(&first).unwrap(), Changed::Yes);
        assert!(db1.has(&vip("10.9.0.2/24 dev eth0")).unwrap());
    });
}

/// An account that is not root, and a program that makes it root.
fn operator(site: &Site) -> Place {
    site.db1
        .sh("useradd --create-home --password '*' --shell /bin/bash dba
         cp $(command -v setpriv) /usr/local/bin/as-root; chmod u+s /usr/local/bin/as-root
         echo 'echo welcome, dba; echo to db1 >&2' > /home/dba/.bashrc");
    Place {
        user: Some("dba".to_owned()),
        ..root_at(DB1)
    }
}

#[test]
fn an_account_that_is_not_root_becomes_it_for_every_command() {
    let Some(site) = Site::with_hookbox() else {
        return;
    };
    let place = operator(&site);
    let address = vip("10.77.0.100/24 dev eth0");
    let become_root = "/usr/local/bin/as-root --reuid=0 --regid=0 --clear-groups";
    let no = "#!/bin/sh\necho 'sudo: a password is required' >&2; exit 1\n";
    site.db1.write("/usr/local/bin/sudo", no, 0o755);
    for hookbox in ["/usr/sbin/hookbox", "/nowhere/hookbox"] {
        let how = |become_root: &str| config::Ssh {
            become_root: become_root.to_owned(),
            hookbox: hookbox.into(),
            ..site.how()
        };
        site.on_manager(|deadline| {
            let open = |how| Remote::open(&place, &how, None, deadline).unwrap();
            for (who, reason) in [("", "ermi"), ("sudo -n", "sudo: a password is required")] {
                let error = open(how(who)).add(&address).unwrap_err();
                assert_eq!(error.kind(), Kind::Denied, "{}", error.chain());
                assert!(error.chain().contains(reason), "{}", error.chain());
                assert!(error.advice().is_some());
            }
            assert_eq!(site.addresses(), "10.77.0.11/24");
            let db1 = open(how(become_root));
            assert_eq!(db1.add(&address).unwrap(), Changed::Yes);
            assert_eq!(db1.del(&address).unwrap(), Changed::Yes);
        });
    }
    site.nothing_is_left();
}

#[test]
fn a_far_hookbox_that_is_newer_or_broken_is_named() {
    let Some(site) = Site::new() else {
        return;
    };
    let address = vip("10.77.0.100/24 dev eth0");
    for (program, kind, why) in [
        (
            r#"echo '{"v":2,"hookbox":"9.1.0","outcome":"wonderful"}'"#,
            Kind::Refused,
            "db1 has hookbox 9.1.0",
        ),
        (
            "echo 'bad interpreter' >&2; exit 126",
            Kind::Refused,
            "bad interpreter",
        ),
        (r#"echo '{"v":1}'"#, Kind::Bug, "missing field"),
    ] {
        let script = format!("#!/bin/sh\n{program}\n");
        site.db1.write("/usr/sbin/hookbox", script, 0o755);
        site.with_db1(&site.how(), |db1| {
            let error = db1.add(&address).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.chain().contains(why), "{}", error.chain());
        });
    }
    assert_eq!(site.addresses(), "10.77.0.11/24");
}

#[test]
fn what_a_command_says_is_told_apart_from_everything_else() {
    let Some(site) = Site::new() else {
        return;
    };
    let place = operator(&site);
    site.on_manager(|deadline| {
        let mut shell = Shell::open(&place, &site.how(), None, deadline).unwrap();
        let words = ["printf", "%s", "it's \"$HOME\"\n`id`\\ "];
        let said = shell.run(&words).unwrap();
        assert_eq!((said.status, said.output.as_str()), (0, words[2]));
        assert_eq!(said.errors, "");
        let said = shell
            .script("cat; echo out; echo err >&2; (exit 7)")
            .unwrap();
        assert_eq!((said.status, said.output.as_str()), (7, "out\n"));
        assert_eq!(said.errors, "err\n");
        let said = shell.script("seq 100000").unwrap();
        assert!(said.output.ends_with("\n100000\n"));
        let long = "x".repeat(300_000);
        assert_eq!(shell.run(&["echo", &long]).unwrap().output.len(), 300_001);
        let said = shell.script("sleep 60 & echo on").unwrap();
        assert_eq!(said.output, "on\n");
    });
    site.nothing_is_left();
}

/// A listener on port 2222 that accepts and says nothing: key exchange never begins.
fn mute_listener(site: &Site) -> Process {
    site.db1.write(
        "/usr/local/bin/mute",
        "#!/usr/bin/perl
         use IO::Socket::INET;
         my $l = IO::Socket::INET->new(LocalPort => 2222, Listen => 5, ReuseAddr => 1) or die;
         my @all; while (my $c = $l->accept) { push @all, $c }",
        0o755,
    );
    let mute = site.db1.start("/usr/local/bin/mute", &[], "/dev/null");
    wait_until("it listens", Duration::from_secs(5), || {
        !site.db1.sh("ss -Hltn 'sport = :2222'").is_empty()
    });
    mute
}

/// Every way in which a login fails, with what is said about it.
#[test]
fn a_login_that_cannot_be_ends_in_time_with_one_clear_line() {
    let Some(mut site) = Site::new() else {
        return;
    };
    let how = site.how();
    let db1 = root_at(DB1);
    let soon = Duration::from_millis(1500);
    let expect = |site: &Site, place: &Place, how: &config::Ssh, kind, why: &str, within| {
        let (error, took) = site.failure(place, how);
        let line = error.chain();
        println!(
            "{took:7.1?}  {line}\n         try: {}",
            error.advice().unwrap()
        );
        assert!(line.starts_with("ssh to db1 ("), "{line}");
        assert!(line.contains(why), "{why}: {line}");
        assert!(!line.contains('\n'), "{line}");
        assert!(error.advice().unwrap().contains("ssh"), "{line}");
        assert_eq!(error.kind(), kind, "{line}");
        assert!(took < within, "{line}: {took:?}");
    };
    let limit = how.connect + Duration::from_millis(300);

    let stranger = Place {
        user: Some("daemon".to_owned()),
        ..db1.clone()
    };
    site.db1.sh("rm /etc/ssh/authorized_keys");
    expect(
        &site,
        &stranger,
        &how,
        Kind::Denied,
        "Permission denied (publickey)",
        soon,
    );
    expect(
        &site,
        &db1,
        &how,
        Kind::Denied,
        "Permission denied (publickey)",
        soon,
    );

    site.sshd.change_host_key();
    site.sshd.restart();
    expect(
        &site,
        &db1,
        &how,
        Kind::Denied,
        "not the one that is known",
        soon,
    );
    let anybody = config::Ssh {
        options: ["-F", "none", "-o", "UserKnownHostsFile=/dev/null"]
            .map(str::to_owned)
            .to_vec(),
        ..how.clone()
    };
    expect(
        &site,
        &db1,
        &anybody,
        Kind::Denied,
        "is not known here",
        soon,
    );

    let closed = Place {
        port: Some(2),
        ..db1.clone()
    };
    expect(
        &site,
        &closed,
        &how,
        Kind::Unreachable,
        "port 2: Connection refused",
        soon,
    );
    let nobody = root_at("10.78.0.1");
    expect(
        &site,
        &nobody,
        &how,
        Kind::Unreachable,
        "Network is unreachable",
        soon,
    );
    let nameless = root_at("db1.invalid");
    expect(
        &site,
        &nameless,
        &how,
        Kind::Unreachable,
        "Could not resolve hostname",
        limit,
    );

    let mute = mute_listener(&site);
    let hung = Place {
        port: Some(2222),
        ..db1.clone()
    };
    expect(
        &site,
        &hung,
        &how,
        Kind::Timeout,
        "no login within 2.0s",
        limit,
    );
    mute.signal("KILL");

    site.sshd.freeze();
    expect(
        &site,
        &db1,
        &how,
        Kind::Timeout,
        "no login within 2.0s",
        limit,
    );
    site.sshd.thaw();

    site.switch.block(&site.db1);
    expect(
        &site,
        &db1,
        &how,
        Kind::Timeout,
        "no login within 2.0s",
        limit,
    );
    let patient = config::Ssh {
        connect: Duration::from_secs(8),
        ..how.clone()
    };
    site.manager.sh("ip neigh flush dev eth0");
    expect(
        &site,
        &db1,
        &patient,
        Kind::Unreachable,
        "No route to host",
        Duration::from_secs(5),
    );
}

#[test]
fn a_host_that_stops_in_the_middle_of_a_command_ends_it_in_time_and_can_be_asked_again() {
    let Some(site) = Site::with_hookbox() else {
        return;
    };
    let address = vip("10.77.0.100/24 dev eth0");
    site.with_db1(&site.how(), |db1| {
        db1.log_in().unwrap();
        site.sshd.freeze();
        let started = Instant::now();
        let error = db1.add(&address).unwrap_err();
        println!("{:?}: {}", started.elapsed(), error.chain());
        assert_eq!(error.kind(), Kind::Unreachable);
        assert!(
            error.chain().contains("not responding"),
            "{}",
            error.chain()
        );
        assert!(started.elapsed() < Duration::from_millis(5200));
        site.nothing_is_left();

        site.sshd.thaw();
        db1.del(&address).unwrap();
        assert!(!db1.has(&address).unwrap());
    });
    site.on_manager(|_| {
        let short = Deadline::after(Duration::from_millis(1200));
        let mut shell = Shell::open(&root_at(DB1), &site.how(), None, &short).unwrap();
        shell.ready().unwrap();
        let started = Instant::now();
        let error = shell.run(&["sleep", "60"]).unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout);
        assert!(
            error.chain().contains("no answer within"),
            "{}",
            error.chain()
        );
        assert!(started.elapsed() < Duration::from_millis(1400));
    });
    site.nothing_is_left();
}

#[test]
fn a_command_that_was_given_up_is_not_carried_out_later() {
    for site in [Site::with_hookbox(), Site::new()] {
        let Some(site) = site else {
            return;
        };
        for cut in ["frozen", "cut off"] {
            site.on_manager(|_| {
                let short = Deadline::after(Duration::from_secs(2));
                let db1 = Remote::open(&root_at(DB1), &site.how(), None, &short).unwrap();
                db1.log_in().unwrap();
                match cut {
                    "frozen" => site.sshd.freeze(),
                    _ => site.switch.block(&site.db1),
                }
                let error = db1.add(&vip("10.77.0.100/24 dev eth0")).unwrap_err();
                assert_eq!(error.kind(), Kind::Timeout, "{}", error.chain());
            });
            sleep(Duration::from_secs(2));
            site.sshd.thaw();
            site.switch.heal(&site.db1);
            wait_until(
                "what was on its way arrived",
                Duration::from_secs(20),
                || site.sshd.sessions() == 0,
            );
            sleep(Duration::from_millis(300));
            assert_eq!(site.addresses(), "10.77.0.11/24", "{cut}");
        }
    }
}

#[test]
fn an_interrupted_caller_takes_its_client_along() {
    let Some(site) = Site::new() else {
        return;
    };
    site.on_manager(|deadline| {
        for stage in ["login", "command"] {
            let mut shell = Shell::open(&root_at(DB1), &site.how(), None, deadline).unwrap();
            if stage == "command" {
                shell.ready().unwrap();
            }
            let asked = Rc::new(Cell::new(0));
            let count = asked.clone();
            deadline.watched_by(Rc::new(move || {
                count.set(count.get() + 1);
                match count.get() < 4 {
                    true => Ok(()),
                    false => Err(Error::new(Kind::Overtaken, "SIGTERM arrived")),
                }
            }));
            let started = Instant::now();
            let error = shell.run(&["sleep", "60"]).unwrap_err();
            assert_eq!(error.kind(), Kind::Overtaken, "{}", error.chain());
            assert!(started.elapsed() < Duration::from_millis(500));
            drop(shell);
            site.nothing_is_left();
            deadline.renew(Duration::from_secs(20));
        }
    });
}

#[test]
fn a_killed_caller_leaves_no_client_for_long() {
    if let Ok(options) = std::env::var("CALLER_OPTIONS") {
        let how = config::Ssh {
            options: options.lines().map(str::to_owned).collect(),
            connect: Duration::from_secs(2),
            ..config::Ssh::default()
        };
        let port = std::env::var("CALLER_PORT").unwrap().parse().unwrap();
        let place = Place {
            port: Some(port),
            ..root_at(DB1)
        };
        let deadline = Deadline::after(Duration::from_secs(60));
        let mut shell = Shell::open(&place, &how, None, &deadline).unwrap();
        if port == 22 {
            shell.ready().unwrap();
        }
        println!("CALLER has begun");
        sleep(Duration::from_secs(60));
    }
    let Some(site) = Site::new() else {
        return;
    };
    let mute = mute_listener(&site);
    for port in ["22", "2222"] {
        let mut caller = std::process::Command::new("nsenter")
            .arg(format!("--target={}", site.manager.pid()))
            .arg("--net")
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "a_killed_caller_leaves_no_client_for_long",
            ])
            .env("CALLER_OPTIONS", as_root_of(&site.manager).join("\n"))
            .env("CALLER_PORT", port)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let said = std::io::BufReader::new(caller.stdout.take().unwrap());
        let mut lines = std::io::BufRead::lines(said).map_while(Result::ok);
        assert!(lines.any(|line| line.contains("CALLER has begun")));
        assert_eq!(site.clients().len(), 1);
        caller.kill().unwrap();
        caller.wait().unwrap();
        wait_until("its client ends", Duration::from_secs(4), || {
            site.clients().is_empty()
        });
    }
    mute.signal("KILL");
}

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

fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal).unwrap();
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
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
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
    use nix::sys::signal::Signal;
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
