//! Telling the neighbours where an address is: gratuitous ARP, unsolicited neighbour advertisement.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Host, Link, Vip};
use crate::error::Result;
use crate::time::{Deadline, Stopwatch};

/// When gratuitous ARP is sent again, counted from the first: frames get lost while a switch learns
/// the new port, and a receiver may ignore what comes within 1 s of its last update (`locktime`).
const ARP_REPEATS: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// When a neighbour advertisement is sent again: at most 3 in all, at least 1 s apart (RFC 4861,
/// 7.2.6 with MAX_NEIGHBOR_ADVERTISEMENT and RetransTimer).
const NA_REPEATS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// Starts a process that announces `vip` again and again while the caller goes its way.
///
/// It is in a process group of its own: keepalived kills that of a notify script. It is handed
/// `socket` as its stdin only to close it last: closing a packet socket waits for an RCU grace
/// period in the kernel, about 12 ms (`packet_release`, `synchronize_net`).
pub(super) fn repeat_detached(vip: &Vip, socket: OwnedFd) -> std::io::Result<()> {
    Command::new("/proc/self/exe")
        .arg0("hookbox")
        .args(["vip", "announce", "--repeats"])
        .args(vip.to_string().split(' '))
        .env_clear() // there may be passwords in it
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
}

/// The detached process: announces `vip` at each of its times, until it is gone from this host.
///
/// # Errors
/// When the kernel does not answer or a frame cannot be sent.
pub fn repeat(host: &Host, vip: &Vip, deadline: &Deadline) -> Result<()> {
    let since = Stopwatch::start();
    let times: &[Duration] = match vip.address {
        IpAddr::V4(_) => &ARP_REPEATS,
        IpAddr::V6(_) => &NA_REPEATS,
    };
    for time in times {
        deadline.pause(time.saturating_sub(since.elapsed()))?;
        if !host.has(vip)? {
            return Ok(());
        }
        host.tell(vip)?;
    }
    Ok(())
}
