//! One cluster, shared by the scenarios one after the other, and everything that is watched.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::lab::{
    self, Ack, Cluster, Ended, Mha, Process, Sampler, Server, Writer, lost, outage, wait_until,
};

/// Who writes, and who may write whatever read_only says.
pub const APP: (&str, &str) = ("app", "apppass");
pub const SUPER: (&str, &str) = ("mha", "change-me");

/// An open transaction takes no time.
pub const SHORT: Duration = Duration::ZERO;

/// The guard runs every second; the rest is for a busy machine.
const GUARD: Duration = Duration::from_secs(4);

pub struct Lab {
    pub cluster: Cluster,
    pub mha: Mha,
}

/// A scenario: db1 is the primary, and it is watched who may write.
pub struct Trial {
    sampler: Sampler,
    application: Sampler,
    writers: Vec<Writer>,
    guards: Vec<Process>,
    tolerated: Duration,
    may_share_vip: bool,
    began: Instant,
    lab: MutexGuard<'static, Option<Lab>>,
}

impl Trial {
    /// `None` where no lab can be built.
    pub fn begin() -> Option<Trial> {
        static LAB: Mutex<Option<Lab>> = Mutex::new(None);
        if !lab::is_possible() {
            return None;
        }
        let mut guard = LAB.lock().unwrap_or_else(PoisonError::into_inner);
        let lab = match guard.take() {
            None => {
                let cluster = Cluster::new(env!("CARGO_BIN_EXE_hookbox").as_ref());
                let mha = Mha::new(&cluster);
                Lab { cluster, mha }
            }
            Some(mut lab) => {
                lab.cluster.reset();
                lab.mha.reset();
                lab
            }
        };
        Some(Trial {
            sampler: lab.cluster.sampler(),
            application: lab.cluster.application(),
            writers: Vec::new(),
            guards: Vec::new(),
            tolerated: Duration::ZERO,
            may_share_vip: false,
            began: Instant::now(),
            lab: {
                *guard = Some(lab);
                guard
            },
        })
    }

    pub fn cluster(&self) -> &Cluster {
        &self.lab.as_ref().unwrap().cluster
    }

    pub fn mha(&self) -> &Mha {
        &self.lab.as_ref().unwrap().mha
    }

    /// The server with this number.
    pub fn db(&self, number: u32) -> &Server {
        self.cluster().servers()[number as usize - 1]
    }

    /// Somebody writes through the VIP, in transactions that stay open for so long.
    pub fn write(&mut self, account: (&str, &str), open: Duration) {
        let writer = Writer::transactions(&self.cluster().client, account, open);
        self.writers.push(writer);
        self.wait_until_served_by(1, Instant::now());
    }

    /// From now on `hookbox guard` runs every second on each database host.
    pub fn guard(&mut self) {
        self.guards.extend(self.cluster().guard());
    }

    /// Does something to the cluster; gives the time of it.
    pub fn fault(&mut self, fault: impl FnOnce(&mut Cluster)) -> Instant {
        let now = Instant::now();
        fault(&mut self.lab.as_mut().unwrap().cluster);
        now
    }

    /// Waits until the server with this number has acknowledged to everybody what was written after
    /// `since`.
    pub fn wait_until_served_by(&self, number: u32, since: Instant) {
        let started = Instant::now();
        let served = |writer: &Writer| writer.is_served_by(self.db(number), since);
        while !self.writers.iter().all(served) {
            if started.elapsed() > Duration::from_secs(20) {
                panic!("db{number} takes no writes\n{}", self.story());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What must hold after every switch: the server with this number alone has the VIP and takes
    /// writes, it has all that was acknowledged, and at no time could two servers be written to.
    /// Gives the longest time after `since` in which nobody could write, and prints it.
    pub fn end(mut self, what: &str, number: u32, since: Instant) -> Duration {
        self.wait_until_served_by(number, Instant::now());
        let acks = self.end_writing();
        assert!(self.is_alone(number), "not alone\n{}", self.story());
        let lost = lost(&acks, self.db(number));
        assert!(lost.is_empty(), "lost {lost:?}\n{}", self.story());
        let overlap = self.sampler.overlap();
        let story = || self.story();
        assert!(
            overlap.is_zero() || self.may_share_vip,
            "two had the VIP and took writes for {overlap:?}\n{}",
            story()
        );
        let overlap = self.application.overlap();
        assert!(
            overlap <= self.tolerated,
            "two took writes for {overlap:?}\n{}",
            story()
        );
        let outage = outage(&acks, since);
        println!(
            "{what}: outage {} ms, none of {} writes lost, two took writes for {} ms; {}",
            outage.as_millis(),
            acks.len(),
            overlap.as_millis(),
            hooks(&self.cluster().journal())
        );
        outage
    }

    fn end_writing(&mut self) -> Vec<Ack> {
        self.writers.drain(..).flat_map(Writer::stop).collect()
    }

    /// Whether of the servers that answer the one with this number, and no other, has the VIP and
    /// takes writes; of none with the number 0.
    pub fn is_alone(&self, number: u32) -> bool {
        let servers = self.cluster().servers();
        let mut answering = servers.iter().filter(|server| server.connect().is_ok());
        answering.all(|server| {
            let is_primary = server.id == number;
            server.host.has_vip() == is_primary && server.is_writable() == is_primary
        })
    }

    /// An old primary comes back and takes writes, as its own configuration says, until the guard
    /// looks: nobody is led there by the VIP, but somebody could go there.
    pub fn comes_back_open(&mut self, back: impl FnOnce(&mut Cluster)) {
        self.tolerated = GUARD;
        self.fault(back);
    }

    /// Two hosts may have the VIP and take writes, if nobody can reach one of them.
    pub fn may_share_vip(&mut self) {
        self.may_share_vip = true;
    }

    /// Waits until the host of this server has neither VIP nor writes.
    pub fn wait_until_closed(&self, number: u32) {
        let server = self.db(number);
        wait_until("the guard closes it", Duration::from_secs(20), || {
            !server.host.has_vip() && !server.is_writable()
        });
    }

    /// What was seen, for when something is not as it should be.
    pub fn story(&self) -> String {
        let mut story = String::new();
        for (who, sampler) in [("host", &self.sampler), ("application", &self.application)] {
            for change in sampler.changes() {
                let at = change.at.saturating_duration_since(self.began).as_millis();
                let (vip, writable, host) = (change.vip, change.writable, change.host);
                let _ = writeln!(
                    story,
                    "{at:>6} ms {who} {host}: vip {vip}, writable {writable}"
                );
            }
        }
        for server in self.cluster().servers() {
            let log = server.host.sh("tail -n 20 /var/log/sshd.log");
            let _ = writeln!(story, "sshd of db{}:\n{log}", server.id);
        }
        story + &self.cluster().journal() + &self.mha().log()
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        for guard in &self.guards {
            guard.signal_group("KILL");
        }
    }
}

/// How long each hook took, as the journal says.
fn hooks(journal: &str) -> String {
    let records = journal
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|record| record["event"] == "end");
    records
        .map(|record| {
            let applet = record["applet"].as_str().unwrap();
            format!("{applet} {} ms", record["took_ms"])
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// `trial!(trial)`: ends the test where no lab can be built.
#[macro_export]
macro_rules! trial {
    ($name:ident) => {
        #[allow(unused_mut, reason = "not everybody changes it")]
        let Some(mut $name) = $crate::trial::Trial::begin() else {
            return;
        };
    };
}

/// Asserts that MHA said each of these and ended with `status`.
pub fn assert_ended(ended: &Ended, status: i32, words: &[&str]) {
    assert_eq!(ended.status, status, "{}", ended.said);
    for word in words {
        assert!(ended.said.contains(word), "no {word:?} in\n{}", ended.said);
    }
}
