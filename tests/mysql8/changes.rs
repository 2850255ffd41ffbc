//! What is changed is changed in words that the server knows, in the right order, and no more.

use crate::counter::RoundTrips;
use crate::played::Played;
use crate::state::replica_of;
use crate::{PASSWORD, assert_told, pairs, site, succeed};

const TEN: &str = "22222222-0000-0000-0000-000000000000:1-10";
const TWELVE: &str = "22222222-0000-0000-0000-000000000000:1-10,\n\
                      11111111-0000-0000-0000-000000000000:1-2";

/// `own` is a closed replica of `source`, 200 bytes behind, and acknowledges to it.
fn replicate(own: &Played, source: &Played) -> String {
    let port = source.listen();
    own.close();
    own.set("event_scheduler", "OFF");
    own.set(&own.words_for("rpl_semi_sync_replica_enabled"), "ON");
    for server in [own, source] {
        server.set("gtid_executed", TEN);
    }
    let mut channel = replica_of("127.0.0.1", 200);
    channel.insert("Source_Port", port.to_string());
    own.state().channels = vec![channel];
    format!("[[peer]]\nhost = '127.0.0.1'\nport = {port}\n")
}

#[test]
fn a_promotion_closes_the_source_drains_opens_and_forgets() {
    for (own, source) in pairs() {
        let peer = replicate(&own, &source);
        source.add_event(true);
        own.add_event(false);
        own.state().busy_for = 16;
        let site = site(&own, "", &peer);
        site.check().passes("ok");
        site.wait_until_quiet(); // it looks at the source
        succeed(&site, "notify_master", &[]);
        let closed = [
            "SET GLOBAL super_read_only = 1",
            "SET GLOBAL event_scheduler = OFF",
        ];
        assert_told(&source, &closed);
        assert_told(
            &own,
            &[
                "SET GLOBAL rpl_semi_sync_source_wait_no_replica = OFF",
                "SET GLOBAL rpl_semi_sync_source_enabled = ON",
                "STOP REPLICA IO_THREAD FOR CHANNEL ''",
                "STOP REPLICA SQL_THREAD FOR CHANNEL ''",
                "SET GLOBAL read_only = 0",
                "RESET REPLICA ALL FOR CHANNEL ''",
                "SET GLOBAL rpl_semi_sync_replica_enabled = OFF",
                "ALTER DEFINER = `app`@`%` EVENT `lab`.`runs` ENABLE",
                "SET GLOBAL event_scheduler = ON",
            ],
        );
        assert_eq!(own.get("super_read_only"), "OFF");
        assert_eq!(source.get("super_read_only"), "ON");
    }
}

#[test]
fn a_promotion_with_nothing_left_to_apply_takes_six_round_trips() {
    for (own, _) in pairs() {
        own.close();
        let mut channel = replica_of("127.0.0.1", 0);
        channel.insert("Replica_IO_Running", "Connecting".to_owned());
        own.state().channels = vec![channel];
        let site = site(&own, "", "");
        let (socket, behind) = (site.dir.join("s"), site.dir.join("behind"));
        std::fs::rename(&socket, &behind).unwrap();
        let counted = RoundTrips::count(&socket, &behind);
        succeed(&site, "notify_master", &[]);
        assert_eq!(own.refused(), [""; 0]);
        let trips = counted.up_to("SET GLOBAL read_only = 0");
        assert!(trips.len() <= 6, "{}: {trips:#?}", own.name());
    }
}

#[test]
fn a_promotion_of_a_replica_of_two_names_the_channel_each_time() {
    for (own, _) in pairs() {
        own.close();
        own.state().channels = ["east", "west"]
            .map(|name| {
                let mut channel = replica_of("127.0.0.1", 200);
                channel.insert("Channel_Name", name.to_owned());
                channel
            })
            .to_vec();
        own.state().busy_for = 12;
        let site = site(&own, "", "[promote]\nsemi_sync = 'keep'\n");
        succeed(&site, "notify_master", &[]);
        assert_told(
            &own,
            &[
                "STOP REPLICA IO_THREAD FOR CHANNEL 'east'",
                "STOP REPLICA SQL_THREAD FOR CHANNEL 'east'",
                "STOP REPLICA IO_THREAD FOR CHANNEL 'west'",
                "STOP REPLICA SQL_THREAD FOR CHANNEL 'west'",
                "SET GLOBAL read_only = 0",
                "RESET REPLICA ALL FOR CHANNEL 'east'",
                "RESET REPLICA ALL FOR CHANNEL 'west'",
            ],
        );
    }
}

#[test]
fn a_demotion_closes_and_turns_semi_sync_round() {
    for (own, _) in pairs() {
        own.set(&own.words_for("rpl_semi_sync_source_enabled"), "ON");
        let site = site(&own, "", "");
        succeed(&site, "notify_backup", &[]);
        assert_told(
            &own,
            &[
                "SET GLOBAL event_scheduler = OFF",
                "SET GLOBAL super_read_only = 1",
                "SET GLOBAL rpl_semi_sync_replica_enabled = ON",
                "SET GLOBAL rpl_semi_sync_source_enabled = OFF",
            ],
        );
        assert_eq!(own.get("read_only"), "ON");
    }
}

#[test]
fn at_boot_it_is_closed_for_this_start_and_for_the_next() {
    for (own, _) in pairs() {
        own.state()
            .status
            .insert("Uptime".to_owned(), "5".to_owned());
        let site = site(&own, "", "");
        succeed(&site, "fence", &["--boot"]);
        assert_told(
            &own,
            &[
                "SET GLOBAL event_scheduler = OFF",
                "SET GLOBAL super_read_only = 1",
                "SET PERSIST super_read_only = 1",
            ],
        );
    }
}

const REJOIN: &str = "[rejoin]\nuser = 'repl'\npassword_file = 'PASSWORD_FILE'\n";

/// What a rejoin says to an old primary, with `password` as that of the account for replication.
fn statements(port: u16, password: &str) -> [String; 5] {
    [
        "SET GLOBAL super_read_only = 1".to_owned(),
        "SET GLOBAL event_scheduler = OFF".to_owned(),
        format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, \
             SOURCE_USER = 'repl', SOURCE_PASSWORD = '{password}', SOURCE_CONNECT_RETRY = 5, \
             SOURCE_RETRY_COUNT = 86400, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_AUTO_POSITION = 1 \
             FOR CHANNEL ''"
        ),
        "START REPLICA SQL_THREAD FOR CHANNEL ''".to_owned(),
        "START REPLICA IO_THREAD FOR CHANNEL ''".to_owned(),
    ]
}

#[test]
fn a_rejoin_does_what_it_has_explained() {
    for (own, source) in pairs() {
        let port = source.listen();
        for server in [&own, &source] {
            server.set("gtid_executed", TEN);
        }
        let site = site(&own, "", REJOIN);
        let name = format!("127.0.0.1:{port}");
        let told = succeed(&site, "rejoin", &["--source", &name, "--explain"]);
        let told: Vec<&str> = told
            .lines()
            .filter(|line| !line.starts_with("--"))
            .collect();
        let expected = statements(port, "***").map(|sql| own.words_for(&sql) + ";");
        assert_eq!(told, expected, "{}", own.version_text());
        assert_told(&own, &[]);
        succeed(&site, "rejoin", &["--source", &name]);
        let expected = statements(port, PASSWORD);
        assert_told(&own, &expected.each_ref().map(String::as_str));
        assert_told(&source, &[]);
    }
}

#[test]
fn a_rejoin_with_transactions_of_its_own_is_refused_and_they_are_named() {
    for (own, source) in pairs() {
        let name = format!("127.0.0.1:{}", source.listen());
        own.close();
        own.set("gtid_executed", TWELVE);
        source.set("gtid_executed", TEN);
        let site = site(&own, "", REJOIN);
        let seen = site.run("rejoin", &["--source", &name]);
        let named = "lacks: 11111111-0000-0000-0000-000000000000:1-2";
        assert_eq!(seen.status, Some(3), "{seen:?}");
        assert!(seen.log.contains(named), "{seen:?}");
        assert_told(&own, &[]);
        assert_told(&source, &[]);
    }
}

#[test]
fn without_gtids_only_replication_that_was_set_up_before_goes_on() {
    for (own, source) in pairs() {
        let port = source.listen();
        let name = format!("127.0.0.1:{port}");
        own.close();
        for server in [&own, &source] {
            server.set("gtid_mode", "OFF");
        }
        let site = site(&own, "", REJOIN);
        let seen = site.run("rejoin", &["--source", &name]);
        assert_eq!(seen.status, Some(3), "{seen:?}");
        assert!(
            seen.log.contains("without GTIDs nothing proves"),
            "{seen:?}"
        );
        assert_told(&own, &[]);
        let mut channel = replica_of("127.0.0.1", 0);
        channel.insert("Source_Port", port.to_string());
        for thread in ["Replica_IO_Running", "Replica_SQL_Running"] {
            channel.insert(thread, "No".to_owned());
        }
        own.state().channels = vec![channel];
        // It may have been open since it stopped: that it is closed now proves nothing.
        let seen = site.run("rejoin", &["--source", &name]);
        assert_eq!(seen.status, Some(3), "{seen:?}");
        assert!(seen.log.contains("--wrote-nothing"), "{seen:?}");
        assert_told(&own, &[]);
        succeed(&site, "rejoin", &["--source", &name, "--wrote-nothing"]);
        assert_told(
            &own,
            &[
                "START REPLICA SQL_THREAD FOR CHANNEL ''",
                "START REPLICA IO_THREAD FOR CHANNEL ''",
            ],
        );
    }
}
