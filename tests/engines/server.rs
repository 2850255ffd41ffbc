//! A real server of any engine in a host.

use std::io::Write;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder, Row};

use crate::engine::Engine;
use crate::lab::{Host, Process, Replication, Switch, rows, wait_until};

const SOCKET: &str = "/run/mysqld/mysqld.sock";
const DATA: &str = "/var/lib/mysql";
const SETTINGS: &str = "/etc/mysql/lab.cnf";
const CONFIG: &str = "/etc/hookbox/hookbox.toml";
const PROGRAM: &str = "/usr/sbin/hookbox";

/// Whether replicas are let in by TLS alone.
pub struct OnlyByTls(pub bool);

/// Whether hookbox may do what events take (`hookbox grants --events`).
pub struct ForEvents(pub bool);

pub struct Server {
    pub host: Arc<Host>,
    pub address: String,
    pub engine: Engine,
    process: Option<Process>,
    /// The lines of `[mysqld]` that it has as a rule.
    settings: String,
}

impl Server {
    /// A server that runs, with accounts and without data, in a host of its own that has hookbox.
    pub fn on(switch: &Switch, name: &str, id: u32, engine: Engine, by: Replication) -> Server {
        let address = format!("10.77.0.1{id}");
        let host = Arc::new(Host::new(name));
        switch.plug(&host, &address);
        let program = std::fs::read(env!("CARGO_BIN_EXE_hookbox")).unwrap();
        host.write(PROGRAM, program, 0o755);
        host.write("/etc/hookbox/password", "change-me\n", 0o600);
        let mut server = Server::empty(&host, &address, id, engine, by);
        unpack(&host, &fresh_data(engine));
        server.start();
        server
    }

    fn empty(host: &Arc<Host>, address: &str, id: u32, engine: Engine, by: Replication) -> Server {
        let common = include_str!("my.cnf");
        let settings = engine.settings(by);
        let lines = format!("{common}\nserver-id = {id}\n{settings}");
        host.write(SETTINGS, &lines, 0o644);
        host.sh(&format!("rm -rf {DATA}; mkdir -p {DATA} /run/mysqld"));
        Server {
            host: host.clone(),
            address: address.to_owned(),
            engine,
            process: None,
            settings: lines,
        }
    }

    /// Makes hookbox's account and that of replicas as `hookbox grants` prints them for this server,
    /// and that of an application.
    fn make_accounts(&self) {
        let toml = "[mysql]\nuser = 'hookbox'\npassword_file = '/etc/hookbox/password'\n";
        self.host.write(CONFIG, toml, 0o644);
        self.host
            .write("/etc/hookbox/password", "change-me\n", 0o600);
        self.run_script(&self.printed("mysql", ForEvents(false)));
        let repl = self.printed("replication", ForEvents(false));
        self.run_script(&repl.replace("change-me", "replpass"));
        self.run_script(
            "CREATE USER app@localhost IDENTIFIED BY 'apppass';
            GRANT ALL ON lab.* TO app@localhost;
            GRANT ALL ON other.* TO app@localhost;",
        );
    }

    /// Makes hookbox's account anew, as it is printed for who has events, or for who has none.
    pub fn make_account_again(&self, events: ForEvents) {
        let drop = "SET SESSION sql_log_bin = 0;
            DROP USER hookbox@localhost;
            DROP USER hookbox@'10.77.0.%';";
        let printed = self.printed("mysql", events);
        self.in_spite_of_super_read_only(|| self.run_script(&format!("{drop}{printed}")));
    }

    /// What `hookbox grants` prints for the account of `whom`.
    fn printed(&self, whom: &str, ForEvents(events): ForEvents) -> String {
        let version = self.ask("SELECT VERSION()");
        let mut command = self.host.command(env!("CARGO_BIN_EXE_hookbox"));
        command.args(["grants", "--version", &version, "--for", whom]);
        command.args(["--from", "10.77.0.%"]);
        command.args(events.then_some("--events"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs statements as root, in one session.
    fn run_script(&self, script: &str) {
        let mut root = self.root();
        let lines: Vec<&str> = script.lines().filter(|l| !l.starts_with("--")).collect();
        let script = lines.join("\n");
        for sql in script.split(';').map(str::trim) {
            if !sql.is_empty() {
                root.query_drop(sql)
                    .unwrap_or_else(|e| panic!("{sql}: {e}"));
            }
        }
    }

    /// Lets root write while `deed` goes on, also where nobody may.
    pub fn in_spite_of_super_read_only(&self, deed: impl FnOnce()) {
        let closed = "SHOW GLOBAL VARIABLES LIKE 'super_read_only'";
        let is_closed = self.sql(closed).iter().any(|row| row[1] == "ON");
        if is_closed {
            self.sql("SET GLOBAL super_read_only = 0");
        }
        deed();
        if is_closed {
            self.sql("SET GLOBAL super_read_only = 1");
        }
    }

    /// Starts it and waits until it has answered.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.host.name);
        let defaults = format!("--defaults-file={SETTINGS}");
        let program = self.engine.program();
        self.process = Some(
            self.host
                .start(&program, &[&defaults], "/var/log/mysqld.log"),
        );
        for _ in 0..1500 {
            if self.connect("root", None).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!(
            "it does not start: {}",
            self.host.read("/var/log/mysqld.log")
        );
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        let process = self.process.take().expect("the server runs");
        process.signal("KILL");
        process.wait_for_end();
    }

    /// Starts it again with more lines of `[mysqld]`.
    pub fn restart_with(&mut self, more: &str) {
        self.kill();
        self.host
            .write(SETTINGS, format!("{}{more}", self.settings), 0o644);
        self.start();
    }

    /// Starts it with what it has as a rule, unless it runs so.
    pub fn start_as_usual(&mut self) {
        if self.host.read(SETTINGS) != self.settings {
            if self.is_running() {
                self.kill();
            }
            self.host.write(SETTINGS, &self.settings, 0o644);
        }
        if !self.is_running() {
            self.start();
        }
    }

    /// Demands TLS of the account of replicas, or not.
    pub fn let_replicas_in(&self, OnlyByTls(only): OnlyByTls) {
        let need = if only { "SSL" } else { "NONE" };
        let account = "repl@'10.77.0.%'";
        let sql = match self.engine {
            Engine::MySql56 => format!("GRANT USAGE ON *.* TO {account} REQUIRE {need}"),
            _ => format!("ALTER USER {account} REQUIRE {need}"),
        };
        let mut root = self.root();
        root.query_drop("SET SESSION sql_log_bin = 0").unwrap();
        let _ = root.query_drop("SET GLOBAL super_read_only = 0");
        root.query_drop(sql).unwrap();
    }

    pub fn connect(&self, user: &str, password: Option<&str>) -> mysql::Result<Conn> {
        let limit = Some(Duration::from_secs(90));
        let options: Opts = OptsBuilder::new()
            .socket(self.host.path(SOCKET).to_str())
            .user(Some(user))
            .pass(password)
            .read_timeout(limit)
            .write_timeout(limit)
            .into();
        Conn::new(options)
    }

    pub fn root(&self) -> Conn {
        self.connect("root", None).unwrap()
    }

    /// A session of an application, which read_only keeps from writing.
    pub fn app(&self) -> Conn {
        self.connect("app", Some("apppass")).unwrap()
    }

    /// Asks it something as root; gives the rows as text, NULL as an empty one.
    pub fn sql(&self, query: &str) -> Vec<Vec<String>> {
        rows(&mut self.root(), query).unwrap_or_else(|e| panic!("{}: {query}: {e}", self.host.name))
    }

    /// The first column of the first row, empty if there is none.
    pub fn ask(&self, query: &str) -> String {
        let all = self.sql(query);
        all.into_iter().flatten().next().unwrap_or_default()
    }

    /// One value of the state of a channel, by its old name, empty when there is no such channel.
    pub fn status_of(&self, channel: &str, column: &str) -> String {
        let rows: Vec<Row> = self.root().query(self.engine.replica_status()).unwrap();
        let value = |row: &Row, column: &str| {
            let column = self.engine.word(column);
            let value = row.get_opt::<Option<String>, _>(column.as_str());
            value.and_then(Result::ok).flatten().unwrap_or_default()
        };
        let is_it = |row: &&Row| {
            value(row, "Channel_Name") == channel && value(row, "Connection_name") == channel
                || value(row, "Channel_Name") + &value(row, "Connection_name") == channel
        };
        let found = rows.iter().find(is_it);
        found.map(|row| value(row, column)).unwrap_or_default()
    }

    pub fn status(&self, column: &str) -> String {
        self.status_of("", column)
    }

    /// The last position in its binary log: file and offset.
    pub fn written(&self) -> [String; 2] {
        let row = self.sql(self.engine.binlog_status()).remove(0);
        [row[0].clone(), row[1].clone()]
    }

    /// What must be as before when something was refused or undone.
    pub fn standing(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .sql("SHOW GLOBAL VARIABLES LIKE '%read_only'")
            .into_iter()
            .filter(|row| ["read_only", "super_read_only"].contains(&row[0].as_str()))
            .map(|row| row.join(" "))
            .collect();
        for channel in ["", "one", "two"] {
            let value = |column| self.status_of(channel, column);
            let [source, receives, applies] =
                ["Master_Host", "Slave_IO_Running", "Slave_SQL_Running"].map(value);
            if !source.is_empty() {
                all.push(format!(
                    "{channel} from {source}: receives {receives}, applies {applies}"
                ));
            }
        }
        all
    }

    /// Whether an application could write.
    pub fn is_writable(&self) -> bool {
        self.ask("SELECT @@global.read_only") == "0"
    }

    /// Sets a variable of the replica, which is stopped for it.
    pub fn apply_with_workers(&self, workers: u32) {
        let word = |text| self.engine.word(text);
        let variable = self.engine.workers();
        self.sql(&word("STOP SLAVE SQL_THREAD"));
        self.sql(&format!("SET GLOBAL {variable} = {workers}"));
        self.sql(&word("START SLAVE SQL_THREAD"));
    }

    /// Starts to replicate from `source` by `channel`, from where `source` stands now.
    pub fn replicate_from(&self, source: &Server, by: Replication, channel: &str) {
        let engine = self.engine;
        let place = match (by, engine.is_mariadb()) {
            (Replication::Gtid, true) => "MASTER_USE_GTID = slave_pos".to_owned(),
            (Replication::Gtid, false) => "MASTER_AUTO_POSITION = 1".to_owned(),
            (Replication::FileAndPosition, mariadb) => {
                let [file, offset] = source.written();
                let no = if mariadb {
                    ", MASTER_USE_GTID = no"
                } else {
                    ""
                };
                format!("MASTER_LOG_FILE = '{file}', MASTER_LOG_POS = {offset}{no}")
            }
        };
        let (change, key) = match engine {
            Engine::MySql97 => (
                "CHANGE REPLICATION SOURCE TO",
                ", GET_SOURCE_PUBLIC_KEY = 1",
            ),
            _ if engine.is_mariadb() => ("CHANGE MASTER @ TO", ""),
            _ => ("CHANGE MASTER TO", ""),
        };
        self.sql(&engine.on_channel(
            &format!(
                "{change} MASTER_HOST = '{}', MASTER_USER = 'repl', MASTER_PASSWORD = 'replpass', \
                 MASTER_CONNECT_RETRY = 1, {place}{key}",
                source.address
            ),
            channel,
        ));
        self.sql(&engine.on_channel("START SLAVE @", channel));
        let columns = ["Slave_IO_Running", "Slave_SQL_Running", "Last_IO_Error"];
        for _ in 0..1000 {
            let runs = columns.map(|column| self.status_of(channel, column)) == ["Yes", "Yes", ""];
            // It says that it runs before it has asked for this.
            if runs && self.status_of(channel, "Master_Server_Id") != "0" {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let now = columns.map(|column| self.status_of(channel, column));
        panic!("{} does not replicate: {now:?}", self.host.name);
    }

    /// Stops replicating, and forgets from whom.
    pub fn forget_sources(&self) {
        for channel in ["", "one", "two"] {
            if !self.status_of(channel, "Master_Host").is_empty() {
                self.sql(&self.engine.on_channel("STOP SLAVE @", channel));
                self.sql(&self.engine.on_channel("RESET SLAVE @ ALL", channel));
            }
        }
    }

    /// Waits until `channel` has received all that `source` has written.
    pub fn wait_until_received(&self, source: &Server, channel: &str) {
        self.wait_for(source, channel, ["Master_Log_File", "Read_Master_Log_Pos"]);
    }

    /// Waits until `channel` has applied all that `source` has written.
    pub fn wait_until_applied(&self, source: &Server, channel: &str) {
        self.wait_for(
            source,
            channel,
            ["Relay_Master_Log_File", "Exec_Master_Log_Pos"],
        );
    }

    fn wait_for(&self, source: &Server, channel: &str, columns: [&str; 2]) {
        let end = source.written();
        wait_until(
            &format!("{} has {end:?} of {}", self.host.name, source.host.name),
            Duration::from_secs(90),
            || columns.map(|column| self.status_of(channel, column)) == end,
        );
    }
}

/// A data directory with the accounts, as a tar archive; that of the engine asked for last is kept.
fn fresh_data(engine: Engine) -> Arc<Vec<u8>> {
    static LAST: Mutex<Option<(Engine, Arc<Vec<u8>>)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some((_, data)) = last.as_ref().filter(|(of, _)| *of == engine) {
        return data.clone();
    }
    let host = Arc::new(Host::new("template"));
    let mut server = Server::empty(&host, "", 1, engine, Replication::FileAndPosition);
    host.sh(&format!(
        "{} > /tmp/init.log 2>&1 || {{ cat /tmp/init.log >&2; exit 1; }}",
        engine.initialize(DATA)
    ));
    server.start();
    server.make_accounts();
    let process = server.process.take().unwrap();
    process.signal("TERM");
    process.wait_for_end();
    // Whom a server takes itself for must differ, and so must what it has logged.
    host.sh(&format!(
        "cd {DATA}; rm -f auto.cnf binlog.* relay* ib_buffer_pool"
    ));
    let tar = host.command("tar").args(["-cC", DATA, "-f-", "."]).output();
    let data = Arc::new(tar.unwrap().stdout);
    *last = Some((engine, data.clone()));
    data
}

fn unpack(host: &Host, archive: &[u8]) {
    let mut tar = host.command("tar");
    let tar = tar.args(["-xC", DATA, "-f-"]).stdin(Stdio::piped());
    let mut tar = tar.spawn().unwrap();
    tar.stdin.take().unwrap().write_all(archive).unwrap();
    assert!(tar.wait().unwrap().success());
}
