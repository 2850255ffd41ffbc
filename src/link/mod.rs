//! Virtual addresses: what one is, and what can be done with it on a host.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use crate::error::{Error, Kind, Result};
use crate::run::{Changed, Entry};

mod announce;
mod answer;
mod ask;
mod frames;
mod host;
mod netlink;
mod plain;
mod ssh;
mod view;
pub(crate) mod wire;

pub use announce::repeat;
pub use answer::{Answer, Step};
pub use host::{Host, Plan};
pub use ssh::Remote;
pub use wire::Owner;

/// Longest name of a network interface, and longest address label, in bytes: the kernel's
/// `IFNAMSIZ` of 16 counts the NUL.
const LONGEST_NAME: usize = 15;

/// A host's network, as far as virtual addresses need it.
pub trait Link {
    /// What to call the host in the timeline, as in `db1`.
    fn name(&self) -> String;

    /// What happened there in the last deed, step by step; none on this host, where the deed is a
    /// step of its own.
    fn timeline(&self) -> Vec<Entry> {
        Vec::new()
    }

    /// Every address on the host, with the interface it is on.
    ///
    /// # Errors
    /// When the host does not answer.
    fn list(&self) -> Result<Vec<Vip>>;

    /// Whether `vip` is on its interface with its prefix length. Labels are not compared.
    ///
    /// # Errors
    /// When the host does not answer.
    fn has(&self, vip: &Vip) -> Result<bool>;

    /// Whether `vip` could be added: its interface is there, is up and has carrier, and the
    /// address is nowhere else on the host.
    ///
    /// # Errors
    /// [`Kind::Refused`] says which of these does not hold.
    fn ready(&self, vip: &Vip) -> Result<()>;

    /// Puts all of `vips` on their interfaces, or none, and looks whether they are there.
    ///
    /// # Errors
    /// As [`Link::ready`]; [`Kind::Denied`] without CAP_NET_ADMIN.
    fn add_all(&self, vips: &[Vip]) -> Result<Changed>;

    /// Takes all of `vips` off their interfaces and looks whether the host still has their addresses.
    ///
    /// # Errors
    /// [`Kind::Refused`] when an address is on the host with another prefix length or on another
    /// interface: the host would go on answering for it. [`Kind::Denied`] without CAP_NET_ADMIN.
    fn del_all(&self, vips: &[Vip]) -> Result<Changed>;

    /// Tells the neighbours that `vips` are here, once at once, unless [`Link::add_all`] has just
    /// done so, and then again without holding the caller.
    ///
    /// # Errors
    /// When the first announcement cannot be sent; [`Kind::Denied`] without CAP_NET_RAW.
    fn announce_all(&self, vips: &[Vip]) -> Result<Changed>;

    /// As [`Link::add_all`], of one.
    ///
    /// # Errors
    /// As there.
    fn add(&self, vip: &Vip) -> Result<Changed> {
        self.add_all(std::slice::from_ref(vip))
    }

    /// As [`Link::del_all`], of one.
    ///
    /// # Errors
    /// As there.
    fn del(&self, vip: &Vip) -> Result<Changed> {
        self.del_all(std::slice::from_ref(vip))
    }

    /// As [`Link::announce_all`], of one.
    ///
    /// # Errors
    /// As there.
    fn announce(&self, vip: &Vip) -> Result<Changed> {
        self.announce_all(std::slice::from_ref(vip))
    }
}

/// `vips` as one text: `10.0.0.100/24 dev eth0 and 10.0.1.100/24 dev eth1`.
pub fn in_one_text(vips: &[Vip]) -> String {
    let texts: Vec<String> = vips.iter().map(Vip::to_string).collect();
    texts.join(" and ")
}

/// A virtual address on an interface: `10.0.0.100/24 dev eth0 fallback eth1 label eth0:vip`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// The address.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// Name of the interface.
    pub link: String,
    /// The interfaces that are used instead, the first that can, when that one has no carrier, is
    /// down or missing.
    pub fallback: Vec<String>,
    /// What old `ifconfig` shows as the interface's name. IPv4 only.
    pub label: Option<String>,
    /// Never to be chosen as source address, `preferred_lft 0`. Every IPv6 address is added so.
    /// With IPv4 the kernel shows it and chooses it all the same: there use a /32.
    pub deprecated: bool,
}

impl Vip {
    /// Whether `held` is this address on its interface or on one of `fallback`; labels do not
    /// matter.
    pub fn is_same_as(&self, held: &Vip) -> bool {
        (self.address, self.prefix) == (held.address, held.prefix)
            && self.links().any(|link| link == held.link)
    }

    /// Its interface, then those of `fallback`.
    pub fn links(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.link)
            .chain(&self.fallback)
            .map(String::as_str)
    }

    /// The same on that interface alone.
    pub fn on(&self, link: &str) -> Vip {
        Vip {
            // A label begins with the name of the interface that it is on.
            label: (self.label.as_ref()).map(|label| label.replacen(&self.link, link, 1)),
            link: link.to_owned(),
            fallback: Vec::new(),
            ..self.clone()
        }
    }

    /// The same with that interface before the others.
    fn first_on(&self, link: &str) -> Vip {
        let others = self.links().filter(|other| *other != link);
        Vip {
            fallback: others.map(str::to_owned).collect(),
            ..self.on(link)
        }
    }

    fn is_never_source(&self) -> bool {
        self.deprecated || self.address.is_ipv6()
    }
}

impl FromStr for Vip {
    type Err = Error;

    /// Reads `ADDR/PREFIX dev IF [fallback IF,IF] [label LABEL] [preferred_lft 0]`.
    fn from_str(text: &str) -> Result<Self> {
        let vip = Vip::held(text)?;
        match vip.no_host_of_its_subnet() {
            Some((what, advice)) => Err(bad(text, &what).advise(advice)),
            None => Ok(vip),
        }
    }
}

impl Vip {
    /// Reads it as [`Vip::from_str`] does, but also one that should be on no host and may yet be
    /// there, added by hand: it can be listed and taken off.
    ///
    /// # Errors
    /// [`Kind::Config`] when it does not read so.
    pub fn held(text: &str) -> Result<Vip> {
        let mut words = text.split_whitespace();
        let (Some(address), Some("dev"), Some(link)) = (words.next(), words.next(), words.next())
        else {
            return Err(bad(text, "it should read `ADDR/PREFIX dev IF`"));
        };
        let (address, prefix) = read_address(address).map_err(|what| bad(text, &what))?;
        let mut vip = Vip {
            address,
            prefix,
            link: link.to_owned(),
            fallback: Vec::new(),
            label: None,
            deprecated: false,
        };
        while let Some(word) = words.next() {
            match (word, words.next()) {
                ("fallback", Some(links)) => {
                    vip.fallback = links.split(',').map(str::to_owned).collect();
                }
                ("label", Some(label)) => vip.label = Some(label.to_owned()),
                ("preferred_lft", Some("0")) => vip.deprecated = true,
                _ => {
                    let what = "after that it should read `fallback IF,IF`, `label LABEL` or \
                                `preferred_lft 0`";
                    return Err(bad(text, what));
                }
            }
        }
        match vip.fault() {
            Some(what) => Err(bad(text, &what)),
            None => Ok(vip),
        }
    }

    /// Whether it is an address that belongs to all of its subnet, and what to do about it.
    ///
    /// Neighbours take the last one for a broadcast (RFC 919), and the first for its old form (RFC
    /// 1122, 3.3.6; Linux before 5.14): connections to it fail. A /31 has neither (RFC 3021).
    fn no_host_of_its_subnet(&self) -> Option<(String, String)> {
        let (IpAddr::V4(address), 1..=30) = (self.address, self.prefix) else {
            return None;
        };
        let hosts = u32::MAX >> self.prefix;
        let number = u32::from(address);
        let (first, last) = (number & !hosts, number | hosts);
        let name = match number {
            _ if number == first => "network",
            _ if number == last => "broadcast",
            _ => return None,
        };
        let (from, to) = (Ipv4Addr::from(first + 1), Ipv4Addr::from(last - 1));
        Some((
            format!("{address} is the {name} address of its subnet, so that no host can have it"),
            format!("take one from {from} to {to}"),
        ))
    }

    fn fault(&self) -> Option<String> {
        for link in self.links() {
            if let Some(what) = fault_of_name(link) {
                return Some(format!("interface name `{link}` {what}"));
            }
        }
        let label = self.label.as_deref()?;
        if self.address.is_ipv6() {
            return Some("an IPv6 address has no label".to_owned());
        }
        (label.len() > LONGEST_NAME)
            .then(|| format!("label `{label}` is longer than {LONGEST_NAME} bytes"))
    }
}

fn read_address(text: &str) -> std::result::Result<(IpAddr, u8), String> {
    let Some((address, prefix)) = text.split_once('/') else {
        return Err(format!("`{text}` has no prefix length, as in `{text}/24`"));
    };
    let address: IpAddr = address
        .parse()
        .map_err(|_| format!("`{address}` is not an IP address"))?;
    let is_anyones = address.is_unspecified() || address == Ipv4Addr::BROADCAST;
    if is_anyones || address.is_multicast() || address.is_loopback() {
        return Err(format!("{address} cannot be a virtual address"));
    }
    let longest = if address.is_ipv4() { 32 } else { 128 };
    match prefix.parse() {
        Ok(prefix) if (1..=longest).contains(&prefix) => Ok((address, prefix)),
        _ => Err(format!("prefix length `{prefix}` is not 1 to {longest}")),
    }
}

/// What is wrong with an interface's name, by the kernel's own rule (`dev_valid_name`).
pub(crate) fn fault_of_name(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("is empty"),
        "." | ".." => Some("is not a name"),
        _ if name.len() > LONGEST_NAME => Some("is longer than 15 bytes"),
        _ if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) => {
            Some("contains a slash, a colon or a space")
        }
        _ => None,
    }
}

fn bad(text: &str, what: &str) -> Error {
    Error::new(Kind::Config, format!("virtual address `{text}`"))
        .because(what)
        .advise("write it like `10.0.0.100/24 dev eth0`")
}

impl Vip {
    /// Whether `address` is in the same network, so that ARP or neighbour discovery finds it.
    pub fn is_near(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
            IpAddr::V6(address) => u128::from(address),
        };
        let mask = u128::MAX << (128 - u32::from(self.prefix));
        self.address.is_ipv4() == address.is_ipv4()
            && bits(self.address) & mask == bits(address) & mask
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} dev {}", self.address, self.prefix, self.link)?;
        if !self.fallback.is_empty() {
            write!(f, " fallback {}", self.fallback.join(","))?;
        }
        if let Some(label) = &self.label {
            write!(f, " label {label}")?;
        }
        if self.deprecated {
            f.write_str(" preferred_lft 0")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vip_reads_back_as_it_was_written() {
        for text in [
            "10.0.0.100/24 dev eth0",
            "10.0.0.100/32 dev bond0.100 label bond0.100:vip",
            "fd00::100/64 dev eth0",
            "10.0.0.100/24 dev eth0 fallback eth1,eth2 label eth0:vip preferred_lft 0",
        ] {
            assert_eq!(text.parse::<Vip>().unwrap().to_string(), text);
        }
        let spaced: Vip = "  fd00:0:0::0100/64   dev eth0 ".parse().unwrap();
        assert_eq!(spaced.to_string(), "fd00::100/64 dev eth0");
    }

    #[test]
    fn an_address_is_near_when_it_is_in_the_same_network() {
        let near = |own: &str, other: &str| {
            let own: Vip = own.parse().unwrap();
            own.is_near(other.parse().unwrap())
        };
        assert!(near("10.0.0.10/24 dev eth0", "10.0.0.100"));
        assert!(!near("10.0.0.10/24 dev eth0", "10.0.1.10"));
        assert!(!near("10.0.0.10/32 dev eth0", "10.0.0.11"));
        assert!(near("fd00::1/64 dev eth0", "fd00::2"));
        assert!(!near("fd00::1/64 dev eth0", "10.0.0.1"));
    }

    #[test]
    fn the_first_and_the_last_address_of_a_subnet_are_on_no_host_but_by_mistake() {
        for (text, advice) in [
            (
                "10.0.0.0/24 dev eth0",
                "take one from 10.0.0.1 to 10.0.0.254",
            ),
            ("10.0.0.7/30 dev eth0", "take one from 10.0.0.5 to 10.0.0.6"),
        ] {
            let error = text.parse::<Vip>().unwrap_err();
            assert_eq!(error.advice(), Some(advice));
            assert_eq!(Vip::held(text).unwrap().to_string(), text);
        }
        for text in [
            "10.0.1.0/16 dev eth0",
            "10.0.0.255/16 dev eth0",
            "10.0.0.0/31 dev eth0",
            "10.0.0.1/31 dev eth0",
            "10.0.0.0/32 dev eth0",
            "10.0.0.255/32 dev eth0",
            "240.0.0.1/24 dev eth0",
            "fd00::/64 dev eth0",
            "fd00::ffff:ffff:ffff:ffff/64 dev eth0",
        ] {
            assert_eq!(text.parse::<Vip>().unwrap().to_string(), text);
        }
        assert!(Vip::held("0.0.0.0/24 dev eth0").is_err());
    }

    #[test]
    fn bad_input_gets_one_line_that_names_the_fault() {
        for (text, fault) in [
            ("", "it should read"),
            ("10.0.0.100/24", "it should read"),
            ("10.0.0.100/24 eth0", "it should read"),
            ("10.0.0.100/24 dev eth0 label", "it should read"),
            ("10.0.0.100/24 dev eth0 fallback", "it should read"),
            ("10.0.0.100/24 dev eth0 fallback eth1,", "is empty"),
            ("10.0.0.100/24 dev eth0 fallback eth1:1", "contains a slash"),
            ("10.0.0.100/24 dev eth0 preferred_lft 1", "it should read"),
            ("10.0.0.100 dev eth0", "no prefix length"),
            ("10.0.0.100/33 dev eth0", "`33` is not 1 to 32"),
            ("10.0.0.100/0 dev eth0", "`0` is not 1 to 32"),
            ("10.0.0.100/-1 dev eth0", "`-1` is not 1 to 32"),
            ("10.0.0.100/24/8 dev eth0", "`24/8` is not 1 to 32"),
            ("fd00::1/129 dev eth0", "`129` is not 1 to 128"),
            ("10.0.0.256/24 dev eth0", "not an IP address"),
            ("db1/24 dev eth0", "not an IP address"),
            ("0.0.0.0/24 dev eth0", "cannot be a virtual address"),
            ("224.0.0.18/24 dev eth0", "cannot be a virtual address"),
            ("127.0.0.2/32 dev lo", "cannot be a virtual address"),
            ("255.255.255.255/32 dev eth0", "cannot be a virtual address"),
            ("::1/128 dev eth0", "cannot be a virtual address"),
            ("::/64 dev eth0", "cannot be a virtual address"),
            ("ff02::12/64 dev eth0", "cannot be a virtual address"),
            ("10.0.0.0/24 dev eth0", "10.0.0.0 is the network address"),
            ("10.0.0.255/24 dev eth0", "255 is the broadcast address"),
            ("10.0.255.255/16 dev eth0", "is the broadcast address"),
            ("10.0.0.4/30 dev eth0", "10.0.0.4 is the network address"),
            ("128.0.0.0/1 dev eth0", "is the network address"),
            ("10.0.0.100/24 dev eth0:1", "contains a slash, a colon"),
            ("10.0.0.100/24 dev ..", "is not a name"),
            ("10.0.0.100/24 dev abcdefghijklmnop", "longer than 15 bytes"),
            (
                "10.0.0.1/24 dev eth0 label eth0:0123456789a",
                "longer than 15 bytes",
            ),
            ("fd00::1/64 dev eth0 label eth0:1", "has no label"),
        ] {
            let error = text.parse::<Vip>().unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            let line = error.chain();
            assert!(line.contains(fault), "{text}: {line}");
            assert!(!line.contains('\n'));
        }
    }
}
