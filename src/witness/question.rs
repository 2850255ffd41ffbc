//! One question to one witness: a socket, what is sent through it, what counts as its answer.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::epoll::EpollFlags;
use pnet_packet::util::checksum;
use socket2::{Domain, Protocol, Socket, Type};

use super::Way;
use crate::link::wire::{self, WhoHas};

const ICMP_HEADER: usize = 8;
/// Longest IPv4 header (RFC 791, 3.1), before an answer on a raw socket.
const LONGEST_IP_HEADER: usize = 60;

/// One question under way, on a socket of its own.
#[derive(Debug)]
pub(super) struct Question {
    pub socket: Socket,
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
    Arp(WhoHas),
}

/// Why a witness could not be asked, or cannot answer.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The network's state: counts as silence.
    Silent(String),
    /// This process may not ask: says nothing about the network.
    Forbidden,
}

/// What a socket that became ready had to say.
pub(super) enum Heard {
    /// The answer.
    Alive,
    /// Nothing of interest; it may still come.
    Nothing,
    /// The answer will not come.
    Fault(Fault),
}

impl Question {
    /// Sends the question. `sequence` tells apart what this process asks.
    pub fn put(way: &Way, sequence: u16) -> Result<Question, Fault> {
        match way {
            Way::Ping { address, zone } => ping(*address, zone.as_deref(), sequence),
            Way::Tcp(address) => connect(*address),
            Way::Arp { address, link } => who_has(*address, link),
        }
    }

    /// What the socket is ready for when there is something to hear.
    pub fn event(&self) -> EpollFlags {
        match self.answer {
            Answer::Connection => EpollFlags::EPOLLOUT,
            Answer::Echo { .. } | Answer::Arp(_) => EpollFlags::EPOLLIN,
        }
    }

    /// Reads what has come; never waits.
    pub fn hear(&self) -> Heard {
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
            Answer::Arp(who_has) => {
                while let Some(heard) = wire::Heard::next(&self.socket) {
                    if who_has.answer(&heard).is_some() {
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

fn silent(error: impl fmt::Display) -> Fault {
    Fault::Silent(error.to_string())
}

/// A socket; being refused one is a matter of privileges, not of the network.
fn open(domain: Domain, kind: Type, protocol: Protocol) -> Result<Socket, Fault> {
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
fn connect(address: SocketAddr) -> Result<Question, Fault> {
    let socket = open(Domain::for_address(address), Type::STREAM, Protocol::TCP)?;
    socket.set_linger(Some(Duration::ZERO)).map_err(silent)?;
    socket.set_tcp_quickack(false).map_err(silent)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
        Err(error) => return Err(silent(error)),
    }
    refuse_own(&socket, address.ip())?;
    let answer = Answer::Connection;
    Ok(Question { socket, answer })
}

/// This host does not vouch for itself: the same list is often given to both hosts of a pair.
fn refuse_own(socket: &Socket, address: IpAddr) -> Result<(), Fault> {
    let own = socket.local_addr().map_err(silent)?.as_socket();
    match own.is_some_and(|own| own.ip() == address) {
        true => Err(Fault::Silent("it is this host itself".to_owned())),
        false => Ok(()),
    }
}

fn ping(address: IpAddr, zone: Option<&str>, sequence: u16) -> Result<Question, Fault> {
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
    Ok(Question { socket, answer })
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

fn who_has(address: Ipv4Addr, link: &str) -> Result<Question, Fault> {
    let socket = wire::open(true).map_err(|errno| match errno {
        Errno::EPERM | Errno::EACCES => Fault::Forbidden,
        _ => silent(errno),
    })?;
    let index = if_nametoindex(link).map_err(silent)?;
    let to = wire::packet_address(index).map_err(silent)?;
    let question = WhoHas::new(address.into(), to);
    question.put(&socket).map_err(silent)?;
    let answer = Answer::Arp(question);
    Ok(Question { socket, answer })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
