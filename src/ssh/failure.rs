//! What ssh said, as one line and what to do about it.

use super::{Place, client, quote};
use crate::config;
use crate::error::{Error, Kind};

/// Why there was no login. `heard` is what the client said on standard error.
pub(super) fn of_login(place: &Place, how: &config::Ssh, heard: &str, error: Error) -> Error {
    let what = format!("ssh to {}", describe(place, how));
    if heard.contains("Host key verification failed") {
        return of_host_key(place, how, heard, what);
    }
    let kind = match heard {
        _ if heard.contains("Permission denied") => Kind::Denied,
        _ if heard.contains("Too many authentication failures") => Kind::Denied,
        _ => error.kind(),
    };
    Error::new(kind, what)
        .because(last_line(place, heard).unwrap_or_else(|| error.chain()))
        .advise(by_hand(place, how, true))
}

/// Why a command got no answer.
pub(super) fn of_command(place: &Place, how: &config::Ssh, heard: &str, error: Error) -> Error {
    let reason = match error.kind() {
        Kind::Unreachable => last_line(place, heard).unwrap_or_else(|| error.chain()),
        Kind::Timeout => error.chain(),
        _ => return error,
    };
    Error::new(error.kind(), format!("ssh to {}", describe(place, how)))
        .because(reason)
        .advise(by_hand(place, how, true))
}

fn of_host_key(place: &Place, how: &config::Ssh, heard: &str, what: String) -> Error {
    let error = Error::new(Kind::Denied, what);
    if !heard.contains("IDENTIFICATION HAS CHANGED") {
        return error
            .because("its host key is not known here")
            .advise(format!("{}, once by hand", by_hand(place, how, false)));
    }
    let entry = match place.port.or(how.port) {
        Some(port) if port != 22 => format!("[{}]:{port}", place.address),
        _ => place.address.clone(),
    };
    error
        .because("its host key is not the one that is known here: it was set up anew, or it is another host")
        .advise(format!(
            "ssh-keygen -R {}, if you know why, then {}",
            quote(&[&entry]),
            by_hand(place, how, false)
        ))
}

/// `db1 (root@10.0.0.11)`, or `10.0.0.11` when there is no more to say.
fn describe(place: &Place, how: &config::Ssh) -> String {
    let user = place.user.as_ref().or(how.user.as_ref());
    let mut target = match user {
        Some(user) => format!("{user}@{}", place.address),
        None => place.address.clone(),
    };
    if let Some(port) = place.port.or(how.port).filter(|port| *port != 22) {
        target.push_str(&format!(" port {port}"));
    }
    match target == place.name {
        true => target,
        false => format!("{} ({target})", place.name),
    }
}

/// The command by which a person sees the same.
fn by_hand(place: &Place, how: &config::Ssh, batch: bool) -> String {
    let options = client::options(place, how);
    let mut words = vec!["ssh"];
    if batch {
        words.extend(["-o", "BatchMode=yes"]);
    }
    words.extend(options.iter().map(String::as_str));
    words.extend([place.address.as_str(), "true"]);
    quote(&words)
}

/// The last thing that was said, without `ssh: ` or the `root@10.0.0.11: ` that is said already.
fn last_line(place: &Place, heard: &str) -> Option<String> {
    // That a key was added, or is not safe from quantum computers, ends no connection.
    let is_reason = |line: &&str| {
        !line.is_empty() && !line.starts_with("Warning: ") && !line.starts_with("** ")
    };
    let line = heard.lines().map(str::trim).rfind(is_reason)?;
    let line = match line.split_once(": ") {
        Some((who, line)) if who == "ssh" || who.ends_with(&format!("@{}", place.address)) => line,
        _ => line,
    };
    Some(line.trim_end_matches('.').to_owned())
}
