//! Deeds of several statements that are cut short between two of them.

use std::rc::Rc;
use std::time::Duration;

use hookbox::db::Database;
use hookbox::db::endpoint::Endpoint;
use hookbox::db::server::Server;
use hookbox::error::{Error, Kind};
use hookbox::secret::Login;
use hookbox::time::Deadline;

use crate::played::Played;
use crate::words::Plugins;

const TIME: Duration = Duration::from_secs(30);

fn played() -> (Played, Endpoint) {
    let played = Played::new((8, 4, 0), Plugins::Newer, 1);
    let port = played.listen();
    (played, Endpoint::Tcp("127.0.0.1".to_owned(), port))
}

#[test]
fn a_server_whose_super_read_only_gave_way_for_a_moment_has_it_again_when_the_run_is_told_to_end() {
    let (played, endpoint) = played();
    played.close();
    played.state().mute = Some("ALTER USER");
    let deadline = Deadline::after(TIME);
    let server = Server::new(endpoint, Login::default(), deadline.clone());
    let seen = played.clone();
    deadline.watched_by(Rc::new(move || {
        match seen.get("super_read_only").as_str() {
            "ON" => Ok(()),
            _ => Err(Error::new(Kind::Overtaken, "SIGTERM arrived")),
        }
    }));
    let told = server.set_account_lock("app@%", true);
    assert_eq!(told.unwrap_err().kind(), Kind::Overtaken);
    assert_eq!(played.get("super_read_only"), "ON");
}

#[test]
fn a_server_that_cannot_be_closed_costs_the_run_no_more_than_its_own_time() {
    let (played, endpoint) = played();
    played.state().mute = Some("SET GLOBAL super_read_only");
    let deadline = Deadline::after(TIME);
    let server = Server::new(endpoint, Login::default(), deadline.clone());
    let server = server.patient(Duration::from_millis(300));
    let error = server.close_writes(Duration::ZERO, &[]).unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout, "{error:?}");
    let cancelled = |sql: &String| sql.starts_with("KILL CONNECTION");
    assert!(played.changes().iter().any(cancelled));
    assert!(deadline.left() > TIME / 2, "{deadline:?}");
}

#[test]
fn what_was_left_in_a_server_that_was_started_anew_is_not_ended_by_its_number() {
    let (played, endpoint) = played();
    played.state().mute = Some("SHOW GLOBAL VARIABLES");
    let server = Server::new(endpoint, Login::default(), Deadline::after(TIME));
    let server = server.patient(Duration::from_millis(300));
    server.state().unwrap_err();
    // It was started anew meanwhile, and numbers its sessions as before.
    played.state().mute = None;
    server.state().unwrap();
    assert_eq!(played.changes(), [""; 0]);
}

#[test]
fn a_commit_is_let_go_without_an_acknowledgement_only_when_no_client_can_hear_of_it() {
    for (command, lets_go) in [("Query", false), ("Killed", true)] {
        let (played, endpoint) = played();
        played.set("rpl_semi_sync_source_enabled", "ON");
        played.state().mute = Some("SET GLOBAL super_read_only");
        played.state().waiting = Some(command);
        let server = Server::new(endpoint, Login::default(), Deadline::after(TIME));
        let server = server.patient(Duration::from_millis(500));
        let error = server.close_writes(Duration::ZERO, &[]).unwrap_err();
        assert!(error.chain().contains("1 commits wait"), "{error:?}");
        let off = "SET GLOBAL rpl_semi_sync_source_enabled = OFF".to_owned();
        assert_eq!(played.changes().contains(&off), lets_go, "{command}");
    }
}

#[test]
fn semi_sync_that_begins_without_replicas_has_its_timeout_again_when_time_is_up() {
    let played = Played::new((8, 0, 36), Plugins::Older, 1);
    let endpoint = Endpoint::Tcp("127.0.0.1".to_owned(), played.listen());
    let before = played.get("rpl_semi_sync_master_timeout");
    played.state().mute = Some("SET GLOBAL rpl_semi_sync_master_enabled");
    let short = Deadline::after(Duration::from_millis(500));
    let server = Server::new(endpoint, Login::default(), short);
    assert_eq!(server.begin_semi_sync().unwrap_err().kind(), Kind::Timeout);
    assert_eq!(played.get("rpl_semi_sync_master_timeout"), before);
}
