//! What this host sees of the network by itself: its own addresses, and whose MACs answer.

use std::net::IpAddr;
use std::time::Duration;

use hookbox::link::{Host, Link, Owner, Vip};
use hookbox::time::Deadline;

/// How long the neighbours have to say who has an address.
const NEIGHBOURS: Duration = Duration::from_millis(100);

/// What this host's own network says.
#[derive(Default)]
pub struct Network {
    /// What this host has; None when the kernel does not answer.
    pub own: Option<Vec<Vip>>,
    /// By virtual address: who else has it, and whether that could be asked.
    pub owners: Vec<Option<Owner>>,
    pub asked: Vec<bool>,
    /// By server: its MAC.
    pub macs: Vec<Option<Owner>>,
}

impl Network {
    /// Asks the kernel, and the neighbours for `vips` and for the servers' own `addresses`.
    pub fn look(vips: &[Vip], addresses: &[Option<IpAddr>], limit: Duration) -> Network {
        let Ok(host) = Host::open(&Deadline::after(limit)) else {
            return Network::default();
        };
        let Ok(own) = host.list() else {
            return Network::default();
        };
        let near = |address: IpAddr| {
            let own = own.iter().find(|own| own.is_near(address))?;
            Some(Vip {
                address,
                label: None,
                ..own.clone()
            })
        };
        // A manager may have another interface in the same network.
        let there = |vip: &Vip| {
            let is_here = own.iter().any(|own| own.link == vip.link);
            near(vip.address).or_else(|| is_here.then(|| vip.clone()))
        };
        let vips: Vec<Option<Vip>> = vips.iter().map(there).collect();
        let servers: Vec<Option<Vip>> = addresses.iter().map(|a| a.and_then(near)).collect();
        let questions: Vec<Vip> = vips.iter().chain(&servers).flatten().cloned().collect();
        let answers = match host.owners(&questions, NEIGHBOURS) {
            Ok(answers) => answers,
            Err(error) => {
                log::debug!("the neighbours cannot be asked: {}", error.chain());
                return Network {
                    own: Some(own),
                    ..Network::default()
                };
            }
        };
        let mut answers = answers.into_iter();
        let mut next =
            |question: &Option<Vip>| question.as_ref().and_then(|_| answers.next().flatten());
        let owners = vips.iter().map(&mut next).collect();
        let macs = servers.iter().map(&mut next).collect();
        let asked = vips.iter().map(Option::is_some).collect();
        Network {
            own: Some(own),
            owners,
            asked,
            macs,
        }
    }
}
