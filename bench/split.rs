//! Which part of a health check costs what, by programs that do less and less of it.

use crate::check::{HOOKBOX, SOCKET, measure};
use crate::lab::Host;
use crate::report::{Piece, Report};

/// Measures it on `host`; `whole` has the other programs and what they take in all, in ms.
pub fn run(report: &mut Report, host: &Host, whole: &[(&str, f64)]) {
    // In maintenance a check ends when it has read its arguments and its configuration.
    let maintained = "/etc/hookbox/maintained.toml";
    let toml = host.read("/etc/hookbox/hookbox.toml")
        + "[paths]\nrun = \"/run/maintained\"\nstate = \"/var/lib/maintained\"\n";
    host.write(maintained, toml, 0o644);
    host.sh(&format!("hookbox maintenance on --config {maintained}"));
    let commands = [
        // Without anything to start it is the least that a static program can be.
        "/usr/local/bin/stopwatch 0 nothing".to_owned(),
        format!("/usr/local/bin/floor {SOCKET} floor"),
        "/usr/sbin/hookbox --version".to_owned(),
        format!("{HOOKBOX} --config {maintained}"),
        HOOKBOX.to_owned(),
    ];
    println!("\nthe parts of a check");
    let commands = commands.each_ref().map(String::as_str);
    let costs = measure(host, &commands);
    let names = [
        "an empty program",
        "floor again",
        "hookbox --version",
        "check in maintenance",
        "hookbox again",
    ];
    let mut medians = Vec::new();
    for (name, costs) in names.into_iter().zip(&costs) {
        let walls = costs.iter().map(|cost| cost[0] / 1000.0).collect();
        medians.push(report.figure("check", name, "ms", walls));
    }
    let [empty, floor, start, configured, full] = medians[..] else {
        return;
    };
    // What the server takes its time for is the same for all.
    let server = floor - empty;
    let (starts, asks) = ("the program starts and ends", "the server answers");
    let configures = "arguments and configuration";
    let verdict = "verdict: lock, memory, log line, a longer question";
    report.bar(
        "floor",
        vec![Piece::new(starts, empty), Piece::new(asks, server)],
    );
    let pieces = vec![
        Piece::new(starts, start),
        Piece::new(configures, (configured - start).max(0.0)),
        Piece::new(asks, server),
        Piece::new(verdict, (full - configured - server).max(0.0)),
    ];
    report.bar("hookbox", pieces);
    for (name, wall) in whole {
        report.bar(*name, vec![Piece::new("all of it", *wall)]);
    }
}
