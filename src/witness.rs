//! Is this host cut off? Neighbours are asked, and one answer of any of them is enough.
//!
//! Two servers have no quorum. A primary that hears from nobody, neither gateway nor peer, has to
//! assume that the other one is being promoted.

use std::cell::RefCell;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::PollFlags;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{LinkAddr, MsgFlags, recvfrom, sendto};
use pnet_base::MacAddr;
use pnet_packet::Packet;
use pnet_packet::arp::{ArpOperations, ArpPacket};
use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use pnet_packet::util::checksum;
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{Error, Kind, Result};
use crate::link::{arp, fault_of_name, packet_address};
use crate::time::Deadline;

const ICMP_HEADER: usize = 8;
/// Longest IPv4 header (RFC 791, 3.1), before an answer on a raw socket.
const LONGEST_IP_HEADER: usize = 60;

/// A neighbour that answers as long as this host is not cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    text: String,
    way: Way,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// ICMP echo; the zone is the interface of a link-local IPv6 address.
    Ping {
        address: IpAddr,
        zone: Option<String>,
    },
    /// Connects. A refusal counts too: the reset comes from the host itself.
    Tcp(SocketAddr),
    /// Asks who has the address, on this interface.
    Arp { address: Ipv4Addr, link: String },
}

impl Witness {
    /// Reads `10.0.0.1`, `fe80::1%eth0`, `tcp:10.0.0.12:3306` or `arp:10.0.0.1%eth0`.
    ///
    /// # Errors
    /// [`Kind::Config`] for anything else, host names among it: looking them up would need the
    /// network whose state is in question.
    pub fn parse(text: &str) -> Result<Witness> {
        let way = read(text).map_err(|what| {
            Error::new(Kind::Config, format!("witness `{text}`"))
                .because(what)
                .advise("write it like `10.0.0.1`, `tcp:10.0.0.12:3306` or `arp:10.0.0.1%eth0`")
        })?;
        let text = text.to_owned();
        Ok(Witness { text, way })
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn read(text: &str) -> std::result::Result<Way, String> {
    if let Some(address) = text.strip_prefix("tcp:") {
        let what = || format!("`{address}` is not an address with a port");
        let address: SocketAddr = address.parse().map_err(|_| what())?;
        return match address.port() {
            0 => Err("port 0 cannot be asked".to_owned()),
            _ => Ok(Way::Tcp(address)),
        };
    }
    let (rest, is_arp) = match text.strip_prefix("arp:") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (address, link) = match rest.split_once('%') {
        Some((address, link)) => (address, Some(link.to_owned())),
        None => (rest, None),
    };
    let what = || format!("`{address}` is not an IP address");
    let address: IpAddr = address.parse().map_err(|_| what())?;
    if let Some(link) = &link
        && let Some(fault) = fault_of_name(link)
    {
        return Err(format!("interface name `{link}` {fault}"));
    }
    match (is_arp, address, link) {
        (true, IpAddr::V4(address), Some(link)) => Ok(Way::Arp { address, link }),
        (true, IpAddr::V4(_), None) => Err("it does not say on which interface".to_owned()),
        (true, IpAddr::V6(_), _) => Err("IPv6 has no ARP".to_owned()),
        (false, IpAddr::V6(address), None) if address.is_unicast_link_local() => {
            Err("a link-local address does not say on which interface".to_owned())
        }
        (false, address, zone) => Ok(Way::Ping { address, zone }),
    }
}

/// Questions under way.
#[derive(Debug)]
pub struct Asked<'w> {
    witnesses: &'w [Witness],
    questions: Vec<Question>,
    /// By place of the witness: why it said nothing, where that is known.
    faults: RefCell<Vec<Option<Fault>>>,
}

/// One question under way, on a socket of its own.
#[derive(Debug)]
struct Question {
    witness: usize,
    socket: Socket,
    answer: Answer,
}

/// What will count as the answer.
#[derive(Debug)]
enum Answer {
    Connection,
    Echo {
        reply: u8,
        identifier: Option<u16>,
        sequence: u16,
        after_ip_header: bool,
    },
    Arp {
        index: u32,
        own: MacAddr,
        address: Ipv4Addr,
    },
}

/// Why a witness could not be asked, or cannot answer.
#[derive(Clone, Debug)]
enum Fault {
    /// The network's state: counts as silence.
    Silent(String),
    /// This process may not ask: says nothing about the network.
    Forbidden,
}

enum Heard {
    Alive,
    Nothing,
    Fault(Fault),
}

impl<'w> Asked<'w> {
    /// Sends every question and waits for none. What cannot be sent is silence.
    pub fn ask(witnesses: &'w [Witness]) -> Self {
        let asked = Asked {
            witnesses,
            questions: Vec::new(),
            faults: RefCell::new(vec![None; witnesses.len()]),
        };
        let questions = asked.send_all(0);
        Asked { questions, ..asked }
    }

    /// Waits until one witness answers and gives its name; none when `deadline` passes first.
    ///
    /// What has not answered half-way is asked once more, so that one lost packet does not count
    /// as being cut off. No witnesses at all also gives none.
    ///
    /// # Errors
    /// [`Kind::Denied`] when nobody answers and a witness was not asked for want of a capability;
    /// or what the deadline's watch says.
    pub fn anyone(&self, deadline: &Deadline) -> Result<Option<&'w str>> {
        let half = deadline.at_most(deadline.left() / 2);
        let mut questions: Vec<&Question> = self.questions.iter().collect();
        if let Some(name) = self.listen(&questions, &half)? {
            return Ok(Some(name));
        }
        // With nothing left to listen to, a route may still come back until half-way.
        half.any_ready(&[], PollFlags::empty())?;
        let again = self.send_all(1);
        questions.extend(&again);
        if let Some(name) = self.listen(&questions, deadline)? {
            return Ok(Some(name));
        }
        self.refuse_if_forbidden()?;
        Ok(None)
    }

    /// Why nobody answered, witness by witness, in one line.
    pub fn silence(&self) -> String {
        let faults = self.faults.borrow();
        let line = |(witness, fault): (&Witness, &Option<Fault>)| match fault {
            Some(Fault::Silent(why)) => format!("{witness}: {why}"),
            Some(Fault::Forbidden) => format!("{witness}: not asked, not permitted"),
            None => format!("{witness}: no answer"),
        };
        let lines: Vec<String> = self.witnesses.iter().zip(faults.iter()).map(line).collect();
        lines.join("; ")
    }

    fn send_all(&self, round: u16) -> Vec<Question> {
        let mut questions = Vec::new();
        for (witness, Witness { way, .. }) in self.witnesses.iter().enumerate() {
            // Every question of this process has a sequence number of its own.
            let sequence = (witness as u16) << 1 | round;
            let sent = match way {
                Way::Ping { address, zone } => ping(*address, zone.as_deref(), sequence),
                Way::Tcp(address) => connect(*address),
                Way::Arp { address, link } => who_has(*address, link),
            };
            match sent {
                Ok((socket, answer)) => questions.push(Question {
                    witness,
                    socket,
                    answer,
                }),
                Err(fault) => drop(self.faults.borrow_mut()[witness].get_or_insert(fault)),
            }
        }
        questions
    }

    /// Waits for one answer on any of `questions`.
    fn listen(&self, questions: &[&Question], deadline: &Deadline) -> Result<Option<&'w str>> {
        let bug = |errno: Errno| Error::new(Kind::Bug, "epoll").because(errno);
        // Not `any_ready` alone: a connection wants POLLOUT, which the others always are.
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(bug)?;
        for (place, question) in questions.iter().enumerate() {
            let event = EpollEvent::new(question.answer.event(), place as u64);
            epoll.add(&question.socket, event).map_err(bug)?;
        }
        let mut open = questions.len();
        let mut events = [EpollEvent::empty(); 16];
        while open > 0 {
            if deadline
                .any_ready(&[epoll.0.as_fd()], PollFlags::POLLIN)?
                .is_empty()
            {
                return Ok(None);
            }
            let ready = epoll.wait(&mut events, EpollTimeout::ZERO).map_err(bug)?;
            for event in &events[..ready] {
                let question = questions[event.data() as usize];
                match question.hear() {
                    Heard::Alive => return Ok(Some(&self.witnesses[question.witness].text)),
                    Heard::Nothing => {}
                    Heard::Fault(fault) => {
                        self.faults.borrow_mut()[question.witness].get_or_insert(fault);
                        epoll.delete(&question.socket).map_err(bug)?;
                        open -= 1;
                    }
                }
            }
        }
        Ok(None)
    }

    fn refuse_if_forbidden(&self) -> Result<()> {
        let faults = self.faults.borrow();
        let forbidden = faults
            .iter()
            .position(|f| matches!(f, Some(Fault::Forbidden)));
        match forbidden {
            Some(place) => Err(Error::new(
                Kind::Denied,
                format!("witness {} was not asked", self.witnesses[place]),
            )
            .because("this account may not send it")
            .advise("run it as root or with CAP_NET_RAW, or use a witness of the form tcp:")),
            None => Ok(()),
        }
    }
}

impl Question {
    fn hear(&self) -> Heard {
        match &self.answer {
            // The peer's address as well: an error is told only once, then there is no error.
            Answer::Connection => match self.socket.take_error() {
                Ok(None) => match self.socket.peer_addr() {
                    Ok(_) => Heard::Alive,
                    Err(error) => Heard::Fault(silent(error)),
                },
                Ok(Some(error)) | Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    Heard::Alive
                }
                Ok(Some(error)) | Err(error) => Heard::Fault(silent(error)),
            },
            Answer::Echo {
                reply,
                identifier,
                sequence,
                after_ip_header,
            } => {
                let mut packet = [0; LONGEST_IP_HEADER + 2 * ICMP_HEADER];
                while let Some(length) = self.receive(&mut packet) {
                    let message = match after_ip_header {
                        true => packet[..length].get(usize::from(packet[0] & 0x0f) * 4..),
                        false => Some(&packet[..length]),
                    };
                    if message.is_some_and(|m| is_echo_reply(m, *reply, *identifier, *sequence)) {
                        return Heard::Alive;
                    }
                }
                Heard::Nothing
            }
            Answer::Arp {
                index,
                own,
                address,
            } => {
                let mut frame = [0; 64];
                let fd = self.socket.as_raw_fd();
                while let Ok((length, Some(from))) = recvfrom::<LinkAddr>(fd, &mut frame) {
                    if from.ifindex() == *index as usize
                        && is_arp_reply(&frame[..length.min(frame.len())], *own, *address)
                    {
                        return Heard::Alive;
                    }
                }
                Heard::Nothing
            }
        }
    }

    /// The next packet. An error here is an ICMP message of somebody on the way, and over once read.
    fn receive(&self, packet: &mut [u8]) -> Option<usize> {
        loop {
            match (&self.socket).read(packet) {
                Ok(length) => return Some(length),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}

impl Answer {
    fn event(&self) -> EpollFlags {
        match self {
            Answer::Connection => EpollFlags::EPOLLOUT,
            Answer::Echo { .. } | Answer::Arp { .. } => EpollFlags::EPOLLIN,
        }
    }
}

type Sent = std::result::Result<(Socket, Answer), Fault>;

fn silent(error: impl fmt::Display) -> Fault {
    Fault::Silent(error.to_string())
}

/// A socket; being refused one is a matter of privileges, not of the network.
fn open(domain: Domain, kind: Type, protocol: Protocol) -> std::result::Result<Socket, Fault> {
    Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol)).map_err(|error| {
        match error.kind() {
            ErrorKind::PermissionDenied => Fault::Forbidden,
            _ => silent(error),
        }
    })
}

/// Starts a connection. Its last ACK is withheld and it ends in a reset, so that the server's
/// kernel never hands it to the server: MySQL would count it in Aborted_connects and, after
/// max_connect_errors of them, block this host (error 1129).
///
/// TCP_QUICKACK off before connecting delays that ACK by up to 200 ms
/// (`tcp_rcv_synsent_state_process`, TCP_DELACK_MAX); lingering for 0 s makes the end a reset.
fn connect(address: SocketAddr) -> Sent {
    let socket = open(Domain::for_address(address), Type::STREAM, Protocol::TCP)?;
    socket.set_linger(Some(Duration::ZERO)).map_err(silent)?;
    socket.set_tcp_quickack(false).map_err(silent)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
        Err(error) => return Err(silent(error)),
    }
    refuse_own(&socket, address.ip())?;
    Ok((socket, Answer::Connection))
}

/// This host does not vouch for itself: the same list is often given to both hosts of a pair.
fn refuse_own(socket: &Socket, address: IpAddr) -> std::result::Result<(), Fault> {
    let own = socket.local_addr().map_err(silent)?.as_socket();
    match own.is_some_and(|own| own.ip() == address) {
        true => Err(Fault::Silent("it is this host itself".to_owned())),
        false => Ok(()),
    }
}

fn ping(address: IpAddr, zone: Option<&str>, sequence: u16) -> Sent {
    let (domain, protocol, request, reply) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        // RFC 4443, 4.
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    // An ICMP socket of this kind needs no capability where net.ipv4.ping_group_range says so.
    let (socket, is_raw) = match open(domain, Type::DGRAM, protocol) {
        Ok(socket) => (socket, false),
        Err(_) => (open(domain, Type::RAW, protocol)?, true),
    };
    let to = match (address, zone) {
        (IpAddr::V6(address), Some(zone)) => {
            let index = if_nametoindex(zone).map_err(silent)?;
            SocketAddr::V6(SocketAddrV6::new(address, 0, 0, index))
        }
        _ => SocketAddr::new(address, 0),
    };
    // Connected: the kernel passes on only what comes from that address.
    socket.connect(&to.into()).map_err(silent)?;
    refuse_own(&socket, address)?;
    let identifier = std::process::id() as u16;
    socket
        .send(&echo_request(request, identifier, sequence))
        .map_err(silent)?;
    let answer = Answer::Echo {
        reply,
        // Otherwise the kernel chose one and looks for it itself.
        identifier: is_raw.then_some(identifier),
        sequence,
        after_ip_header: is_raw && address.is_ipv4(),
    };
    Ok((socket, answer))
}

/// RFC 792, echo. For ICMPv6 the kernel writes the checksum over (RFC 3542, 3.1).
fn echo_request(kind: u8, identifier: u16, sequence: u16) -> [u8; ICMP_HEADER] {
    let mut message = [0; ICMP_HEADER];
    message[0] = kind;
    message[4..6].copy_from_slice(&identifier.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    let sum = checksum(&message, 1);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// A raw socket also sees what is for other programs, and the requests that this host gets.
fn is_echo_reply(message: &[u8], kind: u8, identifier: Option<u16>, sequence: u16) -> bool {
    message.len() >= ICMP_HEADER
        && message[0] == kind
        && identifier.is_none_or(|identifier| message[4..6] == identifier.to_be_bytes())
        && message[6..8] == sequence.to_be_bytes()
}

/// Sends an ARP probe: a request whose sender address is 0.0.0.0, so that no neighbour learns
/// anything from it (RFC 5227, 2.1.1).
fn who_has(address: Ipv4Addr, link: &str) -> Sent {
    // ARP only, in network byte order: a socket for everything would drop the answer under load.
    let protocol = Protocol::from(i32::from(EtherTypes::Arp.0.to_be()));
    let socket = open(Domain::PACKET, Type::RAW, protocol)?;
    let index = if_nametoindex(link).map_err(silent)?;
    let to = packet_address(index).map_err(silent)?;
    let own = MacAddr::from(to.addr().unwrap_or_default());
    let request = arp(
        ArpOperations::Request,
        own,
        Ipv4Addr::UNSPECIFIED,
        MacAddr::zero(),
        address,
    );
    sendto(socket.as_raw_fd(), &request, &to, MsgFlags::empty()).map_err(silent)?;
    Ok((
        socket,
        Answer::Arp {
            index,
            own,
            address,
        },
    ))
}

fn is_arp_reply(frame: &[u8], own: MacAddr, address: Ipv4Addr) -> bool {
    let reply = || {
        let ethernet = EthernetPacket::new(frame)?;
        let arp = ArpPacket::new(ethernet.payload())?;
        Some(
            ethernet.get_ethertype() == EtherTypes::Arp
                && arp.get_operation() == ArpOperations::Reply
                && arp.get_sender_proto_addr() == address
                && arp.get_sender_hw_addr() != own,
        )
    };
    reply().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Stopwatch;

    fn witnesses(texts: &[&str]) -> Vec<Witness> {
        texts
            .iter()
            .map(|text| Witness::parse(text).unwrap())
            .collect()
    }

    #[test]
    fn the_three_ways_are_told_apart() {
        let way = |text| Witness::parse(text).unwrap().way;
        assert!(matches!(way("10.0.0.1"), Way::Ping { zone: None, .. }));
        assert!(matches!(way("fd00::1"), Way::Ping { zone: None, .. }));
        assert!(matches!(
            way("fe80::1%eth0"),
            Way::Ping { zone: Some(_), .. }
        ));
        assert!(matches!(way("tcp:10.0.0.12:3306"), Way::Tcp(_)));
        assert!(matches!(way("tcp:[fd00::12]:3306"), Way::Tcp(_)));
        assert!(matches!(way("arp:10.0.0.1%eth0"), Way::Arp { .. }));
    }

    #[test]
    fn bad_input_gets_one_line_that_names_the_fault() {
        for (text, fault) in [
            ("", "not an IP address"),
            ("gateway", "not an IP address"),
            ("10.0.0.1/24", "not an IP address"),
            ("tcp:10.0.0.12", "not an address with a port"),
            ("tcp:db2:3306", "not an address with a port"),
            ("tcp:10.0.0.12:0", "port 0"),
            ("arp:10.0.0.1", "on which interface"),
            ("arp:10.0.0.1%", "is empty"),
            ("arp:10.0.0.1%eth0:1", "contains a slash, a colon"),
            ("arp:fd00::1%eth0", "IPv6 has no ARP"),
            ("fe80::1", "on which interface"),
        ] {
            let error = Witness::parse(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            assert!(error.chain().contains(fault), "{text}: {}", error.chain());
        }
    }

    #[test]
    fn this_host_does_not_vouch_for_itself() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = witnesses(&[&format!("tcp:{}", listener.local_addr().unwrap())]);
        let asked = Asked::ask(&own);
        let deadline = Deadline::after(Duration::from_millis(40));
        assert_eq!(asked.anyone(&deadline).unwrap(), None);
        assert!(
            asked.silence().ends_with("it is this host itself"),
            "{}",
            asked.silence()
        );
    }

    #[test]
    fn nobody_to_ask_is_nobody_who_answers_without_waiting_longer_than_allowed() {
        let watch = Stopwatch::start();
        let asked = Asked::ask(&[]);
        let deadline = Deadline::after(Duration::from_millis(40));
        assert_eq!(asked.anyone(&deadline).unwrap(), None);
        assert!(watch.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn only_the_reply_to_our_own_question_counts() {
        let request = echo_request(8, 7, 1);
        assert_eq!(checksum(&request, usize::MAX), 0);
        let mut reply = request;
        reply[0] = 0;
        assert!(is_echo_reply(&reply, 0, Some(7), 1));
        assert!(is_echo_reply(&reply, 0, None, 1));
        assert!(!is_echo_reply(&reply, 0, Some(8), 1), "another program's");
        assert!(
            !is_echo_reply(&reply, 0, Some(7), 2),
            "to an older question"
        );
        assert!(
            !is_echo_reply(&request, 0, Some(7), 1),
            "a request of the other side"
        );
        assert!(!is_echo_reply(&reply[..7], 0, Some(7), 1), "cut short");
    }

    #[test]
    fn only_a_neighbours_arp_reply_counts() {
        let (own, other) = (MacAddr(2, 0, 0, 0, 0, 1), MacAddr(2, 0, 0, 0, 0, 2));
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let reply = arp(
            ArpOperations::Reply,
            other,
            address,
            own,
            Ipv4Addr::UNSPECIFIED,
        );
        assert!(is_arp_reply(&reply, own, address));
        assert!(!is_arp_reply(&reply, other, address), "our own frame");
        assert!(!is_arp_reply(&reply, own, Ipv4Addr::new(10, 0, 0, 100)));
        let request = arp(ArpOperations::Request, other, address, own, address);
        assert!(!is_arp_reply(&request, own, address));
        assert!(!is_arp_reply(&reply[..20], own, address));
    }
}
