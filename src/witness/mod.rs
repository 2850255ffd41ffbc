//! Is this host cut off? Neighbours are asked, and one answer of any of them is enough.
//!
//! Two servers have no quorum. A primary that hears from nobody, neither gateway nor peer, has to
//! assume that the other one is being promoted.

use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};

use self::question::{Fault, Heard, Question};
use crate::error::{Error, Kind, Result};
use crate::link::fault_of_name;
use crate::time::Deadline;

mod question;

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

/// A question, and the place of the witness it was put to.
type Put = (usize, Question);

/// Questions under way.
#[derive(Debug)]
pub struct Asked<'w> {
    witnesses: &'w [Witness],
    questions: Vec<Put>,
    /// By place of the witness: why it said nothing, where that is known.
    faults: RefCell<Vec<Option<Fault>>>,
}

impl<'w> Asked<'w> {
    /// Sends every question and waits for none. What cannot be sent is silence.
    ///
    /// Hear the answers within 200 ms if you can: after that the server behind a `tcp:` witness
    /// gets to see the connection.
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
        let mut questions: Vec<&Put> = self.questions.iter().collect();
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

    fn send_all(&self, round: u16) -> Vec<Put> {
        let mut questions = Vec::new();
        for (place, Witness { way, .. }) in self.witnesses.iter().enumerate() {
            match Question::put(way, (place as u16) << 1 | round) {
                Ok(question) => questions.push((place, question)),
                Err(fault) => self.keep(place, fault),
            }
        }
        questions
    }

    /// The first thing known against a witness stays.
    fn keep(&self, place: usize, fault: Fault) {
        self.faults.borrow_mut()[place].get_or_insert(fault);
    }

    /// Waits for one answer on any of `questions`.
    fn listen(&self, questions: &[&Put], deadline: &Deadline) -> Result<Option<&'w str>> {
        let bug = |errno: Errno| Error::new(Kind::Bug, "epoll").because(errno);
        // Not `any_ready` alone: a connection wants POLLOUT, which the others always are.
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(bug)?;
        for (n, (_, question)) in questions.iter().enumerate() {
            let event = EpollEvent::new(question.event(), n as u64);
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
                let (place, question) = questions[event.data() as usize];
                match question.hear() {
                    Heard::Alive => return Ok(Some(&self.witnesses[*place].text)),
                    Heard::Nothing => {}
                    Heard::Fault(fault) => {
                        self.keep(*place, fault);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
}
