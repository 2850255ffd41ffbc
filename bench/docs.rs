//! `docs/performance.md`: the tables between its marks, and the plots beside it, from what was
//! measured. Parts that were not measured this time stay as they are.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::plot;
use crate::report::{Aim, Figure, Report};

/// The parts that have a plot, with its title.
const PLOTS: [(&str, &str); 2] = [
    ("check", "One health check, from start to exit"),
    ("outage", "Time in which a client cannot write"),
];

/// Writes what `report` has into the documentation in `dir`.
pub fn write(report: &Report, dir: &Path) {
    let path = dir.join("performance.md");
    let mut text = read(&path);
    let mut parts: Vec<&str> = report.figures.iter().map(|figure| figure.part).collect();
    parts.dedup();
    for part in parts {
        let mut new = String::new();
        for (_, title) in PLOTS.iter().filter(|(plot, _)| *plot == part) {
            let Some(svg) = plot::svg(report, part, title) else {
                continue;
            };
            let name = format!("performance-{part}.svg");
            put(&dir.join(&name), &svg);
            let _ = writeln!(new, "![{title}]({name})\n");
        }
        new += &tables(report, part);
        text = replace(&text, part, &new, &path);
    }
    text = replace(&text, "machine", &machine(), &path);
    put(&path, &text);
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn put(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// The text with `new` between the marks of `part`.
fn replace(text: &str, part: &str, new: &str, path: &Path) -> String {
    let (begin, end) = (
        format!("<!-- bench {part} -->\n"),
        format!("<!-- end {part} -->\n"),
    );
    let between = text
        .split_once(&begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let Some((before, after)) = between else {
        println!("{}: no marks for {part}: left out", path.display());
        return text.to_owned();
    };
    format!("{before}{begin}{new}{end}{after}")
}

/// The aims of a part, which are mostly ratios, and then its figures.
fn tables(report: &Report, part: &str) -> String {
    let mut text = String::new();
    let aims: Vec<&Aim> = report.aims.iter().filter(|aim| aim.part == part).collect();
    if !aims.is_empty() {
        text += "| | measured | at most | |\n|---|---:|---:|---|\n";
        for aim in aims {
            let verdict = if aim.is_reached() { "" } else { "missed" };
            let (what, measured, at_most) = (&aim.what, number(aim.measured), number(aim.at_most));
            let _ = writeln!(text, "| {what} | {measured} | {at_most} | {verdict} |");
        }
        text += "\n";
    }
    text += "| | median | least | most | |\n|---|---:|---:|---:|---|\n";
    let of_part = |figure: &&Figure| figure.part == part;
    for figure in report.figures.iter().filter(of_part) {
        let [median, least, most] = [figure.median, figure.least, figure.most].map(number);
        let (what, unit) = (&figure.what, figure.unit);
        let _ = writeln!(text, "| {what} | {median} | {least} | {most} | {unit} |");
    }
    text
}

/// Three digits that count.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v == 0.0 || v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// Where it was measured, in one line.
fn machine() -> String {
    let first_line = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).output().ok();
        // keepalived says it on its standard error.
        let said = output.map(|it| [it.stdout, it.stderr].concat());
        let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
        said.lines().next().unwrap_or_default().trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = first_line("uname", &["-sr"]);
    let kernel = kernel.split('-').next().unwrap_or_default();
    let server = first_line("mariadbd", &["--version"]);
    let server = server.split("Ver ").last().unwrap_or_default().to_owned();
    let server = server.split(' ').next().unwrap_or_default().to_owned();
    let keepalived = first_line("keepalived", &["--version"]);
    let keepalived = keepalived.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model
        .unwrap_or_default()
        .trim_start_matches(['\t', ' ', ':']);
    format!("Last written on {cores} cores of {model}, {kernel}, {server}, {keepalived}.\n")
}
