//! Interfaces and addresses as the kernel has them: the conversation by rtnetlink.
//!
//! neli makes and reads the messages. The socket is our own: neli's has no safe way to poll it.

use std::cell::{Cell, RefCell};
use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use neli::attr::Attribute;
use neli::consts::nl::{NlmF, Nlmsg};
use neli::consts::rtnl::{Arphrd, Ifa, IfaF, RtAddrFamily, RtScope, Rtm};
use neli::nl::{NlPayload, NlmsghdrBuilder};
use neli::rtnl::{Ifaddrmsg, IfaddrmsgBuilder, RtattrBuilder};
use neli::types::{Buffer, NlBuffer, RtBuffer};
use neli::{FromBytesWithInput, ToBytes};
use nix::errno::Errno;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use pnet_base::MacAddr;

use super::Vip;
use crate::error::{Error, Kind, Result};
use crate::time::Deadline;

/// Room for an answer: the kernel puts as much of a dump into one as its reader has room for, and at
/// least a page (`netlink_dump`). More room costs a page fault for each page of it, in the outage.
const ROOM: usize = 8 * 1024;

/// A conversation with the kernel about the network namespace that this process is in.
pub(super) struct Kernel {
    socket: OwnedFd,
    deadline: Deadline,
    sequence: Cell<u32>,
    /// For what is received: to clear a new one each time would take longer than to ask.
    buffer: RefCell<Vec<u8>>,
}

/// An interface, as the kernel has it.
#[derive(Clone)]
pub(super) struct Interface {
    pub index: u32,
    pub name: String,
    pub flags: InterfaceFlags,
    /// None for what is not Ethernet.
    pub mac: Option<MacAddr>,
    /// Where frames for it are sent to.
    pub place: Option<LinkAddr>,
}

/// An address, as the kernel has it.
pub(super) struct Held {
    pub index: u32,
    pub address: IpAddr,
    pub prefix: u8,
    pub label: Option<String>,
    pub flags: IfaF,
}

/// What the kernel has at one moment.
#[derive(Default)]
pub(super) struct View {
    pub links: Vec<Interface>,
    pub held: Vec<Held>,
}

/// How many requests go into one message: the answers to all of them must fit into the socket's
/// buffer, 208 KiB by default, where each counts for about 800 bytes.
const AT_ONCE: usize = 100;

impl Kernel {
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
        Ok(Kernel {
            socket,
            deadline: deadline.clone(),
            sequence: Cell::new(0),
            buffer: RefCell::new(vec![0; ROOM]),
        })
    }

    /// When every wait in it ends.
    pub fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// Every address: one dump.
    pub fn addresses(&self) -> Result<Vec<Held>> {
        loop {
            match self.dump_addresses()? {
                // The list changed while it was being read, and may lack entries.
                Err(Errno::EINTR) if !self.deadline.passed() => {}
                Ok(found) => return Ok(found.iter().filter_map(read_address).collect()),
                Err(errno) => return Err(denied_or(errno, "list this host's addresses")),
            }
        }
    }

    /// Interfaces and addresses.
    pub fn view(&self) -> Result<View> {
        Ok(View {
            links: interfaces()?,
            held: self.addresses()?,
        })
    }

    /// Asks for each of `vips` to be added to, or deleted from, the interface with that index; gives
    /// the kernel's answers in the same order.
    pub fn set(
        &self,
        what: Rtm,
        flags: NlmF,
        vips: &[(&Vip, u32)],
    ) -> Result<Vec<nix::Result<()>>> {
        let mut answers = Vec::with_capacity(vips.len());
        for some in vips.chunks(AT_ONCE) {
            let first = self.sequence.get().wrapping_add(1);
            let mut bytes = Cursor::new(Vec::new());
            for (vip, index) in some {
                self.write(
                    what,
                    flags | NlmF::ACK,
                    wish(what, vip, *index)?,
                    &mut bytes,
                )?;
            }
            self.send(bytes.get_ref())?;
            let mut missing = vec![None; some.len()];
            while missing.contains(&None) {
                for message in self.receive()?.into_iter() {
                    let place = message.nl_seq().wrapping_sub(first) as usize;
                    let answer = match message.nl_payload() {
                        NlPayload::Err(error) => Err(Errno::from_raw(-error.error())),
                        NlPayload::Ack(_) => Ok(()),
                        _ => continue,
                    };
                    if let Some(missing) = missing.get_mut(place) {
                        *missing = Some(answer);
                    }
                }
            }
            answers.extend(missing.into_iter().flatten());
        }
        Ok(answers)
    }

    /// The inner error is the kernel's answer.
    fn dump_addresses(&self) -> Result<nix::Result<Vec<Ifaddrmsg>>> {
        let question = IfaddrmsgBuilder::default()
            .ifa_family(RtAddrFamily::Unspecified)
            .ifa_prefixlen(0)
            .ifa_scope(RtScope::Universe)
            .ifa_index(0)
            .build()
            .map_err(unbuilt)?;
        let mut bytes = Cursor::new(Vec::new());
        let sequence = self.write(Rtm::Getaddr, NlmF::DUMP, question, &mut bytes)?;
        self.send(bytes.get_ref())?;
        let mut answer = Vec::new();
        let mut interrupted = false;
        loop {
            for message in self.receive()?.into_iter() {
                if *message.nl_seq() != sequence {
                    continue;
                }
                interrupted |= message.nl_flags().contains(NlmF::DUMP_INTR);
                let done = u16::from(*message.nl_type()) == u16::from(Nlmsg::Done);
                match message.nl_payload() {
                    NlPayload::Err(error) => return Ok(Err(Errno::from_raw(-error.error()))),
                    _ if done && interrupted => return Ok(Err(Errno::EINTR)),
                    _ if done => return Ok(Ok(answer)),
                    _ => answer.extend(message.get_payload().cloned()),
                }
            }
        }
    }

    /// Appends a message to `bytes`; gives its number.
    fn write(
        &self,
        what: Rtm,
        flags: NlmF,
        payload: Ifaddrmsg,
        bytes: &mut Cursor<Vec<u8>>,
    ) -> Result<u32> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let message = NlmsghdrBuilder::default()
            .nl_type(what)
            .nl_flags(NlmF::REQUEST | flags)
            .nl_seq(sequence)
            .nl_payload(NlPayload::Payload(payload))
            .build()
            .map_err(unbuilt)?;
        message.to_bytes(bytes).map_err(unbuilt)?;
        Ok(sequence)
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        send(self.socket.as_raw_fd(), bytes, MsgFlags::empty()).map_err(broken)?;
        Ok(())
    }

    fn receive(&self) -> Result<NlBuffer<Rtm, Ifaddrmsg>> {
        let mut buffer = self.buffer.borrow_mut();
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    let mut bytes = Cursor::new(&buffer[..length]);
                    return NlBuffer::from_bytes_with_input(&mut bytes, length)
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
}

/// The address and all that is wanted of it, as the kernel reads it.
fn wish(what: Rtm, vip: &Vip, index: u32) -> Result<Ifaddrmsg> {
    let address = match vip.address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    // Without IFA_ADDRESS a deletion does not compare the prefix length (`inet_rtm_deladdr`).
    let mut attributes = RtBuffer::new();
    attributes.push(attribute(Ifa::Local, address.clone())?);
    attributes.push(attribute(Ifa::Address, address)?);
    if what == Rtm::Newaddr {
        if let Some(label) = &vip.label {
            attributes.push(attribute(Ifa::Label, name_bytes(label))?);
        }
        if vip.is_never_source() {
            // struct ifa_cacheinfo: preferred for 0 s, valid for ever, two times of the kernel's.
            let lifetimes = [0_u32, u32::MAX, 0, 0].map(u32::to_ne_bytes).concat();
            attributes.push(attribute(Ifa::Cacheinfo, lifetimes)?);
        }
    }
    let (family, kind) = match vip.address {
        IpAddr::V4(_) => (RtAddrFamily::Inet, IfaF::empty()),
        // With duplicate address detection the address could not be used for about 1.7 s.
        IpAddr::V6(_) => (RtAddrFamily::Inet6, IfaF::NODAD),
    };
    IfaddrmsgBuilder::default()
        .ifa_family(family)
        .ifa_prefixlen(vip.prefix)
        .ifa_flags(kind)
        .ifa_scope(RtScope::Universe)
        .ifa_index(index)
        .rtattrs(attributes)
        .build()
        .map_err(unbuilt)
}

/// Every interface. getifaddrs(3) dumps them and, unlike a dump of our own, gives the address by which
/// frames are sent through each: `LinkAddr` cannot be built from an index without `unsafe`.
fn interfaces() -> Result<Vec<Interface>> {
    let found = getifaddrs().map_err(|errno| denied_or(errno, "list this host's interfaces"))?;
    Ok(found.filter_map(read_interface).collect())
}

/// None for an entry that is about an address on an interface.
fn read_interface(entry: InterfaceAddress) -> Option<Interface> {
    let name = entry.interface_name;
    let (index, place) = match &entry.address {
        Some(address) => {
            let place = *address.as_link_addr()?;
            (u32::try_from(place.ifindex()).ok()?, Some(place))
        }
        // What has no hardware address, as some tunnels.
        None => (if_nametoindex(name.as_str()).ok()?, None),
    };
    let ethernet = place.filter(|place| place.hatype() == u16::from(Arphrd::Ether));
    Some(Interface {
        index,
        name,
        flags: entry.flags,
        mac: ethernet.and_then(|place| place.addr()).map(MacAddr::from),
        place,
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

pub(super) fn denied_or(errno: Errno, what: impl Into<String>) -> Error {
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
