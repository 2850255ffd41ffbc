//! db1, db2, db3, a client and a gateway, shared by the cases one after the other.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::lab::{self, GATEWAY, Host, Replication, Server, Switch, VIP, wait_until};

pub const JOURNAL: &str = "/var/log/hookbox/journal.jsonl";
const PROGRAM: &str = "/usr/sbin/hookbox";
const PID: &str = "/run/guard-timer.pid";

/// `[guard] grace`, as it is by default.
pub const GRACE: Duration = Duration::from_secs(3);

/// Without semi-sync a primary that is cut off goes on acknowledging: the worst case.
const SETTINGS: &str = "rpl-semi-sync-master-enabled = 0
    rpl-semi-sync-slave-enabled = 0
    gtid-strict-mode = 0";

pub struct Site {
    pub switch: Switch,
    pub client: Arc<Host>,
    pub db: [Node; 3],
}

pub struct Node {
    pub host: Arc<Host>,
    pub server: Server,
}

/// The site as every case finds it: db1 is the primary and has the VIP, db2 and db3 replicate from
/// it, no guard runs. `None` where no lab can be built.
pub fn site() -> Option<MutexGuard<'static, Option<Site>>> {
    static SITE: Mutex<Option<Site>> = Mutex::new(None);
    if !lab::is_possible() {
        return None;
    }
    let mut guard = SITE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut site = guard.take().unwrap_or_else(Site::new);
    site.reset();
    *guard = Some(site);
    Some(guard)
}

/// `site!(site)`: ends the test where no lab can be built.
#[macro_export]
macro_rules! site {
    ($name:ident) => {
        let Some(mut lock) = $crate::site::site() else {
            return;
        };
        let $name = lock.as_mut().unwrap();
    };
}

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Site {
    fn new() -> Site {
        let switch = Switch::new();
        let client = Arc::new(Host::new("client"));
        switch.plug(&client, "10.77.0.20");
        let program = fs::read(env!("CARGO_BIN_EXE_hookbox")).unwrap();
        let node = |id: u32| {
            let address = format!("10.77.0.1{id}");
            let host = Arc::new(Host::new(&format!("db{id}")));
            switch.plug(&host, &address);
            host.write(PROGRAM, &program, 0o755);
            host.write("/etc/hookbox/password", "change-me\n", 0o600);
            let mut server = Server::new(&host, &address, id, SETTINGS);
            server.start();
            Node { host, server }
        };
        let db = [node(1), node(2), node(3)];
        Site { switch, client, db }
    }

    fn reset(&mut self) {
        for node in &mut self.db {
            node.stop_guard();
            self.switch.heal(&node.host);
            let _ = node
                .host
                .command("ip")
                .args(["addr", "del", &cidr(), "dev", "eth0"])
                .output();
            if node.server.connect().is_err() {
                node.server.start();
            }
            let server = &node.server;
            server.sql("SET GLOBAL read_only = 0");
            server.sql("STOP ALL SLAVES");
            for row in server.sql("SHOW ALL SLAVES STATUS") {
                server.sql(&format!("RESET SLAVE '{}' ALL", row[0]));
            }
            server.sql("TRUNCATE lab.t");
            server.sql("RESET MASTER");
            server.sql("SET GLOBAL gtid_slave_pos = ''");
            // A fence that waits at a door is of the case before.
            node.host
                .sh("rm -rf /var/log/hookbox /run/hookbox /var/lib/hookbox /var/log/guard.log");
            node.configure(GATEWAY, GRACE);
        }
        let [db1, db2, db3] = &self.db;
        db1.take_vip();
        for replica in [db2, db3] {
            replica.server.sql("SET GLOBAL read_only = 1");
            replica
                .server
                .replicate_from(&db1.server, Replication::Gtid);
        }
        db1.insert(1);
        self.wait_until_replicated();
    }

    /// Waits until both replicas have what db1 has.
    pub fn wait_until_replicated(&self) {
        let [db1, db2, db3] = &self.db;
        let place = db1.server.ask("SELECT @@gtid_binlog_pos");
        for replica in [db2, db3] {
            wait_until("a replica has all", Duration::from_secs(10), || {
                replica.server.ask("SELECT @@gtid_slave_pos") == place
            });
        }
    }

    /// Makes `new` the primary, as MHA does: the replicas stop receiving, the new primary takes
    /// writes and gets the address, the other replica is turned round, the new one forgets. Gives
    /// when the new one began to take writes.
    pub fn fail_over(&self, new: usize, other: usize) -> Instant {
        let (new, other) = (&self.db[new], &self.db[other]);
        for replica in [new, other] {
            replica.server.sql("STOP SLAVE IO_THREAD");
        }
        new.server.sql("SET GLOBAL read_only = 0");
        let writable = Instant::now();
        new.take_vip();
        other.server.sql("STOP SLAVE");
        other.server.replicate_from(&new.server, Replication::Gtid);
        new.server.sql("STOP SLAVE");
        new.server.sql("RESET SLAVE ALL");
        writable
    }

    pub fn start_guards(&self) {
        for node in &self.db {
            node.start_guard();
        }
    }
}

fn cidr() -> String {
    format!("{VIP}/24")
}

impl Node {
    /// All hosts have the same list of peers, each itself among them.
    pub fn configure(&self, witness: &str, grace: Duration) {
        let grace = humantime::format_duration(grace);
        let toml = format!(
            "vip = ['{VIP}/24 dev eth0']
             [mysql]
             user = 'hookbox'
             password_file = '/etc/hookbox/password'
             [check]
             witness = ['{witness}']
             [guard]
             grace = '{grace}'
             [[peer]]
             host = '10.77.0.11'
             [[peer]]
             host = '10.77.0.12'
             [[peer]]
             host = '10.77.0.13'\n"
        );
        self.host.write("/etc/hookbox/hookbox.toml", toml, 0o644);
    }

    /// A guard every second, whether or not the one before has ended.
    pub fn start_guard(&self) {
        let script = format!("echo $$ > {PID}; while :; do {PROGRAM} guard & sleep 1; done");
        self.host
            .start("sh", &["-c", &script], "/var/log/guard.log");
    }

    pub fn stop_guard(&self) {
        self.host.sh(&format!(
            "[ ! -e {PID} ] || kill -s KILL -- -$(cat {PID}); rm -f {PID}
             for pid in $(pidof hookbox); do kill -s KILL $pid || true; done"
        ));
    }

    /// One guard; gives its exit status and what it said.
    pub fn guard(&self, args: &[&str]) -> (i32, String, Duration) {
        let started = Instant::now();
        let mut command = self.host.command(PROGRAM);
        let Output {
            status,
            stdout,
            stderr,
        } = command.arg("guard").args(args).output().unwrap();
        let said = String::from_utf8([stdout, stderr].concat()).unwrap();
        (status.code().unwrap_or(-1), said, started.elapsed())
    }

    pub fn hookbox(&self, args: &[&str]) {
        let output = self.host.command(PROGRAM).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    }

    pub fn take_vip(&self) {
        self.host.sh(&format!(
            "ip addr add {VIP}/24 dev eth0
             arping -q -U -c 1 -I eth0 {VIP} > /dev/null 2>&1 &"
        ));
    }

    pub fn drop_vip(&self) {
        self.host.sh(&format!("ip addr del {VIP}/24 dev eth0"));
    }

    pub fn has_vip(&self) -> bool {
        let addresses = self.host.sh("ip -o addr show dev eth0");
        addresses.contains(&format!(" {VIP}/"))
    }

    /// Whether it takes no writes and has no address.
    pub fn has_given_up(&self) -> bool {
        !self.has_vip() && !self.server.is_writable()
    }

    #[track_caller]
    pub fn assert_serves(&self) {
        assert!(
            self.has_vip() && self.server.is_writable(),
            "{}: {}",
            self.host.name,
            self.told()
        );
    }

    /// A transaction of its own. Root may write in spite of read_only.
    pub fn insert(&self, seq: u32) {
        let id = self.server.id;
        self.server.sql(&format!(
            "INSERT INTO lab.t VALUES ({id}, {seq}, {id}, NULL)"
        ));
    }

    pub fn status(&self, name: &str) -> u64 {
        let query = format!(
            "SELECT variable_value FROM information_schema.global_status
             WHERE variable_name = '{name}'"
        );
        self.server.ask(&query).parse().unwrap()
    }

    /// The journal, and what guards said beside it.
    pub fn told(&self) -> String {
        self.host.read(JOURNAL) + &self.host.read("/var/log/guard.log")
    }

    /// How many runs the journal has.
    pub fn runs(&self) -> usize {
        self.host
            .read(JOURNAL)
            .matches("\"event\":\"begin\"")
            .count()
    }

    /// Waits until it has given up; gives how long that took from `since`.
    pub fn wait_until_given_up(&self, since: Instant, limit: Duration) -> Duration {
        while !self.has_given_up() {
            assert!(
                since.elapsed() < limit,
                "{} has not given up after {limit:?}: {}",
                self.host.name,
                self.told()
            );
            sleep(ms(10));
        }
        since.elapsed()
    }
}

/// The units as they are shipped.
pub fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/mha")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
