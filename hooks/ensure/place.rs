//! What is seen from this host, and what that asks it to do with a group of addresses.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::time::Duration;

use hookbox::cluster::{self, Belongs, Member, Seen};
use hookbox::config::RoleVips;
use hookbox::db::Receiver;
use hookbox::error::{Error, Kind, Result, uninterrupted};
use hookbox::guard::{Verdict, Watch, verdict};
use hookbox::link::{Host, Owner, Vip};
use hookbox::memory::since_boot;
use hookbox::run::Mode;

use crate::context::Context;
use crate::guard::look::Guard;
use crate::members::{self, Target};

/// How long the neighbours have to say who has an address.
const NEIGHBOURS: Duration = Duration::from_millis(100);

/// What is to be done with a group of addresses.
pub enum Wish {
    /// Nothing: all is as it should be.
    Fine(String),
    /// Nothing now, and why.
    Wait(String),
    /// Nothing, since something is wrong that is not for this to put right.
    Trouble(Error),
    /// Put these on, and why.
    Add(Vec<Vip>, String),
    /// Take these off, and why.
    Remove(Vec<Vip>, String),
}

/// One look around.
pub struct Look<'a> {
    guard: &'a Guard<'a>,
    /// This host's own server first.
    pub members: Vec<Member>,
    /// Where the other servers are, to know them by their MACs.
    addresses: Vec<Option<IpAddr>>,
    /// Whether anybody answers; asked only where it matters.
    company: OnceCell<bool>,
}

impl<'a> Look<'a> {
    /// Asks all servers.
    pub fn new(guard: &'a Guard<'a>, targets: Vec<Target>) -> Result<Look<'a>> {
        let limit = guard.context.config.promote.peer_limit;
        let address = |target: &Target| target.address.as_ref()?.parse().ok();
        let addresses = targets.iter().map(address).collect();
        let (members, ()) = members::ask(targets, limit, || ());
        Ok(Look {
            guard,
            members,
            addresses,
            company: OnceCell::new(),
        })
    }

    pub fn context(&self) -> &'a Context {
        self.guard.context
    }

    pub fn host(&self) -> &'a Host {
        &self.guard.host
    }

    fn own(&self) -> &Member {
        &self.members[0]
    }

    fn name(&self, place: usize) -> &str {
        self.members[place].name()
    }

    /// Those of `vips` that are on this host, and those that are not; an address on an interface
    /// that carries no more is both, if another one can take it.
    fn split(&self, vips: &[Vip]) -> Result<(Vec<Vip>, Vec<Vip>)> {
        let (mut here, mut missing) = (Vec::new(), Vec::new());
        for vip in vips {
            match self.host().holds(vip.address)? {
                true => here.push(vip.clone()),
                false => missing.push(vip.clone()),
            }
        }
        if let Ok(plan) = uninterrupted(self.host().plan(&here))? {
            let is_lost = |vip: &&Vip| plan.missing.iter().any(|it| it.address == vip.address);
            missing.extend(here.iter().filter(is_lost).cloned());
        }
        Ok((here, missing))
    }

    /// The primary's addresses.
    pub fn of_primary(&self, vips: &[Vip]) -> Result<Wish> {
        let (here, missing) = self.split(vips)?;
        match &self.own().seen {
            Ok(own) if own.is_writable() => self.on_primary(vips, missing),
            Ok(_) if here.is_empty() => Ok(Wish::Fine(
                "not here, as it should be: the server here takes no writes".to_owned(),
            )),
            Err(_) if here.is_empty() => Ok(Wish::Fine(
                "not here, and not added: the server here does not answer".to_owned(),
            )),
            Ok(_) => Ok(match cluster::primary(&self.members) {
                Ok(primary) => {
                    let primary = self.name(primary);
                    let why = format!("{primary} takes writes, and the server here does not");
                    Wish::Remove(here, why)
                }
                Err(error) => Wish::Wait(format!("they stay here: {}", error.chain())),
            }),
            Err(_) => match self.guard_says()? {
                Some((Verdict::Replaced, text, _)) => Ok(Wish::Remove(here, text)),
                _ => {
                    let why = "they stay: the server here does not answer, and nothing tells that \
                               another one is the primary";
                    Ok(Wish::Wait(why.to_owned()))
                }
            },
        }
    }

    /// The server here takes writes.
    fn on_primary(&self, vips: &[Vip], missing: Vec<Vip>) -> Result<Wish> {
        let Some((verdict, text, sure)) = self.guard_says()? else {
            return Ok(Wish::Wait(
                "the server here takes no more writes".to_owned(),
            ));
        };
        if verdict.calls_for_giving_up() {
            let error = Error::new(Kind::Refused, text);
            // Writes are closed first, so that clients hear it.
            return Ok(Wish::Trouble(
                error.advise("hookbox guard, which closes the server"),
            ));
        }
        if missing.is_empty() {
            return Ok(match self.strangers(vips, NEIGHBOURS)?.first() {
                None => Wish::Fine("here, as it should be".to_owned()),
                Some((vip, who)) => Wish::Trouble(
                    Error::new(Kind::Refused, format!("{who} has {} as well", vip.address))
                        .advise(format!("on its host: hookbox vip del {vip}")),
                ),
            });
        }
        if verdict != Verdict::Fine || !sure {
            let what = format!("nothing is added: {text}");
            return Ok(Wish::Trouble(Error::new(Kind::Refused, what)));
        }
        if let Err(error) = cluster::primary(&self.members) {
            return Ok(Wish::Trouble(error.during("nothing is added")));
        }
        if let Some(source) = self.source() {
            let what = format!("the server here takes writes and replicates from {source}");
            let error = Error::new(Kind::Refused, what).during("nothing is added");
            return Ok(Wish::Trouble(error.advise(
                "close it if it is a replica; in a circle set [promote] forget_source = false",
            )));
        }
        Ok(match self.strangers(&missing, NEIGHBOURS)?.first() {
            None => Wish::Add(missing, "the server here is the primary".to_owned()),
            Some((vip, who)) => Wish::Trouble(
                Error::new(Kind::Refused, format!("{who} has {}", vip.address))
                    .advise(format!("on its host: hookbox vip del {vip}")),
            ),
        })
    }

    /// Where the server here replicates from, unless a primary may do so: else somebody opened a
    /// replica, and the primary that is silent now is about to be replaced by another one.
    fn source(&self) -> Option<&str> {
        let in_circle = !self.context().config.promote.forget_source;
        let own = self.own().seen.as_ref().ok().filter(|_| !in_circle)?;
        let mut channels = own.channels.iter();
        let running = channels.find(|channel| channel.receiver != Receiver::Stopped);
        running.map(|channel| channel.source.as_str())
    }

    /// What guard would say, with its text, and whether it says so for certain: a host that was cut
    /// off does not know what happened meanwhile until every peer has answered.
    fn guard_says(&self) -> Result<Option<(Verdict, String, bool)>> {
        let before = Watch::recall(&self.context().config.paths.run, since_boot());
        let look = self.guard.look(before.as_ref())?;
        Ok(look.map(|look| {
            let sure = look.complete || !look.sight.cut_off;
            let text = match sure {
                true => look.text,
                false => format!(
                    "this host was cut off, and not all answer yet: {}",
                    look.text
                ),
            };
            (verdict(&look.sight), text, sure)
        }))
    }

    /// The addresses of a role that is not the primary's.
    pub fn of_role(&self, role: &RoleVips, vips: &[Vip]) -> Result<Wish> {
        let (here, missing) = self.split(vips)?;
        if !self.has_company()? {
            let why = "nobody answers".to_owned();
            return Ok(match here.is_empty() || self.is_alone_by_chance()? {
                true => Wish::Wait(format!("nothing is done: {why}")),
                false => Wish::Remove(here, why),
            });
        }
        let strangers = self.strangers(vips, NEIGHBOURS)?;
        let holder = match here.is_empty() {
            false => Some(0),
            true => strangers.first().and_then(|(_, who)| who.place),
        };
        let on = match cluster::belongs(role, &self.members, holder)? {
            Belongs::On(on) => on,
            Belongs::Stay(why) => return Ok(Wish::Wait(format!("stays where it is: {why}"))),
            Belongs::Nowhere(why) => return Ok(Wish::Trouble(Error::new(Kind::Refused, why))),
        };
        let name = self.name(on);
        Ok(match (on, here.is_empty(), strangers.first()) {
            (0, true, None) => Wish::Add(missing, "it belongs here, and nobody has it".to_owned()),
            (0, true, Some((_, who))) if who.place.is_some() => {
                Wish::Wait(format!("it belongs here, and {who} has it still"))
            }
            (0, true, Some((vip, who))) => Wish::Trouble(
                Error::new(Kind::Refused, format!("{who} has {}", vip.address))
                    .advise("find that host, and take the address off there"),
            ),
            (0, false, None) if missing.is_empty() => {
                Wish::Fine("here, as it should be".to_owned())
            }
            (0, false, None) => Wish::Add(missing, "the others are here".to_owned()),
            (0, false, Some(_)) => match self.stays(&here, NEIGHBOURS) {
                Ok(Some(why)) => Wish::Trouble(Error::new(Kind::Refused, why)),
                Ok(None) => Wish::Wait("another host has it no more".to_owned()),
                Err(error) if error.kind() == Kind::Refused => Wish::Remove(here, error.chain()),
                Err(error) => return Err(error),
            },
            (_, false, _) => Wish::Remove(here, format!("it belongs on {name}")),
            (_, true, Some((_, who))) if who.place == Some(on) => {
                Wish::Fine(format!("on {who}, as it should be"))
            }
            (_, true, Some((_, who))) => Wish::Wait(format!("on {who}, and belongs on {name}")),
            (_, true, None) => Wish::Wait(format!("nobody has it; it belongs on {name}")),
        })
    }

    fn has_company(&self) -> Result<bool> {
        if let Some(company) = self.company.get() {
            return Ok(*company);
        }
        let answers = |member: &Member| match &member.seen {
            Ok(_) => true,
            Err(error) => error.kind() == Kind::Denied,
        };
        let answered = self.members.iter().skip(1).any(answers);
        let company = self.guard.has_company(answered)?;
        Ok(*self.company.get_or_init(|| company))
    }

    /// Whether somebody answers after all, `[guard] grace` later.
    fn is_alone_by_chance(&self) -> Result<bool> {
        if self.context().mode == Mode::Real {
            let context = self.context();
            context.deadline.pause(context.config.guard.grace)?;
        }
        self.guard.has_company(false)
    }

    /// The hosts besides this one that answer for one of `vips`.
    fn strangers(&self, vips: &[Vip], limit: Duration) -> Result<Vec<(Vip, Stranger)>> {
        let Some(first) = vips.first() else {
            return Ok(Vec::new());
        };
        // Where a server's own address is asked for, on the same interface.
        let server = |(place, address): (usize, &Option<IpAddr>)| {
            let address = (*address)?;
            let vip = Vip {
                address,
                prefix: if address.is_ipv4() { 32 } else { 128 },
                label: None,
                ..first.clone()
            };
            Some((place, vip))
        };
        let others = self.addresses.iter().enumerate().skip(1);
        let known: Vec<(usize, Vip)> = others.filter_map(server).collect();
        let servers = known.iter().map(|(_, vip)| vip.clone());
        let questions: Vec<Vip> = vips.iter().cloned().chain(servers).collect();
        let answers = self.host().owners(&questions, limit)?;
        let (of_vips, of_servers) = answers.split_at(vips.len());
        let place_of = |owner: &Owner| {
            let place = of_servers
                .iter()
                .position(|mac| mac.as_ref() == Some(owner));
            place.and_then(|n| known.get(n)).map(|(place, _)| *place)
        };
        let found = vips.iter().zip(of_vips).filter_map(|(vip, owner)| {
            let owner = (*owner)?;
            let place = place_of(&owner);
            let name = place.map(|place| self.name(place).to_owned());
            Some((vip.clone(), Stranger { owner, place, name }))
        });
        Ok(found.collect())
    }

    /// Whether this host may keep `vips`, which it has: of two that have one, the one with the lower
    /// MAC keeps it. Both see the same two MACs, whatever else they see. Gives who gives way.
    ///
    /// # Errors
    /// [`Kind::Refused`] when it must give way: to the lower MAC, or to a host that is none of the
    /// cluster's and knows no such rule.
    pub fn stays(&self, vips: &[Vip], limit: Duration) -> Result<Option<String>> {
        let strangers = self.strangers(vips, limit)?;
        for (vip, who) in &strangers {
            let own = self.host().mac(vip)?;
            if who.place.is_none() || own.is_none_or(|own| who.owner.mac < own) {
                let what = format!("{who} has {} as well, and this host gives way", vip.address);
                return Err(Error::new(Kind::Refused, what));
            }
        }
        let first = strangers.first();
        Ok(
            first
                .map(|(vip, who)| format!("{who} has {} as well, and is to give way", vip.address)),
        )
    }

    /// The server here still takes writes, and MHA has not begun to switch.
    ///
    /// # Errors
    /// [`Kind::Refused`] when that is not so, or what the server says.
    pub fn still_primary(&self) -> Result<()> {
        let patience = self.context().config.promote.peer_limit;
        let seen = Seen::ask(&self.guard.local()?.patient(patience))?;
        match (seen.is_writable(), seen.mha_at_work) {
            (true, false) => Ok(()),
            (false, _) => Err(Error::new(Kind::Refused, "it takes no more writes")),
            (_, true) => Err(Error::new(Kind::Refused, "MHA has begun to switch")),
        }
    }
}

/// Another host that answers for an address.
struct Stranger {
    owner: Owner,
    /// Its server's place among the members, if it is one of them.
    place: Option<usize>,
    name: Option<String>,
}

impl std::fmt::Display for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "an unknown host ({})", self.owner),
        }
    }
}
