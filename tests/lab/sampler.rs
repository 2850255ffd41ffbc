//! The watcher: who holds the VIP and who takes writes, every 10 ms.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::server::own_socket;
use super::writer::application;
use super::{Host, Server, VIP};

const INTERVAL: Duration = Duration::from_millis(10);

/// A server that does not answer a question for so long took no writes since it was asked.
const SILENT: Duration = Duration::from_millis(200);

/// What was seen of one host, each with the time of the question.
#[derive(Default)]
struct Seen {
    vip: Mutex<Vec<(Instant, bool)>>,
    writable: Mutex<Vec<(Instant, bool)>>,
}

/// Looks at hosts from two threads each: a frozen server does not hold up the look for the VIP.
pub struct Sampler {
    hosts: Vec<(String, Arc<Seen>)>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// One change that the sampler saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub at: Instant,
    pub host: String,
    pub vip: bool,
    pub writable: bool,
}

impl Sampler {
    pub fn start(hosts: &[Arc<Host>]) -> Sampler {
        let mut sampler = Sampler {
            hosts: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        for host in hosts {
            let seen = Arc::new(Seen::default());
            sampler.hosts.push((host.name.clone(), seen.clone()));
            let (other_host, other_seen, other_stop) =
                (host.clone(), seen.clone(), sampler.stop.clone());
            let (host, stop) = (host.clone(), sampler.stop.clone());
            sampler
                .threads
                .push(spawn(move || look_for_vip(&host, &seen, &stop)));
            sampler.threads.push(spawn(move || {
                ask_server(
                    || Conn::new(own_socket(&other_host, SILENT)),
                    &other_seen,
                    &other_stop,
                )
            }));
        }
        sampler
    }

    /// Looks from `client` at the servers' own addresses, with the application's account: what it
    /// sees is where an application could write that does not keep to the VIP.
    pub fn application(client: &Arc<Host>, servers: &[&Server]) -> Sampler {
        let mut sampler = Sampler {
            hosts: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        for server in servers {
            let seen = Arc::new(Seen::default());
            seen.vip.lock().unwrap().push((Instant::now(), true));
            let name = server.host.name.clone();
            sampler.hosts.push((name, seen.clone()));
            let opts = application(&server.address, SILENT);
            let (client, stop) = (client.clone(), sampler.stop.clone());
            sampler.threads.push(spawn(move || {
                client.enter_network();
                ask_server(|| Conn::new(opts.clone()), &seen, &stop);
            }));
        }
        sampler
    }

    /// For how long two hosts both held the VIP and took writes.
    pub fn overlap(&self) -> Duration {
        let mut total = Duration::ZERO;
        let mut both_since: Option<Instant> = None;
        let mut able: Vec<(String, bool)> = self
            .hosts
            .iter()
            .map(|(name, _)| (name.clone(), false))
            .collect();
        for change in self.changes() {
            let host = able
                .iter_mut()
                .find(|(name, _)| *name == change.host)
                .unwrap();
            host.1 = change.vip && change.writable;
            let both = able.iter().filter(|(_, able)| *able).count() > 1;
            match both_since {
                None if both => both_since = Some(change.at),
                Some(since) if !both => {
                    total += change.at - since;
                    both_since = None;
                }
                _ => {}
            }
        }
        total + both_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Every change seen so far, oldest first.
    pub fn changes(&self) -> Vec<Change> {
        let mut changes: Vec<Change> = self
            .hosts
            .iter()
            .flat_map(|(name, seen)| seen.changes(name))
            .collect();
        changes.sort_by_key(|change| change.at);
        changes
    }

    /// How `host` was seen last: whether it held the VIP, whether it took writes.
    pub fn last(&self, host: &Host) -> (bool, bool) {
        let (_, seen) = self
            .hosts
            .iter()
            .find(|(name, _)| *name == host.name)
            .unwrap();
        let last = |samples: &Mutex<Vec<(Instant, bool)>>| {
            samples.lock().unwrap().last().is_some_and(|(_, was)| *was)
        };
        (last(&seen.vip), last(&seen.writable))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Seen {
    fn changes(&self, host: &str) -> Vec<Change> {
        let tag =
            |samples: &Mutex<Vec<(Instant, bool)>>, is_vip: bool| -> Vec<(Instant, bool, bool)> {
                samples
                    .lock()
                    .unwrap()
                    .iter()
                    .map(|(at, was)| (*at, is_vip, *was))
                    .collect()
            };
        let mut samples = tag(&self.vip, true);
        samples.extend(tag(&self.writable, false));
        samples.sort_by_key(|sample| sample.0);
        let (mut vip, mut writable) = (false, false);
        let mut changes = Vec::new();
        for (at, is_vip, now) in samples {
            let state = if is_vip { &mut vip } else { &mut writable };
            if *state != now {
                *state = now;
                changes.push(Change {
                    at,
                    host: host.to_owned(),
                    vip,
                    writable,
                });
            }
        }
        changes
    }
}

fn look_for_vip(host: &Host, seen: &Seen, stop: &AtomicBool) {
    host.enter_network();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let addresses = fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap();
        seen.vip
            .lock()
            .unwrap()
            .push((now, is_local(&addresses, VIP)));
        sleep(INTERVAL);
    }
}

/// Whether a host whose /proc/net/fib_trie this is has `address`.
fn is_local(fib_trie: &str, address: &str) -> bool {
    let mut lines = fib_trie.lines();
    let leaf = format!("|-- {address}");
    lines.any(|line| line.trim() == leaf)
        && lines
            .take_while(|line| line.trim().starts_with('/'))
            .any(|line| line.contains("host LOCAL"))
}

fn ask_server(connect: impl Fn() -> mysql::Result<Conn>, seen: &Seen, stop: &AtomicBool) {
    let mut session: Option<Conn> = None;
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let answer = ask(&connect, &mut session);
        // A yes counts from the answer, a no and a silence from the question.
        let writable = answer.unwrap_or_else(|_| {
            session = None;
            false
        });
        let at = if writable { Instant::now() } else { asked };
        seen.writable.lock().unwrap().push((at, writable));
        sleep(INTERVAL);
    }
}

fn ask(
    connect: impl Fn() -> mysql::Result<Conn>,
    session: &mut Option<Conn>,
) -> mysql::Result<bool> {
    if session.is_none() {
        *session = Some(connect()?);
    }
    let read_only: Option<bool> = session
        .as_mut()
        .unwrap()
        .query_first("SELECT @@global.read_only")?;
    Ok(read_only == Some(false))
}
