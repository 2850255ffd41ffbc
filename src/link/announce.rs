//! Telling the neighbours again and again where an address is, from a process of its own.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::wire::Wire;
use super::{Host, Link, Vip, in_one_text};
use crate::child;
use crate::error::Result;
use crate::time::{Deadline, Stopwatch};

/// Most neighbour advertisements, and the least time between two, in ms (RFC 4861, 7.2.6 with
/// MAX_NEIGHBOR_ADVERTISEMENT and RetransTimer).
const MOST_ADVERTISEMENTS: usize = 3;
const BETWEEN_ADVERTISEMENTS: u32 = 1000;

/// Starts a process that announces `vips` at each of `times`, in ms from now, while the caller goes
/// its way.
///
/// It is in a process group of its own: keepalived kills that of a notify script. It is handed the
/// sockets of `wire` only to close them last, see [`Wire`].
pub(super) fn repeat_detached(vips: &[Vip], times: &[u32], wire: &Wire) -> io::Result<()> {
    let later: Vec<String> = times.iter().skip(1).map(u32::to_string).collect();
    if later.is_empty() {
        return Ok(());
    }
    let mut sockets = wire.opened();
    let mut next = || match sockets.next() {
        Some(socket) => Ok(Stdio::from(OwnedFd::from(socket.try_clone()?))),
        None => Ok::<Stdio, io::Error>(Stdio::null()),
    };
    Command::new("/proc/self/exe")
        .arg0("hookbox")
        .args(["vip", "announce", "--repeats", &later.join(",")])
        .args(in_one_text(vips).split(' '))
        .env_clear() // there may be passwords in it
        .process_group(0)
        .current_dir("/")
        .stdin(next()?)
        .stdout(next()?)
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
}

/// The detached process: announces `vips` at each of `times`, in ms from now, those that are still
/// on this host.
///
/// # Errors
/// When the kernel does not answer or a frame cannot be sent.
pub fn repeat(vips: &[Vip], times: &[u32], deadline: &Deadline) -> Result<()> {
    child::let_go_of_inherited();
    let host = Host::open(deadline)?;
    let since = Stopwatch::start();
    for time in times {
        let mut due: Vec<Vip> = vips.to_vec();
        due.retain(|vip| vip.address.is_ipv4() || is_time_to_advertise(*time, times));
        let after = Duration::from_millis(u64::from(*time));
        if due.is_empty() {
            continue;
        }
        deadline.pause(after.saturating_sub(since.elapsed()))?;
        let held = host.list()?;
        due.retain(|vip| held.iter().any(|held| vip.is_same_as(held)));
        if due.is_empty() {
            return Ok(());
        }
        host.tell(&due)?;
    }
    Ok(())
}

/// Whether `time` is among those of `times` at which a neighbour advertisement may be sent again,
/// the first having been sent at 0.
fn is_time_to_advertise(time: u32, times: &[u32]) -> bool {
    let mut last = 0;
    let far_enough = times.iter().filter(|time| {
        let is = time.saturating_sub(last) >= BETWEEN_ADVERTISEMENTS;
        last = if is { **time } else { last };
        is
    });
    let mut may = far_enough.take(MOST_ADVERTISEMENTS - 1);
    may.any(|may| *may == time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertisements_are_few_and_far_between_whatever_the_schedule() {
        let advertised = |times: &[u32]| -> Vec<u32> {
            let mut all = times.to_vec();
            all.retain(|time| is_time_to_advertise(*time, times));
            all
        };
        assert_eq!(advertised(&[200, 1000, 2000, 5000]), [1000, 2000]);
        assert_eq!(advertised(&[500, 1500, 1700, 2600]), [1500, 2600]);
        assert!(advertised(&[100, 200]).is_empty());
    }
}
