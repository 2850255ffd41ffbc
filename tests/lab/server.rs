//! A real MariaDB in a host.

use std::io::Write;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder, Row};

use super::host::Process;
use super::{Host, Switch, wait_until};

const SOCKET: &str = "/run/mysqld/mysqld.sock";
const DATA: &str = "/var/lib/mysql";

/// Where a replica finds its place in the primary's binary log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    Gtid,
    FileAndPosition,
}

pub struct Server {
    pub host: Arc<Host>,
    pub address: String,
    pub id: u32,
    process: Option<Process>,
}

impl Server {
    /// A server with the lab's accounts and an empty table `lab.t`, not yet started.
    ///
    /// `settings` are lines of `[mysqld]` over those of `my.cnf`.
    pub fn new(host: &Arc<Host>, address: &str, id: u32, settings: &str) -> Server {
        let server = Server::empty(host, address, id, settings);
        unpack(host, fresh_data());
        server
    }

    /// The same in a host of its own on `switch`, that has the hookbox `program`.
    pub fn on(switch: &Switch, name: &str, id: u32, settings: &str, program: &[u8]) -> Server {
        let address = format!("10.77.0.1{id}");
        let host = Arc::new(Host::new(name));
        switch.plug(&host, &address);
        host.write("/usr/sbin/hookbox", program, 0o755);
        host.write("/etc/hookbox/password", "change-me\n", 0o600);
        Server::new(&host, &address, id, settings)
    }

    fn empty(host: &Arc<Host>, address: &str, id: u32, settings: &str) -> Server {
        let common = include_str!("my.cnf");
        host.write(
            "/etc/mysql/lab.cnf",
            format!("{common}\nserver-id = {id}\n{settings}\n"),
            0o644,
        );
        host.sh(&format!(
            "rm -rf {DATA}; install -d -o mysql -g mysql {DATA} /run/mysqld
             install -o mysql -g mysql -m 600 /dev/null /var/log/mysqld.log"
        ));
        Server {
            host: host.clone(),
            address: address.to_owned(),
            id,
            process: None,
        }
    }

    /// Starts it and waits until it has answered.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.host.name);
        let defaults = ["--defaults-file=/etc/mysql/lab.cnf"];
        self.process = Some(
            self.host
                .start("mariadbd", &defaults, "/var/log/mysqld.log"),
        );
        wait_until("a server answers", Duration::from_secs(30), || {
            self.connect().is_ok()
        });
    }

    /// Stops it as an operator would.
    pub fn stop(&mut self) {
        self.end_by("TERM");
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        self.end_by("KILL");
    }

    fn end_by(&mut self, signal: &str) {
        let process = self.process.take().expect("the server runs");
        process.signal(signal);
        process.wait_for_end();
    }

    /// SIGSTOP: it accepts connections, since the kernel does, and answers nothing.
    pub fn freeze(&self) {
        self.process
            .as_ref()
            .expect("the server runs")
            .signal("STOP");
    }

    pub fn thaw(&self) {
        self.process
            .as_ref()
            .expect("the server runs")
            .signal("CONT");
    }

    /// Starts or thaws it, whichever it needs.
    pub fn revive(&mut self) {
        match &self.process {
            Some(process) => process.signal("CONT"),
            None => self.start(),
        }
    }

    /// A session as root on its own socket. No answer within 200 ms is an error.
    pub fn connect(&self) -> mysql::Result<Conn> {
        connect(&self.host)
    }

    /// Asks it something as root; gives the rows as text, NULL as an empty one.
    pub fn sql(&self, query: &str) -> Vec<Vec<String>> {
        let mut session = Conn::new(own_socket(&self.host, Duration::from_secs(30)))
            .unwrap_or_else(|e| panic!("{}: {e}", self.host.name));
        rows(&mut session, query).unwrap_or_else(|e| panic!("{}: {query}: {e}", self.host.name))
    }

    /// The first column of the first row, empty if there is none.
    pub fn ask(&self, query: &str) -> String {
        self.sql(query)
            .into_iter()
            .flatten()
            .next()
            .unwrap_or_default()
    }

    /// One value of `SHOW REPLICA STATUS`, empty when it replicates from nobody.
    pub fn replica_status(&self, column: &str) -> String {
        let mut session = self.connect().unwrap();
        let row: Option<Row> = session.query_first("SHOW REPLICA STATUS").unwrap();
        row.and_then(|row| row.get_opt::<Option<String>, _>(column))
            .map(|value| value.unwrap().unwrap_or_default())
            .unwrap_or_default()
    }

    /// Makes this server replicate from `source`, from where `source` stands now.
    pub fn replicate_from(&self, source: &Server, by: Replication) {
        let place = match by {
            Replication::Gtid => {
                let position = source.ask("SELECT @@gtid_current_pos");
                self.sql(&format!("SET GLOBAL gtid_slave_pos = '{position}'"));
                "MASTER_USE_GTID = slave_pos".to_owned()
            }
            Replication::FileAndPosition => {
                let status = source.sql("SHOW MASTER STATUS").remove(0);
                let (file, position) = (&status[0], &status[1]);
                format!(
                    "MASTER_LOG_FILE = '{file}', MASTER_LOG_POS = {position}, MASTER_USE_GTID = no"
                )
            }
        };
        self.sql(&format!(
            "CHANGE MASTER TO MASTER_HOST = '{}', MASTER_USER = 'repl', MASTER_PASSWORD = 'replpass',
             MASTER_CONNECT_RETRY = 1, {place}",
            source.address
        ));
        self.sql("START REPLICA");
        self.wait_until_replicating();
    }

    pub fn wait_until_replicating(&self) {
        wait_until("a replica replicates", Duration::from_secs(30), || {
            self.replica_status("Slave_IO_Running") == "Yes"
                && self.replica_status("Slave_SQL_Running") == "Yes"
        });
    }

    /// Waits until a commit here waits for a replica.
    pub fn wait_until_semi_sync(&self) {
        let query = "SELECT variable_value FROM information_schema.global_status
                     WHERE variable_name = 'Rpl_semi_sync_master_status'";
        wait_until(
            "commits wait for the replica",
            Duration::from_secs(20),
            || self.ask(query) == "ON",
        );
    }

    /// Asked again when the session is ended in between, which is what closing writes does.
    pub fn is_writable(&self) -> bool {
        let ask = || rows(&mut self.connect().ok()?, "SELECT @@global.read_only").ok();
        let answer = (0..5).find_map(|_| ask());
        answer.unwrap_or_else(|| panic!("{} does not answer", self.host.name))[0][0] == "0"
    }
}

/// A session as root on the own socket of the server of `host`, as [`Server::connect`].
pub fn connect(host: &Host) -> mysql::Result<Conn> {
    Conn::new(own_socket(host, Duration::from_millis(200)))
}

pub fn rows(session: &mut Conn, query: &str) -> mysql::Result<Vec<Vec<String>>> {
    let rows: Vec<Row> = session.query(query)?;
    let text = |row: Row| {
        row.unwrap()
            .into_iter()
            .map(mysql::from_value::<Option<String>>)
    };
    Ok(rows
        .into_iter()
        .map(|row| text(row).map(Option::unwrap_or_default).collect())
        .collect())
}

/// How to reach the server of `host` as root from this machine, whatever network it is in.
pub fn own_socket(host: &Host, limit: Duration) -> Opts {
    OptsBuilder::new()
        .socket(host.path(SOCKET).to_str())
        .user(Some("root"))
        .read_timeout(Some(limit))
        .write_timeout(Some(limit))
        .into()
}

/// A data directory with the lab's accounts, made once and kept as a tar archive in memory.
fn fresh_data() -> &'static [u8] {
    static ARCHIVE: OnceLock<Vec<u8>> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let host = Arc::new(Host::new("template"));
        let mut server = Server::empty(&host, "", 1, "skip-log-bin");
        host.sh(
            "mariadb-install-db --defaults-file=/etc/mysql/lab.cnf --skip-test-db \
             --auth-root-authentication-method=socket",
        );
        server.start();
        let account = include_str!("../../examples/keepalived/account.sql");
        for script in [include_str!("data.sql"), account] {
            host.write("/tmp/script.sql", script, 0o600);
            host.sh("mariadb --abort-source-on-error < /tmp/script.sql");
        }
        server.stop();
        host.command("tar")
            .args(["-cC", DATA, "-f-", "."])
            .output()
            .unwrap()
            .stdout
    })
}

fn unpack(host: &Host, archive: &[u8]) {
    let mut tar = host.command("tar");
    let mut tar = tar
        .args(["-xC", DATA, "-f-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(archive).unwrap();
    assert!(tar.wait().unwrap().success());
}
