//! What the cases have found, kept in files, and the table made of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::engine::{ALL, Engine};
use crate::lab::Replication;

const HEAD: &str = include_str!("engines.head.md");
const PLAYED: &str = include_str!("played.head.md");

fn folder(engine: Engine, by: Replication) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("findings");
    folder.join(engine.name()).join(match by {
        Replication::Gtid => "GTID",
        Replication::FileAndPosition => "file and position",
    })
}

/// Notes the version of an engine that was tested.
pub fn version(engine: Engine, version: &str) {
    let folder = folder(engine, Replication::Gtid);
    let folder = folder.parent().unwrap();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("version"), version).unwrap();
}

/// Notes what `case` has found. With `HOOKBOX_ENGINES_TABLE` that file is written anew.
pub fn note(engine: Engine, by: Replication, case: &str, found: &str) {
    let folder = folder(engine, by);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(case), found).unwrap();
    if let Some(file) = std::env::var_os("HOOKBOX_ENGINES_TABLE") {
        fs::write(file, table()).unwrap();
    }
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(path).unwrap_or_else(|_| "not run".to_owned())
}

fn table() -> String {
    let mut all = HEAD.to_owned();
    all += "\n| |";
    for engine in ALL {
        all += &format!(" {} |", engine.name());
    }
    all += &format!("\n|---|{}\n| version |", "---|".repeat(ALL.len()));
    for engine in ALL {
        let folder = folder(engine, Replication::Gtid);
        all += &format!(" {} |", read(folder.parent().unwrap().join("version")));
    }
    for by in [Replication::Gtid, Replication::FileAndPosition] {
        let cases = names(ALL.iter().map(|engine| folder(*engine, by)));
        let way = folder(ALL[0], by);
        let way = way.file_name().unwrap().to_string_lossy().into_owned();
        all += &format!("\n| **by {way}** |{}", " |".repeat(ALL.len()));
        for case in cases {
            all += &format!("\n| {} |", case.replace('_', " "));
            for engine in ALL {
                all += &format!(" {} |", read(folder(engine, by).join(&case)));
            }
        }
    }
    all + "\n" + &played()
}

/// What the tests of MySQL 8 have noted of servers that they play.
fn played() -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("findings/played");
    let servers = names([folder.clone()]);
    let mut all = format!("\n{PLAYED}\n| | {} |\n|---|", servers.join(" | "));
    all += &"---|".repeat(servers.len());
    for case in names(servers.iter().map(|server| folder.join(server))) {
        all += &format!("\n| {} |", case.replace('_', " "));
        for server in &servers {
            all += &format!(" {} |", read(folder.join(server).join(&case)));
        }
    }
    all + "\n"
}

/// The names of what is in these folders, each once, sorted.
fn names(folders: impl IntoIterator<Item = PathBuf>) -> Vec<String> {
    let folders = folders
        .into_iter()
        .filter_map(|folder| fs::read_dir(folder).ok());
    let names = folders
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect::<BTreeSet<_>>().into_iter().collect()
}
