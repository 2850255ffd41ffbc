//! The addresses of a name, from the system's own resolver.
//!
//! `getent` asks it, a program of the C library, by every way that nsswitch.conf(5) names. To ask
//! in this process would load these ways into it as modules, which a static program cannot have
//! from whatever C library a host runs; and a resolver that does not answer could not be ended.

use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::poll::PollFlags;

use crate::child;
use crate::error::{Error, Kind, Result};
use crate::time::Deadline;

/// All that it gets of the environment, in which there may be passwords: where programs are, and
/// what directs the resolver (resolv.conf(5)).
const ENVIRONMENT: [&str; 3] = ["PATH", "RES_OPTIONS", "LOCALDOMAIN"];

/// The addresses of `host`, which may be one itself, in the order in which to try them.
///
/// # Errors
/// [`Kind::Unreachable`] when it has none, [`Kind::Timeout`] when the deadline passes first,
/// [`Kind::Config`] when there is nobody to ask.
pub fn resolve(host: &str, port: u16, deadline: &Deadline) -> Result<Vec<SocketAddr>> {
    if let Some(address) = read_address(host, port) {
        return Ok(vec![address]);
    }
    let fail = |kind| Error::new(kind, format!("look up {host}"));
    let instead = "use the address instead of the name in the configuration";
    let mut child = start(host).map_err(|error| {
        (fail(Kind::Config).because(format!("start getent: {error}")))
            .advise(format!("apt-get install libc-bin, or {instead}"))
    })?;
    let answer = hear(&mut child, deadline);
    child::end(&mut child);
    let answer = answer.map_err(|error| error.during(format!("look up {host}")).advise(instead))?;
    // An address stands there once for every kind of socket.
    let mut addresses = Vec::new();
    for word in answer.lines().filter_map(|it| it.split_whitespace().next()) {
        match read_address(word, port) {
            Some(address) if !addresses.contains(&address) => addresses.push(address),
            _ => {}
        }
    }
    match addresses.is_empty() {
        true => Err(fail(Kind::Unreachable)
            .because("no address is known for it")
            .advise(instead)),
        false => Ok(addresses),
    }
}

/// `fe80::1%2`, with a zone in digits, is one too.
fn read_address(text: &str, port: u16) -> Option<SocketAddr> {
    let with_port = match text.contains(':') {
        true => format!("[{text}]:{port}"),
        false => format!("{text}:{port}"),
    };
    with_port.parse().ok()
}

fn start(host: &str) -> std::io::Result<Child> {
    let kept = |name| Some((name, std::env::var_os(name)?));
    Command::new("getent")
        .args(["ahosts", "--", host])
        .env_clear()
        .envs(ENVIRONMENT.into_iter().filter_map(kept))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// Everything that `child` says.
fn hear(child: &mut Child, deadline: &Deadline) -> Result<String> {
    let no_pipe = || Error::new(Kind::Bug, "a child without a pipe");
    let mut pipe = child.stdout.take().ok_or_else(no_pipe)?;
    let mut heard = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        deadline.ready(pipe.as_fd(), PollFlags::POLLIN)?;
        match pipe.read(&mut chunk) {
            Ok(0) | Err(_) => return Ok(String::from_utf8_lossy(&heard).into_owned()),
            Ok(length) => heard.extend_from_slice(&chunk[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_is_its_own_and_a_name_has_each_of_its_addresses_once() {
        let resolve = |host| resolve(host, 3306, &Deadline::after(Duration::from_secs(20)));
        for (host, address) in [
            ("10.0.0.1", "10.0.0.1:3306"),
            ("::1", "[::1]:3306"),
            ("fe80::1%2", "[fe80::1%2]:3306"),
        ] {
            assert_eq!(resolve(host).unwrap(), [address.parse().unwrap()]);
        }
        let addresses = resolve("localhost").unwrap();
        assert!(addresses.iter().all(|it| it.ip().is_loopback()));
        for (n, address) in addresses.iter().enumerate() {
            assert!(!addresses[..n].contains(address), "{addresses:?}");
        }
        for nobody in ["", "-h", "hookbox-test.invalid"] {
            assert_eq!(resolve(nobody).unwrap_err().kind(), Kind::Unreachable);
        }
    }
}
