//! What the cases have found, kept in files, and the table made of them.

use std::fs;
use std::path::PathBuf;

use crate::engine::{ALL, Engine};
use crate::lab::Replication;

const HEAD: &str = include_str!("engines.head.md");

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
        let mut cases: Vec<_> = ALL
            .iter()
            .filter_map(|engine| fs::read_dir(folder(*engine, by)).ok())
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        cases.sort();
        cases.dedup();
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
    all + "\n"
}
