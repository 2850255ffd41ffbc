//! Telling the neighbours where an address is: gratuitous ARP, unsolicited neighbour advertisement.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, socket,
};
use pnet_base::MacAddr;
use pnet_packet::Packet;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperation, ArpOperations, MutableArpPacket};
use pnet_packet::ethernet::{EtherType, EtherTypes, MutableEthernetPacket};
use pnet_packet::icmpv6::ndp::{
    MutableNdpOptionPacket, MutableNeighborAdvertPacket, NdpOptionTypes, NeighborAdvertFlags,
};
use pnet_packet::icmpv6::{Icmpv6Packet, Icmpv6Types, checksum};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv6::MutableIpv6Packet;

use super::{Host, Link, Vip};
use crate::error::{Error, Kind, Result};
use crate::time::{Deadline, Stopwatch};

/// When gratuitous ARP is sent again, counted from the first: frames get lost while a switch learns
/// the new port, and a receiver may ignore what comes within 1 s of its last update (`locktime`).
const ARP_REPEATS: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// When a neighbour advertisement is sent again: at most 3 in all, at least 1 s apart (RFC 4861,
/// 7.2.6 with MAX_NEIGHBOR_ADVERTISEMENT and RetransTimer).
const NA_REPEATS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

const ETHERNET_HEADER: usize = 14;
/// Shortest Ethernet frame without its checksum. Not every driver pads with zeros.
const SHORTEST_FRAME: usize = 60;
const ARP_LENGTH: usize = 28;
const IPV6_HEADER: usize = 40;
/// Header and target of a neighbour advertisement (RFC 4861, 4.4).
const NA_HEADER: usize = 24;
/// A target link-layer address option for Ethernet: 1 unit of 8 bytes (RFC 4861, 4.6.1).
const LINK_LAYER_OPTION: usize = 8;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Where IPv6 puts ff02::1 on Ethernet (RFC 2464, 7).
const ALL_NODES_MAC: MacAddr = MacAddr(0x33, 0x33, 0, 0, 0, 1);

/// The frames that say `address` is at `mac`.
///
/// For IPv4 both forms of gratuitous ARP, since some switches and routers honour only one: a
/// request (RFC 5227, 3) and a reply with the sender's own hardware address as target, which is
/// the reply that Linux takes even within `locktime`. Receivers update an entry they have, from
/// the sender fields of either (RFC 826).
pub(super) fn frames(address: IpAddr, mac: MacAddr, router: bool) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => vec![
            arp(
                ArpOperations::Request,
                mac,
                address,
                MacAddr::zero(),
                address,
            ),
            arp(ArpOperations::Reply, mac, address, mac, address),
        ],
        IpAddr::V6(address) => vec![neighbour_advertisement(address, mac, router)],
    }
}

/// A broadcast ARP frame (RFC 826), padded.
pub(crate) fn arp(
    operation: ArpOperation,
    mac: MacAddr,
    sender: Ipv4Addr,
    target_mac: MacAddr,
    target: Ipv4Addr,
) -> Vec<u8> {
    let mut frame = ethernet(MacAddr::broadcast(), mac, EtherTypes::Arp, SHORTEST_FRAME);
    if let Some(mut arp) = MutableArpPacket::new(&mut frame[ETHERNET_HEADER..][..ARP_LENGTH]) {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(operation);
        arp.set_sender_hw_addr(mac);
        arp.set_sender_proto_addr(sender);
        arp.set_target_hw_addr(target_mac);
        arp.set_target_proto_addr(target);
    }
    frame
}

/// An unsolicited neighbour advertisement to all nodes (RFC 4861, 7.2.6): override set, solicited
/// clear, hop limit 255, source and target the address itself.
fn neighbour_advertisement(address: Ipv6Addr, mac: MacAddr, router: bool) -> Vec<u8> {
    let mut option = [0; LINK_LAYER_OPTION];
    if let Some(mut option) = MutableNdpOptionPacket::new(&mut option) {
        option.set_option_type(NdpOptionTypes::TargetLLAddr);
        option.set_length(1);
        option.set_data(&mac.octets());
    }
    let mut advertisement = [0; NA_HEADER + LINK_LAYER_OPTION];
    advertisement[NA_HEADER..].copy_from_slice(&option);
    if let Some(mut advertisement) = MutableNeighborAdvertPacket::new(&mut advertisement) {
        let router = if router {
            NeighborAdvertFlags::Router
        } else {
            0
        };
        advertisement.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
        advertisement.set_flags(NeighborAdvertFlags::Override | router);
        advertisement.set_target_addr(address);
        let sum = Icmpv6Packet::new(advertisement.packet())
            .map_or(0, |packet| checksum(&packet, &address, &ALL_NODES));
        advertisement.set_checksum(sum);
    }
    let length = ETHERNET_HEADER + IPV6_HEADER + advertisement.len();
    let mut frame = ethernet(ALL_NODES_MAC, mac, EtherTypes::Ipv6, length);
    if let Some(mut packet) = MutableIpv6Packet::new(&mut frame[ETHERNET_HEADER..]) {
        packet.set_version(6);
        packet.set_payload_length(advertisement.len() as u16);
        packet.set_next_header(IpNextHeaderProtocols::Icmpv6);
        packet.set_hop_limit(255);
        packet.set_source(address);
        packet.set_destination(ALL_NODES);
        packet.set_payload(&advertisement);
    }
    frame
}

fn ethernet(to: MacAddr, from: MacAddr, what: EtherType, length: usize) -> Vec<u8> {
    let mut frame = vec![0; length];
    if let Some(mut ethernet) = MutableEthernetPacket::new(&mut frame) {
        ethernet.set_destination(to);
        ethernet.set_source(from);
        ethernet.set_ethertype(what);
    }
    frame
}

/// Sends `frames` on the interface with this index; gives back the socket they went through.
pub(super) fn send(link: &str, index: u32, frames: &[Vec<u8>]) -> Result<OwnedFd> {
    let during = |errno: Errno| failed_to_send(link, errno);
    // Protocol 0: the socket only sends. The kernel reads the frame's own header for the rest.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None).map_err(during)?;
    let to = packet_address(index).map_err(during)?;
    for frame in frames {
        sendto(socket.as_raw_fd(), frame, &to, MsgFlags::empty()).map_err(during)?;
    }
    Ok(socket)
}

/// Where to send frames for the interface with this index. getifaddrs gives AF_PACKET addresses
/// ready-made; `LinkAddr` cannot be built from an index without `unsafe`.
pub(crate) fn packet_address(index: u32) -> nix::Result<LinkAddr> {
    getifaddrs()?
        .filter_map(|entry| entry.address?.as_link_addr().copied())
        .find(|address| address.ifindex() == index as usize && address.len() > 0)
        .ok_or(Errno::ENODEV)
}

fn failed_to_send(link: &str, errno: Errno) -> Error {
    let what = format!("send a frame on {link}");
    match errno {
        Errno::EPERM | Errno::EACCES => Error::new(Kind::Denied, what)
            .because(errno)
            .advise("run it as root, or give it CAP_NET_RAW"),
        _ => Error::new(Kind::Refused, what).because(errno),
    }
}

/// Starts a process that announces `vip` again and again while the caller goes its way.
///
/// It is in a process group of its own: keepalived kills that of a notify script. It is handed
/// `socket` as its stdin only to close it last: closing a packet socket waits for an RCU grace
/// period in the kernel, about 12 ms (`packet_release`, `synchronize_net`).
pub(super) fn repeat_detached(vip: &Vip, socket: OwnedFd) -> std::io::Result<()> {
    Command::new("/proc/self/exe")
        .arg0("hookbox")
        .args(["vip", "announce", "--repeats"])
        .args(vip.to_string().split(' '))
        .env_clear() // there may be passwords in it
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
}

/// The detached process: announces `vip` at each of its times, until it is gone from this host.
///
/// # Errors
/// When the kernel does not answer or a frame cannot be sent.
pub fn repeat(host: &Host, vip: &Vip, deadline: &Deadline) -> Result<()> {
    let since = Stopwatch::start();
    let times: &[Duration] = match vip.address {
        IpAddr::V4(_) => &ARP_REPEATS,
        IpAddr::V6(_) => &NA_REPEATS,
    };
    for time in times {
        deadline.pause(time.saturating_sub(since.elapsed()))?;
        if !host.has(vip)? {
            return Ok(());
        }
        host.tell(vip)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr(2, 0, 0, 0, 0, 0x0a);

    #[test]
    fn gratuitous_arp_comes_in_request_and_reply_form_padded_to_60_bytes() {
        let frames = frames("10.0.0.100".parse().unwrap(), MAC, false);
        #[rustfmt::skip]
        let mut request = vec![
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0x0a, 0x08, 0x06,
            0, 1, 0x08, 0, 6, 4, 0, 1,
            2, 0, 0, 0, 0, 0x0a, 10, 0, 0, 100,
            0, 0, 0, 0, 0, 0, 10, 0, 0, 100,
        ];
        request.resize(60, 0);
        let mut reply = request.clone();
        reply[21] = 2;
        reply[32..38].copy_from_slice(&[2, 0, 0, 0, 0, 0x0a]);
        assert_eq!(frames, [request, reply]);
    }

    #[test]
    fn an_advertisement_overrides_and_its_checksum_is_right() {
        let frames = frames("fd00::100".parse().unwrap(), MAC, false);
        #[rustfmt::skip]
        let expected = [
            0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0x0a, 0x86, 0xdd,
            0x60, 0, 0, 0, 0, 32, 58, 255,
            0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0,
            0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            136, 0, 0, 0, 0x20, 0, 0, 0,
            0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0,
            2, 1, 2, 0, 0, 0, 0, 0x0a,
        ];
        let mut frame = frames[0].clone();
        assert_eq!(ones_complement_sum(&frame), 0xffff);
        frame[56..58].fill(0);
        assert_eq!(frame, expected);
    }

    /// RFC 4443, 2.3: over source, destination, length, next header and message; right when it
    /// is all ones.
    fn ones_complement_sum(frame: &[u8]) -> u16 {
        let mut sum: u32 = 58 + (frame.len() - 54) as u32;
        for pair in frame[22..].chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
        ((sum & 0xffff) + (sum >> 16)) as u16
    }

    #[test]
    fn a_forwarding_host_keeps_the_router_flag() {
        let frames = frames("fd00::100".parse().unwrap(), MAC, true);
        assert_eq!(frames[0][58], 0xa0);
    }
}
