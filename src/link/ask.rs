//! Who else has an address? The neighbours are asked, this host itself is not.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;
use pnet_base::MacAddr;
use socket2::Socket;

use super::netlink::View;
use super::view::missing;
use super::wire::{self, Heard, WhoHas};
use super::{Host, Owner, Vip};
use crate::config::Network;
use crate::error::Result;
use crate::time::Deadline;

/// How often is asked: a frame may be lost.
const QUESTIONS: u32 = 3;

/// A socket, and the questions that were put through it, each with the place of its address among
/// those asked about.
type Put<'h> = (&'h Socket, Vec<(usize, WhoHas)>);

impl Host {
    /// Who has `vip`'s address in the network of its interface, besides this host. Silence takes
    /// `[network] probe`, or its default where that is 0: whoever asks by this wants to know.
    ///
    /// # Errors
    /// [`Kind::Denied`](crate::error::Kind::Denied) without CAP_NET_RAW; when the interface is
    /// missing or down.
    pub fn who_has(&self, vip: &Vip) -> Result<Option<Owner>> {
        let limit = match self.network.probe {
            Duration::ZERO => Network::default().probe,
            probe => probe,
        };
        let owners = self.owners(std::slice::from_ref(vip), limit)?;
        Ok(owners.into_iter().next().flatten())
    }

    /// The same for each of `vips`, all asked side by side; silence takes `limit`.
    ///
    /// # Errors
    /// As [`Host::who_has`].
    pub fn owners(&self, vips: &[Vip], limit: Duration) -> Result<Vec<Option<Owner>>> {
        for socket in self.wire.opened() {
            while Heard::next(socket).is_some() {}
        }
        self.ask(vips, limit, QUESTIONS)
    }

    /// Who has let itself be heard with one of `vips` since [`Host::owners`], or answers to one more
    /// question.
    ///
    /// # Errors
    /// As [`Host::who_has`].
    pub fn owners_since(&self, vips: &[Vip]) -> Result<Vec<Option<Owner>>> {
        self.ask(vips, self.network.probe / QUESTIONS, 1)
    }

    fn ask(&self, vips: &[Vip], limit: Duration, times: u32) -> Result<Vec<Option<Owner>>> {
        let mut owners = vec![None; vips.len()];
        if limit.is_zero() {
            return Ok(owners);
        }
        let view = self.look()?;
        let own: Vec<MacAddr> = view.links.iter().filter_map(|link| link.mac).collect();
        let mut asked: Vec<Put> = Vec::new();
        for is_ipv4 in [true, false] {
            let mut put = Vec::new();
            for (place, vip) in vips.iter().enumerate() {
                if vip.address.is_ipv4() == is_ipv4
                    && let Some(question) = self.question(vip, &view)?
                {
                    put.push((place, question));
                }
            }
            if let Some((place, _)) = put.first() {
                let failed = |errno| wire::failed_to_send(&vips[*place].link, errno);
                asked.push((self.wire.socket(is_ipv4).map_err(failed)?, put));
            }
        }
        let deadline = self.kernel.deadline().at_most(limit);
        for time in 0..times {
            for (socket, put) in &asked {
                for (place, question) in put.iter().filter(|(place, _)| owners[*place].is_none()) {
                    let failed = |errno| wire::failed_to_send(&vips[*place].link, errno);
                    question.put(socket).map_err(failed)?;
                }
            }
            let until = deadline.at_most(deadline.left() / (times - time));
            listen(&asked, &own, &until, &mut owners)?;
        }
        Ok(owners)
    }

    /// The MAC from which this host answers, or would answer, for `vip`; `None` where there are no
    /// neighbours.
    ///
    /// # Errors
    /// When the kernel does not answer in time.
    pub fn mac(&self, vip: &Vip) -> Result<Option<[u8; 6]>> {
        let view = self.kernel.view()?;
        let usable = view.links_of(vip).find(|link| link.fault().is_none());
        let mac = usable.and_then(|link| link.neighbours_see());
        Ok(mac.map(|mac| mac.octets()))
    }

    /// None where there are no neighbours: loopback, tunnels and the like.
    fn question(&self, vip: &Vip, view: &View) -> Result<Option<WhoHas>> {
        let usable = view.links_of(vip).find(|link| link.fault().is_none());
        let link = usable.or_else(|| view.links_of(vip).next());
        let link = link.ok_or_else(|| missing(&vip.link))?;
        if link.neighbours_see().is_none() {
            return Ok(None);
        }
        let failed = || wire::failed_to_send(&vip.link, Errno::ENODEV);
        let to = link.place.ok_or_else(failed)?;
        Ok(Some(WhoHas::new(vip.address, to)))
    }
}

/// Hears answers until every address has an owner or `deadline` passes.
fn listen(
    asked: &[Put<'_>],
    own: &[MacAddr],
    deadline: &Deadline,
    owners: &mut [Option<Owner>],
) -> Result<()> {
    let fds: Vec<_> = asked.iter().map(|(socket, _)| socket.as_fd()).collect();
    let all_known = |owners: &[Option<Owner>]| {
        let mut put = asked.iter().flat_map(|(_, put)| put);
        put.all(|(place, _)| owners[*place].is_some())
    };
    while !all_known(owners) {
        let ready = deadline.any_ready(&fds, PollFlags::POLLIN)?;
        if ready.is_empty() {
            return Ok(());
        }
        for (socket, put) in ready.into_iter().map(|n| &asked[n]) {
            while let Some(heard) = Heard::next(socket) {
                for (place, question) in put {
                    if let Some(owner) = question.answer(&heard)
                        && !own.contains(&MacAddr::from(owner.mac))
                    {
                        owners[*place].get_or_insert(owner);
                    }
                }
            }
        }
    }
    Ok(())
}
