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
use hookbox::error::{Error, Kind, Result};
use hookbox::link::{Link, Remote, Vip};
use hookbox::run::{Changed, Mark};
use hookbox::ssh::{Place, Shell};
use hookbox::time::Deadline;
use lab::{Host, Sshd, Switch, as_root_of, wait_until};
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
        manager.sh(&format!("until ping -qc1 -W1 {DB1} > /dev/null; do :; done"));
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
        self.on_manager(|deadline| {
            job(&Remote::open(&root_at(DB1), how, None, deadline).unwrap())
        })
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
            ("10.77.0.100/32 dev eth0", "is on this host as 10.77.0.100/24"),
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
