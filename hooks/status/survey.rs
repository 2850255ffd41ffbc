//! Who has the virtual addresses, and who answers through them: every host is asked at the same
//! time, and none may take longer than the limit.

use std::net::IpAddr;
use std::time::Duration;

use hookbox::cluster::{self, Belongs, Member, Seen};
use hookbox::config::{self, On, RoleVips};
use hookbox::db::endpoint::Endpoint;
use hookbox::db::server::Server;
use hookbox::error::{Error, Kind, Result};
use hookbox::link::{Link, Owner, Remote, Vip};
use hookbox::secret::Login;
use hookbox::ssh::Place;
use hookbox::time::{Deadline, Stopwatch};
use serde::Serialize;

use crate::context::Context;
use crate::members::{self, Target};
use crate::status::network::Network;

/// What was seen of the cluster. The names of this and what is in it are those of `--json`.
#[derive(Debug, Default, Serialize)]
pub struct Survey {
    /// The servers, this host's own first.
    pub hosts: Vec<HostSeen>,
    pub vips: Vec<VipSeen>,
    /// Why no server is known to be the primary.
    pub no_primary: Option<String>,
    pub took_ms: u64,
    #[serde(skip)]
    pub members: Vec<Member>,
}

/// A server and its host.
#[derive(Debug, Default, Serialize)]
pub struct HostSeen {
    pub host: String,
    pub here: bool,
    pub role: &'static str,
    pub server_id: Option<u32>,
    pub version: Option<String>,
    pub writable: Option<bool>,
    pub lag_seconds: Option<u64>,
    /// Whether all its channels receive and apply; None for a server that has none.
    pub replicates: Option<bool>,
    /// Why its server does not answer.
    pub error: Option<String>,
    /// The virtual addresses that it has, if it could be asked.
    pub has: Option<Vec<String>>,
}

/// A virtual address.
#[derive(Debug, Default, Serialize)]
pub struct VipSeen {
    pub vip: String,
    pub role: String,
    pub here: Option<bool>,
    /// The hosts that say they have it.
    pub on: Vec<String>,
    /// Whether anybody answers for it on the network; None where that cannot be asked.
    pub answers: Option<bool>,
    pub mac: Option<String>,
    /// The host whose MAC that is.
    pub mac_of: Option<String>,
    /// The server that answers through it, by its host's name if it is known.
    pub server: Option<String>,
    pub server_id: Option<u32>,
    pub writable: Option<bool>,
    /// Why none answers.
    pub error: Option<String>,
    /// The host where it belongs.
    pub expected: Option<String>,
    /// What is not as it should be; None when all is well.
    pub wrong: Option<String>,
    /// Whether the primary is expected there.
    #[serde(skip)]
    pub of_primary: bool,
    #[serde(skip)]
    pub address: Option<IpAddr>,
}

/// What one virtual address looks like from outside.
struct Outside {
    owner: Option<Owner>,
    asked: bool,
    server: Result<Seen>,
}

/// Asks everybody, for at most `limit` in all.
pub fn survey(context: &Context, limit: Duration) -> Result<Survey> {
    let watch = Stopwatch::start();
    let config = &context.config;
    let roles = config.roles()?;
    let vips: Vec<Vip> = roles.iter().flat_map(|role| role.vips.clone()).collect();
    let targets = members::targets(context);
    let here = targets.iter().any(|target| target.here);
    let addresses: Vec<Option<IpAddr>> = targets.iter().map(own_address).collect();
    let ways: Vec<Option<Place>> = targets.iter().map(|target| target.ssh.clone()).collect();
    let login = members::login_for(context);
    let port = match (here, config.peer.first()) {
        (false, Some(peer)) => peer.port,
        _ => config.mysql.port,
    };
    let sockets = config.paths.run.join("ssh");
    let placed = context.placed_here(vips.clone());
    std::thread::scope(|scope| {
        let far = ways.iter().map(|way| {
            let (way, how, sockets) = (way.clone()?, config.ssh.clone(), &sockets);
            (!vips.is_empty()).then(|| scope.spawn(move || list(&way, how, sockets, limit)))
        });
        let far: Vec<_> = far.collect();
        let through = vips.iter().map(|vip| {
            let (address, login) = (vip.address.to_string(), login.as_ref());
            let login = login.map(Login::at_any_name).map_err(|error| error.chain());
            scope.spawn(move || {
                let login = login.map_err(|error| Error::new(Kind::Config, error))?;
                let there = Endpoint::Tcp(address, port);
                Seen::ask(&Server::new(there, login, Deadline::after(limit)))
            })
        });
        let through: Vec<_> = through.collect();
        let (members, network) =
            members::ask(targets, limit, || Network::look(&placed, &addresses, limit));
        let far = far.into_iter();
        let far = far.map(|far| far?.join().ok()?.ok());
        let far: Vec<Option<Vec<Vip>>> = far.collect();
        let lost = |_| Err(Error::new(Kind::Bug, "asking it panicked"));
        let outside = through.into_iter().enumerate().map(|(n, thread)| Outside {
            owner: network.owners.get(n).copied().flatten(),
            asked: network.asked.get(n) == Some(&true),
            server: thread.join().unwrap_or_else(lost),
        });
        let outside = outside.collect();
        let mut survey = put_together(config, &roles, members, far, &network, outside)?;
        survey.took_ms = watch.elapsed().as_millis() as u64;
        Ok(survey)
    })
}

/// Where to ask for the MAC of a host; this host's own is not needed.
fn own_address(target: &Target) -> Option<IpAddr> {
    let address = target.address.as_ref().filter(|_| !target.here)?;
    address.parse().ok()
}

/// The addresses that the host at `way` has.
fn list(
    way: &Place,
    mut how: config::Ssh,
    sockets: &std::path::Path,
    limit: Duration,
) -> Result<Vec<Vip>> {
    how.connect = how.connect.min(limit);
    Remote::open(way, &how, Some(sockets), &Deadline::after(limit))?.list()
}

fn put_together(
    config: &config::Config,
    roles: &[RoleVips<'_>],
    members: Vec<Member>,
    far: Vec<Option<Vec<Vip>>>,
    network: &Network,
    outside: Vec<Outside>,
) -> Result<Survey> {
    // What each host says that it has; this host by its kernel, the others by ssh.
    let own = network.own.as_ref();
    let held: Vec<Option<&Vec<Vip>>> = (members.iter().zip(&far))
        .map(|(member, far)| if member.here { own } else { far.as_ref() })
        .collect();
    let has = |n: usize, vip: &Vip| {
        let held = held.get(n).copied().flatten()?;
        Some(held.iter().any(|own| own.address == vip.address))
    };
    let mut outside = outside.into_iter();
    let mut vips = Vec::new();
    for role in roles {
        for vip in &role.vips {
            let Some(outside) = outside.next() else { break };
            let on: Vec<usize> = (0..members.len())
                .filter(|n| has(*n, vip) == Some(true))
                .collect();
            let here = own.map(|own| own.iter().any(|own| own.address == vip.address));
            vips.push(see(role, vip, &members, on, here, network, outside)?);
        }
    }
    let no_primary = cluster::primary(&members).err().map(|error| error.chain());
    let all: Vec<&Vip> = roles.iter().flat_map(|role| &role.vips).collect();
    let hosts = members.iter().enumerate().map(|(n, member)| {
        let known = held.get(n).copied().flatten();
        let has = known.map(|_| {
            let there = all.iter().filter(|vip| has(n, vip) == Some(true));
            there.map(|vip| vip.address.to_string()).collect()
        });
        HostSeen {
            has,
            ..host_seen(member)
        }
    });
    Ok(Survey {
        hosts: hosts.collect(),
        vips,
        // A server alone is asked for nothing else.
        no_primary: no_primary.filter(|_| !roles.is_empty() || !config.peer.is_empty()),
        took_ms: 0,
        members,
    })
}

fn host_seen(member: &Member) -> HostSeen {
    let base = HostSeen {
        host: member.name().to_owned(),
        here: member.here,
        role: "unknown",
        ..HostSeen::default()
    };
    match &member.seen {
        Err(error) => HostSeen {
            error: Some(error.chain()),
            ..base
        },
        Ok(seen) => HostSeen {
            role: seen.role(),
            server_id: Some(seen.id),
            version: Some(seen.version.clone()),
            writable: Some(seen.is_writable()),
            lag_seconds: seen.lag(),
            replicates: seen.replicates(),
            ..base
        },
    }
}

fn see(
    role: &RoleVips<'_>,
    vip: &Vip,
    members: &[Member],
    on: Vec<usize>,
    here: Option<bool>,
    network: &Network,
    outside: Outside,
) -> Result<VipSeen> {
    let name = |n: usize| members[n].name().to_owned();
    let by_mac = |owner: Owner| {
        let is_it = |mac: &Option<Owner>| mac.is_some_and(|mac| mac == owner);
        network.macs.iter().position(is_it)
    };
    let through = outside.server.as_ref().ok();
    let by_server = through.and_then(|seen| {
        let is_it = |member: &Member| member.seen.as_ref().is_ok_and(|own| own.is(seen));
        members.iter().position(is_it)
    });
    let mac_of = outside.owner.and_then(by_mac);
    let holder = on.first().copied().or(mac_of).or(by_server);
    let expected = match cluster::belongs(role, members, holder)? {
        Belongs::On(n) => Ok(n),
        Belongs::Stay(why) => holder.ok_or(why),
        Belongs::Nowhere(why) => Err(why),
    };
    let of_primary = *role.on == On::Primary;
    let mut seen = VipSeen {
        vip: vip.to_string(),
        role: role.name.to_owned(),
        here,
        on: on.iter().copied().map(name).collect(),
        answers: match (here, outside.owner, outside.asked) {
            (Some(true), _, _) | (_, Some(_), _) => Some(true),
            (_, None, asked) => asked.then_some(false),
        },
        mac: outside.owner.map(|owner| owner.to_string()),
        mac_of: mac_of.map(name),
        server: through.map(|seen| match by_server {
            Some(n) => name(n),
            None => format!("an unknown server with server_id {}", seen.id),
        }),
        server_id: through.map(|seen| seen.id),
        writable: through.map(Seen::is_writable),
        error: outside.server.as_ref().err().map(Error::chain),
        expected: expected.as_ref().ok().copied().map(name),
        wrong: None,
        of_primary,
        address: Some(vip.address),
    };
    seen.wrong = wrong(&seen, expected.err());
    Ok(seen)
}

/// The gravest thing that is not as it should be.
fn wrong(seen: &VipSeen, nowhere: Option<String>) -> Option<String> {
    let mut all = seen.on.clone();
    if let Some(mac) = &seen.mac {
        let other = seen.mac_of.as_ref().unwrap_or(mac);
        if !all.contains(other) && (seen.mac_of.is_some() || seen.here == Some(true)) {
            all.push(other.clone());
        }
    }
    if all.len() > 1 {
        return Some(format!("more than one host has it: {}", all.join(", ")));
    }
    let Some(expected) = &seen.expected else {
        return nowhere;
    };
    let there = seen
        .on
        .first()
        .or(seen.mac_of.as_ref())
        .or(seen.mac.as_ref());
    match (there, &seen.server) {
        (Some(there), _) if there != expected => {
            Some(format!("it is on {there} and belongs on {expected}"))
        }
        (None, None) if seen.answers == Some(false) => {
            Some(format!("nobody has it; it belongs on {expected}"))
        }
        (_, Some(server)) if server != expected => {
            Some(format!("{server} answers through it, and not {expected}"))
        }
        (_, None) => {
            let why = seen.error.as_deref().unwrap_or_default();
            Some(format!("no server answers through it: {why}"))
        }
        (_, Some(_)) if seen.of_primary && seen.writable == Some(false) => {
            Some("the server behind it takes no writes".to_owned())
        }
        _ => None,
    }
}
