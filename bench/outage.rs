//! For how long an application cannot write when a primary fails, and which part of that is whose:
//! two hosts under stock keepalived with `examples/keepalived`, and a cluster under stock MHA's
//! manager with `examples/mha`.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::lab::{
    Ack, Change, Cluster, Host, Mha, Pair, Replication, Server, Shape, Writer, lost, wait_until,
};
use crate::report::{Piece, Report};

/// The application's account.
const APP: (&str, &str) = ("app", "apppass");

/// How long a takeover may take before the benchmark gives up.
const LIMIT: Duration = Duration::from_secs(30);

/// keepalived starts a check so often: faults are spread evenly over this time, or the median
/// would depend on luck.
const BETWEEN_CHECKS: Duration = Duration::from_secs(1);

/// What happens to a primary.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// SIGKILL to its server.
    Killed,
    /// SIGSTOP to it.
    Hangs,
    /// keepalived is stopped there, as for maintenance.
    Stopped,
    /// Its switch port passes nothing any more.
    CutOff,
}

/// What the client and the hosts saw of one fault.
struct Seen {
    outage: Duration,
    lost: usize,
    /// For how long two hosts both had the address and took writes.
    overlap: Duration,
    /// What the outage consists of, in order.
    parts: Vec<(&'static str, Duration)>,
}

/// Measures each fault `runs` times.
pub fn run(report: &mut Report, program: &Path, runs: usize) {
    println!(
        "\nkeepalived with examples/keepalived: time in which a client that writes all the time \
         could not, {runs} faults of each kind"
    );
    let faults = [
        (Fault::Killed, "primary killed", Some(1.0)),
        (Fault::Hangs, "primary hangs", Some(2.0)),
        (Fault::Stopped, "keepalived stopped", Some(0.3)),
        (Fault::CutOff, "primary cut off", None),
    ];
    let mut seen: [Vec<Seen>; 4] = Default::default();
    for turn in 0..runs {
        for ((fault, _, _), seen) in faults.iter().zip(&mut seen) {
            let after = BETWEEN_CHECKS * turn as u32 / runs as u32;
            seen.push(one(program, *fault, after));
        }
    }
    for ((_, what, seconds), seen) in faults.iter().zip(&seen) {
        let pieces = tell(report, what, *seconds, seen);
        report.bar(*what, pieces);
    }
    under_mha(report, program, runs);
}

/// Takes in what was seen of one kind of fault; gives what its outage consists of.
fn tell(report: &mut Report, what: &str, seconds: Option<f64>, seen: &[Seen]) -> Vec<Piece> {
    let ms = |duration: &Duration| duration.as_secs_f64() * 1000.0;
    let outages = seen.iter().map(|seen| ms(&seen.outage)).collect();
    let median = report.figure("outage", what, "ms", outages);
    let mut pieces = Vec::new();
    for (i, (name, _)) in seen[0].parts.iter().enumerate() {
        let values = seen.iter().map(|seen| ms(&seen.parts[i].1)).collect();
        let median = report.figure("outage", format!("{what}: {name}"), "ms", values);
        pieces.push(Piece::new(*name, median));
    }
    if let Some(seconds) = seconds {
        report.aim(format!("{what}, in s"), median / 1000.0, seconds);
    }
    let lost: usize = seen.iter().map(|seen| seen.lost).sum();
    report.aim(
        format!("{what}: acknowledged writes lost"),
        lost as f64,
        0.0,
    );
    let overlap: Duration = seen.iter().map(|seen| seen.overlap).sum();
    report.aim(format!("{what}: two writers, in ms"), ms(&overlap), 0.0);
    pieces
}

/// One fault, `after` a check of keepalived, on hosts of its own.
fn one(program: &Path, fault: Fault, after: Duration) -> Seen {
    let mut pair = Pair::new(Shape::PrimaryAndReplica, Replication::Gtid, program);
    let started = Instant::now();
    pair.start_keepalived();
    pair.db1.server.wait_until_semi_sync();
    let sampler = pair.sampler();
    let writer = Writer::transactions(&pair.client, APP, Duration::ZERO);
    wait_until("db1 is written to", LIMIT, || writer.acks().len() > 20);
    let mut at = started + after;
    while at < Instant::now() + BETWEEN_CHECKS {
        at += BETWEEN_CHECKS;
    }
    sleep(at - Instant::now());

    let clock = Clock::now();
    let checks = Checks::watch(&pair.db1.host);
    match fault {
        Fault::Killed => pair.db1.server.kill(),
        Fault::Hangs => pair.db1.server.freeze(),
        Fault::Stopped => drop(pair.db1.keepalived.begin_to_stop()),
        Fault::CutOff => pair.switch.block(&pair.db1.host),
    }
    let acks = acks_until_served(writer, &pair.db2.server, clock.instant);
    let (stopped, served) = gap(&acks, clock.instant);

    let changes = sampler.changes();
    let gone = vip_change(&changes, "db1", false, clock.instant);
    let came = vip_change(&changes, "db2", true, clock.instant);
    let journal = pair.db2.journal();
    let promotion = |event: &str, step: &str| clock.of_step(&journal, "notify_master", event, step);
    let mut marks = match fault {
        Fault::Killed | Fault::Hangs => vec![
            (
                "until keepalived starts the next check",
                checks.failed_by(gone),
            ),
            ("the check", gone),
        ],
        Fault::Stopped => vec![("keepalived gives the address away", gone)],
        Fault::CutOff => vec![],
    };
    marks.extend([
        match fault {
            Fault::CutOff => ("silence", came),
            _ => ("the other host takes the address", came),
        },
        ("notify_master starts", promotion("begin", "")),
        (
            "asks the old primary",
            promotion("step", "applies without error"),
        ),
        (
            "applies the rest, opens writes",
            promotion("step", "writable"),
        ),
        ("the client comes back", served),
    ]);
    Seen {
        outage: served - stopped,
        lost: lost(&acks, &pair.db2.server).len(),
        overlap: sampler.overlap(),
        parts: parts(stopped, marks),
    }
}

/// MHA's manager finds the primary dead and replaces it.
fn under_mha(report: &mut Report, program: &Path, runs: usize) {
    println!(
        "\nthe same under MHA's manager with examples/mha (ping_interval 1), its detection included"
    );
    let mut cluster = Cluster::new(program);
    let mha = Mha::new(&cluster);
    let mut seen = Vec::new();
    for turn in 0..runs {
        cluster.reset();
        mha.reset();
        let manager = mha.manage();
        let sampler = cluster.sampler();
        let writer = Writer::transactions(&cluster.client, APP, Duration::ZERO);
        wait_until("db1 is written to", LIMIT, || writer.acks().len() > 20);
        sleep(Duration::from_secs(1) * turn as u32 / runs as u32);
        let clock = Clock::now();
        cluster.db1.kill();
        let acks = acks_until_served(writer, &cluster.db2, clock.instant);
        let (stopped, served) = gap(&acks, clock.instant);
        let ended = manager.end();
        assert_eq!(ended.status, 0, "{}", ended.said);
        let journal = cluster.journal();
        let hook = |nth, event| clock.of_hook(&journal, nth, event);
        let marks = vec![
            (
                "MHA finds it dead, and looks at all others",
                hook(0, "begin"),
            ),
            ("master_ip_failover stop", hook(0, "end")),
            ("MHA recovers what the replicas lack", hook(1, "begin")),
            ("master_ip_failover start", served),
        ];
        seen.push(Seen {
            outage: served - stopped,
            lost: lost(&acks, &cluster.db2).len(),
            overlap: sampler.overlap(),
            parts: parts(stopped, marks),
        });
    }
    tell(report, "MHA, primary killed", None, &seen);
}

/// Waits until `server` takes writes, and a moment more; all that was acknowledged.
fn acks_until_served(writer: Writer, server: &Server, since: Instant) -> Vec<Ack> {
    wait_until("the other server is written to", LIMIT, || {
        writer.is_served_by(server, since)
    });
    sleep(Duration::from_millis(500));
    writer.stop()
}

/// The longest time without an acknowledged write, of those that ended after `since`: from, to.
fn gap(acks: &[Ack], since: Instant) -> (Instant, Instant) {
    let mut times: Vec<Instant> = acks.iter().map(|ack| ack.at).collect();
    times.sort();
    let gaps = times.windows(2).filter(|pair| pair[1] > since);
    let longest = gaps.max_by_key(|pair| pair[1] - pair[0]).unwrap();
    (longest[0], longest[1])
}

/// What lies between one mark and the next. The hosts are looked at every few ms, so that a mark
/// may seem to come before the one that it follows.
fn parts(from: Instant, marks: Vec<(&'static str, Instant)>) -> Vec<(&'static str, Duration)> {
    let mut last = from;
    let until = marks.last().map_or(from, |(_, at)| *at);
    let part = |(what, at): (&'static str, Instant)| {
        let at = at.clamp(last, until);
        let part = (what, at - last);
        last = at;
        part
    };
    marks.into_iter().map(part).collect()
}

/// When `host` was first seen with the address, or without it, after `since`.
fn vip_change(changes: &[Change], host: &str, vip: bool, since: Instant) -> Instant {
    let mut of_host = changes.iter().filter(|it| it.host == host && it.at > since);
    of_host
        .find(|change| change.vip == vip)
        .map_or(since, |change| change.at)
}

/// The same moment by two clocks.
struct Clock {
    instant: Instant,
    system: SystemTime,
}

impl Clock {
    fn now() -> Clock {
        Clock {
            instant: Instant::now(),
            system: SystemTime::now(),
        }
    }

    /// The records of `journal` since this moment.
    fn records(&self, journal: &str) -> Vec<(Instant, Value)> {
        let record = |line: &str| {
            let record: Value = serde_json::from_str(line).ok()?;
            let at = humantime::parse_rfc3339(record["at"].as_str()?).ok()?;
            Some((self.instant + at.duration_since(self.system).ok()?, record))
        };
        journal.lines().filter_map(record).collect()
    }

    /// When a run of `applet` did this: `step` is a part of a step's words.
    fn of_step(&self, journal: &str, applet: &str, event: &str, step: &str) -> Instant {
        let is_it = |record: &Value| {
            record["applet"] == applet
                && record["event"] == event
                && record["mark"] != "started"
                && record["step"].as_str().unwrap_or_default().contains(step)
        };
        let mut records = self.records(journal).into_iter();
        let found = records.find(|(_, record)| is_it(record));
        found.map_or(self.instant, |(at, _)| at)
    }

    /// When the `nth` hook of MHA began or ended.
    fn of_hook(&self, journal: &str, nth: usize, event: &str) -> Instant {
        let is_it =
            |record: &Value| record["applet"] == "master_ip_failover" && record["event"] == event;
        let mut records = self.records(journal).into_iter();
        let found = records
            .by_ref()
            .filter(|(_, record)| is_it(record))
            .nth(nth);
        found.map_or(self.instant, |(at, _)| at)
    }
}

/// When checks began on a host. keepalived does not say.
struct Checks {
    seen: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checks {
    fn watch(host: &Arc<Host>) -> Checks {
        let (seen, stop) = (Arc::<Mutex<Vec<Instant>>>::default(), Arc::default());
        let (host, sink, end) = (host.clone(), seen.clone(), Arc::clone(&stop));
        let thread = spawn(move || {
            let mut known = Vec::new();
            while !AtomicBool::load(&end, Ordering::Relaxed) {
                let processes = fs::read_dir(host.path("/proc")).into_iter().flatten();
                for process in processes.flatten() {
                    let name = process.file_name();
                    let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
                    let is_check = String::from_utf8_lossy(&command).contains("\0check_mysql\0");
                    if is_check && !known.contains(&name) {
                        sink.lock().unwrap().push(Instant::now());
                        known.push(name);
                    }
                }
                sleep(Duration::from_millis(3));
            }
        });
        Checks {
            seen,
            stop,
            thread: Some(thread),
        }
    }

    /// When the check began that had failed by `moment`. It asks twice, or waits: what has lived
    /// for less is what it starts itself, which looks like it for a moment.
    fn failed_by(&self, moment: Instant) -> Instant {
        let latest = moment - Duration::from_millis(150);
        let seen = self.seen.lock().unwrap();
        let before = seen.iter().filter(|at| **at < latest).max();
        before.copied().unwrap_or(moment)
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
