//! The login conversations of caching_sha2_password and sha256_password (MySQL, "Caching SHA-2
//! Pluggable Authentication" and "SHA-256 Pluggable Authentication").
//!
//! `mysql_common` has both. But it finds the server's key in its answer by regular expressions,
//! whose engine would be an eighth of this program; so that step is here, and with it what leads
//! there. The arithmetic is theirs.

use std::panic::catch_unwind;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mysql_common::auth::plugins::caching_sha2_password::scramble_sha256;
use mysql_common::crypto::der::{PubKeyFileType, parse_pub_key};
use mysql_common::crypto::rsa::{GetRandom, Pkcs1OaepPadding, PublicKey};

use super::login::Privacy;

/// What the server says of the password's hash in its memory.
const IT_IS_THERE_AND_FITS: u8 = 3;
const SEND_THE_PASSWORD: u8 = 4;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// With a memory of the accounts that have logged in.
    Caching,
    /// Without.
    Plain,
}

/// The client's side of one conversation.
pub struct Conversation {
    plugin: Plugin,
    awaits: Awaits,
}

/// What the server says next.
#[derive(Clone, Copy)]
enum Awaits {
    Scramble,
    WhatItRemembers,
    Key,
    Nothing,
}

/// The server does not keep to the conversation.
pub struct Nonsense;

impl Conversation {
    /// Nothing has been said yet.
    pub fn new(plugin: Plugin) -> Conversation {
        Conversation {
            plugin,
            awaits: Awaits::Scramble,
        }
    }

    /// What to answer to `heard`, if anything; `scramble` are the random bytes that the server
    /// began with.
    ///
    /// # Errors
    /// [`Nonsense`].
    pub fn respond(
        &mut self,
        password: &[u8],
        scramble: &[u8],
        privacy: Privacy,
        heard: &[u8],
    ) -> Result<Option<Vec<u8>>, Nonsense> {
        let awaited = std::mem::replace(&mut self.awaits, Awaits::Nothing);
        match (awaited, self.plugin, heard) {
            (Awaits::Scramble, plugin, _) => {
                let scramble = scramble.try_into().map_err(|_| Nonsense)?;
                if password.is_empty() {
                    return Ok(Some(Vec::new()));
                }
                if plugin == Plugin::Plain {
                    return Ok(Some(self.give(password, privacy)));
                }
                self.awaits = Awaits::WhatItRemembers;
                Ok(scramble_sha256(scramble, password).map(|hash| hash.to_vec()))
            }
            (Awaits::WhatItRemembers, _, [SEND_THE_PASSWORD]) => {
                Ok(Some(self.give(password, privacy)))
            }
            (Awaits::WhatItRemembers, _, [IT_IS_THERE_AND_FITS]) => Ok(None),
            (Awaits::Key, _, key) => encrypt(password, scramble, key).map(Some),
            _ => Err(Nonsense),
        }
    }

    /// The password, where nobody can listen; else the request for the key to encrypt it by.
    fn give(&mut self, password: &[u8], privacy: Privacy) -> Vec<u8> {
        let hidden = match privacy {
            Privacy::Verified | Privacy::Encrypted => true,
            // The server takes it from there by the one plugin alone.
            Privacy::Local => self.plugin == Plugin::Caching,
            Privacy::None => false,
        };
        if hidden {
            return [password, &[0]].concat();
        }
        self.awaits = Awaits::Key;
        vec![match self.plugin {
            Plugin::Caching => 2,
            Plugin::Plain => 1,
        }]
    }
}

/// `password`, so that only who has the other half of `key` can read it.
fn encrypt(password: &[u8], scramble: &[u8], key: &[u8]) -> Result<Vec<u8>, Nonsense> {
    let der = read_pem(key).ok_or(Nonsense)?;
    let masked: Vec<u8> = [password, &[0]]
        .concat()
        .iter()
        .zip(scramble.iter().cycle())
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    // mysql_common panics at what is no key, and whoever answers in the server's place can send
    // that.
    catch_unwind(|| {
        let (modulus, exponent) = parse_pub_key(&der, PubKeyFileType::Pkcs8).ok()?;
        let key = PublicKey::new(modulus, exponent);
        key.encrypt_block(&masked, Pkcs1OaepPadding::new(GetRandom))
            .ok()
    })
    .ok()
    .flatten()
    .ok_or(Nonsense)
}

/// The first public key of a PEM file (RFC 7468).
fn read_pem(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (body, _) = rest.split_once("-----END PUBLIC KEY-----")?;
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAMBLE: [u8; 20] = [7; 20];

    fn says(
        talk: &mut Conversation,
        privacy: Privacy,
        heard: &[u8],
    ) -> Result<Option<Vec<u8>>, ()> {
        talk.respond(b"secret", &SCRAMBLE, privacy, heard)
            .map_err(|_| ())
    }

    #[test]
    fn a_password_is_sent_as_it_is_only_where_nobody_listens() {
        let clear = Ok(Some(b"secret\0".to_vec()));
        for (privacy, by_caching, by_plain) in [
            (Privacy::Local, clear.clone(), Ok(Some(vec![1]))),
            (Privacy::Verified, clear.clone(), clear.clone()),
            (Privacy::Encrypted, clear.clone(), clear.clone()),
            (Privacy::None, Ok(Some(vec![2])), Ok(Some(vec![1]))),
        ] {
            let mut talk = Conversation::new(Plugin::Caching);
            let hash = says(&mut talk, privacy, &SCRAMBLE).unwrap().unwrap();
            assert_eq!(hash.len(), 32);
            assert_eq!(says(&mut talk, privacy, &[4]), by_caching, "{privacy:?}");
            let mut talk = Conversation::new(Plugin::Plain);
            assert_eq!(says(&mut talk, privacy, &SCRAMBLE), by_plain, "{privacy:?}");
        }
    }

    #[test]
    fn a_server_that_remembers_is_told_no_more() {
        let mut talk = Conversation::new(Plugin::Caching);
        says(&mut talk, Privacy::None, &SCRAMBLE).unwrap();
        assert_eq!(says(&mut talk, Privacy::None, &[3]), Ok(None));
        assert_eq!(says(&mut talk, Privacy::None, &[4]), Err(()));
    }

    #[test]
    fn what_is_no_key_is_an_error() {
        for key in [
            "",
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        ] {
            let mut talk = Conversation::new(Plugin::Plain);
            says(&mut talk, Privacy::None, &SCRAMBLE).unwrap();
            assert_eq!(says(&mut talk, Privacy::None, key.as_bytes()), Err(()));
        }
    }
}
