//! The frames that tell where an address is or ask who has it, as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pnet_base::MacAddr;
use pnet_packet::Packet;
use pnet_packet::arp::{
    ArpHardwareTypes, ArpOperation, ArpOperations, ArpPacket, MutableArpPacket,
};
use pnet_packet::ethernet::{EtherType, EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet_packet::icmpv6::ndp::{
    MutableNdpOptionPacket, MutableNeighborAdvertPacket, MutableNeighborSolicitPacket,
    NdpOptionTypes, NeighborAdvertFlags, NeighborAdvertPacket,
};
use pnet_packet::icmpv6::{Icmpv6Packet, Icmpv6Types, checksum};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv6::{Ipv6Packet, MutableIpv6Packet};

const ETHERNET_HEADER: usize = 14;
/// Shortest Ethernet frame without its checksum. Not every driver pads with zeros.
const SHORTEST_FRAME: usize = 60;
const ARP_LENGTH: usize = 28;
const IPV6_HEADER: usize = 40;
/// Header and target of a neighbour solicitation or advertisement (RFC 4861, 4.3 and 4.4).
const NDP_HEADER: usize = 24;
/// A target link-layer address option for Ethernet: 1 unit of 8 bytes (RFC 4861, 4.6.1).
const LINK_LAYER_OPTION: usize = 8;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The frames that say `address` is at `mac`.
///
/// For IPv4 both forms of gratuitous ARP, since some switches and routers honour only one: a
/// request (RFC 5227, 3) and a reply with the sender's own hardware address as target, which is
/// the reply that Linux takes even within `locktime`. Receivers update an entry they have, from
/// the sender fields of either (RFC 826).
pub(super) fn announcement(address: IpAddr, mac: MacAddr, router: bool) -> Vec<Vec<u8>> {
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
fn arp(
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

/// The frame by which `mac` asks who has `address`, in a way that no neighbour learns anything from
/// it: an ARP probe, whose sender address is 0.0.0.0 (RFC 5227, 2.1.1), or a solicitation from `::`
/// (RFC 4862, 5.4.2).
pub(super) fn question(address: IpAddr, mac: MacAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp(
            ArpOperations::Request,
            mac,
            Ipv4Addr::UNSPECIFIED,
            MacAddr::zero(),
            address,
        ),
        IpAddr::V6(address) => neighbour_solicitation(address, mac),
    }
}

/// Who says in `frame` that it has `address`: the sender of an ARP packet from that address, be it
/// an answer or not, or of a neighbour advertisement for it.
pub(super) fn owner(frame: &[u8], address: IpAddr) -> Option<MacAddr> {
    let ethernet = EthernetPacket::new(frame)?;
    match (address, ethernet.get_ethertype()) {
        (IpAddr::V4(address), EtherTypes::Arp) => {
            let arp = ArpPacket::new(ethernet.payload())?;
            (arp.get_sender_proto_addr() == address).then(|| arp.get_sender_hw_addr())
        }
        (IpAddr::V6(address), EtherTypes::Ipv6) => {
            let packet = Ipv6Packet::new(ethernet.payload())?;
            let is_icmp = packet.get_next_header() == IpNextHeaderProtocols::Icmpv6;
            let advertisement = NeighborAdvertPacket::new(packet.payload())?;
            // A hop limit below 255 shows that it came through a router (RFC 4861, 7.1.2).
            (is_icmp
                && packet.get_hop_limit() == 255
                && advertisement.get_icmpv6_type() == Icmpv6Types::NeighborAdvert
                && advertisement.get_target_addr() == address)
                .then(|| ethernet.get_source())
        }
        _ => None,
    }
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
    let mut advertisement = [0; NDP_HEADER + LINK_LAYER_OPTION];
    advertisement[NDP_HEADER..].copy_from_slice(&option);
    if let Some(mut advertisement) = MutableNeighborAdvertPacket::new(&mut advertisement) {
        let router = if router {
            NeighborAdvertFlags::Router
        } else {
            0
        };
        advertisement.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
        advertisement.set_flags(NeighborAdvertFlags::Override | router);
        advertisement.set_target_addr(address);
    }
    icmpv6(&mut advertisement, mac, address, ALL_NODES)
}

fn neighbour_solicitation(address: Ipv6Addr, mac: MacAddr) -> Vec<u8> {
    let mut solicitation = [0; NDP_HEADER];
    if let Some(mut solicitation) = MutableNeighborSolicitPacket::new(&mut solicitation) {
        solicitation.set_icmpv6_type(Icmpv6Types::NeighborSolicit);
        solicitation.set_target_addr(address);
    }
    // The group of all addresses that end alike (RFC 4291, 2.7.1).
    let [.., x, y, z] = address.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(x),
        u16::from_be_bytes([y, z]),
    );
    icmpv6(&mut solicitation, mac, Ipv6Addr::UNSPECIFIED, group)
}

/// `message` with its checksum, on its way to the group `to`.
fn icmpv6(message: &mut [u8], mac: MacAddr, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let sum = Icmpv6Packet::new(message).map_or(0, |packet| checksum(&packet, &from, &to));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    // Where IPv6 puts a group on Ethernet (RFC 2464, 7).
    let [.., a, b, c, d] = to.octets();
    let group_mac = MacAddr(0x33, 0x33, a, b, c, d);
    let length = ETHERNET_HEADER + IPV6_HEADER + message.len();
    let mut frame = ethernet(group_mac, mac, EtherTypes::Ipv6, length);
    if let Some(mut packet) = MutableIpv6Packet::new(&mut frame[ETHERNET_HEADER..]) {
        packet.set_version(6);
        packet.set_payload_length(message.len() as u16);
        packet.set_next_header(IpNextHeaderProtocols::Icmpv6);
        packet.set_hop_limit(255);
        packet.set_source(from);
        packet.set_destination(to);
        packet.set_payload(message);
    }
    frame
}

/// Says that `frame` comes from `mac`.
pub(super) fn set_source(frame: &mut [u8], mac: MacAddr) {
    if let Some(mut ethernet) = MutableEthernetPacket::new(frame) {
        ethernet.set_source(mac);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr(2, 0, 0, 0, 0, 0x0a);

    #[test]
    fn gratuitous_arp_comes_in_request_and_reply_form_padded_to_60_bytes() {
        let frames = announcement("10.0.0.100".parse().unwrap(), MAC, false);
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
        let frames = announcement("fd00::100".parse().unwrap(), MAC, false);
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
    fn a_question_teaches_the_neighbours_nothing() {
        #[rustfmt::skip]
        let mut probe = vec![
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0x0a, 0x08, 0x06,
            0, 1, 0x08, 0, 6, 4, 0, 1,
            2, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 10, 0, 0, 100,
        ];
        probe.resize(60, 0);
        assert_eq!(question("10.0.0.100".parse().unwrap(), MAC), probe);
        #[rustfmt::skip]
        let expected = [
            0x33, 0x33, 0xff, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 0x0a, 0x86, 0xdd,
            0x60, 0, 0, 0, 0, 24, 58, 255,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x12, 0x34, 0x56,
            135, 0, 0, 0, 0, 0, 0, 0,
            0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56,
        ];
        let mut frame = question("fd00::12:3456".parse().unwrap(), MAC);
        assert_eq!(ones_complement_sum(&frame), 0xffff);
        frame[56..58].fill(0);
        assert_eq!(frame, expected);
    }

    #[test]
    fn whoever_speaks_from_an_address_owns_it_and_nobody_else() {
        let (four, six) = ("10.0.0.100".parse().unwrap(), "fd00::100".parse().unwrap());
        for frame in announcement(four, MAC, false) {
            assert_eq!(owner(&frame, four), Some(MAC));
            assert_eq!(owner(&frame, "10.0.0.10".parse().unwrap()), None);
            assert_eq!(owner(&frame, six), None);
            assert_eq!(owner(&frame[..20], four), None, "cut short");
        }
        assert_eq!(owner(&question(four, MAC), four), None);
        let mut frame = announcement(six, MAC, false).remove(0);
        assert_eq!(owner(&frame, six), Some(MAC));
        assert_eq!(owner(&frame, "fd00::10".parse().unwrap()), None);
        assert_eq!(owner(&frame[..60], six), None, "cut short");
        frame[21] = 254;
        assert_eq!(owner(&frame, six), None, "from behind a router");
        assert_eq!(owner(&question(six, MAC), six), None);
    }

    #[test]
    fn a_forwarding_host_keeps_the_router_flag() {
        let frames = announcement("fd00::100".parse().unwrap(), MAC, true);
        assert_eq!(frames[0][58], 0xa0);
    }
}
