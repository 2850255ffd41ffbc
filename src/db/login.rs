//! The client's side of a login, by the conversations that `mysql_common` knows.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mysql_common::auth::plugins::{AuthProc, ChallengeResponsePlugin, Context};
use mysql_common::packets::AuthPlugin;

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
    procedure: AuthProc,
    means: Means<'a>,
    /// The server identifies the peer of the unix socket and asks nothing.
    silent: bool,
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
        let silent = matches!(plugin.as_bytes(), b"auth_socket" | b"unix_socket");
        let procedure = match silent {
            true => AuthProc::MysqlNativePassword(Default::default()),
            false => AuthProc::init(plugin).map_err(|_| unsupported(plugin))?,
        };
        let means = Means {
            password: &login.password,
            scramble: scramble.to_vec(),
            privacy,
        };
        Ok(Proof {
            procedure,
            means,
            silent,
        })
    }

    /// What to answer to a challenge, if anything.
    ///
    /// # Errors
    /// [`Kind::Denied`] when the server does not keep to the conversation.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>> {
        if self.silent {
            return Ok(None);
        }
        let failed = || Error::new(Kind::Denied, "the login conversation failed");
        // mysql_common panics at a public key that is none (`PublicKey::from_pem`), and whoever
        // answers in the server's place can send one.
        let run = AssertUnwindSafe(|| self.procedure.run(&self.means, challenge));
        let response = catch_unwind(run)
            .map_err(|_| failed().because("what the server sent makes no sense"))?
            .map_err(|error| failed().because(error))?;
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
