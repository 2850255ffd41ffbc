//! The sessions of an application are ended on a server that is closed: 2,000 of them, idle, waiting
//! for a row, waiting for a table. From the first that ended to the last that is gone from the list
//! of the server, so that nobody's start and no login counts.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::lab::{Host, Server, connect, wait_until};
use crate::report::Report;

const SESSIONS: usize = 2000;
const SOCKET: &str = "/run/mysqld/mysqld.sock";
const LIST: &str = "FROM information_schema.PROCESSLIST WHERE USER = 'app'";

/// Why there are sessions.
struct Reason {
    name: &'static str,
    /// What somebody else does, so that they wait.
    in_the_way: &'static str,
    /// What the session of this number asks.
    asks: fn(usize) -> Option<String>,
}

const REASONS: [Reason; 3] = [
    Reason {
        name: "idle",
        in_the_way: "SELECT 1",
        asks: |_| None,
    },
    Reason {
        name: "waiting for a row",
        in_the_way: "SELECT MAX(seq) FROM lab.t FOR UPDATE",
        asks: |number| Some(format!("UPDATE lab.t SET server = 2 WHERE w = {number}")),
    },
    Reason {
        name: "waiting for a table",
        in_the_way: "SELECT MAX(seq) FROM lab.t",
        asks: |_| Some("LOCK TABLES lab.t WRITE".to_owned()),
    },
];

type Way = (&'static str, fn(&Server));

/// Who ends them.
const WAYS: [Way; 4] = [
    ("hookbox fence", fence),
    ("KILLs pipelined on one connection", pipelined),
    ("KILLs one by one", one_by_one),
    ("a file of KILLs read by the client", by_file),
];

/// Measures each way `runs` times, in turns.
pub fn run(report: &mut Report, program: &Path, runs: usize) {
    may_open_files(SESSIONS + 1000);
    let host = Arc::new(Host::new("db1"));
    let settings = "max-connections = 4000\nback-log = 2000\nthread-cache-size = 10";
    let mut server = Server::new(&host, "", 1, settings);
    server.start();
    for account in ["app", "killer"] {
        server.sql(&format!("CREATE USER {account}@localhost"));
    }
    server.sql("GRANT ALL ON lab.* TO app@localhost");
    server.sql("GRANT PROCESS, CONNECTION ADMIN ON *.* TO killer@localhost");
    server.sql("INSERT INTO lab.t (w, seq, server) SELECT seq, 1, 1 FROM lab.seq_0_to_1999");
    host.write("/usr/sbin/hookbox", std::fs::read(program).unwrap(), 0o755);
    host.write("/etc/hookbox/password", "change-me\n", 0o600);
    let toml = format!(
        "[mysql]\nsocket = \"{SOCKET}\"\npassword_file = \"/etc/hookbox/password\"\n[demote]\nspare_users = [\"root\"]\n"
    );
    host.write("/etc/hookbox/hookbox.toml", toml, 0o644);

    for reason in &REASONS {
        let what = reason.name;
        println!("\n{SESSIONS} sessions end, {what}; {runs} runs of each, in turns");
        let mut took: [Vec<f64>; WAYS.len()] = Default::default();
        for _ in 0..runs {
            for ((_, end), took) in WAYS.iter().zip(&mut took) {
                server.sql("SET GLOBAL read_only = 0");
                let sessions = Sessions::open(&server, reason);
                took.push(sessions.time(&server, *end).as_secs_f64() * 1000.0);
            }
        }
        let figures = WAYS.iter().zip(took);
        let medians: Vec<f64> = figures
            .map(|((name, _), took)| {
                report.figure("sessions", format!("{what}, {name}"), "ms", took)
            })
            .collect();
        // As fast; the rest is noise.
        let aim = format!("sessions, {what}: in pipelined KILLs");
        report.aim(aim, medians[0] / medians[1], 1.1);
    }
}

/// The shell's limit of 1024 open files is too low for so many sessions.
fn may_open_files(count: usize) {
    let pid = std::process::id().to_string();
    let status = Command::new("prlimit")
        .args(["--pid", &pid, &format!("--nofile={count}:")])
        .status()
        .unwrap();
    assert!(status.success(), "not so many open files here: {count}");
}

/// The sessions of an application, and what they wait for.
struct Sessions {
    all: Vec<UnixStream>,
    _in_the_way: Conn,
}

impl Sessions {
    fn open(server: &Server, reason: &Reason) -> Sessions {
        let mut in_the_way = connect(&server.host).unwrap();
        in_the_way.query_drop("BEGIN").unwrap();
        in_the_way.query_drop(reason.in_the_way).unwrap();
        let all: Vec<UnixStream> = (0..SESSIONS).map(|_| log_in(server, "app")).collect();
        let mut asked = 0;
        for (number, mut session) in all.iter().enumerate() {
            if let Some(sql) = (reason.asks)(number) {
                send(&mut session, &[sql]);
                asked += 1;
            }
        }
        let waiting = format!("SELECT COUNT(*) {LIST} AND COMMAND = 'Query'");
        wait_until("they wait", Duration::from_secs(60), || {
            server.ask(&waiting).parse() == Ok(asked)
        });
        Sessions {
            all,
            _in_the_way: in_the_way,
        }
    }

    /// Has them ended; gives the time from the first that ended until the last was gone.
    fn time(mut self, server: &Server, end: fn(&Server)) -> Duration {
        let count = format!("SELECT COUNT(*) {LIST}");
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let first = first_to_hear(&mut self.all);
                while server.ask(&count) != "0" {
                    sleep(Duration::from_millis(1));
                }
                first.elapsed()
            });
            end(server);
            watch.join().unwrap()
        })
    }
}

/// When the first client heard of its end; all have heard then.
fn first_to_hear(sessions: &mut [UnixStream]) -> Instant {
    let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
    for (i, session) in sessions.iter().enumerate() {
        session.set_nonblocking(true).unwrap();
        let event = EpollEvent::new(EpollFlags::EPOLLIN, i as u64);
        epoll.add(session, event).unwrap();
    }
    let mut first = None;
    let mut left = sessions.len();
    let mut events = [EpollEvent::empty(); 100];
    while left > 0 {
        let limit: EpollTimeout = 20_000_u16.into();
        let count = epoll.wait(&mut events, limit).unwrap();
        assert!(count > 0, "{left} sessions do not end");
        for event in &events[..count] {
            let session = &mut sessions[event.data() as usize];
            let mut heard = [0; 1000];
            // The server says why, if it can.
            if !matches!(session.read(&mut heard), Ok(n) if n > 0) {
                first.get_or_insert_with(Instant::now);
                epoll.delete(&*session).unwrap();
                left -= 1;
            }
        }
    }
    first.unwrap()
}

fn fence(server: &Server) {
    let output = server
        .host
        .command("/usr/sbin/hookbox")
        .arg("fence")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn pipelined(server: &Server) {
    let kills = kills(server);
    let mut session = log_in(server, "killer");
    let mut sender = session.try_clone().unwrap();
    let count = kills.len();
    let sent = spawn(move || send(&mut sender, &kills));
    for _ in 0..count {
        receive(&mut session);
    }
    sent.join().unwrap();
}

fn one_by_one(server: &Server) {
    let session = log_in(server, "killer");
    for kill in kills(server) {
        ask(&session, &kill);
    }
}

fn by_file(server: &Server) {
    server.host.sh(&format!(
        "mariadb -NBe \"SELECT CONCAT('KILL ', ID, ';') {LIST}\" > /tmp/kills.sql
         mariadb -fe 'source /tmp/kills.sql' > /dev/null 2>&1 || true"
    ));
}

fn kills(server: &Server) -> Vec<String> {
    let list = server.sql(&format!("SELECT ID {LIST}"));
    list.iter().map(|row| format!("KILL {}", row[0])).collect()
}

/// Logs in by the protocol, without a password; a client library would not let a session be left
/// with a question.
fn log_in(server: &Server, user: &str) -> UnixStream {
    let mut session = UnixStream::connect(server.host.path(SOCKET)).unwrap();
    receive(&mut session);
    // LONG_PASSWORD, PROTOCOL_41, SECURE_CONNECTION; 16 MiB packets; utf8; 23 bytes of nothing.
    let mut login = vec![0x01, 0x82, 0, 0, 0, 0, 0, 1, 33];
    login.extend([0; 23]);
    login.extend(user.as_bytes());
    login.extend([0, 0]);
    write_packet(&mut session, 1, &login);
    assert_eq!(receive(&mut session)[0], 0, "{user} may log in");
    session
}

fn ask(mut session: &UnixStream, sql: &str) {
    send(session, &[sql.to_owned()]);
    receive(&mut session);
}

/// Sends questions, in one go.
fn send(mut session: impl Write, questions: &[String]) {
    let mut packets = Vec::new();
    for sql in questions {
        write_packet(&mut packets, 0, &[b"\x03", sql.as_bytes()].concat());
    }
    session.write_all(&packets).unwrap();
}

fn write_packet(to: &mut impl Write, number: u8, payload: &[u8]) {
    let mut packet = (payload.len() as u32).to_le_bytes().to_vec();
    packet[3] = number;
    packet.extend(payload);
    to.write_all(&packet).unwrap();
}

/// One packet.
fn receive(session: &mut impl Read) -> Vec<u8> {
    let mut head = [0; 4];
    session.read_exact(&mut head).unwrap();
    let length = u32::from_le_bytes([head[0], head[1], head[2], 0]);
    let mut payload = vec![0; length as usize];
    session.read_exact(&mut payload).unwrap();
    payload
}
