//! This host: its addresses, and what keeps one from being put here or taken away.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use neli::consts::nl::NlmF;
use neli::consts::rtnl::{IfaF, Rtm};
use nix::errno::Errno;

use super::netlink::{Held, Interface, Kernel, View, denied_or};
use super::view::{missing, unusable};
use super::wire::Wire;
use super::{Link, Owner, Vip, announce};
use crate::config::Network;
use crate::error::Result;
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
    /// What the neighbours were told of when it was added.
    told: RefCell<Vec<IpAddr>>,
}

/// What adding some addresses to this host comes to.
#[derive(Default)]
pub struct Plan {
    /// All of them, each with the interface first that can take it or that has it.
    pub vips: Vec<Vip>,
    /// Those that are not there.
    pub missing: Vec<Vip>,
    /// Why some go to another interface than their first.
    pub notes: Vec<String>,
    view: Rc<View>,
}

impl Host {
    /// Opens the conversation; every wait in it ends with `deadline`.
    ///
    /// # Errors
    /// [`Kind::Refused`](crate::error::Kind::Refused) when the kernel gives no rtnetlink socket.
    pub fn open(deadline: &Deadline) -> Result<Self> {
        Ok(Host {
            kernel: Kernel::open(deadline)?,
            wire: Wire::default(),
            network: Network::default(),
            seen: RefCell::default(),
            told: RefCell::default(),
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
        let mut plan = Plan {
            view: view.clone(),
            ..Plan::default()
        };
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
                plan.missing.push(placed.clone());
            }
            plan.vips.push(placed);
        }
        Ok(plan)
    }

    /// Adds what is missing by `plan`, all of it or nothing, and looks whether it is there. The
    /// neighbours are told before that look, since the outage ends with them.
    ///
    /// # Errors
    /// As [`Link::add_all`].
    pub fn carry_out(&self, plan: &Plan) -> Result<Changed> {
        let Plan { missing, view, .. } = plan;
        self.leave_dead_links(missing, view)?;
        let links = missing.iter().map(|vip| view.links_of(vip).next());
        let wanted = missing.iter().zip(links);
        let wanted: Vec<(&Vip, &Interface)> = wanted
            .filter_map(|(vip, link)| Some((vip, link?)))
            .collect();
        let asked: Vec<(&Vip, u32)> = (wanted.iter())
            .map(|(vip, link)| (*vip, link.index))
            .collect();
        let flags = NlmF::CREATE | NlmF::EXCL;
        let answers = self.kernel.set(Rtm::Newaddr, flags, &asked)?;
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
            self.tell_first(&added);
            let after = self.look_at_addresses(view)?;
            let fault = |(vip, link): &(&Vip, &Interface)| unusable(vip, link.index, &after.held);
            failure = added.iter().find_map(fault);
        }
        let Some(failure) = failure else {
            return Ok(match added.is_empty() {
                true => Changed::AlreadySo,
                false => Changed::Yes,
            });
        };
        // What cannot be taken back here is tried again by the caller's undo.
        let added = added.iter().rev().map(|(vip, link)| (*vip, link.index));
        let added: Vec<(&Vip, u32)> = added.collect();
        self.kernel.set(Rtm::Deladdr, NlmF::empty(), &added).ok();
        Err(failure)
    }

    /// Announces what was just added. What cannot be told now is left to [`Link::announce_all`],
    /// which says so.
    fn tell_first(&self, added: &[(&Vip, &Interface)]) {
        let is_told =
            |(vip, link): &&(&Vip, &Interface)| matches!(self.tell_on(vip, link), Ok(Changed::Yes));
        let told = added.iter().filter(is_told);
        self.told
            .replace(told.map(|(vip, _)| vip.address).collect());
    }

    /// What is unwise about where the missing addresses went.
    pub fn warnings(&self, plan: &Plan) -> Vec<String> {
        let Plan { missing, view, .. } = plan;
        let warning = |vip: &Vip| view.warning(vip, view.links_of(vip).next()?);
        missing.iter().filter_map(warning).collect()
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

    /// Announces `vips` once, without repeats, wherever they were last seen.
    pub(super) fn tell(&self, vips: &[Vip]) -> Result<Changed> {
        let seen = self.seen.borrow().clone();
        let view = seen.map_or_else(|| self.look(), Ok)?;
        let mut told = Changed::AlreadySo;
        for vip in vips {
            let link = view.links_of(vip).find(|link| view.has(vip, link));
            let link = link.or_else(|| view.links_of(vip).next());
            let link = link.ok_or_else(|| missing(&vip.link))?;
            if self.tell_on(vip, link)? == Changed::Yes {
                told = Changed::Yes;
            }
        }
        Ok(told)
    }

    /// Loopback, tunnels and the like have no neighbours who could be told.
    fn tell_on(&self, vip: &Vip, link: &Interface) -> Result<Changed> {
        let Some(mac) = link.neighbours_see() else {
            return Ok(Changed::AlreadySo);
        };
        let deadline = self.kernel.deadline();
        self.wire.announce(vip.address, link, mac, deadline)?;
        Ok(Changed::Yes)
    }
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
        self.carry_out(&self.plan(vips)?)
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
        let told = self.told.take();
        let (told, untold): (Vec<Vip>, Vec<Vip>) =
            (vips.iter().cloned()).partition(|vip| told.contains(&vip.address));
        let now = self.tell(&untold)?;
        let told = match told.is_empty() {
            true => now,
            false => Changed::Yes,
        };
        if told == Changed::Yes
            // The neighbours have been told once; that they are not told again is no failure.
            && let Err(error) = announce::repeat_detached(vips, &self.network.announce, &self.wire)
        {
            log::warn!("announced only once: {error}");
        }
        Ok(told)
    }
}
