//! A cluster with a writer, an admin address that goes with it, and a reader.

use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::lab::{self, Cluster, Host, Server, VIP};

pub const ADMIN: &str = "10.77.0.102";
pub const READER: &str = "10.77.0.101";
/// For who asks what everybody answers: a busy machine takes its time.
pub const PATIENT: &str = "--limit=20s";
pub const TOML: &str = "/etc/hookbox/hookbox.toml";

/// The same file on all hosts.
pub const CONFIG: &str = "\
vip = ['10.77.0.100/24 dev eth0']
[role.admin]
vip = ['10.77.0.102/24 dev eth0']
on = 'primary'
[role.reader]
vip = ['10.77.0.101/24 dev eth0']
on = 'replica'
[mysql]
user = 'hookbox'
password_file = '/etc/hookbox/password'
[mha]
user = 'mha'
password_file = '/etc/hookbox/mha.password'
[ssh]
user = 'root'
options = ['-o', 'StrictHostKeyChecking=no']
[check]
witness = ['10.77.0.1']
deadline = '2s'
witness_limit = '800ms'
[promote]
peer_limit = '3s'
[[peer]]
host = '10.77.0.11'
name = 'db1'
[[peer]]
host = '10.77.0.12'
name = 'db2'
[[peer]]
host = '10.77.0.13'
name = 'db3'
";

/// What hookbox said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub status: Option<i32>,
    pub text: String,
    pub took: Duration,
}

/// One cluster, shared by the tests one after the other: db1 is the primary and has the writer's and
/// the admin's addresses, db3 the reader's.
pub struct Site(MutexGuard<'static, Option<Cluster>>);

impl Site {
    /// `None` where no lab can be built.
    pub fn new() -> Option<Site> {
        static CLUSTER: Mutex<Option<Cluster>> = Mutex::new(None);
        if !lab::is_possible() {
            return None;
        }
        let mut guard = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cluster = guard
            .take()
            .unwrap_or_else(|| Cluster::new(env!("CARGO_BIN_EXE_hookbox").as_ref()));
        // Before servers are reached: an address that is there twice leads anywhere.
        for server in cluster.servers() {
            cluster.switch.heal(&server.host);
            for address in [ADMIN, READER] {
                take_off(&server.host, address);
            }
        }
        cluster.reset();
        *guard = Some(cluster);
        let site = Site(guard);
        site.configure(CONFIG);
        put_on(&site.db(1).host, ADMIN);
        put_on(&site.db(3).host, READER);
        Some(site)
    }

    pub fn cluster(&self) -> &Cluster {
        self.0.as_ref().unwrap()
    }

    pub fn cluster_mut(&mut self) -> &mut Cluster {
        self.0.as_mut().unwrap()
    }

    pub fn db(&self, number: usize) -> &Server {
        self.cluster().servers()[number - 1]
    }

    /// Gives all hosts this configuration.
    pub fn configure(&self, toml: &str) {
        for host in self.cluster().hosts() {
            host.write(TOML, toml, 0o644);
        }
    }

    /// Runs hookbox on a database host.
    pub fn run(&self, number: usize, words: &[&str]) -> Said {
        run(&self.db(number).host, words)
    }

    /// The numbers of the hosts that have `address`.
    pub fn holders(&self, address: &str) -> Vec<u32> {
        let servers = self.cluster().servers();
        let held = servers.iter().filter(|server| has(&server.host, address));
        held.map(|server| server.id).collect()
    }
}

/// Runs hookbox on `host`.
pub fn run(host: &Host, words: &[&str]) -> Said {
    Said::from(host.command("/usr/sbin/hookbox").args(words))
}

impl From<&mut Command> for Said {
    fn from(command: &mut Command) -> Said {
        let started = Instant::now();
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        Said {
            status: status.code(),
            text: String::from_utf8([stdout, stderr].concat()).unwrap(),
            took: started.elapsed(),
        }
    }
}

impl Said {
    #[track_caller]
    pub fn assert(&self, status: i32, words: &[&str]) {
        assert_eq!(self.status, Some(status), "{}", self.text);
        for word in words {
            assert!(self.text.contains(word), "no {word:?} in\n{}", self.text);
        }
    }
}

pub fn has(host: &Host, address: &str) -> bool {
    let addresses = host.sh("ip -o addr show dev eth0");
    addresses.contains(&format!(" {address}/"))
}

pub fn put_on(host: &Host, address: &str) {
    host.sh(&format!(
        "ip addr add {address}/24 dev eth0; arping -q -c1 -U -I eth0 {address} > /dev/null"
    ));
}

pub fn take_off(host: &Host, address: &str) {
    host.sh(&format!(
        "ip addr del {address}/24 dev eth0 2> /dev/null || true"
    ));
}

pub fn take_vip_off(host: &Host) {
    take_off(host, VIP);
}

pub fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}
