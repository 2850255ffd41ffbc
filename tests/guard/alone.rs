//! A primary that nobody can reach, and one that is merely lonely.

use std::thread::sleep;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

use crate::lab::{GATEWAY, VIP, Writer, wait_until};
use crate::site;
use crate::site::{GRACE, Node, ms};

/// A session of an application.
fn session(node: &Node) -> Conn {
    let options = OptsBuilder::new()
        .socket(node.host.path("/run/mysqld/mysqld.sock").to_str())
        .user(Some("reader"))
        .read_timeout(Some(ms(500)));
    Conn::new(options).unwrap()
}

#[test]
fn as_long_as_all_is_well_nothing_is_done_and_little_is_asked() {
    site!(site);
    site.start_guards();
    sleep(ms(1500));
    let count = |name| site.db.each_ref().map(|node| node.status(name));
    let started = Instant::now();
    let (before, aborted) = (count("Connections"), count("Aborted_connects"));
    let questions = count("Questions");
    sleep(ms(4000));
    let (after, asked) = (count("Connections"), count("Questions"));
    let rounds = started.elapsed().as_secs() + 1;
    let grown = |n: usize| (after[n] - before[n], asked[n] - questions[n]);
    println!(
        "in {rounds} looks: connections and questions {:?}",
        [0, 1, 2].map(grown)
    );
    // The guard of db1 asks all three once, those of the replicas each its own; and three of ours.
    assert!(grown(0).0 <= rounds + 3, "{:?}", grown(0));
    assert!(grown(1).0 <= 2 * rounds + 3, "{:?}", grown(1));
    assert!(grown(2).0 <= 2 * rounds + 3, "{:?}", grown(2));
    assert_eq!(count("Aborted_connects"), aborted);
    for node in &site.db {
        assert_eq!(node.told(), "", "{}", node.host.name);
        node.stop_guard();
    }
    let took = [0, 1].map(|n| (0..5).map(|_| site.db[n].guard(&[]).2).min());
    println!("one look takes {took:?} on the primary and on a replica");
    site.db[0].assert_serves();
}

#[test]
fn a_file_system_that_filled_up_before_does_not_keep_it_from_giving_up() {
    site!(site);
    let db1 = &site.db[0];
    db1.host
        .sh("mkdir -p /run/hookbox; mount -t tmpfs -o size=64k none /run/hookbox");
    db1.start_guard();
    sleep(ms(1500));
    db1.host
        .sh("cat /dev/zero 2> /dev/null > /run/hookbox/full || true");
    let cut = Instant::now();
    site.switch.block(&db1.host);
    db1.wait_until_given_up(cut, GRACE + ms(2500));
    db1.stop_guard();
    db1.host.sh("umount /run/hookbox");
}

#[test]
fn commits_that_wait_for_a_replica_do_not_hold_it_up() {
    site!(site);
    let [db1, db2, _] = &site.db;
    db2.server.sql("SET GLOBAL rpl_semi_sync_slave_enabled = 1");
    db2.server.sql("STOP SLAVE IO_THREAD");
    db2.server.sql("START SLAVE IO_THREAD");
    db1.server
        .sql("SET GLOBAL rpl_semi_sync_master_timeout = 60000");
    db1.server
        .sql("SET GLOBAL rpl_semi_sync_master_enabled = 1");
    db1.server.wait_until_semi_sync();
    db1.start_guard();
    let writer = Writer::start(&db1.host, VIP);
    sleep(ms(1000));
    let cut = Instant::now();
    site.switch.block(&db1.host);
    let took = db1.wait_until_given_up(cut, GRACE + ms(2500));
    println!("{took:?} from the cut until it had given up, with commits that wait");
    let acks = writer.stop();
    assert!(acks.iter().all(|ack| ack.at < cut + ms(50)), "semi-sync");
    db1.server
        .sql("SET GLOBAL rpl_semi_sync_master_enabled = 0");
    db2.server.sql("SET GLOBAL rpl_semi_sync_slave_enabled = 0");
}

#[test]
fn a_primary_that_is_cut_off_closes_its_writes_and_gives_its_address_up() {
    for carrier in [true, false] {
        site!(site);
        let db1 = &site.db[0];
        db1.server.sql("CREATE OR REPLACE USER reader@localhost");
        site.wait_until_replicated();
        site.start_guards();
        sleep(ms(1200));
        let mut reader = session(db1);
        reader.query_drop("SELECT 1").unwrap();
        let cut = Instant::now();
        match carrier {
            true => site.switch.block(&db1.host),
            false => site.switch.unplug(&db1.host),
        }
        sleep(GRACE - ms(100));
        db1.assert_serves();
        let took = db1.wait_until_given_up(cut, GRACE + ms(2000));
        println!("{took:?} from the cut, carrier {carrier}, until it had given up");
        assert!(
            reader.query_drop("SELECT 1").is_err(),
            "its session goes on"
        );
        let told = db1.told();
        assert!(told.contains("nobody answers"), "{told}");
        assert_eq!(site.db[1].told() + &site.db[2].told(), "");
        if !carrier {
            continue;
        }
        let runs = db1.runs();
        sleep(ms(2100));
        assert_eq!(db1.runs(), runs, "the journal grows: {}", db1.told());
        // It stays closed in company: who is primary is for MHA and people to say.
        site.switch.heal(&db1.host);
        sleep(ms(1500));
        assert!(db1.has_given_up());
    }
}

#[test]
fn a_cut_shorter_than_the_grace_period_does_no_harm_also_when_it_comes_again() {
    site!(site);
    let db1 = &site.db[0];
    let grace = ms(2000);
    db1.configure(GATEWAY, grace);
    site.start_guards();
    for _ in 0..2 {
        site.switch.block(&db1.host);
        sleep(grace - ms(200));
        site.switch.heal(&db1.host);
        sleep(ms(1200));
    }
    db1.assert_serves();
    let told = db1.told();
    assert!(told.contains("nobody answers"), "it says so: {told}");
    assert!(told.contains("nothing is wrong"), "it says so: {told}");
    assert!(!told.contains("close writes"), "{told}");
}

#[test]
fn dead_or_frozen_replicas_do_not_make_a_primary_alone() {
    site!(site);
    // A gateway that does not answer: the hosts of the dead replicas do.
    let grace = ms(1500);
    site.db[0].configure("10.77.0.99", grace);
    site.db[0].start_guard();
    site.db[1].server.kill();
    site.db[2].server.freeze();
    sleep(grace + ms(2000));
    site.db[0].assert_serves();
    assert_eq!(site.db[0].told(), "");
    site.db[2].server.thaw();
    wait_until("db3 answers", Duration::from_secs(5), || {
        site.db[2].server.connect().is_ok()
    });
}

#[test]
fn looks_far_apart_are_no_proof_and_the_third_one_is() {
    site!(site);
    let db1 = &site.db[0];
    let grace = ms(1000);
    db1.configure(GATEWAY, grace);
    site.switch.block(&db1.host);
    for _ in 0..2 {
        assert_eq!(db1.guard(&[]).0, 0);
        db1.assert_serves();
        sleep(grace + ms(200));
    }
    let (status, said, _) = db1.guard(&[]);
    assert_eq!(status, 0, "{said}");
    assert!(db1.has_given_up(), "{said}");
}
