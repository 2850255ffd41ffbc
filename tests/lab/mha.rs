//! Stock MHA on the manager of a cluster, with the example configuration.

use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookbox::journal::Record;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Cluster, Host, wait_until};

const APP1_CNF: &str = include_str!("../../examples/mha/app1.cnf");
const MEND_MHA: &str = include_str!("../../scripts/mend-mha");

/// Its own log, where the example says.
const LOG: &str = "/var/log/mha/app1.log";
const JOURNAL: &str = "/var/log/hookbox/journal.jsonl";

pub struct Mha {
    manager: Arc<Host>,
}

/// A program of MHA that was started.
pub struct Running {
    manager: Arc<Host>,
    child: Child,
    name: &'static str,
    started: Instant,
    /// How long hookbox's journal was when it was started.
    journal: usize,
}

/// How a program of MHA ended.
#[derive(Debug)]
pub struct Ended {
    pub status: i32,
    pub took: Duration,
    /// What it wrote, its log included.
    pub said: String,
}

impl Mha {
    /// MHA's modules, that every host shares with this machine, are mended in each host's own copy.
    pub fn new(cluster: &Cluster) -> Mha {
        for host in cluster.hosts() {
            host.write("/tmp/mend-mha", MEND_MHA, 0o755);
            host.sh("/tmp/mend-mha /usr/share/perl5/MHA");
        }
        let mha = Mha {
            manager: cluster.manager.clone(),
        };
        mha.configure(|cnf| cnf);
        mha.reset();
        mha
    }

    /// Writes the example, with the lab's password of replication, as `change` leaves it.
    pub fn configure(&self, change: impl Fn(String) -> String) {
        let cnf = APP1_CNF.replace("repl_password = change-me", "repl_password = replpass");
        self.manager.write("/etc/mha/app1.cnf", change(cnf), 0o600);
    }

    /// MHA forgets what it did before: after a failover it refuses the next one for 8 hours.
    pub fn reset(&self) {
        self.manager
            .sh("rm -rf /var/lib/mha /var/log/mha; mkdir -p /var/lib/mha/app1 /var/log/mha");
    }

    pub fn check_repl(&self) -> Ended {
        self.start("masterha_check_repl", &[]).end()
    }

    /// Starts the manager and waits until it watches the primary.
    pub fn manage(&self) -> Running {
        // It would try every way from one host to another: four seconds.
        let words = ["--ignore_last_failover", "--skip_check_ssh"];
        let mut manager = self.start("masterha_manager", &words);
        manager.wait_for("waiting until MySQL doesn't respond");
        manager
    }

    /// Makes `new` the primary while the old one works; that becomes a replica.
    pub fn change_online(&self, new: &str) -> Running {
        let new = format!("--new_master_host={new}");
        let words = [
            "--master_state=alive",
            &new,
            "--orig_master_is_new_slave",
            "--interactive=0",
            // Its FLUSH TABLES waits for whoever has locked a table, for ever.
            "--flush_tables=0",
        ];
        self.start("masterha_master_switch", &words)
    }

    /// Makes `new` the primary in place of `dead`.
    pub fn fail_over(&self, dead: &str, new: &str) -> Running {
        let words = [
            "--master_state=dead",
            &format!("--dead_master_host={dead}"),
            &format!("--dead_master_ip={dead}"),
            "--dead_master_port=3306",
            &format!("--new_master_host={new}"),
            "--ignore_last_failover",
            "--interactive=0",
        ];
        self.start("masterha_master_switch", &words)
    }

    /// MHA's log so far.
    pub fn log(&self) -> String {
        self.manager.read(LOG)
    }

    /// Runs an applet of hookbox by hand.
    pub fn hook(&self, applet: &'static str, words: &[String]) -> Running {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.run(
            "/usr/sbin/hookbox",
            applet,
            &[&[applet], &words[..]].concat(),
        )
    }

    /// A hook of an online change from db1 to db2.
    pub fn online_hook(&self, command: &str) -> Running {
        self.hook("master_ip_online_change", &Mha::online_words(command))
    }

    /// A hook of a failover from db1 to db2.
    pub fn failover_hook(&self, command: &str) -> Running {
        self.hook("master_ip_failover", &Mha::failover_words(command))
    }

    /// The words that MHA gives to a hook of an online change.
    pub fn online_words(command: &str) -> Vec<String> {
        let words = format!(
            "--command={command} --orig_master_host=10.77.0.11 --orig_master_ip=10.77.0.11 \
             --orig_master_port=3306 --orig_master_user=mha --new_master_host=10.77.0.12 \
             --new_master_ip=10.77.0.12 --new_master_port=3306 --new_master_user=mha \
             --orig_master_ssh_user=root --new_master_ssh_user=root --orig_master_is_new_slave \
             --orig_master_password=change-me --new_master_password=change-me"
        );
        words.split_whitespace().map(str::to_owned).collect()
    }

    /// The words that MHA gives to a hook of a failover.
    pub fn failover_words(command: &str) -> Vec<String> {
        let orig =
            "--orig_master_host=10.77.0.11 --orig_master_ip=10.77.0.11 --orig_master_port=3306";
        let words = match command {
            "status" => format!("--command=status --ssh_user=root {orig}"),
            "stop" => format!("{orig} --command=stop"),
            "stopssh" => format!("{orig} --command=stopssh --ssh_user=root"),
            _ => format!(
                "--command=start --ssh_user=root {orig} --new_master_host=10.77.0.12 \
                 --new_master_ip=10.77.0.12 --new_master_port=3306 --new_master_user=mha \
                 --new_master_password=change-me"
            ),
        };
        words.split_whitespace().map(str::to_owned).collect()
    }

    fn start(&self, program: &'static str, words: &[&str]) -> Running {
        let words = [&["--conf=/etc/mha/app1.cnf"], words].concat();
        self.run(program, program, &words)
    }

    fn run(&self, program: &str, name: &'static str, words: &[&str]) -> Running {
        let script = format!(
            "exec > /run/{name}.output 2>&1; echo $$ > /run/{name}.pid; exec setsid {program} \"$@\""
        );
        let journal = self.manager.read(JOURNAL).len();
        let child = self
            .manager
            .command("sh")
            .args(["-c", &script, "sh"])
            .args(words)
            .spawn()
            .unwrap();
        Running {
            manager: self.manager.clone(),
            child,
            name,
            started: Instant::now(),
            journal,
        }
    }
}

impl Running {
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn said(&self) -> String {
        let output = format!("/run/{}.output", self.name);
        self.manager.read(&output) + &self.manager.read(LOG)
    }

    /// Waits until it has said `words`.
    pub fn wait_for(&mut self, words: &str) {
        let started = Instant::now();
        while !self.said().contains(words) {
            let has_time = started.elapsed() < Duration::from_secs(60);
            assert!(
                has_time && self.is_running(),
                "no {words:?} in\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends it and all that it has started.
    pub fn kill(&mut self) {
        // It is the first of its process group.
        let kill = format!("kill -s KILL -- -$(cat /run/{}.pid) || true", self.name);
        self.manager.sh(&kill);
    }

    /// Sends a signal to this hook, and to nothing that it has started, as it begins the step with
    /// this number, counted from 0; gives the step, or `None` if the hook ends before.
    pub fn signal_at(&mut self, number: usize, signal: Signal) -> Option<String> {
        let starter = self.child.id();
        let children = format!("/proc/{starter}/task/{starter}/children");
        loop {
            let journal = self.manager.read(JOURNAL);
            let mut begun = journal[self.journal..]
                .lines()
                .filter(|line| line.contains("\"mark\":\"started\""));
            if let Some(line) = begun.nth(number) {
                let pid = std::fs::read_to_string(&children).unwrap_or_default();
                if let Ok(pid) = pid.trim().parse() {
                    // It may have ended meanwhile.
                    let _ = kill(Pid::from_raw(pid), signal);
                }
                let record: Record = serde_json::from_str(line).unwrap();
                return record.step;
            }
            if !self.is_running() {
                return None;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Waits for its end; the status is -1 when a signal ended it.
    pub fn end(mut self) -> Ended {
        wait_until("MHA ends", Duration::from_secs(120), || !self.is_running());
        let status = self.child.wait().unwrap();
        Ended {
            status: status.code().unwrap_or(-1),
            took: self.started.elapsed(),
            said: self.said(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
            let _ = self.child.wait();
        }
    }
}
