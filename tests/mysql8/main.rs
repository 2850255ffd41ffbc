//! MySQL 8.0 and 8.4, which cannot be had for the tests: hookbox meets servers that are played and
//! know the words of one version alone, and says nothing that these do not understand.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic, start programs and look at the clock"
)]

#[path = "../support/round_trips.rs"]
mod counter;
#[path = "../lab/mod.rs"]
mod lab;
#[path = "../support/packets.rs"]
mod packets;
#[path = "../check/site.rs"]
#[allow(dead_code, reason = "shared with the tests of check")]
mod site;

mod gtids;
mod played;
mod state;
mod words;

mod changes;
mod cut_short;
mod reads;
mod sessions;

use std::fs;
use std::path::PathBuf;

use played::Played;
use site::{Seen, Site};
use words::{Plugins, Version};

/// Before and after each change of words; from 8.0.26 on with either kind of semi-sync's plugins.
const ALL: [(Version, Plugins); 8] = [
    ((8, 0, 21), Plugins::Older),
    ((8, 0, 22), Plugins::Older),
    ((8, 0, 23), Plugins::Older),
    ((8, 0, 36), Plugins::Older),
    ((8, 0, 36), Plugins::Newer),
    ((8, 2, 0), Plugins::Newer),
    ((8, 4, 0), Plugins::Newer),
    ((8, 4, 7), Plugins::Newer),
];

const PASSWORD: &str = "secret-word";

/// A pair of servers of each, with `server_id` 1 and 2.
fn pairs() -> impl Iterator<Item = (Played, Played)> {
    ALL.into_iter().map(|(version, plugins)| {
        let new = |id| Played::new(version, plugins, id);
        (new(1), new(2))
    })
}

/// hookbox beside `own`. `check` are lines of `[check]`, `more` are tables.
fn site(own: &Played, check: &str, more: &str) -> Site {
    let site = Site::new("");
    let password = site.secret(PASSWORD);
    let socket = site.dir.join("s");
    own.listen_at(&socket);
    let more = more.replace("PASSWORD_FILE", &password.display().to_string());
    site.configure(&format!(
        "{check}\n[mysql]\nsocket = '{}'\npassword_file = '{}'\n{more}",
        socket.display(),
        password.display()
    ));
    site
}

/// Runs what must succeed; gives what it printed.
#[track_caller]
fn succeed(site: &Site, applet: &str, args: &[&str]) -> String {
    let Seen {
        status, line, log, ..
    } = site.run(applet, args);
    assert_eq!(status, Some(0), "{applet}: {line}{log}");
    assert!(!format!("{line}{log}").contains(PASSWORD), "{line}{log}");
    line
}

/// Asserts that `server` understood everything, and was told to change this and no more.
#[track_caller]
fn assert_told(server: &Played, newest_words: &[&str]) {
    let version = server.version_text();
    assert_eq!(server.refused(), [""; 0], "{version}");
    let expected: Vec<_> = newest_words
        .iter()
        .map(|sql| server.words_for(sql))
        .collect();
    assert_eq!(server.changes(), expected, "{version}");
    note(server);
}

/// Notes for the table of the tests of engines that this test has been through with `server`.
fn note(server: &Played) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    let case = test.rsplit("::").next().unwrap_or_default();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("findings/played");
    let folder = folder.join(server.name());
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(case), format!("{} statements", server.asked())).unwrap();
}
