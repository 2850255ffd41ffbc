//! Raw frames to and from the neighbours, and the question who has an address.

use std::cell::OnceCell;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, MsgFlags, SockaddrLike, recvfrom, sendto};
use pnet_base::MacAddr;
use pnet_packet::ethernet::EtherTypes;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::frames;
use super::netlink::Interface;
use crate::error::{Error, Kind, Result};
use crate::time::Deadline;

/// What of IPv6 is to come through the socket: ICMPv6 neighbour advertisements. Next header at byte
/// 20 of the frame, type at byte 54; without this a busy host's whole traffic would.
const ONLY_ADVERTISEMENTS: [SockFilter; 6] = [
    SockFilter::new(LOAD_BYTE, 0, 0, 20),
    SockFilter::new(UNLESS_EQUAL, 0, 3, 58),
    SockFilter::new(LOAD_BYTE, 0, 0, 54),
    SockFilter::new(UNLESS_EQUAL, 0, 1, 136),
    SockFilter::new(RETURN, 0, 0, u32::MAX),
    SockFilter::new(RETURN, 0, 0, 0),
];
/// Instructions of classic BPF (linux/bpf_common.h): BPF_LD|BPF_B|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K,
/// BPF_RET|BPF_K.
const LOAD_BYTE: u16 = 0x30;
const UNLESS_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// What a full queue gets to empty itself.
const QUEUE: Duration = Duration::from_millis(1);

/// Longer than any answer that counts.
const LONGEST_FRAME: usize = 128;

/// Who has an address, besides this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its hardware address.
    pub mac: [u8; 6],
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        MacAddr::from(self.mac).fmt(f)
    }
}

/// A socket through which frames are sent, and where ARP or neighbour advertisements arrive: from
/// all interfaces, since binding it to one would cost an RCU grace period of about 12 ms.
///
/// # Errors
/// EPERM without CAP_NET_RAW.
pub(crate) fn open(is_ipv4: bool) -> nix::Result<Socket> {
    let kind = if is_ipv4 {
        EtherTypes::Arp
    } else {
        EtherTypes::Ipv6
    };
    // The protocol is in network byte order.
    let protocol = Protocol::from(i32::from(kind.0.to_be()));
    let kind = Type::RAW.nonblocking().cloexec();
    let opened = Socket::new(Domain::PACKET, kind, Some(protocol)).and_then(|socket| {
        if !is_ipv4 {
            socket.attach_filter(&ONLY_ADVERTISEMENTS)?;
        }
        Ok(socket)
    });
    opened.map_err(|error| Errno::try_from(error).unwrap_or(Errno::EIO))
}

/// Where to send frames for the interface with this index.
pub(crate) fn packet_address(index: u32) -> nix::Result<LinkAddr> {
    getifaddrs()?
        .filter_map(|entry| entry.address?.as_link_addr().copied())
        .find(|address| address.ifindex() == index as usize && address.len() > 0)
        .ok_or(Errno::ENODEV)
}

/// The sockets of a host, opened when they are needed.
///
/// Closing one waits for an RCU grace period in the kernel, about 12 ms (`packet_release`,
/// `synchronize_net`). So there is one for all that is sent and heard, and a detached process may
/// be handed it to close it last.
#[derive(Default)]
pub(super) struct Wire {
    arp: OnceCell<Socket>,
    neighbour_discovery: OnceCell<Socket>,
}

impl Wire {
    /// The socket for addresses of that kind.
    pub fn socket(&self, is_ipv4: bool) -> nix::Result<&Socket> {
        let cell = match is_ipv4 {
            true => &self.arp,
            false => &self.neighbour_discovery,
        };
        if let Some(socket) = cell.get() {
            return Ok(socket);
        }
        let socket = open(is_ipv4)?;
        Ok(cell.get_or_init(|| socket))
    }

    /// Those that were opened.
    pub fn opened(&self) -> impl Iterator<Item = &Socket> {
        [&self.arp, &self.neighbour_discovery]
            .into_iter()
            .filter_map(OnceCell::get)
    }

    /// Tells the neighbours on this interface that `address` is at `mac`, which need not be this
    /// host: the frame itself comes from here, so that no switch is misled.
    pub fn announce(
        &self,
        address: IpAddr,
        link: &Interface,
        mac: MacAddr,
        deadline: &Deadline,
    ) -> Result<()> {
        // A router that says it is none is dropped from its neighbours' routes (RFC 4861, 7.2.5).
        let forwarding = format!("/proc/sys/net/ipv6/conf/{}/forwarding", link.name);
        let router = address.is_ipv6()
            && std::fs::read_to_string(forwarding).is_ok_and(|text| text.trim() != "0");
        let failed = |errno| failed_to_send(&link.name, errno);
        let socket = self.socket(address.is_ipv4()).map_err(failed)?;
        let to = link.place.ok_or_else(|| failed(Errno::ENODEV))?;
        for mut frame in frames::announcement(address, mac, router) {
            frames::set_source(&mut frame, link.mac.unwrap_or(mac));
            loop {
                match send(socket, &to, &frame) {
                    // The queue is full.
                    Err(Errno::EAGAIN | Errno::ENOBUFS) => deadline.pause(QUEUE)?,
                    sent => break sent.map_err(failed)?,
                }
            }
        }
        Ok(())
    }
}

fn send(socket: &Socket, to: &LinkAddr, frame: &[u8]) -> nix::Result<()> {
    sendto(socket.as_raw_fd(), frame, to, MsgFlags::empty()).map(drop)
}

/// The question who has an address, put to the neighbours on one interface.
#[derive(Debug)]
pub(crate) struct WhoHas {
    address: IpAddr,
    to: LinkAddr,
}

impl WhoHas {
    /// The question about `address` for the interface that `to` leads to.
    pub fn new(address: IpAddr, to: LinkAddr) -> WhoHas {
        WhoHas { address, to }
    }

    /// Asks, and waits for nothing.
    pub fn put(&self, socket: &Socket) -> nix::Result<()> {
        let frame = frames::question(self.address, self.own());
        send(socket, &self.to, &frame)
    }

    /// The owner that `heard` tells of.
    pub fn answer(&self, heard: &Heard) -> Option<Owner> {
        let mac = frames::owner(heard.frame(), self.address)?;
        (heard.index == self.to.ifindex() && mac != self.own()).then(|| Owner { mac: mac.octets() })
    }

    fn own(&self) -> MacAddr {
        MacAddr::from(self.to.addr().unwrap_or_default())
    }
}

/// A frame that has arrived.
pub(crate) struct Heard {
    index: usize,
    bytes: [u8; LONGEST_FRAME],
    length: usize,
}

impl Heard {
    /// The next frame that has arrived; None when there is none yet.
    pub fn next(socket: &Socket) -> Option<Heard> {
        let mut bytes = [0; LONGEST_FRAME];
        loop {
            return match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut bytes) {
                Ok((length, Some(from))) => Some(Heard {
                    index: from.ifindex(),
                    length: length.min(LONGEST_FRAME),
                    bytes,
                }),
                // ENETDOWN: an interface went down, perhaps another one. Told once.
                Err(Errno::EINTR | Errno::ENETDOWN) => continue,
                _ => None,
            };
        }
    }

    fn frame(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Why a frame could not be sent on `link`.
pub(super) fn failed_to_send(link: &str, errno: Errno) -> Error {
    let what = format!("send a frame on {link}");
    match errno {
        Errno::EPERM | Errno::EACCES => Error::new(Kind::Denied, what)
            .because(errno)
            .advise("run it as root, or give it CAP_NET_RAW"),
        _ => Error::new(Kind::Refused, what).because(errno),
    }
}
