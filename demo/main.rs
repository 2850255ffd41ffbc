//! `make demo`: a primary fails under load, and hookbox replaces it, before your eyes.
//!
//! Two database hosts and a client in namespaces, real MariaDB, stock keepalived, the files of
//! `examples/keepalived`. `FAULT` says what fails: `kill` (default), `hang`, `cut` or `stop`.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it tells a person what happens, and it measures time itself"
)]

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use lab::{Ack, Change, Pair, Replication, Sampler, Shape, VIP, lost, outage};
use serde_json::Value;

/// What can be made to fail.
#[derive(Clone, Copy)]
enum Fault {
    /// SIGKILL to the primary's server.
    Kill,
    /// SIGSTOP to it: it accepts connections and answers nothing.
    Hang,
    /// The primary's switch port is blocked; its link stays up.
    Cut,
    /// keepalived is stopped on the primary.
    Stop,
}

fn main() -> ExitCode {
    let wanted = std::env::var("FAULT").unwrap_or_default();
    let fault = match wanted.as_str() {
        "" | "kill" => Fault::Kill,
        "hang" => Fault::Hang,
        "cut" => Fault::Cut,
        "stop" => Fault::Stop,
        other => {
            eprintln!("demo: no such FAULT: {other}; there are kill, hang, cut, stop");
            return ExitCode::from(2);
        }
    };
    if let Some(missing) = lab::missing() {
        eprintln!("demo: cannot build hosts here: {missing}");
        return ExitCode::from(2);
    }
    match show(fault) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// The whole story; whether every promise was kept.
fn show(fault: Fault) -> bool {
    println!("Building db1 10.77.0.11, db2 10.77.0.12 (replica of db1), client 10.77.0.20");
    // Cargo puts examples one directory below the program.
    let examples = std::env::current_exe().unwrap();
    let program = examples.parent().unwrap().with_file_name("hookbox");
    let mut pair = Pair::new(Shape::PrimaryAndReplica, Replication::Gtid, &program);
    println!("Starting keepalived with examples/keepalived; the address is {VIP}");
    pair.start_keepalived();
    pair.db1.server.wait_until_semi_sync();

    let sampler = pair.sampler();
    let writer = pair.writer();
    println!("The client writes through {VIP}");
    // keepalived asks once a second: a demo that always failed at the same distance from that
    // would always show the same outage.
    sleep(Duration::from_secs(2) + Duration::from_nanos(jitter().into()));
    println!("{} writes acknowledged, all by db1\n", writer.acks().len());

    let (began, clock) = (Instant::now(), SystemTime::now());
    let mut screen = Screen {
        began,
        shown: Vec::new(),
    };
    inject(fault, &mut pair, &screen);
    let replaced = screen.follow(&sampler, Duration::from_secs(10), || {
        writer.is_served_by(&pair.db2.server, began)
    });
    let outage = match replaced {
        true => {
            let outage = outage(&writer.acks(), began);
            screen.line(
                "client",
                &format!(
                    "db2 takes its writes; it could not write for {}",
                    ms(outage)
                ),
            );
            outage
        }
        false => {
            screen.line("client", "STILL CANNOT WRITE");
            began.elapsed()
        }
    };
    println!("\nWhat hookbox did on db2, from its journal:");
    for line in promotion(&pair.db2.journal(), clock) {
        println!("{line}");
    }

    println!();
    sleep(Duration::from_secs(1));
    repair(fault, &mut pair, &screen);
    let closed = screen.follow(&sampler, Duration::from_secs(5), || {
        !pair.db1.server.is_writable()
    });
    screen.follow(&sampler, Duration::from_secs(3), || false);
    let stayed = closed && !pair.db1.server.is_writable() && pair.db2.is_primary();
    let acks = writer.stop();
    conclude(&pair, &sampler, &acks, outage, stayed)
}

/// Something between nothing and a second, in nanoseconds.
fn jitter() -> u32 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .subsec_nanos()
}

fn inject(fault: Fault, pair: &mut Pair, screen: &Screen) {
    let what = match fault {
        Fault::Kill => "kill -9 of mysqld on db1",
        Fault::Hang => "kill -STOP of mysqld on db1: it accepts connections and answers nothing",
        Fault::Cut => "db1's switch port passes nothing any more; its link stays up",
        Fault::Stop => "keepalived is stopped on db1",
    };
    screen.line("FAULT", what);
    match fault {
        Fault::Kill => pair.db1.server.kill(),
        Fault::Hang => pair.db1.server.freeze(),
        Fault::Cut => pair.switch.block(&pair.db1.host),
        Fault::Stop => drop(pair.db1.keepalived.begin_to_stop()),
    }
}

fn repair(fault: Fault, pair: &mut Pair, screen: &Screen) {
    let what = match fault {
        Fault::Kill => "mysqld is started on db1",
        Fault::Hang => "mysqld goes on on db1",
        Fault::Cut => "db1's switch port is healed",
        Fault::Stop => "keepalived is started on db1",
    };
    screen.line("REPAIR", what);
    match fault {
        Fault::Kill => pair.db1.server.start(),
        Fault::Hang => pair.db1.server.thaw(),
        Fault::Cut => pair.switch.heal(&pair.db1.host),
        Fault::Stop => pair.db1.keepalived.start(),
    }
}

/// Prints what was promised and what came of it; whether all of it was kept.
fn conclude(pair: &Pair, sampler: &Sampler, acks: &[Ack], outage: Duration, stayed: bool) -> bool {
    let lost = lost(acks, &pair.db2.server).len();
    let overlap = sampler.overlap();
    let old = if stayed {
        "read-only, and the address stays on db2"
    } else {
        "WRITABLE, or the address moved"
    };
    println!("\nThe client could not write for     {}", ms(outage));
    println!(
        "Acknowledged writes lost           {lost} of {}",
        acks.len()
    );
    println!("Two writers with the address for   {}", ms(overlap));
    println!("The old primary is now             {old}");
    let kept = lost == 0 && overlap.is_zero() && stayed;
    if !kept {
        println!(
            "\nA PROMISE WAS BROKEN\n{}{}",
            pair.db1.journal(),
            pair.db2.journal()
        );
    }
    kept
}

/// Prints what the watcher sees as it happens.
struct Screen {
    began: Instant,
    shown: Vec<Change>,
}

impl Screen {
    fn line(&self, who: &str, what: &str) {
        self.line_at(Instant::now(), who, what);
    }

    fn line_at(&self, at: Instant, who: &str, what: &str) {
        let since = format!("+{}", ms(at.saturating_duration_since(self.began)));
        println!("{since:>9}  {who:<6}  {what}");
    }

    /// Shows changes until `done`, which is to be within `limit`; whether it was.
    fn follow(&mut self, sampler: &Sampler, limit: Duration, done: impl Fn() -> bool) -> bool {
        let started = Instant::now();
        loop {
            let finished = done();
            for change in sampler.changes() {
                if change.at < self.began || self.shown.contains(&change) {
                    continue;
                }
                let vip = if change.vip {
                    format!("has {VIP}")
                } else {
                    format!("without {VIP}")
                };
                let writes = if change.writable {
                    "takes writes"
                } else {
                    "takes no writes"
                };
                self.line_at(change.at, &change.host, &format!("{vip}, {writes}"));
                self.shown.push(change);
            }
            if finished || started.elapsed() > limit {
                return finished;
            }
            sleep(Duration::from_millis(20));
        }
    }
}

/// The steps of every notify_master after `since`, with the time since then.
fn promotion(journal: &str, since: SystemTime) -> Vec<String> {
    let records = journal
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records
        .filter_map(|record| {
            let text = |key: &str| record[key].as_str().unwrap_or_default();
            let at = humantime::parse_rfc3339(text("at"))
                .ok()?
                .duration_since(since)
                .ok()?;
            if text("applet") != "notify_master" || text("mark") == "started" {
                return None;
            }
            let what = match text("event") {
                "begin" => "keepalived starts notify_master".to_owned(),
                "end" => format!("{} after {} ms", text("outcome"), record["took_ms"]),
                _ => format!("{:<10} {}", text("mark"), text("step")),
            };
            Some(format!("{:>9}  {what}", format!("+{}", ms(at))))
        })
        .collect()
}

fn ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}
