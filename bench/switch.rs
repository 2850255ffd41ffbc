//! For how long an application cannot write while stock MHA changes the primary, with hookbox and,
//! interleaved with it, with the scripts in a directory: `master_ip_failover` and
//! `master_ip_online_change` for the virtual address 10.77.0.100 on eth0.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::hooks;
use crate::lab::{Cluster, Mha, Writer, lost, outage, wait_until};
use crate::report::Report;

/// What an online change costs beyond the waits that are configured, with hooks that take no time of
/// their own, was 0.32 s; and a quarter more.
const ONLINE: f64 = 0.4;

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

/// Measures it `runs` times, and the scripts in `baseline` as well if there are any.
pub fn run(report: &mut Report, program: &Path, baseline: Option<&Path>, runs: usize) {
    let mut bench = Bench::new(program);
    let mut contenders = vec![(Hooks::Hookbox, "hookbox")];
    if let Some(baseline) = baseline {
        bench.take_in(baseline);
        contenders.push((Hooks::Baseline, "baseline scripts"));
    }
    println!(
        "\nMHA: time in which a client that writes all the time could not, {runs} runs of each"
    );
    for (switch, what, aim) in [
        (Switch::Online, "online change under load", 0.2),
        (Switch::Failover, "failover without MHA's detection", 0.5),
    ] {
        let mut seen: Vec<Vec<Seen>> = contenders.iter().map(|_| Vec::new()).collect();
        for _ in 0..runs {
            for ((hooks, _), seen) in contenders.iter().zip(&mut seen) {
                seen.push(bench.run(*hooks, switch));
            }
        }
        let mut medians = Vec::new();
        for ((_, name), seen) in contenders.iter().zip(seen) {
            let outage = seen.iter().map(|seen| seen.outage.as_millis() as f64);
            let what = format!("{what}, {name}");
            medians.push(report.figure("mha", &what, "ms", outage.collect()));
            let lost: usize = seen.iter().map(|seen| seen.lost).sum();
            report.aim(
                format!("{what}: acknowledged writes lost"),
                lost as f64,
                0.0,
            );
        }
        if let Switch::Online = switch {
            report.aim(format!("{what}, s"), medians[0] / 1000.0, ONLINE);
        }
        if let [hookbox, baseline] = medians[..] {
            report.aim(format!("{what}, in baselines"), hookbox / baseline, aim);
        }
    }
    let mut took: Vec<Vec<hooks::Took>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..runs {
        for ((hooks, _), took) in contenders.iter().zip(&mut took) {
            took.push(bench.call_hooks(*hooks));
        }
    }
    let names: Vec<&str> = contenders.iter().map(|(_, name)| *name).collect();
    hooks::tell(report, &names, &took);
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

    fn call_hooks(&mut self, hooks: Hooks) -> hooks::Took {
        self.cluster.reset();
        let program: &[&str] = match hooks {
            Hooks::Hookbox => &["/usr/sbin/hookbox", "master_ip_failover"],
            Hooks::Baseline => &["/usr/local/baseline/master_ip_failover"],
        };
        hooks::fail_over(&mut self.cluster, program, hooks == Hooks::Hookbox)
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
