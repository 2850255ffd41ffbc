//! Virtual addresses come to this host, all of them or none, unless another host has one.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use crate::config::OnConflict;
use crate::error::{Error, Kind, Result};
use crate::link::{Host, Link, Owner, Plan, Vip};
use crate::run::{Changed, Run};

/// How many addresses a step names before it counts them.
const NAMED: usize = 3;

/// A host whose name is known.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// An address of its own.
    pub address: IpAddr,
}

/// What takes addresses away from a host that has them, and closes its writes first.
pub type Fence<'a> = dyn Fn(&mut Run<'_>, &Known, &[Vip]) -> Result<()> + 'a;

/// Somebody who has an address that should come here.
struct Rival<'a> {
    vip: &'a Vip,
    owner: Owner,
    known: Option<&'a Known>,
}

/// Puts all of `vips` on `host` and announces them; whether any was not there.
///
/// The neighbours are asked before, and once more afterwards. Whoever has one of the addresses is
/// named if it is one of `known`; what then becomes of it is said by `[network] on_conflict`.
///
/// # Errors
/// [`Kind::Refused`] when an interface cannot take its address, or another host has it.
pub fn bring<'a>(
    run: &mut Run<'a>,
    host: &'a Host,
    vips: &[Vip],
    known: &[Known],
    fence: &Fence<'_>,
) -> Result<Changed> {
    let mut plan = plan(run, host, vips)?;
    let is_asked = !plan.missing.is_empty() && !host.network().probe.is_zero();
    if is_asked {
        let fence = |run: &mut Run<'_>, owner: &Known| fence(run, owner, vips);
        make_room(run, host, &plan.missing, known, &fence)?;
        // An interface may have lost its carrier meanwhile.
        plan = host.plan(vips)?;
    }
    // Who turned out to have them as well.
    let others = Rc::new(RefCell::new(Vec::new()));
    let seen = others.clone();
    put_on(run, host, &plan, move |added| {
        let gone = host.del_all(added);
        // The neighbours believe the last one that spoke.
        if let Err(error) = host.point_to(&seen.borrow()) {
            log::warn!("the neighbours are not told who has the addresses: {error}");
        }
        gone
    })?;
    if is_asked && !run.is_dry() {
        look_again(run, host, &plan.missing, known, &others)?;
    }
    Ok(match plan.missing.is_empty() || run.is_dry() {
        true => Changed::AlreadySo,
        false => Changed::Yes,
    })
}

/// Looks where on `host` each of `vips` is or can go.
///
/// # Errors
/// [`Kind::Refused`] when an interface cannot take its address.
pub fn plan(run: &mut Run<'_>, host: &Host, vips: &[Vip]) -> Result<Plan> {
    let mut plan = Plan::default();
    let links = in_few_words(vips.iter().map(|vip| vip.link.clone()));
    let addresses = in_few_words(vips.iter().map(|vip| vip.address.to_string()));
    run.check(&format!("{links} can take {addresses}"), || {
        plan = host.plan(vips)?;
        Ok(())
    })?;
    plan.notes.iter().for_each(|note| run.note(note));
    Ok(plan)
}

/// Adds what is missing by `plan` and announces all of it; `take_back` is what undoes the adding.
///
/// # Errors
/// When the kernel does not add one, or it cannot be announced.
pub fn put_on<'a>(
    run: &mut Run<'a>,
    host: &'a Host,
    plan: &Plan,
    take_back: impl FnOnce(&[Vip]) -> Result<Changed> + 'a,
) -> Result<()> {
    if plan.missing.is_empty() {
        let what = in_few_words(plan.vips.iter().map(Vip::to_string));
        run.act(&format!("add {what}"), || Ok(Changed::AlreadySo))?;
    } else {
        let what = in_few_words(plan.missing.iter().map(Vip::to_string));
        let added = plan.missing.clone();
        run.change(
            &format!("add {what}"),
            || host.carry_out(plan),
            &format!("delete {what}"),
            move || take_back(&added),
        )?;
    }
    announce(run, host, &plan.vips)?;
    host.warnings(plan).into_iter().for_each(|it| run.note(it));
    Ok(())
}

/// Tells the neighbours where `vips` are.
///
/// # Errors
/// As [`Host::announce_all`].
pub fn announce(run: &mut Run<'_>, host: &Host, vips: &[Vip]) -> Result<()> {
    let what = in_few_words(vips.iter().map(Vip::to_string));
    run.act(&format!("announce {what}"), || host.announce_all(vips))
}

/// Says on record who else has `vips`, which are on `host` whoever put them there.
///
/// # Errors
/// Only that this run is overtaken: it is too late to refuse.
pub fn note_rivals(run: &mut Run<'_>, host: &Host, vips: &[Vip], known: &[Known]) -> Result<()> {
    let owners = match host.owners(vips, host.network().probe) {
        Err(error) if error.kind() == Kind::Overtaken => return Err(error),
        Err(error) => {
            run.note(format!(
                "not known who else has the addresses: {}",
                error.chain()
            ));
            return Ok(());
        }
        Ok(owners) => owners,
    };
    for rival in rivals(host, vips, owners, known) {
        run.note(format!("TWO HOSTS have an address: {rival}"));
    }
    Ok(())
}

/// Sees to it that nobody else has `vips`, as far as `[network] on_conflict` goes.
fn make_room(
    run: &mut Run<'_>,
    host: &Host,
    vips: &[Vip],
    known: &[Known],
    fence: &dyn Fn(&mut Run<'_>, &Known) -> Result<()>,
) -> Result<()> {
    let step = nobody_else(vips);
    let ask = || {
        Ok(rivals(
            host,
            vips,
            host.owners(vips, host.network().probe)?,
            known,
        ))
    };
    match host.network().on_conflict {
        OnConflict::Refuse => run.check(&step, || refuse(&ask()?)),
        OnConflict::Take => {
            for rival in ask()? {
                run.note(format!(
                    "TAKEN ALL THE SAME, on_conflict = \"take\": {rival}"
                ));
            }
            Ok(())
        }
        OnConflict::Fence => {
            let found = ask()?;
            let Some(owner) = found.iter().find_map(|rival| rival.known) else {
                return run.check(&step, || refuse(&found));
            };
            for rival in &found {
                run.note(rival.to_string());
            }
            fence(run, owner)?;
            match run.is_dry() {
                true => Ok(()),
                false => run.check(&step, || refuse(&ask()?)),
            }
        }
    }
}

/// Whoever came with the address at the same moment has been heard by now, or answers.
fn look_again(
    run: &mut Run<'_>,
    host: &Host,
    vips: &[Vip],
    known: &[Known],
    others: &RefCell<Vec<(Vip, Owner)>>,
) -> Result<()> {
    if host.network().on_conflict == OnConflict::Take {
        return Ok(());
    }
    run.check(&format!("{} even now", nobody_else(vips)), || {
        let found = rivals(host, vips, host.owners_since(vips)?, known);
        let owned = found.iter().map(|rival| (rival.vip.clone(), rival.owner));
        others.borrow_mut().extend(owned);
        refuse(&found)
    })
}

fn nobody_else(vips: &[Vip]) -> String {
    let addresses = in_few_words(vips.iter().map(|vip| vip.address.to_string()));
    format!("nobody else has {addresses}")
}

fn refuse(rivals: &[Rival<'_>]) -> Result<()> {
    let Some(first) = rivals.first() else {
        return Ok(());
    };
    let all: Vec<String> = rivals.iter().map(Rival::to_string).collect();
    let (address, prefix) = (first.vip.address, first.vip.prefix);
    Err(Error::new(Kind::Refused, all.join(", ")).advise(format!(
        "there: hookbox vip del {address}/{prefix} dev IF; or here --on-conflict take, or \
         [network] on_conflict"
    )))
}

fn rivals<'a>(
    host: &Host,
    vips: &'a [Vip],
    owners: Vec<Option<Owner>>,
    known: &'a [Known],
) -> Vec<Rival<'a>> {
    let found = vips.iter().zip(owners);
    let found = found.filter_map(|(vip, owner)| Some((vip, owner?)));
    found
        .map(|(vip, owner)| Rival {
            vip,
            owner,
            known: who_is(host, vip, owner, known),
        })
        .collect()
}

/// Which of `known` answers from the same hardware address.
fn who_is<'a>(host: &Host, vip: &Vip, owner: Owner, known: &'a [Known]) -> Option<&'a Known> {
    let near = known.iter().filter(|known| vip.is_near(known.address));
    let near: Vec<&Known> = near.collect();
    let on_link = |known: &&Known| Vip {
        address: known.address,
        ..vip.on(&vip.link)
    };
    let questions: Vec<Vip> = near.iter().map(on_link).collect();
    // A name is a help, not a need.
    let owners = host.owners(&questions, host.network().probe).ok()?;
    let same = owners.iter().position(|other| *other == Some(owner))?;
    Some(near[same])
}

impl std::fmt::Display for Rival<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is at {}", self.vip.address, self.owner)?;
        match self.known {
            Some(known) => write!(f, " ({})", known.name),
            None => Ok(()),
        }
    }
}

/// Up to three in full, without repetition; of more the first and their number.
pub fn in_few_words(all: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = all.collect();
    words.dedup();
    match words.len() {
        0..=NAMED => words.join(", "),
        number => format!("{} and {} more", words[0], number - 1),
    }
}
