//! A database host, a manager that may log in there, and what is left of that.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookbox::config;
use hookbox::error::Error;
use hookbox::link::{Remote, Vip};
use hookbox::ssh::{Place, Shell};
use hookbox::time::Deadline;

use crate::lab::{self, Host, Process, Sshd, Switch, as_root_of, wait_until};
use crate::scratch::Scratch;

pub const DB1: &str = "10.77.0.11";

/// A database host with sshd, and the manager that may log in there.
pub struct Site {
    pub db1: Arc<Host>,
    pub manager: Arc<Host>,
    pub sshd: Sshd,
    pub switch: Switch,
    pub scratch: Scratch,
}

impl Site {
    pub fn new() -> Option<Site> {
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

    pub fn with_hookbox() -> Option<Site> {
        let site = Site::new()?;
        let program = fs::read(env!("CARGO_BIN_EXE_hookbox")).unwrap();
        site.db1.write("/usr/sbin/hookbox", program, 0o755);
        Some(site)
    }

    pub fn how(&self) -> config::Ssh {
        config::Ssh {
            options: as_root_of(&self.manager),
            reuse: Duration::from_secs(3),
            ..config::Ssh::default()
        }
    }

    pub fn sockets(&self) -> PathBuf {
        self.scratch.path().join("ssh")
    }

    /// Does it where the manager is in the network, within 20 s.
    pub fn on_manager<T: Send>(&self, job: impl FnOnce(&Deadline) -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.manager.enter_network();
                job(&Deadline::after(Duration::from_secs(20)))
            });
            thread.join().unwrap()
        })
    }

    /// Does it with db1 as the manager sees it.
    pub fn with_db1<T: Send>(&self, how: &config::Ssh, job: impl FnOnce(&Remote) -> T + Send) -> T {
        self.on_manager(|deadline| job(&Remote::open(&root_at(DB1), how, None, deadline).unwrap()))
    }

    /// The end of a login that must fail, and how long that took.
    pub fn failure(&self, place: &Place, how: &config::Ssh) -> (Error, Duration) {
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
    pub fn clients(&self) -> Vec<String> {
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

    /// No client runs, nor waits as a zombie to be reaped.
    pub fn nothing_is_left(&self) {
        assert_eq!(self.clients(), [""; 0]);
        let zombie = format!("(ssh) Z {} ", std::process::id());
        wait_until("all are reaped", Duration::from_secs(1), || {
            let processes = fs::read_dir("/proc").unwrap().flatten();
            let mut states =
                processes.filter_map(|it| fs::read_to_string(it.path().join("stat")).ok());
            !states.any(|state| state.contains(&zombie))
        });
    }

    pub fn addresses(&self) -> String {
        self.db1
            .sh("ip -o -4 addr show dev eth0 | awk '{print $4}' | sort | xargs")
            .trim()
            .to_owned()
    }
}

pub fn root_at(address: &str) -> Place {
    Place {
        name: "db1".to_owned(),
        address: address.to_owned(),
        user: Some("root".to_owned()),
        port: None,
        options: Vec::new(),
    }
}

pub fn vip(text: &str) -> Vip {
    text.parse().unwrap()
}

/// What makes [`operator`] root.
pub const AS_ROOT: &str = "/usr/local/bin/as-root --reuid=0 --regid=0 --clear-groups";

/// An account that is not root, and a program that makes it root.
pub fn operator(site: &Site) -> Place {
    site.db1
        .sh("useradd --create-home --password '*' --shell /bin/bash dba
         cp $(command -v setpriv) /usr/local/bin/as-root; chmod u+s /usr/local/bin/as-root
         echo 'echo welcome, dba; echo to db1 >&2' > /home/dba/.bashrc");
    Place {
        user: Some("dba".to_owned()),
        ..root_at(DB1)
    }
}

/// A listener on port 2222 that accepts and says nothing: key exchange never begins.
pub fn mute_listener(site: &Site) -> Process {
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
