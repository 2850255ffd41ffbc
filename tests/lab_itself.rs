//! The lab itself: what the other tests take for granted.
#![allow(clippy::disallowed_methods, reason = "a test may look at the clock")]

mod lab;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::{Host, Replication, Sampler, Server, Switch, VIP, Writer, lost, outage, wait_until};

#[test]
fn what_a_host_does_to_its_files_name_and_network_stays_in_it() {
    if !lab::is_possible() {
        return;
    }
    let host = Host::new("alone");
    host.sh("echo here > /etc/lab-mark; ip link add mark0 type bridge; rm /etc/passwd");
    assert_eq!(host.sh("hostname"), "alone\n");
    assert_eq!(host.read("/etc/lab-mark"), "here\n");
    assert!(!std::path::Path::new("/etc/lab-mark").exists());
    assert!(std::path::Path::new("/etc/passwd").exists());
    assert!(!std::path::Path::new("/sys/class/net/mark0").exists());
    assert_eq!(host.sh("ps -o comm= -p 1"), "sh\n");
}

#[test]
fn a_blocked_port_passes_nothing_and_keeps_the_carrier_while_an_unplugged_one_loses_it() {
    if !lab::is_possible() {
        return;
    }
    let switch = Switch::new();
    let host = Host::new("db1");
    switch.plug(&host, "10.77.0.11");
    let carrier = || host.sh("cat /sys/class/net/eth0/carrier").trim().to_owned();
    let reaches_gateway = || {
        let ping = ["-c1", "-W1", lab::GATEWAY];
        host.command("ping")
            .args(ping)
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(reaches_gateway());
    switch.block(&host);
    assert!(!reaches_gateway());
    assert_eq!(carrier(), "1");
    switch.heal(&host);
    wait_until(
        "the port is healed",
        Duration::from_secs(5),
        reaches_gateway,
    );
    switch.unplug(&host);
    assert_eq!(carrier(), "0");
    switch.heal(&host);
    wait_until("the cable is back", Duration::from_secs(5), reaches_gateway);
}

fn two_servers(switch: &Switch) -> (Server, Server) {
    let start = |name, id: u32| {
        let address = format!("10.77.0.1{id}");
        let host = Arc::new(Host::new(name));
        switch.plug(&host, &address);
        let mut server = Server::new(&host, &address, id, "");
        server.start();
        server
    };
    (start("db1", 1), start("db2", 2))
}

#[test]
fn a_replica_has_what_was_acknowledged_after_the_primary_was_killed() {
    if !lab::is_possible() {
        return;
    }
    let switch = Switch::new();
    let (mut db1, db2) = two_servers(&switch);
    for by in [Replication::FileAndPosition, Replication::Gtid] {
        db2.replicate_from(&db1, by);
        db2.sql("STOP REPLICA; RESET REPLICA ALL");
    }
    db2.replicate_from(&db1, Replication::Gtid);
    db1.wait_until_semi_sync();

    let client = Arc::new(Host::new("client"));
    switch.plug(&client, "10.77.0.20");
    db1.host.sh(&format!("ip addr add {VIP}/24 dev eth0"));
    let sampler = Sampler::start(&[db1.host.clone(), db2.host.clone()]);
    let writer = Writer::start(&client, VIP);
    wait_until("writes flow", Duration::from_secs(5), || {
        writer.acks().len() > 200
    });
    assert_eq!(sampler.last(&db1.host), (true, true));
    assert_eq!(sampler.last(&db2.host), (false, true));

    let killed = Instant::now();
    db1.kill();
    db1.host.sh(&format!("ip addr del {VIP}/24 dev eth0"));
    wait_until("all is applied", Duration::from_secs(10), || {
        db2.replica_status("Gtid_IO_Pos") == db2.ask("SELECT @@gtid_slave_pos")
    });
    db2.host.sh(&format!(
        "ip addr add {VIP}/24 dev eth0; arping -q -c1 -U -I eth0 {VIP}"
    ));
    wait_until("db2 takes writes", Duration::from_secs(5), || {
        writer.is_served_by(&db2, killed)
    });
    let acks = writer.stop();
    assert!(outage(&acks, killed) > Duration::from_millis(20));
    assert_eq!(lost(&acks, &db2).len(), 0);
    assert_eq!(sampler.overlap(), Duration::ZERO);
}

#[test]
fn the_sampler_sees_two_writers() {
    if !lab::is_possible() {
        return;
    }
    let switch = Switch::new();
    let (db1, db2) = two_servers(&switch);
    let sampler = Sampler::start(&[db1.host.clone(), db2.host.clone()]);
    for server in [&db1, &db2] {
        server.host.sh(&format!("ip addr add {VIP}/24 dev eth0"));
    }
    std::thread::sleep(Duration::from_millis(300));
    db1.freeze();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(
        (200..700).contains(&sampler.overlap().as_millis()),
        "{:?}",
        sampler.overlap()
    );
    db1.thaw();
}

#[test]
fn nothing_stays_when_the_holder_is_killed() {
    if !lab::is_possible() {
        return;
    }
    if std::env::var_os("LAB_HOLDER").is_some() {
        let switch = Switch::new();
        let host = Arc::new(Host::new("db1"));
        switch.plug(&host, "10.77.0.11");
        let mut server = Server::new(&host, "10.77.0.11", 1, "");
        server.start();
        println!("LAB {}", host.pid());
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let mut holder = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "nothing_stays_when_the_holder_is_killed",
        ])
        .env("LAB_HOLDER", "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = std::io::BufReader::new(holder.stdout.take().unwrap());
    let line = std::io::BufRead::lines(stdout)
        .map(Result::unwrap)
        .find(|line| line.contains("LAB "));
    let pid: u32 = line
        .unwrap()
        .split_whitespace()
        .last()
        .unwrap()
        .parse()
        .unwrap();
    let namespace = std::fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
    let inside = || -> usize {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter(|p| std::fs::read_link(p.path().join("ns/pid")).is_ok_and(|n| n == namespace))
            .count()
    };
    assert!(
        inside() >= 3,
        "the first process, its wait and a server: {}",
        inside()
    );
    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_until("the host is gone", Duration::from_secs(5), || inside() == 0);
}
