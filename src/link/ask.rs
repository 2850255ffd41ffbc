//! Who else has an address? The neighbours are asked, this host itself is not.

use std::os::fd::AsFd;
use std::time::Duration;

use neli::consts::rtnl::Iff;
use nix::poll::PollFlags;
use pnet_base::MacAddr;
use socket2::Socket;

use super::host::missing;
use super::wire::{self, Heard, WhoHas};
use super::{Host, Owner, Vip};
use crate::error::Result;
use crate::time::Deadline;

/// How long the neighbours have to answer, all questions together. On a network where an answer
/// takes longer than a few ms no database is replicated either.
const PROBE: Duration = Duration::from_millis(100);

/// How often is asked in that time: a frame may be lost.
const QUESTIONS: u32 = 3;

/// A question under way, and the place of its address among those asked about.
type Put = (usize, WhoHas);

impl Host {
    /// Who has `vip`'s address in the network of its interface, besides this host.
    ///
    /// # Errors
    /// [`Kind::Denied`](crate::error::Kind::Denied) without CAP_NET_RAW; when the interface is
    /// missing or down.
    pub fn who_has(&self, vip: &Vip) -> Result<Option<Owner>> {
        let owners = self.owners(std::slice::from_ref(vip), PROBE)?;
        Ok(owners.into_iter().next().flatten())
    }

    /// The same for each of `vips`, all asked side by side; silence takes `limit`.
    ///
    /// # Errors
    /// As [`Host::who_has`].
    pub fn owners(&self, vips: &[Vip], limit: Duration) -> Result<Vec<Option<Owner>>> {
        let own: Vec<MacAddr> = (self.kernel.interfaces()?.iter())
            .filter_map(|link| link.mac)
            .collect();
        let mut owners = vec![None; vips.len()];
        let mut asked: Vec<(Socket, Vec<Put>)> = Vec::new();
        for is_ipv4 in [true, false] {
            let mut put = Vec::new();
            for (place, vip) in vips.iter().enumerate() {
                if vip.address.is_ipv4() == is_ipv4
                    && let Some(question) = self.question(vip)?
                {
                    put.push((place, question));
                }
            }
            if let Some((place, _)) = put.first() {
                let failed = |errno| wire::failed_to_send(&vips[*place].link, errno);
                asked.push((wire::open(is_ipv4).map_err(failed)?, put));
            }
        }
        let deadline = self.kernel.deadline().at_most(limit);
        for round in 0..QUESTIONS {
            for (socket, put) in &asked {
                for (place, question) in put.iter().filter(|(place, _)| owners[*place].is_none()) {
                    let link = &vips[*place].link;
                    let sent = question.put(socket);
                    sent.map_err(|errno| wire::failed_to_send(link, errno))?;
                }
            }
            let until = deadline.at_most(deadline.left() / (QUESTIONS - round));
            listen(&asked, &own, &until, &mut owners)?;
        }
        Ok(owners)
    }

    /// The MAC of the interface `link`; `None` where it has none.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn mac(&self, link: &str) -> Result<Option<[u8; 6]>> {
        let interface = self.kernel.interface(link)?;
        let interface = interface.ok_or_else(|| missing(link))?;
        Ok(interface.mac.map(|mac| mac.octets()))
    }

    /// None where there are no neighbours: loopback, tunnels and the like.
    fn question(&self, vip: &Vip) -> Result<Option<WhoHas>> {
        let link = self.kernel.interface(&vip.link)?;
        let link = link.ok_or_else(|| missing(&vip.link))?;
        if link.mac.is_none() || link.flags.contains(Iff::NOARP) {
            return Ok(None);
        }
        let to = wire::packet_address(link.index);
        let to = to.map_err(|errno| wire::failed_to_send(&vip.link, errno))?;
        Ok(Some(WhoHas::new(vip.address, to)))
    }
}

/// Hears answers until every address has an owner or `deadline` passes.
fn listen(
    asked: &[(Socket, Vec<Put>)],
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
