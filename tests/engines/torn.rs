//! A source that dies in the middle of sending a large transaction.

use std::thread::spawn;
use std::time::Duration;

use mysql::prelude::Queryable;

use crate::lab::wait_until;
use crate::server::Server;
use crate::site::{Site, assert_within, succeed, told};

/// 50 MB in rows of 1000 bytes, made of 1000 rows that are there.
const LARGE: &str = "INSERT INTO lab.e SELECT 1000000 + a.id * 1000 + b.id, REPEAT('x', 1000)
    FROM lab.e a JOIN lab.e b WHERE a.id <= 50";

fn relay_size(server: &Server) -> u64 {
    let size = server.host.sh("cat /var/lib/mysql/relay.0* | wc -c");
    size.trim().parse().unwrap()
}

/// Kills db1 when db2 has received some of a large transaction and not all.
fn kill_while_sending(site: &mut Site) {
    let slow = "tc qdisc add dev eth0 root tbf rate 80mbit burst 256kb latency 1s";
    site.db1.host.sh(slow);
    let before = relay_size(&site.db2);
    let mut app = site.db1.app();
    let sending = spawn(move || app.query_drop(LARGE));
    wait_until("some of it has arrived", Duration::from_secs(30), || {
        relay_size(&site.db2) > before + 5_000_000
    });
    site.db1.kill();
    let _ = sending.join().unwrap(); // it waits for nobody
    let received = relay_size(&site.db2) - before;
    assert!(
        (5_000_000..45_000_000).contains(&received),
        "{received} bytes are all or nothing"
    );
}

fn promote(site: &Site) -> String {
    let took = succeed(&site.db2, "notify_master");
    let rows = site.db2.ask("SELECT COUNT(*) FROM lab.e");
    assert_eq!(rows, "1000", "{}", told(&site.db2));
    assert_within(took, Duration::from_secs(4), &told(&site.db2));
    let mut app = site.db2.app();
    app.query_drop("INSERT INTO lab.e VALUES (0, 'open')")
        .unwrap();
    format!("{} ms", took.as_millis())
}

pub fn the_source_died_in_the_middle_of_a_transaction(site: &mut Site) -> String {
    site.write_events(1, 1000);
    site.db2.wait_until_applied(&site.db1, "");
    kill_while_sending(site);
    promote(site)
}

pub fn what_is_whole_before_the_torn_transaction_is_applied(site: &mut Site) -> String {
    site.db2.apply_with_workers(4);
    site.db2.sql(&site.engine.word("STOP SLAVE SQL_THREAD"));
    for row in [1, 501] {
        site.write_events(row, row + 499);
    }
    site.db2.wait_until_received(&site.db1, "");
    kill_while_sending(site);
    promote(site)
}
