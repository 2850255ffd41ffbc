//! This host: its addresses, and what keeps one from being put here or taken away.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use neli::consts::nl::NlmF;
use neli::consts::rtnl::{IfaF, Iff, Rtm};
use nix::errno::Errno;

use super::netlink::{Held, Interface, Kernel, denied_or};
use super::{Link, Vip, announce, frames, wire};
use crate::error::{Error, Kind, Result};
use crate::run::Changed;
use crate::time::Deadline;

/// The network of the host, or of the namespace, that this process is in.
///
/// One conversation with the kernel, however many addresses are asked about.
pub struct Host {
    pub(super) kernel: Kernel,
}

impl Host {
    /// Opens the conversation; every wait in it ends with `deadline`.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the kernel gives no rtnetlink socket.
    pub fn open(deadline: &Deadline) -> Result<Self> {
        let kernel = Kernel::open(deadline)?;
        Ok(Host { kernel })
    }

    /// Whether this host has `address`, on any interface and with any prefix length.
    ///
    /// # Errors
    /// When the kernel does not answer in time.
    pub fn holds(&self, address: IpAddr) -> Result<bool> {
        Ok(self
            .kernel
            .addresses()?
            .iter()
            .any(|held| held.address == address))
    }

    /// Announces `vip` once, without repeats.
    pub(super) fn tell(&self, vip: &Vip) -> Result<Changed> {
        self.send_announcement(vip).map(|socket| match socket {
            Some(_) => Changed::Yes,
            None => Changed::AlreadySo,
        })
    }

    /// None when nobody can be told: loopback, tunnels and the like have no neighbours.
    fn send_announcement(&self, vip: &Vip) -> Result<Option<OwnedFd>> {
        let link = self
            .kernel
            .interface(&vip.link)?
            .ok_or_else(|| missing(&vip.link))?;
        let Some(mac) = link.mac.filter(|_| !link.flags.contains(Iff::NOARP)) else {
            return Ok(None);
        };
        // A router that says it is none is dropped from its neighbours' routes (RFC 4861, 7.2.5).
        let forwarding = format!("/proc/sys/net/ipv6/conf/{}/forwarding", link.name);
        let router = vip.address.is_ipv6() && setting_is_on(&forwarding);
        let failed = |errno| wire::failed_to_send(&link.name, errno);
        let socket = wire::open(vip.address.is_ipv4()).map_err(failed)?;
        let to = wire::packet_address(link.index).map_err(failed)?;
        for frame in frames::announcement(vip.address, mac, router) {
            wire::send(&socket, &to, &frame).map_err(failed)?;
        }
        Ok(Some(socket.into()))
    }

    /// The interface that can take `vip`, and whether it has it.
    fn place_for(&self, vip: &Vip) -> Result<(Interface, bool)> {
        let link = self
            .kernel
            .interface(&vip.link)?
            .ok_or_else(|| missing(&vip.link))?;
        link.carries()?;
        let held = self.kernel.addresses()?;
        match held.iter().find(|held| held.is(vip, &link)) {
            Some(held) if held.flags.contains(IfaF::DADFAILED) => {
                let what = format!("{vip} is unusable here: another host answers for it");
                Err(Error::new(Kind::Refused, what).advise(format!("hookbox vip del {vip}")))
            }
            Some(_) => Ok((link, true)),
            None => self.refuse_elsewhere(vip, &held).map(|()| (link, false)),
        }
    }

    /// Fails when `vip`'s address is among those `held`.
    fn refuse_elsewhere(&self, vip: &Vip, held: &[Held]) -> Result<()> {
        let Some(other) = held.iter().find(|held| held.address == vip.address) else {
            return Ok(());
        };
        let links = self.kernel.interfaces()?;
        let name = links.iter().find(|link| link.index == other.index);
        let name = name.map_or("another interface", |link| &link.name);
        let there = format!("{}/{} dev {name}", other.address, other.prefix);
        let what = format!("{} is on this host as {there}", vip.address);
        Err(Error::new(Kind::Refused, what).advise(format!(
            "hookbox vip del {there}, or correct the configured address"
        )))
    }

    /// With promote_secondaries off, the kernel deletes a subnet's other addresses together with
    /// its first one (`__inet_del_ifa`), and the routes through them.
    fn refuse_to_orphan(&self, vip: &Vip, link: &Interface, held: &[Held]) -> Result<()> {
        let IpAddr::V4(address) = vip.address else {
            return Ok(());
        };
        let first = held.iter().find(|held| held.is(vip, link));
        if first.is_none_or(|first| first.flags.contains(IfaF::SECONDARY)) {
            return Ok(());
        }
        let orphan = held.iter().find(|held| {
            held.index == link.index
                && held.prefix == vip.prefix
                && held.flags.contains(IfaF::SECONDARY)
                && matches!(held.address, IpAddr::V4(other) if same_subnet(other, address, vip.prefix))
        });
        let promoted =
            |of: &str| setting_is_on(&format!("/proc/sys/net/ipv4/conf/{of}/promote_secondaries"));
        match orphan {
            Some(orphan) if !promoted("all") && !promoted(&link.name) => {
                let what = format!("{} would go away with {vip}", orphan.address);
                Err(Error::new(Kind::Refused, what)
                    .because(
                        "it is the second address of its subnet, and promote_secondaries is off",
                    )
                    .advise("sysctl -w net.ipv4.conf.all.promote_secondaries=1, or use a /32"))
            }
            _ => Ok(()),
        }
    }
}

impl Link for Host {
    fn name(&self) -> String {
        "this host".to_owned()
    }

    fn list(&self) -> Result<Vec<Vip>> {
        let links = self.kernel.interfaces()?;
        let named = |held: Held| {
            let link = links
                .iter()
                .find(|link| link.index == held.index)?
                .name
                .clone();
            Some(Vip {
                address: held.address,
                prefix: held.prefix,
                // The kernel labels every IPv4 address, by default with the interface's name.
                label: held.label.filter(|label| *label != link),
                link,
            })
        };
        Ok(self
            .kernel
            .addresses()?
            .into_iter()
            .filter_map(named)
            .collect())
    }

    fn has(&self, vip: &Vip) -> Result<bool> {
        match self.kernel.interface(&vip.link)? {
            Some(link) => Ok(self
                .kernel
                .addresses()?
                .iter()
                .any(|held| held.is(vip, &link))),
            None => Ok(false),
        }
    }

    fn ready(&self, vip: &Vip) -> Result<()> {
        self.place_for(vip).map(drop)
    }

    fn add(&self, vip: &Vip) -> Result<Changed> {
        let (link, is_there) = self.place_for(vip)?;
        if is_there {
            return Ok(Changed::AlreadySo);
        }
        let answer = self
            .kernel
            .set(Rtm::Newaddr, NlmF::CREATE | NlmF::EXCL, vip, link.index)?;
        let changed = match answer {
            Ok(()) => Changed::Yes,
            Err(Errno::EEXIST) => Changed::AlreadySo,
            Err(errno) => return Err(denied_or(errno, format!("add {vip}"))),
        };
        if !self
            .kernel
            .addresses()?
            .iter()
            .any(|held| held.is(vip, &link))
        {
            let what = format!("{vip} is gone again right after it was added");
            return Err(Error::new(Kind::Refused, what)
                .advise("look for another program that manages this interface's addresses"));
        }
        Ok(changed)
    }

    fn del(&self, vip: &Vip) -> Result<Changed> {
        let held = self.kernel.addresses()?;
        let mut changed = Changed::AlreadySo;
        if let Some(link) = self.kernel.interface(&vip.link)?
            && held.iter().any(|held| held.is(vip, &link))
        {
            self.refuse_to_orphan(vip, &link, &held)?;
            match self
                .kernel
                .set(Rtm::Deladdr, NlmF::empty(), vip, link.index)?
            {
                Ok(()) => changed = Changed::Yes,
                Err(Errno::EADDRNOTAVAIL) => {}
                Err(errno) => return Err(denied_or(errno, format!("delete {vip}"))),
            }
        }
        self.refuse_elsewhere(vip, &self.kernel.addresses()?)?;
        Ok(changed)
    }

    fn announce(&self, vip: &Vip) -> Result<Changed> {
        let Some(socket) = self.send_announcement(vip)? else {
            return Ok(Changed::AlreadySo);
        };
        // The neighbours have been told once; that they are not told again is no failure.
        if let Err(error) = announce::repeat_detached(vip, socket) {
            log::warn!("{vip} is announced only once: {error}");
        }
        Ok(Changed::Yes)
    }
}

impl Held {
    fn is(&self, vip: &Vip, link: &Interface) -> bool {
        self.index == link.index && self.address == vip.address && self.prefix == vip.prefix
    }
}

impl Interface {
    /// An address on a link that is down is of no use to anybody.
    fn carries(&self) -> Result<()> {
        let name = &self.name;
        if !self.flags.contains(Iff::UP) {
            return Err(
                Error::new(Kind::Refused, format!("interface {name} is down"))
                    .advise(format!("ip link set {name} up")),
            );
        }
        if !self.flags.contains(Iff::LOWERUP) {
            return Err(
                Error::new(Kind::Refused, format!("interface {name} has no carrier"))
                    .advise("check the cable and the switch port"),
            );
        }
        Ok(())
    }
}

pub(super) fn same_subnet(a: Ipv4Addr, b: Ipv4Addr, prefix: u8) -> bool {
    let bits = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    u32::from(a) & bits == u32::from(b) & bits
}

fn setting_is_on(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() != "0")
}

pub(super) fn missing(link: &str) -> Error {
    Error::new(
        Kind::Refused,
        format!("there is no interface {link} on this host"),
    )
    .advise("ip -brief link, for those that there are")
}
