//! This host: its addresses, and what keeps one from being put here or taken away.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use neli::consts::nl::NlmF;
use neli::consts::rtnl::{IfaF, Iff, Rtm};
use nix::errno::Errno;

use super::netlink::{Held, Interface, Kernel, View, denied_or};
use super::wire::Wire;
use super::{Link, Owner, Vip, announce};
use crate::config::Network;
use crate::error::{Error, Kind, Result};
use crate::run::Changed;
use crate::time::Deadline;

/// The network of the host, or of the namespace, that this process is in.
///
/// One conversation with the kernel, however many addresses are asked about.
pub struct Host {
    pub(super) kernel: Kernel,
    pub(super) wire: Wire,
    pub(super) network: Network,
    /// What was last seen.
    seen: RefCell<Option<Rc<View>>>,
}

/// What adding some addresses to this host comes to.
#[derive(Debug, Default)]
pub struct Plan {
    /// All of them, each with the interface first that can take it or that has it.
    pub vips: Vec<Vip>,
    /// Those that are not there.
    pub missing: Vec<Vip>,
    /// What people should know beforehand.
    pub notes: Vec<String>,
}

/// Where an address is, or can be put.
struct Place<'v> {
    link: &'v Interface,
    is_there: bool,
    /// Why it is not the first of the address's interfaces.
    instead_of: Option<String>,
}

impl Host {
    /// Opens the conversation; every wait in it ends with `deadline`.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the kernel gives no rtnetlink socket.
    pub fn open(deadline: &Deadline) -> Result<Self> {
        Ok(Host {
            kernel: Kernel::open(deadline)?,
            wire: Wire::default(),
            network: Network::default(),
            seen: RefCell::default(),
        })
    }

    /// Goes by `network` for questions and announcements.
    pub fn with(self, network: &Network) -> Host {
        Host {
            network: network.clone(),
            ..self
        }
    }

    /// What it goes by.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Interfaces and addresses as they are now.
    pub(super) fn look(&self) -> Result<Rc<View>> {
        let view = Rc::new(self.kernel.view()?);
        self.seen.replace(Some(view.clone()));
        Ok(view)
    }

    /// The same after addresses have come or gone: interfaces are not asked about again.
    fn look_at_addresses(&self, before: &View) -> Result<Rc<View>> {
        let view = Rc::new(View {
            links: before.links.clone(),
            held: self.kernel.addresses()?,
        });
        self.seen.replace(Some(view.clone()));
        Ok(view)
    }

    /// Whether this host has `address`, on any interface and with any prefix length.
    ///
    /// # Errors
    /// When the kernel does not answer in time.
    pub fn holds(&self, address: IpAddr) -> Result<bool> {
        let held = self.kernel.addresses()?;
        Ok(held.iter().any(|held| held.address == address))
    }

    /// What adding `vips` would come to.
    ///
    /// # Errors
    /// As [`Link::ready`], for the first of them that could not be added.
    pub fn plan(&self, vips: &[Vip]) -> Result<Plan> {
        let view = self.look()?;
        let mut plan = Plan::default();
        for vip in vips {
            let place = view.place_for(vip)?;
            let name = &place.link.name;
            let placed = vip.first_on(name);
            if !place.is_there {
                if let Some(why) = place.instead_of {
                    let address = vip.address;
                    plan.notes
                        .push(format!("{why}: {address} goes to {name} instead"));
                }
                plan.notes.extend(view.warning(&placed, place.link));
                plan.missing.push(placed.clone());
            }
            plan.vips.push(placed);
        }
        Ok(plan)
    }

    /// An address that goes to another of its interfaces leaves the one that carries no more.
    fn leave_dead_links(&self, vips: &[Vip], view: &View) -> Result<()> {
        let mut dead = Vec::new();
        for vip in vips {
            let on = |link: &&Interface| view.has(vip, link) && link.fault().is_some();
            dead.extend(view.links_of(vip).filter(on).map(|link| (vip, link.index)));
        }
        self.kernel
            .set(Rtm::Deladdr, NlmF::empty(), &dead)
            .map(drop)
    }

    /// Tells the neighbours that others have these addresses, who were told that this host has them.
    ///
    /// # Errors
    /// As [`Link::announce`].
    pub fn point_to(&self, others: &[(Vip, Owner)]) -> Result<()> {
        let view = self.look()?;
        for (vip, owner) in others {
            let link = view.links_of(vip).find(|link| link.fault().is_none());
            if let Some(link) = link {
                let deadline = self.kernel.deadline();
                self.wire
                    .announce(vip.address, link, owner.mac.into(), deadline)?;
            }
        }
        Ok(())
    }

    /// Announces `vips` once, without repeats, wherever they were last seen. Loopback, tunnels and the like
    /// have no neighbours who could be told.
    pub(super) fn tell(&self, vips: &[Vip]) -> Result<Changed> {
        let seen = self.seen.borrow().clone();
        let view = seen.map_or_else(|| self.look(), Ok)?;
        let mut told = Changed::AlreadySo;
        for vip in vips {
            let link = view.links_of(vip).find(|link| view.has(vip, link));
            let link = link.or_else(|| view.links_of(vip).next());
            let link = link.ok_or_else(|| missing(&vip.link))?;
            if let Some(mac) = link.neighbours_see() {
                self.wire
                    .announce(vip.address, link, mac, self.kernel.deadline())?;
                told = Changed::Yes;
            }
        }
        Ok(told)
    }
}

/// Why an address that was just added is of no use, if it is not.
fn unusable(vip: &Vip, index: u32, held: &[Held]) -> Option<Error> {
    let Some(held) = held.iter().find(|held| held.index == index && held.is(vip)) else {
        let what = format!("{vip} is gone again right after it was added");
        return Some(
            Error::new(Kind::Refused, what)
                .advise("look for another program that manages this interface's addresses"),
        );
    };
    held.fault(vip)
}

impl Link for Host {
    fn name(&self) -> String {
        "this host".to_owned()
    }

    fn list(&self) -> Result<Vec<Vip>> {
        let view = self.look()?;
        let named = |held: &Held| {
            let link = view.links.iter().find(|link| link.index == held.index)?;
            Some(Vip {
                address: held.address,
                prefix: held.prefix,
                link: link.name.clone(),
                fallback: Vec::new(),
                // The kernel labels every IPv4 address, by default with the interface's name.
                label: held.label.clone().filter(|label| *label != link.name),
                deprecated: held.address.is_ipv4() && held.flags.contains(IfaF::DEPRECATED),
            })
        };
        Ok(view.held.iter().filter_map(named).collect())
    }

    fn has(&self, vip: &Vip) -> Result<bool> {
        let view = self.look()?;
        let there = view.links_of(vip).any(|link| view.has(vip, link));
        Ok(there)
    }

    fn ready(&self, vip: &Vip) -> Result<()> {
        self.look()?.place_for(vip).map(drop)
    }

    fn add_all(&self, vips: &[Vip]) -> Result<Changed> {
        let view = self.look()?;
        let mut missing = Vec::new();
        for vip in vips {
            let place = view.place_for(vip)?;
            if !place.is_there {
                missing.push((vip.on(&place.link.name), place.link.index));
            }
        }
        self.leave_dead_links(vips, &view)?;
        let wanted: Vec<(&Vip, u32)> = missing.iter().map(|(vip, index)| (vip, *index)).collect();
        let flags = NlmF::CREATE | NlmF::EXCL;
        let answers = self.kernel.set(Rtm::Newaddr, flags, &wanted)?;
        let mut added = Vec::new();
        let mut failure = None;
        for (wanted, answer) in wanted.iter().zip(answers) {
            match answer {
                Ok(()) => added.push(*wanted),
                Err(Errno::EEXIST) => {}
                Err(errno) => {
                    failure.get_or_insert(denied_or(errno, format!("add {}", wanted.0)));
                }
            }
        }
        if failure.is_none() && !added.is_empty() {
            let after = self.look_at_addresses(&view)?;
            failure = added
                .iter()
                .find_map(|(vip, index)| unusable(vip, *index, &after.held));
        }
        let Some(failure) = failure else {
            return Ok(match added.is_empty() {
                true => Changed::AlreadySo,
                false => Changed::Yes,
            });
        };
        // What cannot be taken back here is tried again by the caller's undo.
        added.reverse();
        self.kernel.set(Rtm::Deladdr, NlmF::empty(), &added).ok();
        Err(failure)
    }

    fn del_all(&self, vips: &[Vip]) -> Result<Changed> {
        let view = self.look()?;
        let mut wanted = Vec::new();
        for vip in vips {
            let there = view.links_of(vip).filter(|link| view.has(vip, link));
            wanted.extend(there.map(|link| (vip, link)));
        }
        for (vip, link) in &wanted {
            view.refuse_to_orphan(vip, link, vips)?;
        }
        // The first of a subnet last, since the kernel would promote each of the others in turn.
        wanted.reverse();
        let asked: Vec<(&Vip, u32)> = wanted
            .iter()
            .map(|(vip, link)| (*vip, link.index))
            .collect();
        let answers = self.kernel.set(Rtm::Deladdr, NlmF::empty(), &asked)?;
        let mut changed = Changed::AlreadySo;
        for ((vip, _), answer) in asked.iter().zip(answers) {
            match answer {
                Ok(()) => changed = Changed::Yes,
                Err(Errno::EADDRNOTAVAIL | Errno::ENODEV) => {}
                Err(errno) => return Err(denied_or(errno, format!("delete {vip}"))),
            }
        }
        let after = self.look_at_addresses(&view)?;
        vips.iter()
            .try_for_each(|vip| after.refuse_elsewhere(vip))?;
        Ok(changed)
    }

    fn announce_all(&self, vips: &[Vip]) -> Result<Changed> {
        let told = self.tell(vips)?;
        if told == Changed::Yes
            // The neighbours have been told once; that they are not told again is no failure.
            && let Err(error) = announce::repeat_detached(vips, &self.network.announce, &self.wire)
        {
            log::warn!("announced only once: {error}");
        }
        Ok(told)
    }
}

impl View {
    /// The interfaces of `vip` that there are, in its order.
    pub(super) fn links_of(&self, vip: &Vip) -> impl Iterator<Item = &Interface> {
        let named = |name: &str| self.links.iter().find(|link| link.name == name);
        vip.links().filter_map(named)
    }

    fn has(&self, vip: &Vip, link: &Interface) -> bool {
        (self.held.iter()).any(|held| held.index == link.index && held.is(vip))
    }

    /// The interface that has `vip`, else the first that can take it.
    fn place_for(&self, vip: &Vip) -> Result<Place<'_>> {
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
    fn refuse_elsewhere(&self, vip: &Vip) -> Result<()> {
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
    fn warning(&self, vip: &Vip, link: &Interface) -> Option<String> {
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
    fn refuse_to_orphan(&self, vip: &Vip, link: &Interface, leaving: &[Vip]) -> Result<()> {
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
        let (what, advice) = if !self.flags.contains(Iff::UP) {
            ("is down", format!("ip link set {name} up"))
        } else if !self.flags.contains(Iff::LOWERUP) {
            let advice = "check the cable and the switch port".to_owned();
            ("has no carrier", advice)
        } else {
            return None;
        };
        let what = format!("interface {name} {what}");
        Some(Error::new(Kind::Refused, what).advise(advice))
    }

    /// The address by which neighbours see it; None on loopback, tunnels and the like.
    pub(super) fn neighbours_see(&self) -> Option<pnet_base::MacAddr> {
        self.mac.filter(|_| !self.flags.contains(Iff::NOARP))
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
