//! Addresses on a host without hookbox: `ip` and `arping`, whatever their versions.
//!
//! What was reached is read back, never taken from a message or an exit status.

use super::Vip;
use crate::error::{Error, Kind, Result};
use crate::run::Changed;
use crate::ssh::{Said, Shell, quote};

/// An address that `ip` shows.
#[derive(Debug, PartialEq)]
struct Held {
    vip: Vip,
    /// It came after another one of its subnet.
    is_secondary: bool,
}

/// Every address there.
pub(super) fn list(shell: &mut Shell) -> Result<Vec<Vip>> {
    Ok(held(shell)?.into_iter().map(|held| held.vip).collect())
}

pub(super) fn ready(shell: &mut Shell, vip: &Vip) -> Result<()> {
    if vip.address.is_ipv4() && shell.script("command -v arping")?.status != 0 {
        return Err(
            refused(shell, "arping is missing, and hookbox is".to_owned())
                .advise("apt-get install iputils-arping there, or better hookbox"),
        );
    }
    place_for(shell, vip, &mut Vec::new()).map(drop)
}

fn add(shell: &mut Shell, vip: &Vip, notes: &mut Vec<String>) -> Result<Changed> {
    let (placed, is_there) = place_for(shell, vip, notes)?;
    if is_there {
        return Ok(Changed::AlreadySo);
    }
    // It leaves the interface that carries no more.
    for dead in on_links_of(vip, &held(shell)?) {
        change(shell, "del", &dead)?;
    }
    let said = change(shell, "add", &placed)?;
    match on_links_of(&placed, &held(shell)?).is_empty() {
        false => Ok(Changed::Yes),
        true => Err(failed(shell, format!("add {placed}"), &said)),
    }
}

/// All of `vips`, or none. What people should know goes to `notes`.
pub(super) fn add_all(shell: &mut Shell, vips: &[Vip], notes: &mut Vec<String>) -> Result<Changed> {
    let mut added = Vec::new();
    for vip in vips {
        match add(shell, vip, notes) {
            Ok(Changed::Yes) => added.push(vip),
            Ok(Changed::AlreadySo) => {}
            Err(error) => {
                // The caller's undo tries again.
                for vip in added.into_iter().rev() {
                    del(shell, vip)?;
                }
                return Err(error);
            }
        }
    }
    Ok(match added.is_empty() {
        true => Changed::AlreadySo,
        false => Changed::Yes,
    })
}

/// All of `vips`.
pub(super) fn del_all(shell: &mut Shell, vips: &[Vip]) -> Result<Changed> {
    each(vips, |vip| del(shell, vip))
}

/// All of `vips`.
pub(super) fn announce_all(shell: &mut Shell, vips: &[Vip]) -> Result<Changed> {
    each(vips, |vip| announce(shell, vip))
}

/// Does it to each; the first failure counts, after all were tried.
fn each(vips: &[Vip], mut deed: impl FnMut(&Vip) -> Result<Changed>) -> Result<Changed> {
    let mut result = Ok(Changed::AlreadySo);
    for vip in vips {
        match deed(vip) {
            Ok(Changed::Yes) if result.is_ok() => result = Ok(Changed::Yes),
            Ok(_) => {}
            Err(error) => result = result.and(Err(error)),
        }
    }
    result
}

fn del(shell: &mut Shell, vip: &Vip) -> Result<Changed> {
    let before = held(shell)?;
    let mut changed = Changed::AlreadySo;
    for there in on_links_of(vip, &before) {
        refuse_to_orphan(shell, &there, &before)?;
        let said = change(shell, "del", &there)?;
        if !on_links_of(&there, &held(shell)?).is_empty() {
            return Err(failed(shell, format!("delete {there}"), &said));
        }
        changed = Changed::Yes;
    }
    let after = match changed {
        Changed::Yes => held(shell)?,
        Changed::AlreadySo => before,
    };
    refuse_elsewhere(shell, vip, &after)?;
    Ok(changed)
}

/// `vip` on each of its interfaces that it is on.
fn on_links_of(vip: &Vip, held: &[Held]) -> Vec<Vip> {
    let there = held.iter().filter(|held| vip.is_same_as(&held.vip));
    there.map(|held| vip.on(&held.vip.link)).collect()
}

/// Tells the neighbours three times, in the background: arping waits 1 s after each.
///
/// There are two programs of that name: that of iputils tells its version for `-V`; that of
/// Thomas Habets knows no `-V`, and takes other letters for the interface and for a reply.
fn announce(shell: &mut Shell, vip: &Vip) -> Result<Changed> {
    if vip.address.is_ipv6() {
        log::warn!("{}: only hookbox announces an IPv6 address", shell.name());
        return Ok(Changed::AlreadySo);
    }
    let there = match vip.fallback.is_empty() {
        true => None,
        false => on_links_of(vip, &held(shell)?).into_iter().next(),
    };
    let vip = there.as_ref().unwrap_or(vip);
    let address = vip.address.to_string();
    let arping = |shell: &Shell, words: &[&str]| {
        let common = ["arping", "-q", "-c", "3"];
        shell.command(&[&common, words, &[address.as_str()]].concat())
    };
    let iputils = [
        arping(shell, &["-U", "-I", &vip.link]),
        arping(shell, &["-A", "-I", &vip.link]),
    ];
    let habets = [
        arping(shell, &["-U", "-i", &vip.link, "-S", &address]),
        arping(shell, &["-U", "-P", "-i", &vip.link, "-S", &address]),
    ];
    let in_background = |commands: [String; 2]| {
        commands
            .map(|command| format!("{command} > /dev/null 2>&1 &"))
            .join(" ")
    };
    let script = format!(
        "command -v arping > /dev/null || (exit 127) && \
         if arping -V 2> /dev/null | grep -q iputils; then {} else {} fi",
        in_background(iputils),
        in_background(habets)
    );
    let said = shell.script(&script)?;
    match said.status {
        0 => Ok(Changed::Yes),
        _ => Err(failed(shell, format!("announce {vip}"), &said)
            .advise("apt-get install iputils-arping there, or better hookbox")),
    }
}

/// `vip` on the interface that has it, else on the first that can take it; and whether it is there.
fn place_for(shell: &mut Shell, vip: &Vip, notes: &mut Vec<String>) -> Result<(Vip, bool)> {
    let held = held(shell)?;
    let mut fault = None;
    let mut place = None;
    for link in vip.links() {
        let placed = vip.on(link);
        match usable(shell, link) {
            Ok(()) if !on_links_of(&placed, &held).is_empty() => return Ok((placed, true)),
            Ok(()) => drop(place.get_or_insert(placed)),
            Err(error) => drop(fault.get_or_insert(error)),
        }
    }
    match (place, fault) {
        (None, Some(fault)) => Err(fault),
        (place, fault) => {
            refuse_elsewhere(shell, vip, &held)?;
            let placed = place.unwrap_or_else(|| vip.clone());
            if let Some(fault) = fault {
                let (address, link) = (vip.address, &placed.link);
                let (why, name) = (fault.chain(), format!("{}: ", shell.name()));
                let why = why.strip_prefix(&name).unwrap_or(&why);
                notes.push(format!("{why}: {address} goes to {link} instead"));
            }
            Ok((placed, false))
        }
    }
}

/// Fails when an address on `link` would be of no use.
fn usable(shell: &mut Shell, link: &str) -> Result<()> {
    let said = shell.script(&quote(&["ip", "-o", "link", "show", "dev", link]))?;
    if said.status != 0 {
        return Err(
            failed(shell, format!("look at interface {link}"), &said).advise(format!(
                "on {}: ip -brief link, for those that there are",
                shell.name()
            )),
        );
    }
    let flags = said.output.split(['<', '>']).nth(1).unwrap_or_default();
    let has = |flag: &str| flags.split(',').any(|each| each == flag);
    if !has("UP") {
        return Err(refused(shell, format!("interface {link} is down"))
            .advise(format!("on {}: ip link set {link} up", shell.name())));
    }
    if !has("LOWER_UP") {
        return Err(refused(shell, format!("interface {link} has no carrier"))
            .advise("check the cable and the switch port"));
    }
    Ok(())
}

fn held(shell: &mut Shell) -> Result<Vec<Held>> {
    let said = shell.script("ip -o addr show")?;
    match said.status {
        0 => Ok(said.output.lines().filter_map(read_line).collect()),
        _ => Err(failed(shell, "list addresses".to_owned(), &said)),
    }
}

/// Reads `2: eth0    inet 10.0.0.11/24 brd 10.0.0.255 scope global secondary eth0:vip\  valid_lft`.
fn read_line(line: &str) -> Option<Held> {
    let (line, _) = line.split_once('\\').unwrap_or((line, ""));
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, link, family @ ("inet" | "inet6"), address, more @ ..] = &words[..] else {
        return None;
    };
    // On a point-to-point link the prefix length follows the other end: `10.0.0.1 peer 10.0.0.2/32`.
    let text = match (address.split_once('/'), more) {
        (Some(_), _) => (*address).to_owned(),
        (None, ["peer", peer, ..]) => format!("{address}/{}", peer.split_once('/')?.1),
        (None, _) => format!("{address}/{}", if *family == "inet" { 32 } else { 128 }),
    };
    let mut vip = Vip::held(&format!("{text} dev {link}")).ok()?;
    // The label comes last, after flags; an address without one has its interface's name there.
    vip.label = more
        .last()
        .filter(|_| *family == "inet")
        .filter(|label| label.starts_with(&format!("{link}:")))
        .map(|label| (*label).to_owned());
    Some(Held {
        vip,
        is_secondary: more.contains(&"secondary"),
    })
}

fn change(shell: &mut Shell, verb: &str, vip: &Vip) -> Result<Said> {
    let address = format!("{}/{}", vip.address, vip.prefix);
    let mut words = vec!["ip", "addr", verb, &address, "dev", &vip.link];
    if let ("add", Some(label)) = (verb, &vip.label) {
        words.extend(["label", label]);
    }
    if verb == "add" && vip.address.is_ipv6() {
        // The old primary may still answer for it.
        words.push("nodad");
    }
    if verb == "add" && vip.is_never_source() {
        words.extend(["preferred_lft", "0"]);
    }
    shell.run(&words)
}

fn refuse_elsewhere(shell: &Shell, vip: &Vip, held: &[Held]) -> Result<()> {
    let mut there = held.iter().filter(|held| held.vip.address == vip.address);
    let Some(other) = there.find(|held| !vip.is_same_as(&held.vip)) else {
        return Ok(());
    };
    let there = &other.vip;
    Err(
        refused(shell, format!("{} is on this host as {there}", vip.address)).advise(format!(
            "on {}: ip addr del {}/{} dev {}, or correct the configured address",
            shell.name(),
            there.address,
            there.prefix,
            there.link
        )),
    )
}

/// As on this host: see [`super::Host`].
fn refuse_to_orphan(shell: &mut Shell, vip: &Vip, held: &[Held]) -> Result<()> {
    if held
        .iter()
        .any(|held| vip.is_same_as(&held.vip) && held.is_secondary)
    {
        return Ok(());
    }
    let orphan = held.iter().find(|held| {
        let there = &held.vip;
        held.is_secondary
            && there.link == vip.link
            && there.prefix == vip.prefix
            && vip.is_near(there.address)
    });
    let Some(orphan) = orphan else {
        return Ok(());
    };
    let setting = |of: &str| format!("/proc/sys/net/ipv4/conf/{of}/promote_secondaries");
    let said = shell.script(&quote(&["cat", &setting("all"), &setting(&vip.link)]))?;
    if said.output.contains('1') {
        return Ok(());
    }
    Err(refused(
        shell,
        format!("{} would go away with {vip}", orphan.vip.address),
    )
    .because("it is the second address of its subnet, and promote_secondaries is off")
    .advise(format!(
        "on {}: sysctl -w net.ipv4.conf.all.promote_secondaries=1, or use a /32",
        shell.name()
    )))
}

fn refused(shell: &Shell, what: String) -> Error {
    Error::new(Kind::Refused, format!("{}: {what}", shell.name()))
}

fn failed(shell: &Shell, what: String, said: &Said) -> Error {
    let reason = said
        .errors
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty());
    let reason = reason.map_or(format!("exit status {}", said.status), str::to_owned);
    let what = format!("{}: {what}", shell.name());
    let may_not = [
        "Operation not permitted",
        "Permission denied",
        "password is required",
    ];
    match may_not.iter().any(|words| reason.contains(words)) {
        true => Error::new(Kind::Denied, what)
            .because(reason)
            .advise("[ssh] become = \"sudo -n\", and allow it there"),
        false => Error::new(Kind::Refused, what).because(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ip_are_read_as_addresses() {
        let vip =
            |line: &str| read_line(line).map(|held| (held.vip.to_string(), held.is_secondary));
        let read = [
            (
                r"2: eth0    inet 10.0.0.11/24 brd 10.0.0.255 scope global eth0\       valid_lft forever preferred_lft forever",
                "10.0.0.11/24 dev eth0",
                false,
            ),
            (
                r"2: eth0    inet 10.0.0.100/24 scope global secondary eth0:vip\       valid_lft forever",
                "10.0.0.100/24 dev eth0 label eth0:vip",
                true,
            ),
            (
                r"4: tun0    inet 10.8.0.1 peer 10.8.0.2/32 scope global tun0\       valid_lft forever",
                "10.8.0.1/32 dev tun0",
                false,
            ),
            (
                r"2: eth0    inet6 fd00:0::64/64 scope global nodad \       valid_lft forever",
                "fd00::64/64 dev eth0",
                false,
            ),
            (
                r"2: eth0    inet 10.0.0.255/24 scope global eth0\       valid_lft forever",
                "10.0.0.255/24 dev eth0",
                false,
            ),
        ];
        for (line, address, is_secondary) in read {
            assert_eq!(vip(line), Some((address.to_owned(), is_secondary)));
        }
        assert_eq!(
            vip(r"1: lo    inet 127.0.0.1/8 scope host lo\  valid_lft"),
            None
        );
        assert_eq!(vip("Cannot open netlink socket"), None);
    }
}
