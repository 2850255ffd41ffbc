//! Two hosts on a switch: replication, and witnesses.

use std::sync::Arc;
use std::time::Duration;

use crate::lab::{GATEWAY, Host, Replication, Server, Switch, wait_until};
use crate::site::{Site, ms};

struct Hosts {
    switch: Switch,
    db: [Arc<Host>; 2],
    server: [Server; 2],
}

fn hosts() -> Hosts {
    let switch = Switch::new();
    let node = |id: u32| {
        let host = Arc::new(Host::new(&format!("db{id}")));
        let address = format!("10.77.0.1{id}");
        switch.plug(&host, &address);
        let mut server = Server::new(&host, &address, id, "");
        server.start();
        (host, server)
    };
    let ((db1, server1), (db2, server2)) = (node(1), node(2));
    Hosts {
        switch,
        db: [db1, db2],
        server: [server1, server2],
    }
}

#[test]
fn a_replica_that_lags_or_stands_still_is_told_when_asked_for() {
    need_lab!();
    let Hosts {
        switch: _switch,
        db: [_, host],
        server: [primary, replica],
    } = hosts();
    replica.replicate_from(&primary, Replication::Gtid);
    let threads = Site::on(&host, "replica_threads = true");
    let lag = Site::on(&host, "max_lag = '1s'");
    let neither = Site::on(&host, "");
    for site in [&threads, &lag, &neither] {
        site.check().passes("ok");
    }
    replica.sql("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 60; START SLAVE");
    replica.wait_until_replicating();
    primary.sql("INSERT INTO lab.t VALUES (1, 1, 1, NULL)");
    wait_until("the replica lags", Duration::from_secs(10), || {
        replica
            .replica_status("Seconds_Behind_Master")
            .parse()
            .unwrap_or(0)
            > 1
    });
    lag.check().told("lags").fails("replica");
    threads.check().passes("ok");
    replica.sql("STOP SLAVE SQL_THREAD");
    threads.check().told("applier stopped").fails("replica");
    neither.check().passes("ok");
    replica.sql("STOP SLAVE IO_THREAD; CHANGE MASTER TO MASTER_DELAY = 0; START SLAVE SQL_THREAD");
    threads.check().told("receiver stopped").fails("replica");
    replica.sql("START SLAVE");
    replica.wait_until_replicating();
    threads.check().passes("ok");
    threads.wait_until_quiet();
    assert_eq!(
        threads.told("fence", "begin"),
        0,
        "a lagging replica is not fenced"
    );
}

#[test]
fn a_host_that_hears_from_nobody_is_isolated_and_closes_its_writes() {
    need_lab!();
    let Hosts {
        switch,
        db: [db1, _db2],
        server: [server, peer],
    } = hosts();
    let arp = format!("arp:{GATEWAY}%eth0");
    let tcp = "tcp:10.77.0.12:3306";
    let ways = [GATEWAY, tcp, &arp];
    let alone = Site::on(&db1, "");
    let all = Site::on(
        &db1,
        &format!("witness = {:?}", [GATEWAY, tcp, "10.77.0.99"]),
    );
    let each = ways
        .iter()
        .map(|way| Site::on(&db1, &format!("fence = false\nwitness = [{way:?}]")));
    let each: Vec<Site> = each.collect();
    let aborted = || {
        peer.ask(
            "SELECT variable_value FROM information_schema.global_status
         WHERE variable_name = 'Aborted_connects'",
        )
    };
    let aborted_before = aborted();
    let median = |site: &Site| {
        let mut took: Vec<Duration> = (0..15).map(|_| site.check().passes("ok").took).collect();
        took.sort();
        took[7]
    };
    let (without, with) = (median(&alone), median(&all));
    println!("median without witnesses {without:?}, with three (one of them dead) {with:?}");
    assert!(with < without + ms(5), "{without:?} {with:?}");
    // Closing a packet socket waits until no processor uses it any more (packet_release of Linux).
    let with = median(&each[2]);
    println!("median with a witness by ARP {with:?}");
    assert!(with < without + ms(50), "{without:?} {with:?}");
    for site in &each {
        site.check().passes("ok");
    }
    assert_eq!(
        aborted(),
        aborted_before,
        "asking a server as a witness is no aborted connection"
    );

    // A full or refusing server still passes, but not on a host that is cut off.
    let refused = Site::on(&db1, &format!("fence = false\nwitness = {ways:?}"));
    refused.secret("wrong");
    refused.check().passes("auth");
    switch.block(&db1);
    refused
        .check()
        .told("isolated, and the account refused")
        .fails("isolated");
    std::thread::scope(|scope| {
        for (site, way) in each.iter().zip(ways) {
            scope.spawn(move || {
                site.check().told(way).within(ms(900)).fails("isolated");
            });
        }
    });
    assert!(server.is_writable());
    all.check()
        .told("isolated")
        .within(ms(900))
        .fails("isolated");
    wait_until("writes are closed", Duration::from_secs(3), || {
        !server.is_writable()
    });
    all.wait_until_quiet();
    assert_eq!(all.told("fence", "end"), 1);
    let seen = all.check();
    seen.fails("isolated");
    all.wait_until_quiet();
    assert_eq!(
        all.told("fence", "end"),
        1,
        "closed already: no fence is started"
    );
    switch.heal(&db1);
    all.check().passes("ok");
}
