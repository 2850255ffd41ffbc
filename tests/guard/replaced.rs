//! A primary that was replaced comes back.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::lab::{Ack, Sampler, VIP, Writer, lost};
use crate::site;
use crate::site::{GRACE, Node, Site, ms};

/// What `server` acknowledged after `since`.
fn after(acks: &[Ack], server: u32, since: Instant) -> usize {
    let late = acks
        .iter()
        .filter(|ack| ack.server == server && ack.at > since);
    late.count()
}

fn sampler(site: &Site) -> Sampler {
    Sampler::start(&site.db.each_ref().map(|node| node.host.clone()))
}

/// Runs the guard of `node` until it has given up, at most twice.
#[track_caller]
fn gives_up_within_two_looks(node: &Node) -> String {
    let first = node.guard(&[]);
    if !node.has_given_up() {
        let second = node.guard(&[]);
        assert!(node.has_given_up(), "{first:?} {second:?}");
    }
    node.told()
}

#[test]
fn with_the_guard_at_work_a_cut_off_primary_acknowledges_nothing_after_its_replacement() {
    site!(site);
    let [db1, db2, _] = &site.db;
    site.start_guards();
    let sampler = sampler(site);
    // One client beside the switch, one on the primary's own host, which no cut stops.
    let outside = Writer::start(&site.client, VIP);
    let inside = Writer::start(&db1.host, VIP);
    sleep(ms(1000));
    let cut = Instant::now();
    site.switch.block(&db1.host);
    // Sooner than MHA: four pings and its own work.
    sleep(GRACE + ms(3000));
    let writable = site.fail_over(1, 2);
    sleep(ms(1500));
    site.switch.heal(&db1.host);
    sleep(ms(2500));
    let (inside, outside) = (inside.stop(), outside.stop());
    let last = inside
        .iter()
        .filter(|ack| ack.server == 1)
        .map(|ack| ack.at - cut)
        .max();
    println!("the last write on the cut off primary: {last:?} after the cut");
    assert_eq!(
        after(&inside, 1, writable) + after(&outside, 1, writable),
        0
    );
    assert!(after(&outside, 2, writable) > 0, "the new primary serves");
    let kept: Vec<Ack> = outside
        .iter()
        .filter(|ack| ack.at > writable)
        .copied()
        .collect();
    assert_eq!(lost(&kept, &db2.server).len(), 0);
    assert_eq!(sampler.overlap(), Duration::ZERO, "{:?}", sampler.changes());
    assert!(db1.has_given_up(), "{}", db1.told());
    db2.assert_serves();
    assert!(!db2.told().contains("close writes"), "{}", db2.told());
}

#[test]
fn who_comes_back_without_having_been_guarded_gives_up_at_once_and_its_successor_never() {
    site!(site);
    let [db1, db2, db3] = &site.db;
    db2.start_guard();
    db3.start_guard();
    site.switch.block(&db1.host);
    db1.insert(1000); // nobody received it
    let writable = site.fail_over(1, 2);
    db2.insert(1);
    let outside = Writer::start(&site.client, VIP);
    sleep(ms(1500));
    let healed = Instant::now();
    site.switch.heal(&db1.host);
    db1.start_guard();
    let took = db1.wait_until_given_up(healed, ms(2500));
    println!("{took:?} from the end of the cut until the old primary had given up");
    sleep(ms(2000));
    let acks = outside.stop();
    println!(
        "{} writes went to the old primary",
        after(&acks, 1, writable)
    );
    assert!(
        db1.told().contains("it has the newer data"),
        "{}",
        db1.told()
    );
    db2.assert_serves();
    assert!(!db2.told().contains("close writes"), "{}", db2.told());
    assert_eq!(db2.server.replica_status("Slave_IO_Running"), "");
    assert_eq!(db3.server.replica_status("Slave_IO_Running"), "Yes");
}

#[test]
fn the_replicas_tell_before_the_new_primary_has_written_anything() {
    site!(site);
    let [db1, db2, _] = &site.db;
    site.switch.block(&db1.host);
    site.fail_over(1, 2);
    site.switch.heal(&db1.host);
    let told = gives_up_within_two_looks(db1);
    assert!(told.contains("replicate from it"), "{told}");
    assert_eq!(db2.guard(&[]).0, 0);
    db2.assert_serves();
}

#[test]
fn an_old_primary_that_starts_again_writable_is_closed() {
    site!(site);
    site.db[0].insert(1000);
    site.db[0].server.kill();
    site.db[0].drop_vip();
    site.fail_over(1, 2);
    site.db[1].insert(1);
    site.db[0].server.start();
    let [db1, db2, _] = &site.db;
    assert!(db1.server.is_writable());
    db2.start_guard();
    gives_up_within_two_looks(db1);
    sleep(ms(1500));
    db2.assert_serves();
    assert!(!db2.told().contains("close writes"), "{}", db2.told());
}

#[test]
fn when_nothing_tells_whose_the_right_is_both_say_so_and_one_write_settles_it() {
    for (old, new) in [(0, 1), (1, 0)] {
        site!(site);
        if old == 1 {
            // db2 is the primary of this round.
            site.db[0].server.sql("SET GLOBAL read_only = 1");
            site.db[0].drop_vip();
            site.fail_over(1, 2);
            site.db[0]
                .server
                .replicate_from(&site.db[1].server, crate::lab::Replication::Gtid);
            site.db[1].insert(1);
            sleep(ms(500));
        }
        // The third server is dead, so nobody can be asked whom it follows.
        site.db[2].server.kill();
        let (old, new) = (&site.db[old], &site.db[new]);
        site.switch.block(&old.host);
        old.insert(900); // to have more does not make it the newer
        new.server.sql("STOP SLAVE");
        new.server.sql("RESET SLAVE ALL");
        new.server.sql("SET GLOBAL read_only = 0");
        new.take_vip();
        site.switch.heal(&old.host);
        sleep(ms(200));
        for node in [old, new] {
            for _ in 0..2 {
                let (status, said, _) = node.guard(&[]);
                assert_eq!(status, 3, "{said}");
                assert!(said.contains("the data does not tell"), "{said}");
                assert!(said.contains("another host answers"), "{said}");
                assert!(said.contains("try: find out which"), "{said}");
            }
            node.assert_serves();
            assert_eq!(node.runs(), 1, "once in the journal: {}", node.told());
        }
        new.insert(7);
        let (status, said, _) = new.guard(&[]);
        assert_eq!(status, 0, "{said}");
        let (status, said, _) = old.guard(&[]);
        assert_eq!(status, 0, "{said}");
        assert!(old.has_given_up(), "{said}");
        assert_eq!(new.guard(&[]).0, 0);
        new.assert_serves();
    }
}

#[test]
fn a_replica_that_takes_a_stray_write_does_not_close_its_primary() {
    site!(site);
    let [db1, db2, db3] = &site.db;
    // Still replicating.
    db2.server.sql("SET GLOBAL read_only = 0");
    db2.insert(500);
    assert_eq!(db1.guard(&[]).0, 0);
    db1.assert_serves();
    // No longer replicating; db3 tells.
    db2.server.sql("STOP SLAVE");
    db2.insert(501);
    assert_ne!(db1.guard(&[]).0, 5);
    db1.assert_serves();
    // Nor does db3.
    db3.server.sql("STOP SLAVE");
    db2.insert(502);
    let (status, said, _) = db1.guard(&[]);
    assert_eq!(status, 3, "{said}");
    db1.assert_serves();
}

#[test]
fn a_frozen_server_loses_its_address_and_is_closed_when_it_goes_on() {
    site!(site);
    let [db1, db2, _] = &site.db;
    db1.server.freeze();
    site.fail_over(1, 2);
    db2.insert(1);
    let (status, said, took) = db1.guard(&[]);
    println!("a frozen server's address was off after {took:?}");
    assert_eq!(status, 0, "{said}");
    assert!(!db1.has_vip(), "{said}");
    sleep(ms(500));
    let thawed = Instant::now();
    db1.server.thaw();
    let took = db1.wait_until_given_up(thawed, ms(1000));
    println!("{took:?} from SIGCONT until writes were closed");
    assert_eq!(db2.guard(&[]).0, 0);
    db2.assert_serves();
}

#[test]
fn a_guard_killed_in_the_middle_is_finished_by_the_next() {
    site!(site);
    let [db1, db2, _] = &site.db;
    db1.server.sql("CREATE OR REPLACE USER reader@localhost");
    site.wait_until_replicated();
    site.fail_over(1, 2);
    db2.insert(1);
    let mut cut_short = 0;
    for delay in [5, 10, 15, 20, 40, 60] {
        db1.server.sql("SET GLOBAL read_only = 0");
        if delay % 20 == 0 && db1.has_vip() {
            db1.drop_vip(); // then nothing but the server shows what was begun
        } else if delay % 20 != 0 && !db1.has_vip() {
            db1.take_vip();
        }
        db1.host.sh(
            "mariadb -u reader -e 'SELECT SLEEP(100)' > /dev/null 2>&1 &
             for n in $(seq 50); do
                 mariadb -Ne 'SELECT USER FROM information_schema.PROCESSLIST' | grep -q reader && break
                 sleep 0.02
             done",
        );
        let seconds = f64::from(delay) / 1000.0;
        // Dead is not gone: it has the turn until the kernel has closed its sockets.
        db1.host.sh(&format!(
            "hookbox guard > /dev/null 2>&1 & pid=$!; sleep {seconds}; kill -s KILL $pid || true
             wait $pid || true"
        ));
        let sessions = || {
            db1.server
                .ask("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'reader'")
        };
        if !db1.has_given_up() || sessions() != "0" {
            cut_short += 1;
        }
        let (status, said, _) = db1.guard(&[]);
        assert_eq!(status, 0, "{delay} ms: {said}");
        assert!(db1.has_given_up(), "{delay} ms: {said}");
        assert_eq!(sessions(), "0", "{delay} ms: {said} {}", db1.told());
    }
    println!("{cut_short} of 6 were cut short");
    assert!(cut_short > 0);
    db2.assert_serves();
}
