//! `make bench`: how long it takes until a virtual address has come to a host; and for how long an application cannot write while stock MHA changes the primary, with
//! hookbox and, interleaved with it, with the scripts in `BASELINE`.
//!
//! `BASELINE` is a directory with `master_ip_failover` and `master_ip_online_change` for the virtual
//! address 10.77.0.100 on eth0; `RUNS` says how often each is measured (default 5). With
//! `ONLY_ADDRESSES` MHA is left out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it tells a person what it measured"
)]

mod addresses;
#[path = "../tests/lab/mod.rs"]
mod lab;
#[path = "../tests/support/net.rs"]
mod net;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{Cluster, Mha, Writer, lost, outage, wait_until};

/// Who is measured.
#[derive(Clone, Copy, PartialEq)]
enum Hooks {
    Hookbox,
    Baseline,
}

/// What is done.
#[derive(Clone, Copy)]
enum Switch {
    Online,
    Failover,
}

/// What the client saw of one run.
struct Seen {
    outage: Duration,
    lost: usize,
}

fn main() -> ExitCode {
    if let Some(missing) = lab::missing() {
        eprintln!("bench: cannot build hosts here: {missing}");
        return ExitCode::from(2);
    }
    let baseline = std::env::var("BASELINE").unwrap_or_default();
    let runs = std::env::var("RUNS").map_or(5, |runs| runs.parse().unwrap_or(5));
    // Cargo puts examples one directory below the program.
    let examples = std::env::current_exe().unwrap();
    let program = examples.parent().unwrap().with_file_name("hookbox");
    addresses::compare(&program, runs);
    if std::env::var_os("ONLY_ADDRESSES").is_some() {
        return ExitCode::SUCCESS;
    }
    let mut bench = Bench::new(&program);
    let mut contenders = vec![Hooks::Hookbox];
    if !baseline.is_empty() {
        bench.take_in(Path::new(&baseline));
        contenders.push(Hooks::Baseline);
    }
    println!("Time in which a client that writes all the time could not, in {runs} runs each");
    for (switch, what) in [
        (Switch::Online, "online change under load"),
        (
            Switch::Failover,
            "failover, without MHA's detection of 4 s and more",
        ),
    ] {
        println!("\n{what}");
        let mut seen: Vec<Vec<Seen>> = contenders.iter().map(|_| Vec::new()).collect();
        for _ in 0..runs {
            for (hooks, seen) in contenders.iter().zip(&mut seen) {
                seen.push(bench.run(*hooks, switch));
            }
        }
        let medians: Vec<f64> = contenders.iter().zip(seen).map(report).collect();
        if let [hookbox, baseline] = medians[..] {
            println!("  ratio     {:>6.2}", hookbox / baseline);
        }
    }
    ExitCode::SUCCESS
}

/// Prints one line; gives the median.
fn report((hooks, mut seen): (&Hooks, Vec<Seen>)) -> f64 {
    let name = match hooks {
        Hooks::Hookbox => "hookbox",
        Hooks::Baseline => "baseline",
    };
    seen.sort_by_key(|seen| seen.outage);
    let ms = |at: usize| seen[at].outage.as_millis();
    let lost: usize = seen.iter().map(|seen| seen.lost).sum();
    println!(
        "  {name:<9} {:>6} ms   from {} to {} ms, {lost} acknowledged writes lost",
        ms(seen.len() / 2),
        ms(0),
        ms(seen.len() - 1)
    );
    ms(seen.len() / 2) as f64
}

struct Bench {
    cluster: Cluster,
    mha: Mha,
}

impl Bench {
    fn new(program: &Path) -> Bench {
        let cluster = Cluster::new(program);
        let mha = Mha::new(&cluster);
        Bench { cluster, mha }
    }

    /// Gives the manager the baseline's scripts.
    fn take_in(&self, baseline: &Path) {
        for script in ["master_ip_failover", "master_ip_online_change"] {
            let path = baseline.join(script);
            let content = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let there = format!("/usr/local/baseline/{script}");
            self.cluster.manager.write(&there, content, 0o755);
        }
    }

    fn run(&mut self, hooks: Hooks, switch: Switch) -> Seen {
        self.cluster.reset();
        self.mha.reset();
        self.mha.configure(|cnf| match hooks {
            Hooks::Hookbox => cnf,
            Hooks::Baseline => cnf.replace("/usr/sbin/hookbox ", "/usr/local/baseline/"),
        });
        let app = ("app", "apppass");
        let writer = Writer::transactions(&self.cluster.client, app, Duration::ZERO);
        let limit = Duration::from_secs(20);
        wait_until("db1 is written to", limit, || writer.acks().len() > 20);
        let (old, new) = ("10.77.0.11", "10.77.0.12");
        let began = Instant::now();
        let running = match switch {
            Switch::Online => self.mha.change_online(new),
            Switch::Failover => {
                self.cluster.db1.kill();
                self.mha.fail_over(old, new)
            }
        };
        let ended = running.end();
        assert_eq!(ended.status, 0, "{}", ended.said);
        wait_until("db2 is written to", limit, || {
            writer.is_served_by(&self.cluster.db2, Instant::now() - Duration::from_secs(1))
        });
        sleep(Duration::from_millis(500));
        let acks = writer.stop();
        Seen {
            outage: outage(&acks, began),
            lost: lost(&acks, &self.cluster.db2).len(),
        }
    }
}
