//! What stock MHA is made for: a manager, a primary and two replicas, and a client.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::host::Process;
use super::{Host, Replication, Sampler, Server, Sshd, Switch, VIP};

const HOOKBOX_TOML: &str = include_str!("../../examples/mha/hookbox.toml");
const ACCOUNT_SQL: &str = include_str!("../../examples/mha/account.sql");

/// MHA compares and applies relay logs, so they must stay; it knows nothing of MariaDB's GTIDs.
const SETTINGS: &str = "relay-log-purge = 0\ngtid-strict-mode = 0";

/// db1 is the primary and has the VIP, db2 may take its place, db3 may not.
pub struct Cluster {
    pub manager: Arc<Host>,
    pub db1: Server,
    pub db2: Server,
    pub db3: Server,
    pub client: Arc<Host>,
    pub switch: Switch,
}

impl Cluster {
    /// Builds everything, with the example configuration and the hookbox at `program`; then it is
    /// as after [`Cluster::reset`].
    pub fn new(program: &Path) -> Cluster {
        let program = fs::read(program).unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        let switch = Switch::new();
        let host = |name: &str, address: &str| {
            let host = Arc::new(Host::new(name));
            switch.plug(&host, address);
            host
        };
        let manager = host("manager", "10.77.0.10");
        manager.write("/usr/sbin/hookbox", &program, 0o755);
        let client = host("client", "10.77.0.20");
        let server = |name, id| {
            let mut server = Server::on(&switch, name, id, SETTINGS, &program);
            server.start();
            server.host.write("/tmp/account.sql", ACCOUNT_SQL, 0o600);
            server.host.sh("mariadb < /tmp/account.sql");
            server
        };
        let (db1, db2, db3) = (server("db1", 1), server("db2", 2), server("db3", 3));
        let mut cluster = Cluster {
            manager,
            db1,
            db2,
            db3,
            client,
            switch,
        };
        cluster.let_root_log_in_everywhere();
        cluster.reset();
        cluster
    }

    /// The manager goes to the servers, and MHA on one server to the others.
    fn let_root_log_in_everywhere(&self) {
        for server in self.servers() {
            let sshd = Sshd::start(&server.host);
            for client in self.hosts() {
                sshd.admit(client, &server.address);
            }
        }
        // MHA's programs on the servers send the manager their files.
        let sshd = Sshd::start(&self.manager);
        for server in self.servers() {
            sshd.admit(&server.host, "10.77.0.10");
        }
    }

    pub fn servers(&self) -> [&Server; 3] {
        [&self.db1, &self.db2, &self.db3]
    }

    /// As if nothing had happened: db1 is the primary with the VIP, the others replicate from it and
    /// are closed, `lab.t` is empty, hookbox has its example configuration and no memory.
    pub fn reset(&mut self) {
        for server in [&mut self.db1, &mut self.db2, &mut self.db3] {
            self.switch.heal(&server.host);
            server.host.sh(&format!(
                "nft flush ruleset
                 ip addr del {VIP}/24 dev eth0 2> /dev/null || true"
            ));
            server.revive();
        }
        let servers = self.servers();
        for server in servers {
            // Also of clients that went without a word: they would hold their locks.
            for user in ["app", "mha", "hookbox"] {
                server.sql(&format!("KILL HARD USER {user}@'10.77.0.%'"));
            }
        }
        for server in servers {
            server.sql("STOP ALL SLAVES");
            server.sql("RESET SLAVE ALL");
        }
        for server in servers {
            // As my.cnf has it; it goes with the role since.
            server.sql(
                "SET GLOBAL rpl_semi_sync_master_enabled = 1, GLOBAL rpl_semi_sync_slave_enabled = 1,
                 GLOBAL rpl_semi_sync_master_wait_no_slave = 0, GLOBAL rpl_semi_sync_master_timeout = 3000",
            );
            server.sql("SET GLOBAL read_only = 1");
            server.sql("SET STATEMENT sql_log_bin = 0 FOR TRUNCATE lab.t");
            server.sql("RESET MASTER");
            server.sql("SET GLOBAL gtid_slave_pos = ''");
        }
        self.db1.sql("SET GLOBAL read_only = 0");
        for replica in [&self.db2, &self.db3] {
            replica.replicate_from(&self.db1, Replication::FileAndPosition);
        }
        self.db1.host.sh(&format!(
            "ip addr add {VIP}/24 dev eth0; arping -q -c1 -U -I eth0 {VIP}"
        ));
        self.db1.wait_until_semi_sync();
        for host in self.hosts() {
            host.sh("umount -q /var/lib/hookbox || true
                rm -rf /var/lib/hookbox /var/log/hookbox /run/hookbox");
        }
        self.configure("");
    }

    /// Those on which hookbox and MHA are.
    pub fn hosts(&self) -> [&Arc<Host>; 4] {
        [
            &self.manager,
            &self.db1.host,
            &self.db2.host,
            &self.db3.host,
        ]
    }

    /// Gives hookbox its example configuration everywhere, on the manager with `more` in `[mha]`.
    pub fn configure(&self, more: &str) {
        let path = "/etc/hookbox/hookbox.toml";
        for server in self.servers() {
            server.host.write(path, HOOKBOX_TOML, 0o644);
        }
        self.manager
            .write("/etc/hookbox/mha.password", "change-me\n", 0o600);
        let toml = HOOKBOX_TOML.replace("user = \"mha\"", &format!("user = \"mha\"\n{more}"));
        self.manager.write(path, toml, 0o644);
    }

    /// `hookbox guard` every second on each database host, as a timer would run it.
    pub fn guard(&self) -> [Process; 3] {
        self.servers().map(|server| {
            let script = "while :; do /usr/sbin/hookbox guard & sleep 1; done";
            server
                .host
                .start("sh", &["-c", script], "/var/log/guard.log")
        })
    }

    /// Who holds the VIP and takes writes, as the hosts themselves see it.
    pub fn sampler(&self) -> Sampler {
        Sampler::start(&self.servers().map(|server| server.host.clone()))
    }

    /// Where an application could write if it went to the servers' own addresses, VIP or not.
    pub fn application(&self) -> Sampler {
        Sampler::application(&self.client, &self.servers())
    }

    /// hookbox's record of what it did on the manager.
    pub fn journal(&self) -> String {
        self.manager.read("/var/log/hookbox/journal.jsonl")
    }
}
