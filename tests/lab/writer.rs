//! The application: writes through the VIP all the time and remembers what was acknowledged.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder};

use super::{Host, Server, VIP};

/// How long a client waits for anything before it connects anew.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long a client that measures outages waits for a connection. What it sends while nobody has
/// the address is lost, and is sent again only after 1 s: a longer wait would measure itself.
const KNOCK: Duration = Duration::from_millis(50);

/// A write that a server said it has committed.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// The number of the writer, unlike any other of this process.
    pub writer: u32,
    pub seq: u64,
    pub at: Instant,
    /// The `server_id` of the server that took it.
    pub server: u32,
}

/// What one connection does over and over.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Load {
    /// A row, and 2 ms of rest.
    Rows,
    /// A transaction with one row that stays open for so long, and 10 ms of rest.
    Transactions(Duration),
}

/// How an application logs in; it waits for no answer longer than `limit`.
pub fn application(address: &str, limit: Duration) -> Opts {
    login(address, ("app", "apppass"), limit, limit)
}

fn login(
    address: &str,
    (user, password): (&str, &str),
    connect: Duration,
    limit: Duration,
) -> Opts {
    OptsBuilder::new()
        .ip_or_hostname(Some(address))
        .prefer_socket(false)
        .user(Some(user))
        .pass(Some(password))
        .db_name(Some("lab"))
        .tcp_connect_timeout(Some(connect))
        .read_timeout(Some(limit))
        .write_timeout(Some(limit))
        .into()
}

/// A few connections that insert one row after another.
pub struct Writer {
    acks: Arc<Mutex<Vec<Ack>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Starts writing from `client` to whoever has `address`, a row every 2 ms or so each.
    pub fn start(client: &Arc<Host>, address: &str) -> Writer {
        Writer::with(client, application(address, PATIENCE), Load::Rows)
    }

    /// Transactions through the VIP that stay open for so long each, by an account with its password.
    pub fn transactions(client: &Arc<Host>, account: (&str, &str), open: Duration) -> Writer {
        let opts = login(VIP, account, KNOCK, PATIENCE);
        Writer::with(client, opts, Load::Transactions(open))
    }

    fn with(client: &Arc<Host>, opts: Opts, load: Load) -> Writer {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let acks = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let one = || {
            let writer = NEXT.fetch_add(1, Ordering::Relaxed);
            let (client, opts, acks, stop) =
                (client.clone(), opts.clone(), acks.clone(), stop.clone());
            spawn(move || {
                client.enter_network();
                let mut seq = 0;
                while !stop.load(Ordering::Relaxed) {
                    let keep = |ack| acks.lock().unwrap().push(ack);
                    let _ = write_until_error(&opts, load, writer, &mut seq, &stop, keep);
                    sleep(Duration::from_millis(10));
                }
            })
        };
        let threads = vec![one(), one()];
        Writer {
            acks,
            stop,
            threads,
        }
    }

    /// All that was acknowledged so far.
    pub fn acks(&self) -> Vec<Ack> {
        self.acks.lock().unwrap().clone()
    }

    /// Whether `server` has acknowledged anything after `since`.
    pub fn is_served_by(&self, server: &Server, since: Instant) -> bool {
        let acks = self.acks.lock().unwrap();
        acks.iter()
            .rev()
            .take_while(|ack| ack.at > since)
            .any(|ack| ack.server == server.id)
    }

    /// Ends writing; gives all that was acknowledged.
    pub fn stop(mut self) -> Vec<Ack> {
        self.end();
        self.acks()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

fn write_until_error(
    opts: &Opts,
    load: Load,
    writer: u32,
    seq: &mut u64,
    stop: &AtomicBool,
    keep: impl Fn(Ack),
) -> mysql::Result<()> {
    let mut session = Conn::new(opts.clone())?;
    let server = session.query_first("SELECT @@server_id")?.unwrap();
    while !stop.load(Ordering::Relaxed) {
        *seq += 1;
        let insert = format!("INSERT INTO t (w, seq, server) VALUES ({writer}, {seq}, {server})");
        match load {
            Load::Rows => session.query_drop(insert)?,
            Load::Transactions(open) => {
                session.query_drop("START TRANSACTION")?;
                session.query_drop(insert)?;
                sleep(open);
                session.query_drop("COMMIT")?;
            }
        }
        keep(Ack {
            writer,
            seq: *seq,
            at: Instant::now(),
            server,
        });
        sleep(match load {
            Load::Rows => Duration::from_millis(2),
            Load::Transactions(_) => Duration::from_millis(10),
        });
    }
    Ok(())
}

/// The longest time without an acknowledged write, of those that ended after `since`.
pub fn outage(acks: &[Ack], since: Instant) -> Duration {
    let mut times: Vec<Instant> = acks.iter().map(|ack| ack.at).collect();
    times.sort();
    let gaps = times
        .windows(2)
        .filter(|pair| pair[1] > since)
        .map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default()
}

/// The acknowledged writes that `survivor` does not have.
pub fn lost(acks: &[Ack], survivor: &Server) -> Vec<Ack> {
    let number = |text: &String| text.parse::<u64>().unwrap();
    let rows = survivor.sql("SELECT w, seq FROM lab.t");
    let kept: HashSet<(u64, u64)> = rows
        .iter()
        .map(|row| (number(&row[0]), number(&row[1])))
        .collect();
    acks.iter()
        .filter(|ack| !kept.contains(&(ack.writer.into(), ack.seq)))
        .copied()
        .collect()
}
