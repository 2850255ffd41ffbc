//! A switch of MHA with several roles, while `vip ensure` looks every second on every host.

use std::time::Duration;

use crate::lab::{Mha, Process, Sampler, VIP, wait_until};
use crate::site::{ADMIN, PATIENT, READER, Site, pause, take_vip_off};

/// `vip ensure` every second on each database host; ended with this value.
struct Timers(Vec<Process>);

impl Timers {
    fn start(site: &Site) -> Timers {
        let every_second = "while :; do /usr/sbin/hookbox vip ensure; sleep 1; done";
        let start = |server: &crate::lab::Server| {
            let args = ["-c", every_second];
            server.host.start("sh", &args, "/var/log/ensure.log")
        };
        Timers(site.cluster().servers().map(start).into())
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        for timer in &self.0 {
            timer.signal_group("KILL");
        }
    }
}

fn story(site: &Site) -> String {
    let servers = site.cluster().servers();
    let told = servers.map(|server| {
        let path = "/var/log/hookbox/journal.jsonl";
        format!("{}:\n{}", server.host.name, server.host.read(path))
    });
    told.join("\n") + &site.cluster().journal()
}

/// The primary's addresses are on db2 and the reader's on db3, now and after a few more looks.
#[track_caller]
fn moved_together(site: &Site, sampler: &Sampler) {
    for _ in 0..8 {
        assert_eq!(site.holders(VIP), [2], "{}", story(site));
        assert_eq!(site.holders(ADMIN), [2], "{}", story(site));
        assert_eq!(site.holders(READER), [3], "{}", story(site));
        pause(500);
    }
    assert_eq!(sampler.overlap(), Duration::ZERO, "{:?}", sampler.changes());
}

#[test]
fn an_online_change_moves_all_addresses_of_the_primary_and_the_reader_stays() {
    let Some(site) = Site::new() else { return };
    let mha = Mha::new(site.cluster());
    let _timers = Timers::start(&site);
    let sampler = site.cluster().sampler();
    let ended = mha.change_online("10.77.0.12").end();
    assert_eq!(ended.status, 0, "{}", ended.said);
    moved_together(&site, &sampler);
    site.run(1, &["vip", "verify", PATIENT]).assert(0, &[]);
}

#[test]
fn a_failover_moves_all_addresses_of_the_primary_and_the_reader_stays() {
    let Some(mut site) = Site::new() else { return };
    let mha = Mha::new(site.cluster());
    let _timers = Timers::start(&site);
    let sampler = site.cluster().sampler();
    let manager = mha.manage();
    site.cluster_mut().db1.kill();
    let ended = manager.end();
    assert_eq!(ended.status, 0, "{}", ended.said);
    moved_together(&site, &sampler);
    // And what is lost after it comes back on the new primary alone.
    take_vip_off(&site.db(2).host);
    wait_until(
        "the new primary has it again",
        Duration::from_secs(15),
        || site.holders(VIP) == [2],
    );
    moved_together(&site, &sampler);
}
