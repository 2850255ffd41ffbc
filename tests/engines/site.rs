//! A primary db1, its replica db2, and db3 when a case wants a second source; shared by the cases of
//! one engine, one after the other.

use std::fmt;
use std::io::Write;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant, SystemTime};

use hookbox::journal;
use hookbox::run::Mark;
use mysql::prelude::Queryable;

use crate::engine::Engine;
use crate::findings;
use crate::lab::{self, Replication, Switch, wait_until};
use crate::server::Server;

const PROGRAM: &str = "/usr/sbin/hookbox";
const JOURNAL: &str = "/var/log/hookbox/journal.jsonl";

/// Inserts rows, each in an event of its own, 1000 in a transaction.
const EVENTS: &str = "CREATE PROCEDURE lab.events(first INT, last INT) BEGIN
    DECLARE i INT DEFAULT first;
    WHILE i <= last DO
        IF i = first OR i % 1000 = 1 THEN START TRANSACTION; END IF;
        INSERT INTO lab.e VALUES (i, 'event');
        IF i = last OR i % 1000 = 0 THEN COMMIT; END IF;
        SET i = i + 1;
    END WHILE;
END";

pub struct Site {
    pub engine: Engine,
    pub by: Replication,
    pub switch: Switch,
    pub db1: Server,
    pub db2: Server,
    db3: Option<Server>,
}

/// Runs one case on the site as every case finds it, and notes what it has found.
pub fn run(engine: Engine, by: Replication, name: &str, case: fn(&mut Site) -> String) {
    static SITE: Mutex<Option<Site>> = Mutex::new(None);
    if !lab::is_possible() {
        return;
    }
    if let Some(missing) = engine.missing() {
        // Past the harness, which hides what a passed test prints.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIPPED: {missing}").unwrap();
        return findings::note(engine, by, name, "skipped");
    }
    let mut guard = SITE.lock().unwrap_or_else(PoisonError::into_inner);
    // Taken out, so that a case that breaks leaves nothing to the next.
    let kept = guard.take().filter(|s| (s.engine, s.by) == (engine, by));
    findings::note(engine, by, name, "**failed**");
    let started = Instant::now();
    let mut site = kept.unwrap_or_else(|| Site::new(engine, by));
    site.reset();
    let ready = started.elapsed();
    let found = case(&mut site);
    for server in [&site.db1, &site.db2] {
        let told = told(server);
        // What `hookbox grants` prints is enough.
        for refusal in ["denied", "error 1227", "error 1142"] {
            assert!(!told.contains(refusal), "{refusal}: {told}");
        }
    }
    eprintln!(
        "{} {by:?} {name}: {found} (ready after {ready:.1?}, done after {:.1?})",
        engine.name(),
        started.elapsed()
    );
    findings::note(engine, by, name, &found);
    *guard = Some(site);
}

impl Site {
    fn new(engine: Engine, by: Replication) -> Site {
        let switch = Switch::new();
        let db1 = Server::on(&switch, "db1", 1, engine, by);
        let db2 = Server::on(&switch, "db2", 2, engine, by);
        findings::version(engine, &db1.ask("SELECT VERSION()"));
        Site {
            engine,
            by,
            switch,
            db1,
            db2,
            db3: None,
        }
    }

    /// db1 takes writes, db2 replicates from it and is closed, and nothing has happened yet.
    fn reset(&mut self) {
        for server in [&mut self.db1, &mut self.db2] {
            server.start_as_usual();
            let mut tc = server.host.command("tc");
            let _ = tc.args(["qdisc", "del", "dev", "eth0", "root"]).output();
            self.switch.heal(&server.host);
        }
        for server in [&self.db1, &self.db2] {
            server.forget_sources();
        }
        self.make_empty(&self.db1, "e");
        self.make_empty(&self.db2, "e");
        self.configure("");
        self.db2
            .sql(&format!("SET GLOBAL {} = 0", self.engine.workers()));
        self.db2.replicate_from(&self.db1, self.by, "");
        self.db2.sql(match self.has_super_read_only() {
            true => "SET GLOBAL super_read_only = 1",
            false => "SET GLOBAL read_only = 1",
        });
    }

    pub fn has_super_read_only(&self) -> bool {
        matches!(self.engine, Engine::MySql57 | Engine::MySql97)
    }

    /// Makes `server` writable, with an empty table lab.`table`, and no transaction in its log.
    fn make_empty(&self, server: &Server, table: &str) {
        let mut root = server.root();
        let mut run = |sql: &str| {
            root.query_drop(sql)
                .unwrap_or_else(|e| panic!("{}: {sql}: {e}", server.host.name))
        };
        run("SET GLOBAL read_only = 0");
        run("SET SESSION sql_log_bin = 0");
        for schema in ["lab", "other"] {
            run(&format!("DROP DATABASE IF EXISTS {schema}"));
            run(&format!("CREATE DATABASE {schema}"));
            run(&format!(
                "CREATE TABLE {schema}.{table} (id INT PRIMARY KEY, text TEXT)"
            ));
        }
        run(EVENTS);
        run(self.engine.forget_binlogs());
        if self.engine.is_mariadb() {
            run("SET GLOBAL gtid_slave_pos = ''");
        }
        server
            .host
            .sh("rm -rf /var/log/hookbox /run/hookbox /var/lib/hookbox");
    }

    /// Gives both hosts their configuration, each with the other as its peer, and `more` lines.
    pub fn configure(&self, more: &str) {
        for (server, peer) in [(&self.db1, &self.db2), (&self.db2, &self.db1)] {
            let toml = format!(
                "[mysql]\nuser = \"hookbox\"\npassword_file = \"/etc/hookbox/password\"\n\
                 [[peer]]\nhost = \"{}\"\n{more}\n",
                peer.address
            );
            server.host.write("/etc/hookbox/hookbox.toml", toml, 0o644);
        }
    }

    /// A second source of db2: db2 then replicates from db1 by channel `one` and from db3 by channel
    /// `two`. db3 has a table lab.e3.
    pub fn add_source(&mut self) {
        let (engine, by) = (self.engine, self.by);
        self.db2.sql("SET GLOBAL read_only = 0");
        self.db2.forget_sources();
        let new = || Server::on(&self.switch, "db3", 3, engine, by);
        let db3 = self.db3.take().unwrap_or_else(new);
        self.make_empty(&db3, "e3");
        {
            let mut root = self.db2.root();
            root.query_drop("SET SESSION sql_log_bin = 0").unwrap();
            root.query_drop("CREATE TABLE lab.e3 (id INT PRIMARY KEY, text TEXT)")
                .unwrap();
        }
        if engine.is_mariadb() {
            // Two servers that both write must not number their transactions alike.
            db3.sql("SET GLOBAL gtid_domain_id = 3");
        }
        self.db2.replicate_from(&self.db1, by, "one");
        self.db2.replicate_from(&db3, by, "two");
        self.db2.sql("SET GLOBAL read_only = 1");
        self.db3 = Some(db3);
    }

    /// What [`Site::add_source`] has added.
    pub fn second_source(&self) -> &Server {
        self.db3.as_ref().expect("a source was added")
    }

    /// Inserts rows `first` to `last` on db1, each in an event of its own, 1000 in a transaction.
    pub fn write_events(&self, first: u32, last: u32) {
        self.db1.sql(&format!("CALL lab.events({first}, {last})"));
    }

    /// Holds up the applier of db2 at `tables` until the session is dropped.
    pub fn hold(&self, tables: &str) -> mysql::Conn {
        let mut holder = self.db2.root();
        let _ = holder.query_drop("SET GLOBAL super_read_only = 0");
        let lock = format!("LOCK TABLES {tables}");
        holder.query_drop(lock).unwrap();
        holder
    }

    /// The last row that db2 has.
    pub fn last_row(&self) -> String {
        self.db2.ask("SELECT MAX(id) FROM lab.e")
    }
}

/// Looks all the time which row was applied last and whether the server takes writes.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(SystemTime, bool, u32)>>,
}

impl Watcher {
    pub fn start(server: &Server) -> Watcher {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut root, stopped) = (server.root(), stop.clone());
        let thread = spawn(move || {
            let mut seen = Vec::new();
            let mut last_look = false;
            while !last_look {
                last_look = stopped.load(Ordering::Relaxed);
                // In this order: what is applied at the moment of opening is there afterwards.
                let closed: Option<bool> = root.query_first("SELECT @@global.read_only").unwrap();
                let last: Option<Option<u32>> =
                    root.query_first("SELECT MAX(id) FROM lab.e").unwrap();
                let last = last.flatten().unwrap_or(0);
                seen.push((SystemTime::now(), closed == Some(false), last));
                sleep(Duration::from_millis(2));
            }
            seen
        });
        Watcher { stop, thread }
    }

    /// Asserts that `server` opened after it had applied row `last`; gives how long after.
    pub fn opened_after(self, server: &Server, last: u32) -> Late {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().unwrap();
        let early = seen.iter().find(|(_, open, row)| *open && *row < last);
        assert_eq!(early, None, "open before row {last}");
        let applied = seen.iter().find(|(_, _, row)| *row == last);
        let opened = seen.iter().find(|(_, open, _)| *open);
        let (applied, opened) = (applied.expect("all is applied"), opened.expect("it opens"));
        let since = |time: SystemTime| time.duration_since(applied.0).unwrap_or_default();
        Late {
            waited: since(end_of_wait(server)),
            opened: since(opened.0),
        }
    }
}

/// How long after the last row was applied something happened.
pub struct Late {
    /// The wait for that ended.
    waited: Duration,
    /// The server took writes.
    pub opened: Duration,
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waited, opened) = (self.waited.as_millis(), self.opened.as_millis());
        write!(f, "waited {waited} ms too long, open after {opened} ms")
    }
}

/// When the last promotion knew that everything is applied.
fn end_of_wait(server: &Server) -> SystemTime {
    let records = journal::tail(&server.host.path(JOURNAL), 100_000).unwrap_or_default();
    let is_end = |r: &&journal::Record| {
        let step = r.step.as_deref().unwrap_or_default();
        r.mark == Some(Mark::Done) && step.starts_with("apply what was received")
    };
    let end = records.iter().rfind(is_end).expect("it waits");
    humantime::parse_rfc3339(&end.at).unwrap()
}

/// One run of hookbox.
pub struct Hook {
    child: Child,
    journal: std::path::PathBuf,
    started: Instant,
}

pub fn start(server: &Server, applet: &str) -> Hook {
    start_with(server, &[applet])
}

pub fn start_with(server: &Server, args: &[&str]) -> Hook {
    let started = Instant::now();
    let mut command = server.host.command(PROGRAM);
    let child = command.args(args).stderr(Stdio::null());
    Hook {
        child: child.spawn().unwrap(),
        journal: server.host.path(JOURNAL),
        started,
    }
}

impl Hook {
    /// Waits for its end; gives its exit status and how long it took.
    pub fn end(mut self) -> (i32, Duration) {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code().unwrap_or(-1), self.started.elapsed());
            }
            if self.started.elapsed() > Duration::from_secs(120) {
                self.child.kill().unwrap();
                panic!("it does not end");
            }
            sleep(Duration::from_millis(1));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until the journal of its host has `text`.
    pub fn wait_for(&self, text: &str) {
        wait_until(text, Duration::from_secs(20), || {
            std::fs::read_to_string(&self.journal).is_ok_and(|all| all.contains(text))
        });
    }
}

/// Runs a hook to its end; gives its exit status and how long it took.
pub fn hook(server: &Server, applet: &str) -> (i32, Duration) {
    start(server, applet).end()
}

/// Runs hookbox as a person does; gives its exit status, and all that it said and wrote down.
pub fn by_hand(server: &Server, args: &[&str]) -> (i32, String) {
    let output = server.host.command(PROGRAM).args(args).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    let status = output.status.code().unwrap_or(-1);
    (status, format!("{said}{}", told(server)))
}

/// Runs a hook, which must succeed; gives how long it took.
pub fn succeed(server: &Server, applet: &str) -> Duration {
    let (status, took) = hook(server, applet);
    assert_eq!(status, 0, "{}", told(server));
    took
}

/// The journal of the host of `server`, as text.
pub fn told(server: &Server) -> String {
    let records = journal::tail(&server.host.path(JOURNAL), 100_000).unwrap_or_default();
    let show = |value: &Option<String>| value.clone().unwrap_or_default();
    let line = |r: &journal::Record| {
        let mark = r.mark.map_or(String::new(), |mark| format!("{mark:?}"));
        let took = r.took_ms.map_or(String::new(), |ms| format!(" [{ms} ms]"));
        let (step, note, outcome) = (show(&r.step), show(&r.note), show(&r.outcome));
        format!("{} {mark} {step} {note} {outcome}{took}\n", &r.at[11..])
    };
    records.iter().map(line).collect()
}

/// Asserts that the journal says each of these.
pub fn assert_told(server: &Server, words: &[&str]) {
    let told = told(server);
    for word in words {
        assert!(told.contains(word), "no {word:?} in\n{told}");
    }
}

/// Asserts that something took at most `limit`.
pub fn assert_within(took: Duration, limit: Duration, what: &str) {
    assert!(took <= limit, "{took:?} instead of {limit:?}: {what}");
}
