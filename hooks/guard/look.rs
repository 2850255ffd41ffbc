//! One look of the guard: at this host's server and addresses, then around.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hookbox::check;
use hookbox::config::Config;
use hookbox::db::endpoint::Endpoint;
use hookbox::db::server::Server;
use hookbox::db::{Database, State, Writes};
use hookbox::error::{Error, Kind, Result};
use hookbox::guard::server::{Seen, are_in_step, followed_by, newer_data, see};
use hookbox::guard::{Address, Rival, Sight, Speaks, Watch};
use hookbox::link::{Host, Vip};
use hookbox::memory::since_boot;
use hookbox::secret::Login;
use hookbox::verdict::Class;
use hookbox::witness::{Asked, Witness};

use crate::asking::{Place, ask_all};
use crate::context::{self, Context};

/// How long another host may take to answer for an address that is here as well.
const ARP_LIMIT: Duration = Duration::from_millis(300);

/// What one look found on a host where there is something to guard.
pub struct Look {
    /// When it began, in ms since boot.
    pub at: u64,
    /// Whether giving up had begun and may have more to do: the server takes no writes.
    pub unfinished: bool,
    /// The addresses that are here.
    pub held: Vec<Vip>,
    pub sight: Sight,
    /// Whether every peer answered.
    pub complete: bool,
    /// What was seen, for people.
    pub text: String,
}

/// Everything a look needs besides the outside world.
pub struct Guard<'a> {
    pub context: &'a Context,
    pub host: Host,
    vips: Vec<Vip>,
    witnesses: Vec<Witness>,
    /// The peers that are not this host itself.
    places: Vec<Place>,
}

impl<'a> Guard<'a> {
    pub fn new(context: &'a Context) -> Result<Guard<'a>> {
        let config = &context.config;
        if config.check.witness.is_empty() && config.peer.is_empty() {
            let what = "there is nobody to ask";
            return Err(Error::new(Kind::Config, what)
                .advise("name the gateway in [check] witness and the other servers as [[peer]]"));
        }
        let host = Host::open(&context.deadline)?.with(&config.network);
        let mut witnesses = Vec::new();
        for text in &config.check.witness {
            witnesses.push(Witness::parse(text)?);
        }
        for peer in context.others() {
            if let Ok(address) = peer.host.parse::<IpAddr>() {
                // A host whose server is dead or frozen still says that this one is not cut off.
                let door = SocketAddr::new(address, peer.port);
                let door = Witness::parse(&format!("tcp:{door}"))?;
                if !witnesses.contains(&door) {
                    witnesses.push(door);
                }
            }
        }
        Ok(Guard {
            context,
            host,
            vips: context.placed_here(config.vips_of_primary()?),
            witnesses,
            places: context.places(&Login::local(&config.mysql)?)?,
        })
    }

    /// Whether anybody answers: a peer did, or a witness does now.
    pub fn has_company(&self, peer_answered: bool) -> Result<bool> {
        let limit = self
            .context
            .deadline
            .at_most(self.context.config.check.witness_limit);
        Ok(peer_answered || Asked::ask(&self.witnesses).anyone(&limit)?.is_some())
    }

    pub fn local(&self) -> Result<Server> {
        let config = &self.context.config;
        let endpoint = context::local_endpoint(config);
        let login = Login::local(&config.mysql)?;
        Ok(Server::new(endpoint, login, self.context.deadline.clone()))
    }

    /// Looks here, then around; None when there is nothing to guard.
    pub fn look(&self, before: Option<&Watch>) -> Result<Option<Look>> {
        let config = &self.context.config;
        let at = since_boot();
        let mut held = Vec::new();
        for vip in &self.vips {
            if self.host.holds(vip.address)? {
                held.push(vip.clone());
            }
        }
        let server = self.local()?.patient(config.promote.peer_limit);
        let state = match server.state() {
            Ok(state) => Some(state),
            Err(error) if error.kind() == Kind::Overtaken => return Err(error),
            Err(error) if held.is_empty() && check::classify(&error) == Class::Auth => {
                return Err(error.during("ask the server on this host"));
            }
            Err(_) => None,
        };
        let writable = state.as_ref().is_some_and(|s| s.writes == Writes::Open);
        let begun = before.is_some_and(|before| before.unfinished);
        let unfinished = begun && !writable;
        if held.is_empty() && !writable && !(unfinished && state.is_some()) {
            return Ok(None);
        }
        let own = match state.map(|state| see(&server, &state)).transpose() {
            Err(error) if error.is_silence() => None,
            own => own.map_err(|error| error.during("ask the server on this host"))?,
        };
        let asked = Asked::ask(&self.witnesses);
        let limit = self.context.deadline.at_most(config.check.witness_limit);
        let (peers, witness) = ask_all(
            &self.places,
            config.promote.peer_limit,
            |peer| see(peer, &peer.state()?),
            || asked.anyone(&limit),
        );
        let said_no = |peer: &Result<Seen>| {
            peer.as_ref()
                .is_err_and(|error| error.kind() == Kind::Denied)
        };
        let blind = peers.iter().any(said_no);
        let is_another = |seen: &Seen| own.as_ref().is_none_or(|own| own.id != seen.id);
        let answered = blind || peers.iter().flatten().any(is_another);
        let company = match witness {
            Ok(witness) => witness.is_some() || answered,
            Err(_) if answered => true,
            Err(error) => return Err(error),
        };
        let complete = peers.iter().all(Result::is_ok);
        let mut sight = Sight {
            answers: own.is_some(),
            company,
            blind,
            cut_off: Watch::was_cut_off(before, at, config.guard.grace),
            address: Address::Unknown,
            rivals: Vec::new(),
        };
        self.find_rivals(own.as_ref(), &held, &peers, &mut sight)?;
        let text = describe(&sight, &asked.silence(), &peers, config);
        Ok(Some(Look {
            at,
            unfinished,
            held,
            sight,
            complete,
            text,
        }))
    }

    fn find_rivals(
        &self,
        own: Option<&Seen>,
        held: &[Vip],
        peers: &[Result<Seen>],
        sight: &mut Sight,
    ) -> Result<()> {
        let own_id = own.map(|own| own.id);
        let is_other = |seen: &&Seen| Some(seen.id) != own_id;
        let all: Vec<&Seen> = peers.iter().flatten().filter(is_other).collect();
        if !all.iter().any(|peer| peer.writable) {
            return Ok(());
        }
        sight.address = self.who_has_the_addresses(held, own_id)?;
        for (place, seen) in self.places.iter().zip(peers) {
            let Ok(seen) = seen else { continue };
            let in_step = sight.address != Address::Disputed && are_in_step(own, seen, &all);
            if !seen.writable || !is_other(&seen) || in_step {
                continue;
            }
            let others = all.iter().copied().filter(|other| other.id != seen.id);
            let others: Vec<&Seen> = others.collect();
            sight.rivals.push(Rival {
                name: place.0.to_string(),
                replicas: followed_by(own_id, seen.id, &others),
                data: own.map_or(Speaks::ForNeither, |own| newer_data(own, seen)),
            });
        }
        Ok(())
    }

    fn who_has_the_addresses(&self, held: &[Vip], own: Option<u32>) -> Result<Address> {
        let deadline = &self.context.deadline;
        if held.is_empty() {
            let (Some(vip), Some((Endpoint::Tcp(_, port), login))) =
                (self.vips.first(), self.places.first())
            else {
                return Ok(Address::Unknown);
            };
            let there = Endpoint::Tcp(vip.address.to_string(), *port);
            let limit = self.context.config.promote.peer_limit;
            let server = Server::new(there, login.at_any_name(), deadline.at_most(limit));
            let is_primary =
                |state: State| state.writes == Writes::Open && Some(state.server_id) != own;
            return Ok(match server.state().is_ok_and(is_primary) {
                true => Address::There,
                false => Address::Unknown,
            });
        }
        match self.host.owners(held, ARP_LIMIT) {
            Ok(owners) if owners.iter().any(Option::is_some) => Ok(Address::Disputed),
            Ok(_) => Ok(Address::Here),
            Err(error) if error.kind() == Kind::Overtaken => Err(error),
            Err(_) => Ok(Address::Unknown),
        }
    }
}

/// What was seen, in one line.
fn describe(sight: &Sight, silence: &str, peers: &[Result<Seen>], config: &Config) -> String {
    if !sight.company {
        let grace = humantime::format_duration(config.guard.grace);
        // Peers that are given by their address are witnesses as well.
        let peers = peers.iter().filter_map(|peer| peer.as_ref().err());
        let said = match silence {
            "" => peers.map(Error::chain).collect::<Vec<_>>().join("; "),
            silence => silence.to_owned(),
        };
        return format!("nobody answers (writes are closed after {grace} of that): {said}");
    }
    if sight.rivals.is_empty() {
        return match peers
            .iter()
            .flat_map(|peer| peer.as_ref().err())
            .find(|e| e.kind() == Kind::Denied)
        {
            Some(error) => format!(
                "a peer cannot be asked whether it takes writes: {}",
                error.chain()
            ),
            None => "nothing is wrong".to_owned(),
        };
    }
    let whom = |speaks: Speaks, own: &str, rival: &str, neither: &str| match speaks {
        Speaks::ForOwn => own.to_owned(),
        Speaks::ForRival => rival.to_owned(),
        Speaks::ForNeither => neither.to_owned(),
    };
    let rival = |rival: &Rival| {
        let replicas = whom(
            rival.replicas,
            "the other servers replicate from here",
            "the other servers replicate from it",
            "no other server tells which to follow",
        );
        let data = whom(
            rival.data,
            "the newer data is here",
            "it has the newer data",
            "the data does not tell which is newer",
        );
        format!("{} takes writes: {replicas}, {data}", rival.name)
    };
    let mut facts: Vec<String> = sight.rivals.iter().map(rival).collect();
    facts.push(match sight.address {
        Address::Here => "the address is here".to_owned(),
        Address::Disputed => "another host answers for the address as well".to_owned(),
        Address::There => "it answers at the address".to_owned(),
        Address::Unknown => "nobody is known to have the address".to_owned(),
    });
    if sight.cut_off {
        facts.push("this host was cut off".to_owned());
    }
    facts.join("; ")
}
