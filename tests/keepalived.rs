//! Stock keepalived drives hookbox over real MariaDB servers, with the example files, while an
//! application writes through the virtual address. After every fault: never two writers, no
//! acknowledged write lost, the address where it belongs, the journal complete.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test may look at the clock, tell what it saw, and break"
)]

mod lab;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use lab::{Node, Pair, Replication, Sampler, Server, Shape, Writer, lost, outage, wait_until};
use serde_json::Value;

/// Two nodes at work, and everything that is watched.
struct Trial {
    sampler: Sampler,
    writer: Option<Writer>,
    shape: Shape,
    pair: Pair,
    began: Instant,
    _alone: MutexGuard<'static, ()>,
}

/// Runs `story` with a primary and its replica, then with two primaries in a circle.
fn in_both_shapes(story: impl Fn(&mut Trial)) {
    for (shape, by) in [
        (Shape::PrimaryAndReplica, Replication::Gtid),
        (Shape::Circle, Replication::FileAndPosition),
    ] {
        in_shape(shape, by, &story);
    }
}

fn in_shape(shape: Shape, by: Replication, story: impl Fn(&mut Trial)) {
    if !lab::is_possible() {
        return;
    }
    println!("---- {shape:?} by {by:?}");
    let mut trial = Trial::begin(shape, by, |_| {});
    trial.pair.db1.server.wait_until_semi_sync();
    story(&mut trial);
    trial.end();
}

impl Trial {
    /// db1 is the primary, db2 its replica, and writes flow.
    ///
    /// `prepare` is done before keepalived starts.
    fn begin(shape: Shape, by: Replication, prepare: impl FnOnce(&mut Pair)) -> Trial {
        // Timing is part of what is tested, so one at a time.
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pair = Pair::new(shape, by, env!("CARGO_BIN_EXE_hookbox").as_ref());
        prepare(&mut pair);
        pair.start_keepalived();
        let trial = Trial {
            sampler: pair.sampler(),
            writer: Some(pair.writer()),
            shape,
            pair,
            began: Instant::now(),
            _alone: alone,
        };
        trial.wait_until_served_by(&trial.pair.db1, Instant::now(), Duration::from_secs(15));
        trial
    }

    /// Waits until writes that began after `since` are taken by `node`.
    fn wait_until_served_by(&self, node: &Node, since: Instant, limit: Duration) {
        let writer = self.writer.as_ref().unwrap();
        while !writer.is_served_by(&node.server, since) {
            if since.elapsed() > limit {
                panic!(
                    "{} took no write within {limit:?}\n{}",
                    node.host.name,
                    self.story()
                );
            }
            sleep(Duration::from_millis(10));
        }
    }

    /// What must hold after every fault.
    fn end(&mut self) {
        let lost = self.end_counting_lost();
        assert_eq!(lost, 0, "acknowledged writes lost\n{}", self.story());
    }

    /// The same where a write may be lost that never left the primary; gives how many were.
    fn end_counting_lost(&mut self) -> usize {
        let acks = self.writer.take().unwrap().stop();
        let (db1, db2) = (&self.pair.db1, &self.pair.db2);
        let primaries: Vec<&Node> = [db1, db2]
            .into_iter()
            .filter(|node| node.is_primary())
            .collect();
        let holders = [db1, db2].into_iter().filter(|node| node.has_vip()).count();
        let [primary] = primaries[..] else {
            panic!("{} primaries\n{}", primaries.len(), self.story());
        };
        assert_eq!(holders, 1, "hosts with the address\n{}", self.story());
        assert_eq!(
            self.sampler.overlap(),
            Duration::ZERO,
            "two writers\n{}",
            self.story()
        );
        let lost = lost(&acks, &primary.server).len();
        for node in [db1, db2] {
            self.wait_for_complete_journal(node);
        }
        if self.shape == Shape::Circle {
            wait_until_alike(&self.pair);
        }
        println!("{lost} of {} writes lost", acks.len());
        lost
    }

    fn wait_for_complete_journal(&self, node: &Node) {
        let started = Instant::now();
        while let Some(incomplete) = incomplete(&node.journal()) {
            if started.elapsed() > Duration::from_secs(5) {
                panic!(
                    "journal of {}: {incomplete}\n{}",
                    node.host.name,
                    self.story()
                );
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// How long the application could not write around `since`.
    fn outage(&self, since: Instant) -> Duration {
        outage(&self.writer.as_ref().unwrap().acks(), since)
    }

    /// Everything that was seen, for whoever has to find out what went wrong.
    fn story(&self) -> String {
        let mut story = String::new();
        for change in self.sampler.changes() {
            let at = change
                .at
                .saturating_duration_since(self.began)
                .as_secs_f64();
            let (host, vip, writable) = (change.host, change.vip, change.writable);
            let _ = writeln!(story, "{at:8.3} {host} address: {vip} writable: {writable}");
        }
        for node in [&self.pair.db1, &self.pair.db2] {
            let name = &node.host.name;
            let _ = writeln!(story, "---- {name} keepalived\n{}", node.keepalived.log());
            let _ = writeln!(story, "---- {name} journal\n{}", node.journal());
        }
        story
    }
}

/// What a journal lacks: a run that began and did not end, or a step likewise.
fn incomplete(journal: &str) -> Option<String> {
    let mut open: HashMap<String, Option<String>> = HashMap::new();
    for line in journal.lines() {
        let Ok(record) = serde_json::from_str::<Value>(line) else {
            return Some(format!("not JSON: {line}"));
        };
        let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
        let (run, step) = (text("run"), text("step"));
        match (text("event").as_str(), text("mark").as_str()) {
            ("begin", _) => {
                open.insert(run, None);
            }
            ("step", "started") => match open.insert(run, Some(step)) {
                Some(None) => {}
                before => return Some(format!("a step begins after {before:?}: {line}")),
            },
            ("step", "done" | "already-so" | "failed") => match open.insert(run, None) {
                Some(Some(begun)) if begun == step => {}
                before => return Some(format!("a step ends that is not {before:?}: {line}")),
            },
            ("end", _) => match open.remove(&run) {
                Some(None) => {}
                before => return Some(format!("a run ends in {before:?}: {line}")),
            },
            _ => {}
        }
    }
    open.into_iter()
        .next()
        .map(|(run, step)| format!("{run} did not end, it was at {step:?}"))
}

/// Waits until both servers of a circle have the same rows.
fn wait_until_alike(pair: &Pair) {
    let rows = |server: &Server| {
        server.ask("SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(CONCAT(w, '-', seq)))) FROM lab.t")
    };
    wait_until("both have the same rows", Duration::from_secs(20), || {
        rows(&pair.db1.server) == rows(&pair.db2.server)
    });
}

fn primary_is_killed_and_started_again(trial: &mut Trial) {
    let killed = Instant::now();
    trial.pair.db1.server.kill();
    trial.wait_until_served_by(&trial.pair.db2, killed, Duration::from_secs(15));
    println!("outage {:?}", trial.outage(killed));
    assert!(trial.outage(killed) < Duration::from_secs(4));

    trial.pair.db1.server.start();
    wait_until("the old primary is closed", Duration::from_secs(10), || {
        !trial.pair.db1.server.is_writable()
    });
    sleep(Duration::from_secs(3));
    assert!(!trial.pair.db1.server.is_writable());
    assert!(trial.pair.db2.is_primary());
}

#[test]
fn a_killed_primary_is_replaced_in_about_a_second_and_comes_back_read_only() {
    for by in [Replication::Gtid, Replication::FileAndPosition] {
        in_shape(
            Shape::PrimaryAndReplica,
            by,
            primary_is_killed_and_started_again,
        );
        in_shape(Shape::Circle, by, primary_is_killed_and_started_again);
    }
}

#[test]
fn a_frozen_primary_is_replaced_and_takes_no_write_when_it_goes_on() {
    in_both_shapes(|trial| {
        let frozen = Instant::now();
        trial.pair.db1.server.freeze();
        trial.wait_until_served_by(&trial.pair.db2, frozen, Duration::from_secs(9));
        println!("outage {:?}", trial.outage(frozen));
        sleep(Duration::from_secs(1));
        trial.pair.db1.server.thaw();
        wait_until("the old primary is closed", Duration::from_secs(10), || {
            !trial.pair.db1.server.is_writable()
        });
        sleep(Duration::from_secs(3));
        assert!(trial.pair.db2.is_primary());
    });
}

#[test]
fn a_primary_whose_switch_port_is_blocked_closes_before_the_other_opens() {
    in_both_shapes(|trial| {
        let cut = Instant::now();
        trial.pair.switch.block(&trial.pair.db1.host);
        trial.wait_until_served_by(&trial.pair.db2, cut, Duration::from_secs(15));
        println!("outage {:?}", trial.outage(cut));
        sleep(Duration::from_secs(2));
        assert!(!trial.pair.db1.server.is_writable());
        trial.pair.switch.heal(&trial.pair.db1.host);
        sleep(Duration::from_secs(4));
        assert!(trial.pair.db2.is_primary());
    });
}

#[test]
fn a_primary_that_is_unplugged_and_plugged_in_again_stays_closed() {
    in_both_shapes(|trial| {
        let cut = Instant::now();
        trial.pair.switch.unplug(&trial.pair.db1.host);
        trial.wait_until_served_by(&trial.pair.db2, cut, Duration::from_secs(15));
        println!("outage {:?}", trial.outage(cut));
        sleep(Duration::from_secs(2));
        assert!(!trial.pair.db1.server.is_writable());
        trial.pair.switch.heal(&trial.pair.db1.host);
        sleep(Duration::from_secs(4));
        assert!(trial.pair.db2.is_primary());
    });
}

#[test]
fn a_replica_that_is_cut_off_does_not_take_the_address() {
    in_both_shapes(|trial| {
        trial.pair.switch.block(&trial.pair.db2.host);
        sleep(Duration::from_secs(5));
        assert!(
            !trial
                .sampler
                .changes()
                .iter()
                .any(|seen| seen.host == "db2" && seen.vip)
        );
        trial.pair.switch.heal(&trial.pair.db2.host);
        trial.wait_until_served_by(&trial.pair.db1, Instant::now(), Duration::from_secs(15));
        assert!(trial.pair.db1.is_primary());
    });
}

#[test]
fn keepalived_stopped_on_the_primary_hands_over_and_started_again_takes_nothing_back() {
    in_both_shapes(|trial| {
        let stopped = Instant::now();
        trial.pair.db1.keepalived.stop();
        trial.wait_until_served_by(&trial.pair.db2, stopped, Duration::from_secs(15));
        println!("outage {:?}", trial.outage(stopped));
        assert!(!trial.pair.db1.server.is_writable());
        trial.pair.db1.keepalived.start();
        sleep(Duration::from_secs(4));
        assert!(trial.pair.db2.is_primary());
    });
}

#[test]
fn keepalived_killed_on_the_primary_leaves_the_address_but_not_two_writers() {
    in_both_shapes(|trial| {
        let killed = Instant::now();
        trial.pair.db1.keepalived.kill();
        trial.wait_until_served_by(&trial.pair.db2, killed, Duration::from_secs(15));
        println!("outage {:?}", trial.outage(killed));
        assert!(!trial.pair.db1.server.is_writable());
        // As it starts, keepalived takes away the address that it had left.
        trial.pair.db1.keepalived.start();
        sleep(Duration::from_secs(4));
        assert!(trial.pair.db2.is_primary());
    });
}

#[test]
fn a_server_that_flaps_moves_the_address_once() {
    in_both_shapes(|trial| {
        let began = Instant::now();
        for _ in 0..4 {
            trial.pair.db1.server.freeze();
            sleep(Duration::from_millis(1300));
            trial.pair.db1.server.thaw();
            sleep(Duration::from_millis(1100));
        }
        trial.wait_until_served_by(&trial.pair.db2, began, Duration::from_secs(20));
        sleep(Duration::from_secs(3));
        assert!(trial.pair.db2.is_primary());
    });
}

/// Stops both servers and starts everything again; keepalived must be stopping already.
fn reboot(trial: &mut Trial) {
    for node in [&mut trial.pair.db1, &mut trial.pair.db2] {
        node.server.stop();
    }
    for node in [&mut trial.pair.db1, &mut trial.pair.db2] {
        node.server.start();
        node.keepalived.start();
    }
    let started = Instant::now();
    wait_until("there is a primary", Duration::from_secs(15), || {
        trial.pair.db1.is_primary() || trial.pair.db2.is_primary()
    });
    let pair = &trial.pair;
    let primary = if pair.db1.is_primary() {
        &pair.db1
    } else {
        &pair.db2
    };
    trial.wait_until_served_by(primary, started, Duration::from_secs(15));
    sleep(Duration::from_secs(3));
}

#[test]
fn both_nodes_rebooted_at_once_agree_on_one_primary() {
    in_both_shapes(|trial| {
        let db1 = trial.pair.db1.keepalived.begin_to_stop();
        let db2 = trial.pair.db2.keepalived.begin_to_stop();
        db1.wait_for_end();
        db2.wait_for_end();
        reboot(trial);
    });
}

#[test]
fn both_nodes_rebooted_one_after_the_other_come_back_with_the_newer_data() {
    in_both_shapes(|trial| {
        trial.pair.db1.keepalived.stop();
        trial.pair.db2.keepalived.stop();
        reboot(trial);
    });
}

#[test]
fn a_replica_that_lags_applies_what_it_received_before_it_takes_writes() {
    in_both_shapes(|trial| {
        let blocker = hold_up_applier(&trial.pair.db2.server);
        sleep(Duration::from_millis(500));
        let killed = Instant::now();
        trial.pair.db1.server.kill();
        sleep(Duration::from_secs(4));
        assert!(
            !trial.pair.db2.server.is_writable(),
            "nothing was applied yet"
        );
        drop(blocker);
        trial.wait_until_served_by(&trial.pair.db2, killed, Duration::from_secs(15));
        trial.pair.db1.server.start();
        sleep(Duration::from_secs(3));
    });
}

/// Holds up the applier of `server` for as long as the session lives.
fn hold_up_applier(server: &Server) -> mysql::Conn {
    let mut blocker = server.connect().unwrap();
    lab::rows(&mut blocker, "LOCK TABLES lab.t READ").unwrap();
    blocker
}

#[test]
fn without_semi_sync_everything_that_reached_the_replica_is_kept() {
    if !lab::is_possible() {
        return;
    }
    let mut trial = Trial::begin(Shape::PrimaryAndReplica, Replication::Gtid, |pair| {
        pair.db1
            .server
            .sql("SET GLOBAL rpl_semi_sync_master_enabled = 0");
    });
    let blocker = hold_up_applier(&trial.pair.db2.server);
    sleep(Duration::from_millis(500));
    let killed = Instant::now();
    trial.pair.db1.server.kill();
    let replica = &trial.pair.db2.server;
    wait_until(
        "the replica has noticed",
        Duration::from_millis(500),
        || replica.replica_status("Slave_IO_Running") != "Yes",
    );
    let received = last_of_db1(&replica.replica_status("Gtid_IO_Pos"));
    let applied = last_of_db1(&replica.ask("SELECT @@gtid_binlog_state"));
    assert!(
        received > applied + 100,
        "the applier was to lag: {received}, {applied}"
    );
    drop(blocker);
    trial.wait_until_served_by(&trial.pair.db2, killed, Duration::from_secs(15));
    let kept = last_of_db1(&trial.pair.db2.server.ask("SELECT @@gtid_binlog_state"));
    assert_eq!(kept, received);
    trial.pair.db1.server.start();
    trial.end_counting_lost();
}

/// The sequence number of the last transaction of db1 in a list of MariaDB GTIDs.
fn last_of_db1(gtids: &str) -> u64 {
    let of_db1 = gtids.split(',').find_map(|gtid| gtid.strip_prefix("0-1-"));
    of_db1.map_or(0, |number| number.parse().unwrap())
}

#[test]
fn files_made_by_install_do_the_same_under_script_security() {
    if !lab::is_possible() {
        return;
    }
    let hooks = "/etc/keepalived/hooks";
    let mut trial = Trial::begin(Shape::PrimaryAndReplica, Replication::Gtid, |pair| {
        for node in [&pair.db1, &pair.db2] {
            node.host.sh(&format!(
                "install -d -m 755 {hooks}; hookbox install {hooks}"
            ));
            let configuration = node.host.read("/etc/keepalived/keepalived.conf");
            let configuration = configuration.replace("/usr/sbin/hookbox ", &format!("{hooks}/"));
            assert!(configuration.contains("enable_script_security"));
            assert!(configuration.contains("/etc/keepalived/hooks/check_mysql"));
            node.host
                .write("/etc/keepalived/keepalived.conf", configuration, 0o644);
        }
    });
    trial.pair.db1.server.wait_until_semi_sync();
    primary_is_killed_and_started_again(&mut trial);
    trial.end();
}

#[test]
fn readers_that_come_back_at_once_do_not_hold_up_a_handover() {
    in_both_shapes(|trial| {
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (stop, host) = (stop.clone(), trial.pair.db1.host.clone());
                spawn(move || {
                    let mut session = None;
                    while !stop.load(Ordering::Relaxed) {
                        let answer = match &mut session {
                            None => lab::connect(&host).map(|new| session = Some(new)),
                            Some(session) => lab::rows(session, "SELECT 1").map(drop),
                        };
                        if answer.is_err() {
                            session = None;
                        }
                    }
                })
            })
            .collect();
        sleep(Duration::from_millis(200));
        let killed = Instant::now();
        trial.pair.db1.keepalived.kill();
        trial.wait_until_served_by(&trial.pair.db2, killed, Duration::from_secs(15));
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
        trial.pair.db1.keepalived.start();
        sleep(Duration::from_secs(4));
        assert!(trial.pair.db2.is_primary());
    });
}
