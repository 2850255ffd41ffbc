//! The servers of the cluster, this host's own first, all asked at the same time.

use std::time::Duration;

use hookbox::cluster::{Member, Seen};
use hookbox::config::{Config, Mha, Mysql, Peer, Ssh};
use hookbox::db::endpoint::Endpoint;
use hookbox::error::{Error, Kind, Result};
use hookbox::secret::Login;
use hookbox::ssh::Place;
use hookbox::switch::Side;

use crate::asking::{self, ask_all};
use crate::context::{self, Context};

/// A server of the cluster, before it is asked.
pub struct Target {
    /// What it may be called, what it is best called first.
    pub names: Vec<String>,
    /// Whether it is the one on this host.
    pub here: bool,
    /// Its own address, where the configuration says one.
    pub address: Option<String>,
    /// How its host is reached, where anything says so.
    pub ssh: Option<Place>,
    place: Result<asking::Place>,
}

/// The servers that the configuration knows: this host's own, unless this is MHA's manager, and the
/// others.
pub fn targets(context: &Context) -> Vec<Target> {
    let config = &context.config;
    let is_manager = is_manager(context);
    let (own, others) = context.own_and_others();
    let mut targets = Vec::new();
    if !is_manager {
        targets.push(Target {
            names: context.own_names(),
            here: true,
            address: own.map(|own| own.host.clone()),
            ssh: None,
            place: Login::local(&config.mysql)
                .map(|login| (context::local_endpoint(config), login)),
        });
    }
    targets.extend(others.into_iter().map(|peer| Target {
        names: vec![peer.name().to_owned(), peer.host.clone()],
        here: false,
        address: Some(peer.host.clone()),
        ssh: way_to(config, peer),
        place: login_for(context).and_then(|login| {
            let endpoint = Endpoint::Tcp(peer.host.clone(), peer.port);
            Ok((endpoint, Login::on_peer(peer, &login)?))
        }),
    }));
    targets
}

/// The account on the servers that do not say otherwise.
pub fn login_for(context: &Context) -> Result<Login> {
    let config = &context.config;
    match is_manager(context) {
        true => match Login::of_mha(&config.mha, None)? {
            Some(login) => Ok(login),
            None => Login::local(&config.mysql),
        },
        false => Login::local(&config.mysql),
    }
}

/// Asks all `targets`, each for at most `limit`; `meanwhile` goes on beside them.
pub fn ask<M>(
    targets: Vec<Target>,
    limit: Duration,
    meanwhile: impl FnOnce() -> M,
) -> (Vec<Member>, M) {
    let places: Vec<asking::Place> = targets
        .iter()
        .filter_map(|target| target.place.as_ref().ok().cloned())
        .collect();
    let (seen, meanwhile) = ask_all(&places, limit, Seen::ask, meanwhile);
    let mut seen = seen.into_iter();
    let members = targets.into_iter().map(|target| Member {
        names: target.names,
        here: target.here,
        seen: target.place.and_then(|_| {
            let lost = || Err(Error::new(Kind::Bug, "it was not asked"));
            seen.next().unwrap_or_else(lost)
        }),
    });
    (members.collect(), meanwhile)
}

/// MHA's manager has no server, and its configuration may be that of all hosts: then it is a
/// manager because none of the servers in it is here.
pub fn is_manager(context: &Context) -> bool {
    let Config {
        mysql, mha, peer, ..
    } = &context.config;
    let is_told_apart = (peer.iter()).all(|peer| peer.host.parse::<std::net::IpAddr>().is_ok());
    let is_elsewhere = !peer.is_empty() && is_told_apart && context.others().len() == peer.len();
    let is_nobodys = mysql.host.is_none() && !mysql.socket.exists();
    is_nobodys && *mha != Mha::default() && (is_elsewhere || *mysql == Mysql::default())
}

/// The way to a peer's host, where the configuration says anything about ssh: nobody is to find
/// logins in his log that he did not ask for.
fn way_to(config: &Config, peer: &Peer) -> Option<Place> {
    let place = Place {
        name: peer.name().to_owned(),
        address: peer.host.clone(),
        ..Place::default()
    };
    let side = Side {
        name: peer.name().to_owned(),
        address: peer.host.clone(),
        port: peer.port,
        ssh: place,
    };
    let by_host = side.host(config).is_some_and(|host| {
        host.ssh_host.is_some() || host.ssh_port.is_some() || host.ssh_user.is_some()
    });
    let is_wanted = config.ssh != Ssh::default() || config.mha != Mha::default() || by_host;
    is_wanted.then(|| side.configured(config).ssh)
}
