//! A server that is to take no more writes takes none soon, whoever is in the way.

use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::engine::Engine;
use crate::site::{Site, assert_told, assert_within, start_with, succeed, told};

pub fn the_source_is_locked_by_lock_tables(site: &mut Site) -> String {
    site.write_events(1, 1000);
    let mut holder = site.db1.app();
    holder.query_drop("LOCK TABLES lab.e WRITE").unwrap();
    holder
        .query_drop("INSERT INTO lab.e VALUES (2000, 'locked')")
        .unwrap();
    let took = succeed(&site.db2, "notify_master");
    assert!(site.db2.is_writable() && !site.db1.is_writable());
    assert!(holder.query_drop("UNLOCK TABLES").is_err());
    assert_eq!(site.last_row(), "2000", "{}", told(&site.db2));
    // It is closed and answers, so that both can be compared.
    assert_told(&site.db2, &["lossless = proven: ", "which answers"]);
    assert_within(took, Duration::from_secs(4), &told(&site.db2));
    format!("fenced and drained, {} ms", took.as_millis())
}

pub fn under_load_no_acknowledged_row_is_lost(site: &mut Site) -> String {
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let mut app = site.db1.app();
            spawn(move || {
                let mut rows = 0;
                for row in writer * 1_000_000.. {
                    let insert = format!("INSERT INTO lab.e VALUES ({row}, 'load')");
                    match app.query_drop(insert) {
                        Ok(()) => rows += 1,
                        Err(_) => break,
                    }
                }
                rows
            })
        })
        .collect();
    let mut locked = site.db1.app();
    sleep(Duration::from_millis(500));
    locked.query_drop("LOCK TABLES other.e WRITE").unwrap();
    let took = succeed(&site.db1, "notify_backup");
    let count = || {
        site.db1
            .ask("SELECT COUNT(*) FROM lab.e")
            .parse::<u32>()
            .unwrap()
    };
    let rows = count();
    let acknowledged: u32 = writers
        .into_iter()
        .map(|writer| writer.join().unwrap())
        .sum();
    assert!(acknowledged > 100, "{acknowledged} rows are no load");
    // At most one of each writer was written and not acknowledged.
    assert!(
        (acknowledged..=acknowledged + 4).contains(&rows),
        "{rows} of {acknowledged}"
    );
    assert_eq!(count(), rows, "written after it was closed");
    assert_within(took, Duration::from_secs(3), &told(&site.db1));
    let promoted = succeed(&site.db2, "notify_master");
    let there: u32 = site.db2.ask("SELECT COUNT(*) FROM lab.e").parse().unwrap();
    assert_eq!(there, rows, "{}", told(&site.db2));
    let (took, promoted) = (took.as_millis(), promoted.as_millis());
    format!("closed after {took} ms, promoted in {promoted} ms")
}

pub fn a_server_that_starts_is_closed(site: &mut Site) -> String {
    site.write_events(1, 10);
    site.db1.kill();
    let unit = start_with(&site.db1, &["fence", "--boot"]);
    sleep(Duration::from_millis(100));
    site.db1.start();
    let answered = Instant::now();
    let (status, _) = unit.end();
    let closed = answered.elapsed();
    assert_eq!(status, 0, "{}", told(&site.db1));
    assert!(!site.db1.is_writable(), "{}", told(&site.db1));
    // A start with nothing beside it: closed where the server itself was told so.
    site.db1.kill();
    site.db1.start();
    let persists = site.engine == Engine::MySql97;
    assert_eq!(site.db1.is_writable(), !persists, "{}", told(&site.db1));
    if !persists {
        assert_told(&site.db1, &["read_only = 1 below [mysqld]"]);
        return format!(
            "closed within {} ms of its first answer",
            closed.as_millis()
        );
    }
    // Whoever it is made the primary by, the next start is closed again.
    succeed(&site.db1, "notify_master");
    assert!(site.db1.is_writable());
    site.db1.kill();
    site.db1.start();
    assert!(!site.db1.is_writable());
    site.db1.sql("RESET PERSIST");
    "closed by the server itself".to_owned()
}
