//! For people.

use super::Status;
use super::local::{Local, Promotion, Replication, Switch};
use super::survey::{HostSeen, Survey, VipSeen};

/// Lines without a newline at the end.
pub fn text(status: &Status) -> String {
    let mut lines = Vec::new();
    if let Some(file) = status.no_file {
        let file = file.display();
        lines.push(format!(
            "no configuration: {file} is missing, so that all defaults hold"
        ));
    }
    if let Some(local) = &status.local {
        lines.extend(server(local));
    }
    lines.extend(cluster(&status.survey, status.local.is_some()));
    if let Some(local) = &status.local {
        lines.extend(history(local));
    }
    lines.join("\n")
}

fn server(local: &Local) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(open) = &local.open_switch {
        lines.push(switch(open));
    }
    if let Some(error) = &local.switch_error {
        lines.push(format!("SWITCH unknown: {error}"));
    }
    let version = local.version.as_deref().unwrap_or("version unknown");
    let writes = local.writes.unwrap_or("unknown");
    lines.push(match &local.server {
        Some(server) => format!("{} at {server}: {version}, writes {writes}", local.role),
        None => format!("{}: no server here", local.role),
    });
    if let Some(error) = &local.error {
        lines.push(format!("  cannot be asked: {error}"));
    }
    let channels = local.channels.iter();
    lines.extend(channels.map(|channel| format!("  {}", replication(channel))));
    lines
}

/// The servers and the addresses; this host's own server was told of already if `but_own`.
fn cluster(survey: &Survey, but_own: bool) -> Vec<String> {
    let hosts = survey.hosts.iter().filter(|host| !(but_own && host.here));
    let mut lines: Vec<String> = hosts.map(host).collect();
    lines.extend(
        survey
            .no_primary
            .iter()
            .map(|why| format!("NO PRIMARY: {why}")),
    );
    for seen in &survey.vips {
        lines.push(vip(seen));
        lines.extend(seen.wrong.iter().map(|wrong| format!("  WRONG: {wrong}")));
    }
    lines
}

fn host(host: &HostSeen) -> String {
    let name = match host.here {
        true => format!("{} (this host)", host.host),
        false => host.host.clone(),
    };
    if let Some(error) = &host.error {
        return format!("{name}: cannot be asked: {error}");
    }
    let writes = match host.writable {
        Some(true) => "open",
        Some(false) => "closed",
        None => "unknown",
    };
    let lag = match (host.replicates, host.lag_seconds) {
        (Some(false), _) => ", does NOT replicate".to_owned(),
        (Some(true), Some(lag)) => format!(", {lag} s behind"),
        (Some(true), None) => ", lag unknown".to_owned(),
        (None, _) => String::new(),
    };
    let version = host.version.as_deref().unwrap_or("version unknown");
    format!("{name}: {}, writes {writes}{lag}, {version}", host.role)
}

fn vip(seen: &VipSeen) -> String {
    let here = match seen.here {
        Some(true) => "here",
        Some(false) => "not here",
        None => "unknown",
    };
    let and = if seen.here == Some(true) { " and" } else { "," };
    let elsewhere = match (&seen.mac_of, &seen.mac, seen.answers) {
        (Some(host), Some(mac), _) => format!("{and} on {host} ({mac})"),
        (_, Some(mac), _) => format!("{and} on an unknown host ({mac})"),
        (_, None, Some(false)) => ", nobody answers for it".to_owned(),
        _ => match seen.on.first() {
            Some(host) if seen.here != Some(true) => format!(", on {host}"),
            _ => String::new(),
        },
    };
    let server = match (&seen.server, seen.writable) {
        (Some(server), Some(true)) => format!("{server} answers, writes open"),
        (Some(server), _) => format!("{server} answers, writes closed"),
        (None, _) => "no server answers".to_owned(),
    };
    format!(
        "vip {}: {here}{elsewhere}; role {}, {server}",
        seen.vip, seen.role
    )
}

fn history(local: &Local) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(wish) = local.orchestrator_wants {
        lines.push(format!("the orchestrator wants it to be: {wish}"));
    }
    if let Some(check) = &local.last_check {
        let age = check.age_ms as f64 / 1000.0;
        lines.push(format!(
            "last check, {age:.1} s ago: {}: {}",
            check.class, check.text
        ));
    }
    if let Some(until) = &local.maintenance_until {
        lines.push(format!("MAINTENANCE until {until}"));
    }
    if let Some(run) = &local.last_run {
        let took = run
            .took_ms
            .map_or(String::new(), |ms| format!(" after {ms} ms"));
        lines.push(format!(
            "last run: {} at {}: {}{took}",
            run.applet, run.at, run.outcome
        ));
        if let Some(error) = &run.error {
            lines.push(format!("  {error}"));
        }
    }
    if let Some(Promotion { at, lossless }) = &local.last_promotion {
        lines.push(format!("last promotion at {at}: lossless: {lossless}"));
    }
    lines
}

fn switch(open: &Switch) -> String {
    let Switch {
        reason,
        old,
        since,
        undo,
        ..
    } = open;
    let new = open.new.as_deref().unwrap_or("another server");
    format!(
        "SWITCH OPEN: {reason} from {old} to {new}, begun at {since} and not finished; \
         if MHA has given up: {undo}"
    )
}

fn replication(channel: &Replication) -> String {
    let name = match channel.channel.as_str() {
        "" => String::new(),
        name => format!(" ({name})"),
    };
    let applying = if channel.applying {
        "applying"
    } else {
        "NOT applying"
    };
    let lag = channel
        .lag_seconds
        .map_or(String::new(), |lag| format!(", {lag} s behind"));
    let error = channel
        .error
        .as_ref()
        .map_or(String::new(), |error| format!(": {error}"));
    format!(
        "replicates from {}{name}: {}, {applying}, received {}, applied {}{lag}{error}",
        channel.source, channel.receiver, channel.received, channel.applied
    )
}
