//! Another host that has a virtual address which should come here: who it is, and how it is put out.

use hookbox::db::endpoint::Endpoint;
use hookbox::db::server::Server;
use hookbox::db::{Database, Writes};
use hookbox::error::{Error, Kind, Result};
use hookbox::link::{Link, Vip};
use hookbox::procedure::bring::Known;
use hookbox::procedure::demote::demote;
use hookbox::run::Run;
use hookbox::secret::Login;
use hookbox::ssh::Place;
use hookbox::switch::Side;

use crate::context::Context;
use crate::mha;

/// The peers that may be found to have an address: those given by address. This host itself may be
/// among them: it is never asked.
pub fn known(context: &Context) -> Vec<Known> {
    (context.config.peer.iter())
        .filter_map(|peer| {
            Some(Known {
                name: peer.name().to_owned(),
                address: peer.host.parse().ok()?,
            })
        })
        .collect()
}

/// Closes writes on the peer that is `owner`, and takes `vips` off its host by ssh.
pub fn put_out(run: &mut Run<'_>, context: &Context, owner: &Known, vips: &[Vip]) -> Result<()> {
    let config = &context.config;
    let on_owner = |peer: &&hookbox::config::Peer| peer.host.parse() == Ok(owner.address);
    let Some(peer) = config.peer.iter().find(on_owner) else {
        return Ok(());
    };
    let login = Login::on_peer(peer, &Login::local(&config.mysql)?)?;
    let endpoint = Endpoint::Tcp(peer.host.clone(), peer.port);
    let db = Server::new(endpoint, login, context.deadline.clone());
    let side = Side {
        name: peer.name().to_owned(),
        address: peer.host.clone(),
        port: peer.port,
        ssh: Place {
            name: peer.name().to_owned(),
            address: peer.host.clone(),
            user: None,
            port: None,
            options: Vec::new(),
        },
    }
    .configured(config);
    let vips: Vec<Vip> = (vips.iter())
        .map(|vip| mha::on_host(config, &side, vip))
        .collect();
    // It logs in while writes are closed.
    let host = mha::remote(context, &side, &vips, config.ssh.connect)?;
    close(run, context, &db)?;
    let Some(host) = host else {
        return Ok(());
    };
    for vip in vips {
        let gone = run.act(&format!("take {vip} off {}", host.name()), || {
            host.del(&vip)
        });
        run.splice(&host.name(), host.timeline());
        gone?;
    }
    Ok(())
}

/// A server that says nothing has nothing to close: its host may have the address all the same.
fn close(run: &mut Run<'_>, context: &Context, db: &Server) -> Result<()> {
    let name = db.name();
    match db
        .another()
        .patient(context.config.promote.peer_limit)
        .state()
    {
        Ok(state) if state.writes == Writes::Open => demote(run, db, context.demotion()),
        Ok(_) => run.check(&format!("{name} takes no writes"), || Ok(())),
        Err(error) if error.is_silence() => {
            run.note(format!("{name} does not answer: {}", error.chain()));
            Ok(())
        }
        Err(error) => run.check(&format!("{name} takes no writes"), || {
            Err(Error::new(Kind::Refused, error.chain())
                .advise("let the account of [[peer]] log in there, or close that server"))
        }),
    }
}
