//! One cluster, shared by the scenarios one after the other, and everything that is watched.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::lab::{
    self, Cluster, Ended, Load, Mha, Sampler, Server, VIP, Writer, lost, outage,
};

pub struct Lab {
    pub cluster: Cluster,
    pub mha: Mha,
}

/// A scenario: writes flow through the VIP to db1, and it is watched who may write.
pub struct Trial {
    sampler: Sampler,
    application: Sampler,
    writer: Option<Writer>,
    began: Instant,
    lab: MutexGuard<'static, Option<Lab>>,
}

impl Trial {
    /// `None` where no lab can be built.
    pub fn begin(load: Load) -> Option<Trial> {
        static LAB: Mutex<Option<Lab>> = Mutex::new(None);
        if !lab::is_possible() {
            return None;
        }
        let mut guard = LAB.lock().unwrap_or_else(PoisonError::into_inner);
        let lab = match guard.take() {
            None => {
                let cluster = Cluster::new(env!("CARGO_BIN_EXE_hookbox").as_ref());
                let mha = Mha::new(&cluster);
                cluster.manager.write("/usr/local/bin/ideal", include_str!("ideal.sh"), 0o755);
                mha.configure(|cnf| {
                    cnf.replace("/usr/sbin/hookbox master_ip_failover", "/usr/local/bin/ideal failover")
                        .replace("/usr/sbin/hookbox master_ip_online_change", "/usr/local/bin/ideal online")
                });
                Lab { cluster, mha }
            }
            Some(mut lab) => {
                lab.cluster.reset();
                lab.mha.reset();
                lab
            }
        };
        let cluster = &lab.cluster;
        let trial = Trial {
            sampler: cluster.sampler(),
            application: cluster.application(),
            writer: Some(Writer::with(&cluster.client, VIP, load)),
            began: Instant::now(),
            lab: {
                *guard = Some(lab);
                guard
            },
        };
        trial.wait_until_served_by(1, trial.began);
        Some(trial)
    }

    pub fn lab(&self) -> &Lab {
        self.lab.as_ref().unwrap()
    }

    pub fn cluster(&self) -> &Cluster {
        &self.lab().cluster
    }

    pub fn mha(&self) -> &Mha {
        &self.lab().mha
    }

    /// Does something to the cluster; gives the time of it.
    pub fn fault(&mut self, fault: impl FnOnce(&mut Cluster)) -> Instant {
        let now = Instant::now();
        fault(&mut self.lab.as_mut().unwrap().cluster);
        now
    }

    /// The server with this number.
    pub fn db(&self, number: u32) -> &Server {
        self.cluster().servers()[number as usize - 1]
    }

    /// Waits until the server with this number has acknowledged writes that began after `since`.
    pub fn wait_until_served_by(&self, number: u32, since: Instant) {
        let (writer, server) = (self.writer.as_ref().unwrap(), self.db(number));
        let started = Instant::now();
        while !writer.is_served_by(server, since) {
            if started.elapsed() > Duration::from_secs(20) {
                panic!("db{number} takes no writes\n{}", self.story());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What must hold after every switch: writes flow to the server with this number, which alone
    /// has the VIP and all that was acknowledged, and at no time could two servers be written to.
    /// Prints what was measured after `since`.
    pub fn end(mut self, what: &str, number: u32, since: Instant) {
        self.wait_until_served_by(number, Instant::now());
        let acks = self.writer.take().unwrap().stop();
        let story = || self.story();
        for server in self.cluster().servers() {
            if server.connect().is_ok() {
                assert_eq!(
                    (server.host.has_vip(), server.is_writable()),
                    (server.id == number, server.id == number),
                    "VIP, writable: {}\n{}",
                    server.host.name,
                    story()
                );
            }
        }
        let lost = lost(&acks, self.db(number));
        assert!(lost.is_empty(), "{} writes lost\n{}", lost.len(), story());
        assert_eq!(
            self.sampler.overlap(),
            Duration::ZERO,
            "two with the VIP\n{}",
            story()
        );
        assert_eq!(
            self.application.overlap(),
            Duration::ZERO,
            "two that can be written to\n{}",
            story()
        );
        println!(
            "{what}: outage {} ms, 0 of {} writes lost; {}",
            outage(&acks, since).as_millis(),
            acks.len(),
            hooks(&self.cluster().journal())
        );
    }

    /// What was seen, for when something is not as it should be.
    pub fn story(&self) -> String {
        let mut story = String::new();
        for (who, sampler) in [("host", &self.sampler), ("application", &self.application)] {
            for change in sampler.changes() {
                let at = change.at.saturating_duration_since(self.began).as_millis();
                let (vip, writable) = (change.vip, change.writable);
                let host = change.host;
                story += &format!("{at:>6} ms {who} {host}: vip {vip}, writable {writable}\n");
            }
        }
        story + &self.cluster().journal() + &self.mha().log()
    }
}

/// How long each hook took that the journal knows.
fn hooks(journal: &str) -> String {
    let records = journal
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|record| record["event"] == "end");
    records
        .map(|record| format!("{} {} ms ", record["applet"], record["took_ms"]))
        .collect()
}

/// `trial!(trial, load)`: ends the test where no lab can be built.
#[macro_export]
macro_rules! trial {
    ($name:ident, $load:expr) => {
        #[allow(unused_mut, reason = "not everybody does something to the cluster")]
        let Some(mut $name) = $crate::trial::Trial::begin($load) else {
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
