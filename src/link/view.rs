//! What a host has, and what that means for an address: where it is, where it can go, what it would
//! take with it.

use neli::consts::rtnl::IfaF;
use nix::net::if_::InterfaceFlags;
use pnet_base::MacAddr;

use super::Vip;
use super::netlink::{Held, Interface, View};
use crate::error::{Error, Kind, Result};

/// Where an address is, or can be put.
pub(super) struct Place<'v> {
    pub link: &'v Interface,
    pub is_there: bool,
    /// Why it is not the first of the address's interfaces.
    pub instead_of: Option<String>,
}

/// Why an address that was just added is of no use, if it is not.
pub(super) fn unusable(vip: &Vip, index: u32, held: &[Held]) -> Option<Error> {
    let Some(held) = held.iter().find(|held| held.index == index && held.is(vip)) else {
        let what = format!("{vip} is gone again right after it was added");
        return Some(
            Error::new(Kind::Refused, what)
                .advise("look for another program that manages this interface's addresses"),
        );
    };
    held.fault(vip)
}

impl View {
    /// The interfaces of `vip` that there are, in its order.
    pub(super) fn links_of(&self, vip: &Vip) -> impl Iterator<Item = &Interface> {
        let named = |name: &str| self.links.iter().find(|link| link.name == name);
        vip.links().filter_map(named)
    }

    pub(super) fn has(&self, vip: &Vip, link: &Interface) -> bool {
        (self.held.iter()).any(|held| held.index == link.index && held.is(vip))
    }

    /// The interface that has `vip`, else the first that can take it.
    pub(super) fn place_for(&self, vip: &Vip) -> Result<Place<'_>> {
        let mut can = (self.links_of(vip)).filter(|link| link.fault().is_none());
        let there = (self.links_of(vip)).find(|link| link.fault().is_none() && self.has(vip, link));
        if let Some(link) = there {
            let held = (self.held.iter()).find(|held| held.index == link.index && held.is(vip));
            return match held.and_then(|held| held.fault(vip)) {
                Some(fault) => Err(fault),
                None => Ok(Place {
                    link,
                    is_there: true,
                    instead_of: None,
                }),
            };
        }
        let faults = || {
            let fault = |name: &str| match self.links.iter().find(|link| link.name == name) {
                Some(link) => link.fault(),
                None => Some(missing(name)),
            };
            vip.links().map_while(fault).collect::<Vec<Error>>()
        };
        let Some(link) = can.next() else {
            let mut faults = faults();
            return Err(match &faults[..] {
                [_] => faults.remove(0),
                _ => {
                    let what = format!("no interface can take {}", vip.address);
                    Error::new(Kind::Refused, what).because(in_one_line(&faults))
                }
            });
        };
        self.refuse_elsewhere(vip)?;
        let faults = faults();
        Ok(Place {
            link,
            is_there: false,
            instead_of: (!faults.is_empty()).then(|| in_one_line(&faults)),
        })
    }

    /// Fails when the host has the address of `vip` otherwise than as `vip`.
    pub(super) fn refuse_elsewhere(&self, vip: &Vip) -> Result<()> {
        let is_vip = |held: &&Held| {
            let mut links = self.links_of(vip);
            held.is(vip) && links.any(|link| link.index == held.index)
        };
        let mut there = self.held.iter().filter(|held| held.address == vip.address);
        let Some(other) = there.find(|held| !is_vip(held)) else {
            return Ok(());
        };
        let name = self.links.iter().find(|link| link.index == other.index);
        let name = name.map_or("another interface", |link| &link.name);
        let there = format!("{}/{} dev {name}", other.address, other.prefix);
        let what = format!("{} is on this host as {there}", vip.address);
        Err(Error::new(Kind::Refused, what).advise(format!(
            "hookbox vip del {there}, or correct the configured address"
        )))
    }

    /// What is unwise about putting `vip` on `link`.
    pub(super) fn warning(&self, vip: &Vip, link: &Interface) -> Option<String> {
        let first = self.of_subnet(vip, link).find(|held| !held.is_secondary());
        let address = vip.address;
        match first {
            None if address.is_ipv4() && vip.prefix < 32 => Some(format!(
                "{address} becomes the first address of its subnet on {}, which this host then \
                 speaks from; a /32 does not",
                link.name
            )),
            Some(first) if !promotes_secondaries(&link.name) => Some(format!(
                "{address} will go away when {} does: promote_secondaries is off",
                first.address
            )),
            _ => None,
        }
    }

    /// With promote_secondaries off, the kernel deletes a subnet's other addresses together with
    /// its first one (`__inet_del_ifa`), and the routes through them. Those that are `leaving`
    /// as well do not matter.
    pub(super) fn refuse_to_orphan(
        &self,
        vip: &Vip,
        link: &Interface,
        leaving: &[Vip],
    ) -> Result<()> {
        let mut subnet = self.of_subnet(vip, link);
        let is_first = |held: &Held| held.is(vip) && !held.is_secondary();
        if !self.of_subnet(vip, link).any(is_first) {
            return Ok(());
        }
        let stays = |held: &&Held| held.is_secondary() && !leaving.iter().any(|vip| held.is(vip));
        match subnet.find(stays) {
            Some(orphan) if !promotes_secondaries(&link.name) => {
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

    /// What is on `link` and the kernel counts to the subnet of `vip`; nothing with IPv6, where it
    /// counts none.
    fn of_subnet<'v>(&'v self, vip: &'v Vip, link: &Interface) -> impl Iterator<Item = &'v Held> {
        let index = link.index;
        self.held.iter().filter(move |held| {
            held.index == index
                && held.prefix == vip.prefix
                && vip.address.is_ipv4()
                && vip.is_near(held.address)
        })
    }
}

fn promotes_secondaries(link: &str) -> bool {
    let is_on = |of| {
        let path = format!("/proc/sys/net/ipv4/conf/{of}/promote_secondaries");
        std::fs::read_to_string(path).is_ok_and(|text| text.trim() != "0")
    };
    is_on("all") || is_on(link)
}

impl Held {
    fn is(&self, vip: &Vip) -> bool {
        self.address == vip.address && self.prefix == vip.prefix
    }

    fn is_secondary(&self) -> bool {
        self.flags.contains(IfaF::SECONDARY)
    }

    /// Why it cannot be used, if it cannot.
    fn fault(&self, vip: &Vip) -> Option<Error> {
        // What waits for its own detection may still be found to be another's.
        let why = if self.flags.contains(IfaF::DADFAILED) {
            "another host answers for it"
        } else if self.flags.contains(IfaF::TENTATIVE) {
            "it is still looked whether another host has it"
        } else {
            return None;
        };
        let what = format!("{vip} is unusable here: {why}");
        Some(Error::new(Kind::Refused, what).advise(format!("hookbox vip del {vip}")))
    }
}

impl Interface {
    /// Why it cannot take an address: on a link that is down one is of no use to anybody.
    pub(super) fn fault(&self) -> Option<Error> {
        let name = &self.name;
        let (what, advice) = if !self.flags.contains(InterfaceFlags::IFF_UP) {
            ("is down", format!("ip link set {name} up"))
        } else if !self.flags.contains(InterfaceFlags::IFF_LOWER_UP) {
            let advice = "check the cable and the switch port".to_owned();
            ("has no carrier", advice)
        } else {
            return None;
        };
        let what = format!("interface {name} {what}");
        Some(Error::new(Kind::Refused, what).advise(advice))
    }

    /// The address by which neighbours see it; None on loopback, tunnels and the like.
    pub(super) fn neighbours_see(&self) -> Option<MacAddr> {
        self.mac
            .filter(|_| !self.flags.contains(InterfaceFlags::IFF_NOARP))
    }
}

fn in_one_line(errors: &[Error]) -> String {
    errors
        .iter()
        .map(Error::chain)
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) fn missing(link: &str) -> Error {
    let what = format!("there is no interface {link} on this host");
    Error::new(Kind::Refused, what).advise("ip -brief link, for those that there are")
}
