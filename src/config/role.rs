//! Roles: sets of virtual addresses, each with a rule about where it belongs.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::sense::{Contradiction, found};
use super::{Config, duration};
use crate::error::Result;
use crate::link::Vip;

/// The role of the addresses in `vip` at the top of the file.
pub const WRITER: &str = "writer";

/// `[role.NAME]`: addresses that belong together.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(expecting = "a table", deny_unknown_fields)]
pub struct Role {
    /// The addresses, as `10.0.0.101/24 dev eth0`.
    pub vip: Vec<String>,
    /// Where they belong.
    pub on: On,
    /// Whether the primary may have them while no replica is fit.
    #[serde(default)]
    pub or_primary: bool,
    /// A replica further behind is not fit; 0 for any lag.
    #[serde(with = "duration", default)]
    pub max_lag: Duration,
}

/// Where the addresses of a role belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// On the primary, with all others that belong there.
    Primary,
    /// On any replica that is fit; the one that has them keeps them.
    Replica,
    /// On the first of these hosts that is a replica and fit.
    Hosts(Vec<String>),
}

/// A role as it is used: its addresses read, and `vip` at the top one among the others.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleVips<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Its addresses; never none.
    pub vips: Vec<Vip>,
    /// Where they belong.
    pub on: &'a On,
    /// Whether the primary may have them while no replica is fit.
    pub or_primary: bool,
    /// A replica further behind is not fit; 0 for any lag.
    pub max_lag: Duration,
}

impl Config {
    /// Every role that has addresses, [`WRITER`] first.
    ///
    /// # Errors
    /// [`crate::error::Kind::Config`] when an address is not one.
    pub fn roles(&self) -> Result<Vec<RoleVips<'_>>> {
        let writer = (!self.vip.is_empty()).then(|| {
            let vips = read(&self.vip)?;
            Ok(RoleVips {
                name: WRITER,
                vips,
                on: &On::Primary,
                or_primary: false,
                max_lag: Duration::ZERO,
            })
        });
        let others = self.role.iter().map(|(name, role)| {
            Ok(RoleVips {
                name,
                vips: read(&role.vip)?,
                on: &role.on,
                or_primary: role.or_primary,
                max_lag: role.max_lag,
            })
        });
        writer.into_iter().chain(others).collect()
    }

    /// The addresses that follow the primary, of all roles: they move together.
    ///
    /// # Errors
    /// As [`Config::roles`].
    pub fn vips_of_primary(&self) -> Result<Vec<Vip>> {
        let roles = self.roles()?.into_iter();
        let on_primary = roles.filter(|role| *role.on == On::Primary);
        Ok(on_primary.flat_map(|role| role.vips).collect())
    }
}

fn read(texts: &[String]) -> Result<Vec<Vip>> {
    texts.iter().map(|text| text.parse()).collect()
}

/// The first thing that cannot be meant about addresses, roles and the names of hosts.
pub(super) fn contradiction(config: &Config) -> Option<Contradiction> {
    names_of_hosts(config)
        .or_else(|| {
            config
                .role
                .iter()
                .find_map(|(name, role)| fault(name, role))
        })
        .or_else(|| addresses(config))
}

fn names_of_hosts(config: &Config) -> Option<Contradiction> {
    config.peer.iter().enumerate().find_map(|(n, peer)| {
        let key = format!("peer.{n}.name");
        if peer.name().trim().is_empty() {
            return found(&[&key], "`name` is empty");
        }
        let others = &config.peer[..n];
        let other = others
            .iter()
            .find(|other| other.name() == peer.name() && other.port == peer.port);
        other.and_then(|_| {
            let key = [key.as_str(), &format!("peer.{n}.host")];
            found(&key, format!("two of [[peer]] are called {}", peer.name()))
        })
    })
}

fn fault(name: &str, role: &Role) -> Option<Contradiction> {
    let key = |key: &str| format!("role.{name}.{key}");
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if name == WRITER {
        let what = "`writer` is the role of `vip` at the top of the file: write them there";
        return found(&[&format!("role.{name}")], what);
    }
    if name.is_empty() || !name.chars().all(fits) {
        let what = format!("the role name `{name}` may only have a-z, 0-9, _ and -");
        return found(&[&format!("role.{name}"), "role"], what);
    }
    if role.vip.is_empty() {
        return found(&[&key("vip")], "`vip` is empty");
    }
    match &role.on {
        On::Primary if role.or_primary => {
            let what = "`or_primary` does nothing where `on` is \"primary\"";
            found(&[&key("or_primary")], what)
        }
        On::Primary if !role.max_lag.is_zero() => {
            let what = "`max_lag` does nothing where `on` is \"primary\"";
            found(&[&key("max_lag")], what)
        }
        On::Primary | On::Replica => None,
        On::Hosts(hosts) if hosts.is_empty() => found(&[&key("on")], "`on` is empty"),
        On::Hosts(hosts) => hosts.iter().enumerate().find_map(|(n, host)| {
            let at = format!("role.{name}.on.{n}");
            let what = match host.trim() {
                "" => "`on` has an empty name".to_owned(),
                _ if hosts[..n].contains(host) => format!("`on` has {host} twice"),
                _ => return None,
            };
            found(&[&at], what)
        }),
    }
}

fn addresses(config: &Config) -> Option<Contradiction> {
    let mut seen: Vec<(IpAddr, &str)> = Vec::new();
    let writer = config.vip.iter().enumerate();
    let writer = writer.map(|(n, text)| (WRITER, format!("vip.{n}"), text));
    let others = config.role.iter().flat_map(|(name, role)| {
        let texts = role.vip.iter().enumerate();
        texts.map(move |(n, text)| (name.as_str(), format!("role.{name}.vip.{n}"), text))
    });
    for (role, key, text) in writer.chain(others) {
        let address = match text.parse::<Vip>() {
            Ok(vip) => vip.address,
            Err(error) => {
                return Some(Contradiction {
                    keys: vec![key],
                    what: error.chain(),
                    advice: error.advice().map(str::to_owned),
                });
            }
        };
        if let Some((_, other)) = seen.iter().find(|(other, _)| *other == address) {
            let what = match *other == role {
                true => format!("{address} is there twice"),
                false => format!("{address} is an address of the role {other} already"),
            };
            return found(&[&key], what);
        }
        seen.push((address, role));
    }
    None
}

impl Serialize for On {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            On::Primary => serializer.serialize_str("primary"),
            On::Replica => serializer.serialize_str("replica"),
            On::Hosts(hosts) => hosts.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for On {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<On, D::Error> {
        deserializer.deserialize_any(WordOrNames)
    }
}

struct WordOrNames;

impl<'de> Visitor<'de> for WordOrNames {
    type Value = On;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("\"primary\", \"replica\" or a list of hosts")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> std::result::Result<On, E> {
        match word {
            "primary" => Ok(On::Primary),
            "replica" => Ok(On::Replica),
            _ => Err(E::unknown_variant(word, &["primary", "replica"])),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, names: A) -> std::result::Result<On, A::Error> {
        let names = Vec::deserialize(SeqAccessDeserializer::new(names));
        names.map(On::Hosts).map_err(A::Error::custom)
    }
}
