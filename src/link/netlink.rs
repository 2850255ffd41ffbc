//! This host's interfaces and addresses, by rtnetlink.
//!
//! neli makes and reads the messages. The socket is our own: neli's has no safe way to poll it.

use std::cell::Cell;
use std::fmt::Debug;
use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use neli::attr::Attribute;
use neli::consts::nl::{NlmF, Nlmsg};
use neli::consts::rtnl::{Arphrd, Ifa, IfaF, Iff, Ifla, RtAddrFamily, RtScope, Rtm};
use neli::nl::{NlPayload, NlmsghdrBuilder};
use neli::rtnl::{Ifaddrmsg, IfaddrmsgBuilder, Ifinfomsg, IfinfomsgBuilder, RtattrBuilder};
use neli::types::{Buffer, NlBuffer, RtBuffer};
use neli::{FromBytesWithInput, Size, ToBytes};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use pnet_base::MacAddr;

use super::{Link, Vip, announce};
use crate::error::{Error, Kind, Result};
use crate::run::Changed;
use crate::time::Deadline;

/// The kernel never puts more than this into one answer to a dump (`netlink_recvmsg`).
const LONGEST_ANSWER: usize = 32 * 1024;

/// The network of the host, or of the namespace, that this process is in.
///
/// One conversation with the kernel, however many addresses are asked about.
pub struct Host {
    socket: OwnedFd,
    deadline: Deadline,
    sequence: Cell<u32>,
}

/// An interface, as the kernel has it.
struct Interface {
    index: u32,
    name: String,
    flags: Iff,
    /// None for what is not Ethernet.
    mac: Option<MacAddr>,
}

/// An address, as the kernel has it.
struct Held {
    index: u32,
    address: IpAddr,
    prefix: u8,
    label: Option<String>,
    flags: IfaF,
}

impl Held {
    fn is(&self, vip: &Vip, link: &Interface) -> bool {
        self.index == link.index && self.address == vip.address && self.prefix == vip.prefix
    }
}

impl Host {
    /// Opens the conversation; every wait in it ends with `deadline`.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the kernel gives no rtnetlink socket.
    pub fn open(deadline: &Deadline) -> Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkRoute,
        )
        .map_err(|errno| Error::new(Kind::Refused, "open an rtnetlink socket").because(errno))?;
        Ok(Host {
            socket,
            deadline: deadline.clone(),
            sequence: Cell::new(0),
        })
    }

    /// Whether this host has `address`, on any interface and with any prefix length.
    ///
    /// # Errors
    /// When the kernel does not answer in time.
    pub fn holds(&self, address: IpAddr) -> Result<bool> {
        Ok(self.addresses()?.iter().any(|held| held.address == address))
    }

    /// Announces `vip` once, without repeats.
    pub(super) fn tell(&self, vip: &Vip) -> Result<Changed> {
        self.send_announcement(vip).map(|socket| match socket {
            Some(_) => Changed::Yes,
            None => Changed::AlreadySo,
        })
    }

    /// None when nobody can be told: loopback, tunnels and the like have no neighbours.
    fn send_announcement(&self, vip: &Vip) -> Result<Option<OwnedFd>> {
        let link = self
            .interface(&vip.link)?
            .ok_or_else(|| missing(&vip.link))?;
        let Some(mac) = link.mac.filter(|_| !link.flags.contains(Iff::NOARP)) else {
            return Ok(None);
        };
        // A router that says it is none is dropped from its neighbours' routes (RFC 4861, 7.2.5).
        let forwarding = format!("/proc/sys/net/ipv6/conf/{}/forwarding", link.name);
        let router = vip.address.is_ipv6() && setting_is_on(&forwarding);
        let frames = announce::frames(vip.address, mac, router);
        announce::send(&link.name, link.index, &frames).map(Some)
    }

    /// The interface with this name, if there is one.
    fn interface(&self, name: &str) -> Result<Option<Interface>> {
        let during = || format!("look at interface {name}");
        let named = attribute(Ifla::Ifname, name_bytes(name)).map_err(|e| e.during(during()))?;
        let question = IfinfomsgBuilder::default()
            .ifi_family(RtAddrFamily::Unspecified)
            .rtattrs([named].into_iter().collect::<RtBuffer<Ifla, Buffer>>())
            .build()
            .map_err(unbuilt)?;
        match self.ask(Rtm::Getlink, NlmF::ACK, question) {
            Ok(Ok(found)) => Ok(found.iter().find_map(read_interface)),
            Ok(Err(Errno::ENODEV)) => Ok(None),
            Ok(Err(errno)) => Err(denied_or(errno, during())),
            Err(error) => Err(error.during(during())),
        }
    }

    fn interfaces(&self) -> Result<Vec<Interface>> {
        let question = IfinfomsgBuilder::default()
            .ifi_family(RtAddrFamily::Unspecified)
            .build()
            .map_err(unbuilt)?;
        let found = self
            .ask(Rtm::Getlink, NlmF::DUMP, question)?
            .map_err(|errno| denied_or(errno, "list this host's interfaces"))?;
        Ok(found.iter().filter_map(read_interface).collect())
    }

    /// Every address of this host: one dump.
    fn addresses(&self) -> Result<Vec<Held>> {
        let question = IfaddrmsgBuilder::default()
            .ifa_family(RtAddrFamily::Unspecified)
            .ifa_prefixlen(0)
            .ifa_scope(RtScope::Universe)
            .ifa_index(0)
            .build()
            .map_err(unbuilt)?;
        let found = self
            .ask(Rtm::Getaddr, NlmF::DUMP, question)?
            .map_err(|errno| denied_or(errno, "list this host's addresses"))?;
        Ok(found.iter().filter_map(read_address).collect())
    }

    /// Asks for `vip` to be added or deleted.
    fn set(&self, what: Rtm, flags: NlmF, vip: &Vip, index: u32) -> Result<nix::Result<()>> {
        let address = match vip.address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        // Without IFA_ADDRESS a deletion does not compare the prefix length (`inet_rtm_deladdr`).
        let mut attributes = RtBuffer::new();
        attributes.push(attribute(Ifa::Local, address.clone())?);
        attributes.push(attribute(Ifa::Address, address)?);
        if let (Rtm::Newaddr, Some(label)) = (what, &vip.label) {
            attributes.push(attribute(Ifa::Label, name_bytes(label))?);
        }
        let (family, kind) = match vip.address {
            IpAddr::V4(_) => (RtAddrFamily::Inet, IfaF::empty()),
            // With duplicate address detection the address could not be used for about 1.7 s.
            IpAddr::V6(_) => (RtAddrFamily::Inet6, IfaF::NODAD),
        };
        let wish = IfaddrmsgBuilder::default()
            .ifa_family(family)
            .ifa_prefixlen(vip.prefix)
            .ifa_flags(kind)
            .ifa_scope(RtScope::Universe)
            .ifa_index(index)
            .rtattrs(attributes)
            .build()
            .map_err(unbuilt)?;
        Ok(self.ask(what, flags | NlmF::ACK, wish)?.map(drop))
    }

    /// One question and everything the kernel says to it; the inner error is the kernel's answer.
    fn ask<P>(&self, what: Rtm, flags: NlmF, payload: P) -> Result<nix::Result<Vec<P>>>
    where
        P: Size + ToBytes + FromBytesWithInput<Input = usize> + Debug + Clone,
    {
        loop {
            let mut answer = Vec::new();
            match self.ask_once(what, flags, payload.clone(), &mut answer)? {
                // The list changed while it was being read, and may lack entries.
                Err(Errno::EINTR) if !self.deadline.passed() => {}
                Ok(()) => return Ok(Ok(answer)),
                Err(errno) => return Ok(Err(errno)),
            }
        }
    }

    fn ask_once<P>(
        &self,
        what: Rtm,
        flags: NlmF,
        payload: P,
        answer: &mut Vec<P>,
    ) -> Result<nix::Result<()>>
    where
        P: Size + ToBytes + FromBytesWithInput<Input = usize> + Debug + Clone,
    {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let message = NlmsghdrBuilder::default()
            .nl_type(what)
            .nl_flags(NlmF::REQUEST | flags)
            .nl_seq(sequence)
            .nl_payload(NlPayload::Payload(payload))
            .build()
            .map_err(unbuilt)?;
        let mut bytes = Cursor::new(Vec::with_capacity(message.padded_size()));
        message.to_bytes(&mut bytes).map_err(unbuilt)?;
        send(self.socket.as_raw_fd(), bytes.get_ref(), MsgFlags::empty()).map_err(broken)?;

        let mut interrupted = false;
        loop {
            for message in self.receive::<P>()?.into_iter() {
                if *message.nl_seq() != sequence {
                    continue;
                }
                interrupted |= message.nl_flags().contains(NlmF::DUMP_INTR);
                let done = u16::from(*message.nl_type()) == u16::from(Nlmsg::Done);
                match message.nl_payload() {
                    NlPayload::Err(error) => return Ok(Err(Errno::from_raw(-error.error()))),
                    _ if done && interrupted => return Ok(Err(Errno::EINTR)),
                    NlPayload::Ack(_) => return Ok(Ok(())),
                    _ if done => return Ok(Ok(())),
                    _ => {}
                }
                answer.extend(message.get_payload().cloned());
            }
        }
    }

    fn receive<P>(&self) -> Result<NlBuffer<Rtm, P>>
    where
        P: Size + FromBytesWithInput<Input = usize> + Debug,
    {
        let mut buffer = vec![0; LONGEST_ANSWER];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    buffer.truncate(length);
                    return NlBuffer::from_bytes_with_input(&mut Cursor::new(buffer), length)
                        .map_err(|e| Error::new(Kind::Bug, "read an rtnetlink answer").because(e));
                }
                Err(Errno::EAGAIN) => {
                    self.deadline
                        .ready(self.socket.as_fd(), PollFlags::POLLIN)?;
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(broken(errno)),
            }
        }
    }

    /// The interface that can take `vip`, and whether it has it.
    fn place_for(&self, vip: &Vip) -> Result<(Interface, bool)> {
        let link = self
            .interface(&vip.link)?
            .ok_or_else(|| missing(&vip.link))?;
        link.carries()?;
        let held = self.addresses()?;
        match held.iter().find(|held| held.is(vip, &link)) {
            Some(held) if held.flags.contains(IfaF::DADFAILED) => {
                let what = format!("{vip} is unusable here: another host answers for it");
                Err(Error::new(Kind::Refused, what).advise(format!("hookbox vip del {vip}")))
            }
            Some(_) => Ok((link, true)),
            None => self.refuse_elsewhere(vip, &held).map(|()| (link, false)),
        }
    }

    /// Fails when `vip`'s address is among those `held`.
    fn refuse_elsewhere(&self, vip: &Vip, held: &[Held]) -> Result<()> {
        let Some(other) = held.iter().find(|held| held.address == vip.address) else {
            return Ok(());
        };
        let links = self.interfaces()?;
        let name = links.iter().find(|link| link.index == other.index);
        let name = name.map_or("another interface", |link| &link.name);
        let there = format!("{}/{} dev {name}", other.address, other.prefix);
        let what = format!("{} is on this host as {there}", vip.address);
        Err(Error::new(Kind::Refused, what).advise(format!(
            "hookbox vip del {there}, or correct the configured address"
        )))
    }

    /// With promote_secondaries off, the kernel deletes a subnet's other addresses together with
    /// its first one (`__inet_del_ifa`), and the routes through them.
    fn refuse_to_orphan(&self, vip: &Vip, link: &Interface, held: &[Held]) -> Result<()> {
        let IpAddr::V4(address) = vip.address else {
            return Ok(());
        };
        let first = held.iter().find(|held| held.is(vip, link));
        if first.is_none_or(|first| first.flags.contains(IfaF::SECONDARY)) {
            return Ok(());
        }
        let orphan = held.iter().find(|held| {
            held.index == link.index
                && held.prefix == vip.prefix
                && held.flags.contains(IfaF::SECONDARY)
                && matches!(held.address, IpAddr::V4(other) if same_subnet(other, address, vip.prefix))
        });
        let promoted =
            |of: &str| setting_is_on(&format!("/proc/sys/net/ipv4/conf/{of}/promote_secondaries"));
        match orphan {
            Some(orphan) if !promoted("all") && !promoted(&link.name) => {
                let what = format!("{} would go away with {vip}", orphan.address);
                Err(Error::new(Kind::Refused, what)
                    .because(
                        "it is the second address of its subnet, and promote_secondaries is off",
                    )
                    .advise("sysctl -w net.ipv4.conf.all.promote_secondaries=1, or use a /32"))
            }
            _ => Ok(()),
        }
    }
}

impl Link for Host {
    fn list(&self) -> Result<Vec<Vip>> {
        let links = self.interfaces()?;
        let named = |held: Held| {
            let link = links
                .iter()
                .find(|link| link.index == held.index)?
                .name
                .clone();
            Some(Vip {
                address: held.address,
                prefix: held.prefix,
                // The kernel labels every IPv4 address, by default with the interface's name.
                label: held.label.filter(|label| *label != link),
                link,
            })
        };
        Ok(self.addresses()?.into_iter().filter_map(named).collect())
    }

    fn has(&self, vip: &Vip) -> Result<bool> {
        match self.interface(&vip.link)? {
            Some(link) => Ok(self.addresses()?.iter().any(|held| held.is(vip, &link))),
            None => Ok(false),
        }
    }

    fn ready(&self, vip: &Vip) -> Result<()> {
        self.place_for(vip).map(drop)
    }

    fn add(&self, vip: &Vip) -> Result<Changed> {
        let (link, is_there) = self.place_for(vip)?;
        if is_there {
            return Ok(Changed::AlreadySo);
        }
        let answer = self.set(Rtm::Newaddr, NlmF::CREATE | NlmF::EXCL, vip, link.index)?;
        let changed = match answer {
            Ok(()) => Changed::Yes,
            Err(Errno::EEXIST) => Changed::AlreadySo,
            Err(errno) => return Err(denied_or(errno, format!("add {vip}"))),
        };
        if !self.addresses()?.iter().any(|held| held.is(vip, &link)) {
            let what = format!("{vip} is gone again right after it was added");
            return Err(Error::new(Kind::Refused, what)
                .advise("look for another program that manages this interface's addresses"));
        }
        Ok(changed)
    }

    fn del(&self, vip: &Vip) -> Result<Changed> {
        let held = self.addresses()?;
        let mut changed = Changed::AlreadySo;
        if let Some(link) = self.interface(&vip.link)?
            && held.iter().any(|held| held.is(vip, &link))
        {
            self.refuse_to_orphan(vip, &link, &held)?;
            match self.set(Rtm::Deladdr, NlmF::empty(), vip, link.index)? {
                Ok(()) => changed = Changed::Yes,
                Err(Errno::EADDRNOTAVAIL) => {}
                Err(errno) => return Err(denied_or(errno, format!("delete {vip}"))),
            }
        }
        self.refuse_elsewhere(vip, &self.addresses()?)?;
        Ok(changed)
    }

    fn announce(&self, vip: &Vip) -> Result<Changed> {
        let Some(socket) = self.send_announcement(vip)? else {
            return Ok(Changed::AlreadySo);
        };
        // The neighbours have been told once; that they are not told again is no failure.
        if let Err(error) = announce::repeat_detached(vip, socket) {
            log::warn!("{vip} is announced only once: {error}");
        }
        Ok(Changed::Yes)
    }
}

impl Interface {
    /// An address on a link that is down is of no use to anybody.
    fn carries(&self) -> Result<()> {
        let name = &self.name;
        if !self.flags.contains(Iff::UP) {
            return Err(
                Error::new(Kind::Refused, format!("interface {name} is down"))
                    .advise(format!("ip link set {name} up")),
            );
        }
        if !self.flags.contains(Iff::LOWERUP) {
            return Err(
                Error::new(Kind::Refused, format!("interface {name} has no carrier"))
                    .advise("check the cable and the switch port"),
            );
        }
        Ok(())
    }
}

fn read_interface(message: &Ifinfomsg) -> Option<Interface> {
    let attributes = message.rtattrs().get_attr_handle();
    let name = attributes.get_attribute(Ifla::Ifname)?;
    let mac = attributes.get_attribute(Ifla::Address).and_then(|mac| {
        let octets: [u8; 6] = mac.payload().as_ref().try_into().ok()?;
        (*message.ifi_type() == Arphrd::Ether).then(|| MacAddr::from(octets))
    });
    Some(Interface {
        index: u32::try_from(*message.ifi_index()).ok()?,
        name: read_name(name.payload().as_ref()),
        flags: *message.ifi_flags(),
        mac,
    })
}

fn read_address(message: &Ifaddrmsg) -> Option<Held> {
    let attributes = message.rtattrs().get_attr_handle();
    // IFA_LOCAL is the address itself; on a point-to-point link IFA_ADDRESS is the other end's.
    // IPv6 has only IFA_ADDRESS unless there is such another end.
    let address = attributes
        .get_attribute(Ifa::Local)
        .or_else(|| attributes.get_attribute(Ifa::Address))?;
    let octets = address.payload().as_ref();
    let address = match message.ifa_family() {
        RtAddrFamily::Inet => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into(),
        RtAddrFamily::Inet6 => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into(),
        _ => return None,
    };
    let label = attributes.get_attribute(Ifa::Label);
    Some(Held {
        index: *message.ifa_index(),
        address,
        prefix: *message.ifa_prefixlen(),
        label: label.map(|label| read_name(label.payload().as_ref())),
        flags: *message.ifa_flags(),
    })
}

fn read_name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}

fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn same_subnet(a: Ipv4Addr, b: Ipv4Addr, prefix: u8) -> bool {
    let bits = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    u32::from(a) & bits == u32::from(b) & bits
}

fn setting_is_on(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() != "0")
}

fn attribute<T: neli::consts::rtnl::RtaType>(
    kind: T,
    payload: Vec<u8>,
) -> Result<neli::rtnl::Rtattr<T, Buffer>> {
    RtattrBuilder::default()
        .rta_type(kind)
        .rta_payload(Buffer::from(payload))
        .build()
        .map_err(unbuilt)
}

fn missing(link: &str) -> Error {
    Error::new(
        Kind::Refused,
        format!("there is no interface {link} on this host"),
    )
    .advise("ip -brief link, for those that there are")
}

fn denied_or(errno: Errno, what: impl Into<String>) -> Error {
    match errno {
        Errno::EPERM | Errno::EACCES => Error::new(Kind::Denied, what)
            .because(errno)
            .advise("run it as root, or give it CAP_NET_ADMIN"),
        _ => Error::new(Kind::Refused, what).because(errno),
    }
}

fn broken(errno: Errno) -> Error {
    Error::new(Kind::Refused, "talk to the kernel by rtnetlink").because(errno)
}

fn unbuilt(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Bug, "build an rtnetlink message").because(error)
}
