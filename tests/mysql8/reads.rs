//! What is read is read right, and asked in words that the server knows.

use serde_json::Value;

use crate::played::Played;
use crate::state::replica_of;
use crate::words::understands;
use crate::{assert_told, pairs, site, succeed};

#[test]
fn the_servers_that_are_played_refuse_the_words_of_other_versions() {
    let known = |version, words: &[&str]| -> Vec<bool> {
        words.iter().map(|sql| understands(version, sql)).collect()
    };
    let older = [
        "SHOW SLAVE STATUS",
        "SHOW MASTER STATUS",
        "STOP SLAVE IO_THREAD FOR CHANNEL ''",
        "CHANGE MASTER TO MASTER_HOST = 'a', GET_MASTER_PUBLIC_KEY = 1 FOR CHANNEL ''",
    ];
    let newer = [
        "SHOW REPLICA STATUS",
        "SHOW BINARY LOG STATUS",
        "STOP REPLICA IO_THREAD FOR CHANNEL ''",
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'a', GET_SOURCE_PUBLIC_KEY = 1",
    ];
    assert_eq!(known((8, 0, 21), &older), [true; 4]);
    assert_eq!(known((8, 0, 21), &newer), [false; 4]);
    assert_eq!(known((8, 0, 22), &newer), [true, false, true, false]);
    assert_eq!(known((8, 0, 36), &older), [true; 4]);
    assert_eq!(known((8, 0, 36), &newer), [true, false, true, true]);
    assert_eq!(known((8, 4, 0), &older), [false; 4]);
    assert_eq!(known((8, 4, 0), &newer), [true; 4]);
    let mixed = "CHANGE REPLICATION SOURCE TO MASTER_HOST = 'a'";
    assert_eq!(known((8, 4, 0), &[mixed]), [false]);
}

/// A closed replica of two sources.
fn replica(server: &Played) {
    server.close();
    server.set("event_scheduler", "OFF");
    let mut west = replica_of("10.0.0.12", 0);
    west.insert("Channel_Name", "west".to_owned());
    let mut east = replica_of("10.0.0.13", 200);
    east.insert("Channel_Name", "east".to_owned());
    east.insert("Replica_IO_Running", "Connecting".to_owned());
    east.insert("Last_IO_Errno", "2003".to_owned());
    east.insert("Last_IO_Error", "error connecting".to_owned());
    let mut state = server.state();
    state.channels = vec![west, east];
    state.busy_for = u32::MAX;
}

#[test]
fn status_reads_version_writes_channels_positions_and_lag() {
    for (server, _) in pairs() {
        replica(&server);
        let said = succeed(&site(&server, "", ""), "status", &["--json"]);
        let seen: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(seen["version"], format!("MySQL {}", server.version_text()));
        assert_eq!(seen["role"], "replica");
        assert_eq!(seen["writes"], "closed to all");
        let channels: Value = serde_json::json!([
            {
                "channel": "west", "source": "10.0.0.12:3306", "receiver": "connected",
                "applying": true, "received": "binlog.000007:1000",
                "applied": "binlog.000007:1000", "lag_seconds": 0, "error": null
            },
            {
                "channel": "east", "source": "10.0.0.13:3306", "receiver": "connecting",
                "applying": true, "received": "binlog.000007:1000",
                "applied": "binlog.000007:800", "lag_seconds": 7,
                "error": "error 2003: error connecting"
            },
        ]);
        assert_eq!(seen["channels"], channels, "{said}");
        assert_told(&server, &[]);
    }
}

#[test]
fn a_check_sees_who_takes_writes_and_a_replica_that_is_late() {
    for (server, _) in pairs() {
        let site = site(&server, "max_lag = '5s'\nfence = false", "");
        let seen = site.check();
        let expected = format!("ok: {} takes writes", server.version_text());
        assert!(seen.passes("ok").line.starts_with(&expected), "{seen:?}");
        replica(&server);
        let seen = site.check();
        let expected = "replica: 7 s behind 10.0.0.13:3306";
        assert!(seen.fails("replica").line.starts_with(expected), "{seen:?}");
        assert_told(&server, &[]);
    }
}

#[test]
fn grants_are_those_of_the_version() {
    for (server, _) in pairs() {
        let text = succeed(
            &site(&server, "", ""),
            "grants",
            &["--events", "--from", "10.0.0.%"],
        );
        let named = format!("-- MySQL {}", server.version_text());
        assert!(text.starts_with(&named), "{text}");
        for word in [
            "SYSTEM_VARIABLES_ADMIN",
            "REPLICATION_SLAVE_ADMIN",
            "SYSTEM_USER",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(!text.contains("SUPER"), "{text}");
        // 8.2 split SET_USER_ID (release notes of 8.2.0).
        let is_split = server.version >= (8, 2, 0);
        assert_eq!(text.contains("SET_ANY_DEFINER"), is_split, "{text}");
        assert_eq!(text.contains("SET_USER_ID"), !is_split, "{text}");
        assert_told(&server, &[]);
    }
}

#[test]
fn a_look_at_a_source_believes_that_it_is_acknowledged_only_where_there_is_but_one() {
    for (own, source) in pairs() {
        let port = source.listen();
        let peer = format!("[[peer]]\nhost = '127.0.0.1'\nport = {port}\n");
        for channels in [1, 2] {
            own.close();
            let status = own.words_for("Rpl_semi_sync_replica_status");
            own.state().status.insert(status, "ON".to_owned());
            let channel = |n: usize| {
                let mut channel = replica_of("127.0.0.1", 0);
                channel.insert("Channel_Name", format!("c{n}"));
                channel.insert("Source_Server_Id", (2 + n).to_string());
                channel
            };
            own.state().channels = (0..channels).map(channel).collect();
            let site = site(&own, "", &peer);
            site.check().passes("ok");
            site.wait_until_quiet();
            let seen = std::fs::read_to_string(site.dir.join("run/source")).unwrap();
            let seen: Value = serde_json::from_str(&seen).unwrap();
            let acknowledged = &seen[0]["looks"][0]["acknowledged"];
            assert_eq!(*acknowledged, Value::Bool(channels == 1), "{seen}");
        }
    }
}
