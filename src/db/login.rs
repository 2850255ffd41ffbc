//! The client's side of a login, by the conversations that `mysql_common` knows.

use std::borrow::Cow;

use mysql_common::auth::plugins::client_ed25519::ClientEd25519;
use mysql_common::auth::plugins::mysql_clear_password::MysqlClearPassword;
use mysql_common::auth::plugins::mysql_native_password::MysqlNativePassword;
use mysql_common::auth::plugins::parsec::Parsec;
use mysql_common::auth::plugins::{ChallengeResponsePlugin, Context};
use mysql_common::packets::AuthPlugin;

use super::sha2;
use crate::error::{Error, Kind, Result};
use crate::secret::{Login, Password};

/// Who can hear what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privacy {
    /// Nobody: it is the unix socket.
    Local,
    /// Nobody but the server, which has shown who it is.
    Verified,
    /// Nobody who only listens; the other end may be anybody.
    Encrypted,
    /// Whoever is on the way.
    None,
}

/// The client's side of a login conversation.
pub struct Proof<'a> {
    plugin: Plugin,
    means: Means<'a>,
}

/// The conversations that are known; not mysql_common's list of them, for the sake of [`sha2`].
enum Plugin {
    Clear(MysqlClearPassword),
    Ed25519(ClientEd25519),
    Native(MysqlNativePassword),
    Parsec(Parsec),
    Sha2(sha2::Conversation),
    /// The server identifies the peer of the unix socket and asks nothing.
    Silent,
}

/// What a login conversation may use.
struct Means<'a> {
    password: &'a Password,
    scramble: Vec<u8>,
    privacy: Privacy,
}

impl<'a> Proof<'a> {
    /// Begins the conversation that `plugin` asks for.
    ///
    /// # Errors
    /// [`Kind::Denied`] for a plugin that is not supported, or that would show the password.
    pub fn begin(
        plugin: &AuthPlugin<'_>,
        scramble: &[u8],
        login: &'a Login,
        privacy: Privacy,
    ) -> Result<Proof<'a>> {
        let clear = matches!(plugin, AuthPlugin::MysqlClearPassword);
        let old = matches!(plugin, AuthPlugin::MysqlOldPassword);
        // A server that did not show who it is could ask for this to get the password.
        let safe = matches!(privacy, Privacy::Local | Privacy::Verified);
        if old || clear && !safe {
            let what = format!("{} would show the password on the way", named(plugin));
            return Err(Error::new(Kind::Denied, what).advise(
                "use the unix socket, tls = \"verify_ca\", or an account with another login plugin",
            ));
        }
        let sha2 = |plugin| Plugin::Sha2(sha2::Conversation::new(plugin));
        let known = match plugin {
            AuthPlugin::MysqlClearPassword => Plugin::Clear(Default::default()),
            AuthPlugin::Ed25519 => Plugin::Ed25519(Default::default()),
            AuthPlugin::MysqlNativePassword => Plugin::Native(Default::default()),
            AuthPlugin::Parsec => Plugin::Parsec(Default::default()),
            AuthPlugin::CachingSha2Password => sha2(sha2::Plugin::Caching),
            AuthPlugin::Sha256Password => sha2(sha2::Plugin::Plain),
            _ => match plugin.as_bytes() {
                b"auth_socket" | b"unix_socket" => Plugin::Silent,
                _ => return Err(unsupported(plugin)),
            },
        };
        let means = Means {
            password: &login.password,
            scramble: scramble.to_vec(),
            privacy,
        };
        Ok(Proof {
            plugin: known,
            means,
        })
    }

    /// What to answer to a challenge, if anything.
    ///
    /// # Errors
    /// [`Kind::Denied`] when the server does not keep to the conversation.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>> {
        let failed = || Error::new(Kind::Denied, "the login conversation failed");
        let means = &self.means;
        let response = match &mut self.plugin {
            Plugin::Silent => return Ok(None),
            Plugin::Sha2(conversation) => {
                let Means {
                    scramble, privacy, ..
                } = means;
                return conversation
                    .respond(means.pass(), scramble, *privacy, challenge)
                    .map_err(|_| failed().because("what the server sent makes no sense"));
            }
            Plugin::Clear(plugin) => plugin.run(means, challenge),
            Plugin::Ed25519(plugin) => plugin.run(means, challenge),
            Plugin::Native(plugin) => plugin.run(means, challenge),
            Plugin::Parsec(plugin) => plugin.run(means, challenge),
        };
        let response = response.map_err(|error| failed().because(error))?;
        Ok(response.data().map(<[u8]>::to_vec))
    }
}

impl Context for &Means<'_> {
    fn pass(&self) -> &[u8] {
        self.password.reveal().as_bytes()
    }
    fn is_ipc_transport(&self) -> bool {
        self.privacy == Privacy::Local
    }
    fn is_tls_transport(&self) -> bool {
        matches!(self.privacy, Privacy::Verified | Privacy::Encrypted)
    }
    fn scramble(&self) -> &[u8] {
        &self.scramble
    }
    fn server_key_pem(&self) -> Option<&[u8]> {
        None
    }
}

fn named<'a>(plugin: &'a AuthPlugin<'_>) -> Cow<'a, str> {
    String::from_utf8_lossy(plugin.as_bytes())
}

fn unsupported(plugin: &AuthPlugin<'_>) -> Error {
    Error::new(
        Kind::Denied,
        format!(
            "the account uses the login plugin {}, which is not supported",
            named(plugin)
        ),
    )
    .advise("use mysql_native_password, caching_sha2_password, ed25519, parsec or the unix socket")
}
/// Says what to do about a login that the server refused with its number.
pub fn advised(error: Error) -> Error {
    match error.server_code() {
        _ if error.advice().is_some() => error,
        // ER_ACCESS_DENIED_ERROR, ER_ACCESS_DENIED_NO_PASSWORD_ERROR
        Some(1045 | 1698) => error.advise(
            "correct user and password in the configuration, or make the account: \
             hookbox grants --version VERSION",
        ),
        // ER_HOST_NOT_PRIVILEGED
        Some(1130) => {
            error.advise("make the account there for this host too: hookbox grants --from ADDRESS")
        }
        _ => error,
    }
}
