//! Two servers, db1 and its replica db2, shared by the cases one after the other.

use std::fmt::Debug;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use std::os::unix::process::CommandExt;

use hookbox::journal::{self, Record};
use hookbox::run::Mark;
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Row};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{self, Host, Replication, Server, Switch, wait_until};

pub const JOURNAL: &str = "/var/log/hookbox/journal.jsonl";
const SOCKET: &str = "/run/mysqld/mysqld.sock";
const PROGRAM: &str = "/usr/sbin/hookbox";

/// Without semi-sync: what is asked here does not hang on it, and after some hundred connections
/// that end abruptly MariaDB 10.11.19 now and then lets a new replica wait for a minute.
const SETTINGS: &str = "event-scheduler = on
    rpl-semi-sync-master-enabled = 0
    rpl-semi-sync-slave-enabled = 0";

/// An account of an application, and a table in which a row is an event.
const ACCOUNTS: &str = "CREATE USER app@localhost IDENTIFIED BY 'apppass';
    GRANT ALL ON lab.* TO app@localhost;
    CREATE USER batch@localhost IDENTIFIED BY 'apppass';
    GRANT ALL ON lab.* TO batch@localhost";

pub struct Site {
    pub switch: Switch,
    pub db1: Server,
    pub db2: Server,
}

/// The site as every case finds it; `None` where no lab can be built.
pub fn site(by: Replication) -> Option<MutexGuard<'static, Option<Site>>> {
    static SITE: Mutex<Option<Site>> = Mutex::new(None);
    if !lab::is_possible() {
        return None;
    }
    let mut guard = SITE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut site = guard.take().unwrap_or_else(Site::new);
    site.reset(by);
    *guard = Some(site);
    Some(guard)
}

/// `site!(site, Replication::Gtid)`: ends the test where no lab can be built.
#[macro_export]
macro_rules! site {
    ($name:ident, $by:expr) => {
        let Some(mut guard) = $crate::site::site($by) else {
            return;
        };
        let $name = guard.as_mut().unwrap();
    };
}

impl Site {
    fn new() -> Site {
        let switch = Switch::new();
        let program = std::fs::read(env!("CARGO_BIN_EXE_hookbox")).unwrap();
        let server = |name, id: u32| {
            let address = format!("10.77.0.1{id}");
            let host = Arc::new(Host::new(name));
            switch.plug(&host, &address);
            host.write(PROGRAM, &program, 0o755);
            host.write("/etc/hookbox/password", "change-me\n", 0o600);
            let mut server = Server::new(&host, &address, id, SETTINGS);
            server.start();
            let mut root = root(&server);
            root.query_drop("SET SESSION sql_log_bin = 0").unwrap();
            for statement in ACCOUNTS.split(';') {
                root.query_drop(statement).unwrap();
            }
            server
        };
        let (db1, db2) = (server("db1", 1), server("db2", 2));
        Site { switch, db1, db2 }
    }

    /// db1 takes writes, db2 replicates from it and is closed, and nothing has happened yet.
    fn reset(&mut self, by: Replication) {
        for server in [&mut self.db1, &mut self.db2] {
            if server.connect().is_err() {
                server.start();
            }
            let _ = server
                .host
                .command("tc")
                .args(["qdisc", "del", "dev", "eth0", "root"])
                .output();
            self.switch.heal(&server.host);
            let mut root = root(server);
            let mut run = |sql: &str| {
                root.query_drop(sql)
                    .unwrap_or_else(|e| panic!("{sql}: {e}"))
            };
            run("STOP ALL SLAVES");
            // One that was killed has what is in its my.cnf again.
            run("SET GLOBAL gtid_strict_mode = 0");
            run("SET GLOBAL event_scheduler = ON");
            run("SET SESSION sql_log_bin = 0");
            run("DROP DATABASE IF EXISTS lab");
            run("CREATE DATABASE lab");
            run(
                "CREATE TABLE lab.t (w INT NOT NULL, seq BIGINT NOT NULL, server INT NOT NULL,
                 id BIGINT NOT NULL AUTO_INCREMENT UNIQUE, PRIMARY KEY (w, seq))",
            );
            run("CREATE TABLE lab.e (id INT PRIMARY KEY, text TEXT)");
            run("SET GLOBAL slave_parallel_threads = 0");
        }
        for server in [&self.db1, &self.db2] {
            for row in server.sql("SHOW ALL SLAVES STATUS") {
                server.sql(&format!("RESET SLAVE '{}' ALL", row[0]));
            }
        }
        for server in [&self.db1, &self.db2] {
            server.sql("RESET MASTER");
            server.sql("SET GLOBAL gtid_slave_pos = ''");
            server
                .host
                .sh("rm -rf /var/log/hookbox /run/hookbox /var/lib/hookbox /run/gate.sock");
        }
        self.configure("");
        self.db1.sql("SET GLOBAL read_only = 0");
        self.db2.replicate_from(&self.db1, by);
        self.db2.sql("SET GLOBAL read_only = 1");
    }

    /// Gives both hosts their configuration, each with the other as its peer, and `more` lines.
    pub fn configure(&self, more: &str) {
        let peer = |address: &str| format!("[[peer]]\nhost = \"{address}\"\n");
        configure(&self.db1, &format!("{}{more}", peer(&self.db2.address)));
        configure(&self.db2, &format!("{}{more}", peer(&self.db1.address)));
    }

    /// Inserts rows `from` to `to` on db1, each in an event of its own, 1000 in a transaction.
    pub fn write_events(&self, from: u32, to: u32) {
        let mut root = root(&self.db1);
        root.query_drop(format!(
            "BEGIN NOT ATOMIC
               FOR i IN {from}..{to} DO
                 IF i % 1000 = 1 THEN START TRANSACTION; END IF;
                 INSERT INTO lab.e VALUES (i, 'event');
                 IF i % 1000 = 0 THEN COMMIT; END IF;
               END FOR;
               COMMIT;
             END"
        ))
        .unwrap();
    }

    /// Waits until db2 has received all that db1 has written.
    pub fn wait_until_received(&self) {
        let end = self.db1.sql("SHOW MASTER STATUS").remove(0);
        wait_until("db2 has received all", Duration::from_secs(60), || {
            self.db2.replica_status("Master_Log_File") == end[0]
                && self.db2.replica_status("Read_Master_Log_Pos") == end[1]
        });
    }

    /// Waits until db2 has applied all that db1 has written.
    pub fn wait_until_applied(&self) {
        let end = self.db1.sql("SHOW MASTER STATUS").remove(0);
        wait_until("db2 has applied all", Duration::from_secs(60), || {
            self.db2.replica_status("Relay_Master_Log_File") == end[0]
                && self.db2.replica_status("Exec_Master_Log_Pos") == end[1]
        });
    }
}

/// Configures hookbox on the host of `server`.
pub fn configure(server: &Server, more: &str) {
    let toml =
        format!("[mysql]\nuser = \"hookbox\"\npassword_file = \"/etc/hookbox/password\"\n{more}\n");
    server.host.write("/etc/hookbox/hookbox.toml", toml, 0o644);
}

/// A session as root without a limit.
pub fn root(server: &Server) -> Conn {
    session(server, "root", None)
}

/// A session of an application, which read_only keeps from writing.
pub fn app(server: &Server) -> Conn {
    session(server, "app", Some("apppass"))
}

pub fn session(server: &Server, user: &str, password: Option<&str>) -> Conn {
    let options = OptsBuilder::new()
        .socket(server.host.path(SOCKET).to_str())
        .user(Some(user))
        .pass(password);
    Conn::new(options).unwrap_or_else(|e| panic!("{user} on {}: {e}", server.host.name))
}

/// Runs `sql` as an application, in the background; it may fail.
pub fn in_background(server: &Server, sql: &str) -> JoinHandle<mysql::Result<()>> {
    let (mut session, sql) = (app(server), sql.to_owned());
    std::thread::spawn(move || session.query_drop(sql))
}

/// What must be as before when something was refused or undone.
pub fn standing(server: &Server) -> Vec<String> {
    let mut root = root(server);
    let rows: Vec<Row> = root.query("SHOW ALL SLAVES STATUS").unwrap();
    let mut all = vec![format!(
        "read_only {}",
        server.ask("SELECT @@global.read_only")
    )];
    for row in rows {
        let value = |column| {
            row.get::<Option<String>, _>(column)
                .flatten()
                .unwrap_or_default()
        };
        all.push(format!(
            "{} from {}: receives {}, applies {}",
            value("Connection_name"),
            value("Master_Host"),
            value("Slave_IO_Running"),
            value("Slave_SQL_Running")
        ));
    }
    all
}

/// One run of hookbox, started as keepalived starts it.
pub struct Hook {
    child: Child,
    host: Arc<Host>,
    pub started: Instant,
}

/// Starts a hook on the host of `server`: nothing on its standard streams, keepalived's umask, a
/// process group of its own.
pub fn start(server: &Server, args: &[&str]) -> Hook {
    let started = Instant::now();
    let script = format!("umask 0177; exec {PROGRAM} \"$@\"");
    let mut command = server.host.command("sh");
    let command = command.args(["-c", &script, "sh"]).args(args);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    Hook {
        child: command.spawn().unwrap(),
        host: server.host.clone(),
        started,
    }
}

/// Starts three notify hooks from one parent, as keepalived does: who is started later has the
/// higher process number. Gives their exit statuses, and how long it took until all had ended.
pub fn start_in_order(
    server: &Server,
    words: [&str; 3],
    pauses: [Duration; 3],
) -> ([i32; 3], Duration) {
    let mut script = "umask 0177\n".to_owned();
    for (word, pause) in words.iter().zip(pauses) {
        let pause = pause.as_secs_f64();
        script += &format!(
            "{PROGRAM} notify_{word} < /dev/null > /dev/null 2>&1 & all=\"$all $!\"; sleep {pause}\n"
        );
    }
    script += "for one in $all; do wait $one && echo 0 || echo $?; done";
    let started = Instant::now();
    let statuses = server.host.sh(&script);
    let mut statuses = statuses.lines().map(|line| line.parse().unwrap());
    let mut next = || statuses.next().unwrap();
    ([next(), next(), next()], started.elapsed())
}

/// Runs a hook to its end; gives its exit status and how long it took.
pub fn run(server: &Server, args: &[&str]) -> (i32, Duration) {
    start(server, args).end()
}

/// Runs a hook, which must succeed; gives how long it took.
pub fn succeed(server: &Server, args: &[&str]) -> Duration {
    let (status, took) = run(server, args);
    assert_eq!(status, 0, "{}", told(server));
    took
}

/// Runs a hook as a person would; gives exit status, standard output and standard error.
pub fn run_by_hand(server: &Server, args: &[&str]) -> (i32, String, String) {
    let output = server.host.command(PROGRAM).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

impl Hook {
    /// Waits for its end; gives its exit status, -1 when a signal ended it, and how long it took.
    pub fn end(mut self) -> (i32, Duration) {
        let limit = Duration::from_secs(120);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code().unwrap_or(-1), self.started.elapsed());
            }
            assert!(self.started.elapsed() < limit, "it does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until the journal of its host has `text`.
    pub fn wait_for(&mut self, text: &str) {
        let journal = self.host.path(JOURNAL);
        wait_until(text, Duration::from_secs(20), || {
            std::fs::read_to_string(&journal).is_ok_and(|all| all.contains(text))
        });
    }

    /// Signals the program itself, not what started it.
    pub fn signal(&self, signal: Signal) {
        let starter = self.child.id();
        let children = format!("/proc/{starter}/task/{starter}/children");
        let children = std::fs::read_to_string(children).unwrap();
        let pid = children.split_whitespace().next().unwrap().parse().unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

/// The journal of the host of `server`.
pub fn records(server: &Server) -> Vec<Record> {
    journal::tail(&server.host.path(JOURNAL), 100_000).unwrap()
}

/// The journal as text, for messages and for looking into.
pub fn told(server: &Server) -> String {
    let show = |value: &Option<String>| value.clone().unwrap_or_default();
    let line = |r: &Record| {
        let mark = r.mark.map_or("", mark_word);
        let took = r.took_ms.map_or(String::new(), |ms| format!(" [{ms} ms]"));
        let (step, note, outcome) = (show(&r.step), show(&r.note), show(&r.outcome));
        format!(
            "{} {} {mark} {step} {note} {outcome}{took}\n",
            &r.at[11..],
            r.run
        )
    };
    records(server).iter().map(line).collect()
}

fn mark_word(mark: Mark) -> &'static str {
    match mark {
        Mark::Started => "started",
        Mark::Done => "done",
        Mark::AlreadySo => "was-so",
        Mark::WouldDo => "would-do",
        Mark::Failed => "FAILED",
        Mark::Undone => "undone",
        Mark::NotUndone => "NOT-UNDONE",
        Mark::Note => "note",
    }
}

/// Asserts that the journal says each of these.
pub fn assert_told(server: &Server, words: &[&str]) {
    let told = told(server);
    for word in words {
        assert!(told.contains(word), "no {word:?} in\n{told}");
    }
}

/// Asserts that something took at most `limit`.
pub fn assert_within(took: Duration, limit: Duration, what: impl Debug) {
    assert!(took <= limit, "{took:?} instead of {limit:?}: {what:?}");
}
