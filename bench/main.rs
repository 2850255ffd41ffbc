//! `make bench`: what hookbox costs, beside what people use in its place, measured in turns in one
//! run, so that a busy machine is busy for all of them.
//!
//! Environment: `PART` is one of the parts, default all; `BASELINE` a directory with the scripts
//! that hookbox replaces; `RUNS` how often the slow things are measured, default 5; `CHECK=1` to
//! exit with 1 when an aim was missed; `JSON` where the figures go as well; `DOCS` the directory
//! with `performance.md`, whose tables and plots are written anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it tells a person what it measured"
)]

mod addresses;
mod check;
#[path = "../tests/support/compiled.rs"]
mod compiled;
mod docs;
mod hooks;
#[path = "../tests/lab/mod.rs"]
mod lab;
#[path = "../tests/support/net.rs"]
mod net;
mod outage;
mod plot;
mod promotion;
mod report;
mod sessions;
mod split;
mod switch;

use std::path::PathBuf;
use std::process::ExitCode;

use report::Report;

/// In the order in which they are measured.
const PARTS: [&str; 6] = ["check", "vip", "sessions", "promotion", "mha", "outage"];

fn main() -> ExitCode {
    if let Some(missing) = lab::missing() {
        eprintln!("bench: cannot build hosts here: {missing}");
        return ExitCode::from(2);
    }
    let part = setting("PART");
    if let Some(part) = &part
        && !PARTS.contains(&part.as_str())
    {
        eprintln!(
            "bench: no part is called {part}; known are {}",
            PARTS.join(", ")
        );
        return ExitCode::from(2);
    }
    let docs = setting("DOCS").map(PathBuf::from);
    if let Some(dir) = &docs
        && !dir.join("performance.md").exists()
    {
        eprintln!("bench: there is no performance.md in {}", dir.display());
        return ExitCode::from(2);
    }
    let json = setting("JSON").map(PathBuf::from);
    let baseline = setting("BASELINE").map(PathBuf::from);
    let baseline = baseline.as_deref();
    let runs = setting("RUNS").map_or(5, |runs| runs.parse().unwrap_or(5));
    // Cargo puts examples one directory below the program.
    let examples = std::env::current_exe().unwrap();
    let program = examples.parent().unwrap().with_file_name("hookbox");
    let mut report = Report::default();
    for name in PARTS {
        if part.as_deref().is_some_and(|part| part != name) {
            continue;
        }
        report.begin(name);
        match name {
            "check" => check::run(&mut report, &program, baseline),
            "vip" => addresses::run(&mut report, &program, runs),
            "sessions" => sessions::run(&mut report, &program, runs),
            "promotion" => promotion::run(&mut report, &program, baseline, runs),
            "mha" => switch::run(&mut report, &program, baseline, runs),
            _ => outage::run(&mut report, &program, runs),
        }
        // After every part: another one may break.
        if let Some(path) = &json {
            report.write(path);
        }
        if let Some(dir) = &docs {
            docs::write(&report, dir);
        }
    }
    match setting("CHECK").is_none() || report.is_reached() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
