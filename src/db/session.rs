//! One connection to a MySQL or MariaDB server, on the protocol types of `mysql_common`.
//!
//! Client libraries bound single system calls, not the whole conversation, which a `Wire` does.
//! After an error that is not the server's own answer the session is unusable: the next answer on
//! it would belong to the previous question.

use std::sync::Arc;
use std::time::Duration;

use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{
    AuthPlugin, AuthSwitchRequest, Column, ErrPacket, HandshakePacket, HandshakeResponse,
    SslRequest,
};
use mysql_common::proto::{MySerialize, Text};
use mysql_common::row::{Row, RowDeserializer};
use mysql_common::value::{ServerSide, Value};

use super::endpoint::Endpoint;
use super::login::{Privacy, Proof, advised};
use super::tls::{self, Tls};
use super::wire::{LONGEST_PACKET, Wire};
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::secret::{Encryption, Login};
use crate::time::Deadline;

/// utf8mb4, which exists since 5.5.3 (MySQL, "Connection Character Sets").
const UTF8MB4: u8 = 45;

/// What is asked of the server: the protocol of 4.1 and login plugins. Not several statements in
/// one, so that no text can smuggle in a second one.
const WANTED: CapabilityFlags = CapabilityFlags::CLIENT_LONG_PASSWORD
    .union(CapabilityFlags::CLIENT_PROTOCOL_41)
    .union(CapabilityFlags::CLIENT_TRANSACTIONS)
    .union(CapabilityFlags::CLIENT_SECURE_CONNECTION)
    .union(CapabilityFlags::CLIENT_PLUGIN_AUTH)
    .union(CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA);

/// The answer to a question: named columns, text values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

impl Answer {
    /// The rows, each able to find its values by column name.
    pub fn rows(&self) -> impl Iterator<Item = AnswerRow<'_>> {
        self.rows.iter().map(|values| AnswerRow {
            columns: &self.columns,
            values,
        })
    }

    /// An answer that no server gave.
    #[cfg(test)]
    pub fn of(columns: &[&str], row: &[&str]) -> Answer {
        let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let row: Vec<String> = text(row);
        Answer {
            columns: text(columns),
            rows: vec![row.into_iter().map(Some).collect()],
        }
    }

    /// The first row.
    pub fn first(&self) -> Option<AnswerRow<'_>> {
        self.rows().next()
    }
}

/// One row of an [`Answer`].
#[derive(Clone, Copy)]
pub struct AnswerRow<'a> {
    columns: &'a [String],
    values: &'a [Option<String>],
}

impl<'a> AnswerRow<'a> {
    /// The value of the column called `name`; `None` for NULL and for a column that is not there.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let at = self
            .columns
            .iter()
            .position(|c| c.eq_ignore_ascii_case(name))?;
        self.values.get(at)?.as_deref()
    }

    /// The value at a place, counted from 0.
    pub fn at(&self, place: usize) -> Option<&'a str> {
        self.values.get(place)?.as_deref()
    }
}

/// One connection, logged in.
pub struct Session {
    wire: Wire,
    capabilities: CapabilityFlags,
    version: String,
    id: u32,
}

impl Session {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`Kind::Unreachable`] when nothing listens, [`Kind::Timeout`] when the deadline passes
    /// first, [`Kind::Denied`] when somebody answers who does not let this account in, with the
    /// server's number if it gave one.
    pub fn open(endpoint: &Endpoint, login: &Login, deadline: &Deadline) -> Result<Session> {
        Session::begin(endpoint, login, deadline).map_err(|error| {
            advised(error).during(format!("log in to {endpoint} as {}", login.user))
        })
    }

    fn begin(endpoint: &Endpoint, login: &Login, deadline: &Deadline) -> Result<Session> {
        let (mut session, mut greeting) = Session::greeted(endpoint, deadline)?;
        let mut privacy = Privacy::Local;
        let mut given_up = None;
        if let Endpoint::Tcp(host, _) = endpoint {
            let encryption = &login.encryption;
            match session.encrypt(&greeting, host, encryption) {
                // A server with old TLS must not be one that cannot be asked. Nothing is lost:
                // against who is between the two `preferred` helps neither way.
                Err(error)
                    if encryption.tls == config::Tls::Preferred && error.kind() == Kind::Denied =>
                {
                    given_up = Some(format!("without TLS ({})", error.chain()));
                    (session, greeting) = Session::greeted(endpoint, deadline)?;
                }
                encrypted => encrypted?,
            }
            privacy = match (session.wire.is_encrypted(), encryption.tls.verifies()) {
                (true, true) => Privacy::Verified,
                (true, false) => Privacy::Encrypted,
                (false, _) => Privacy::None,
            };
        }
        match (session.log_in(&greeting, login, privacy), given_up) {
            (Err(error), Some(why)) => Err(error.during(why)),
            (logged_in, _) => logged_in.map(|()| session),
        }
    }

    /// Connects and hears the server's greeting.
    fn greeted(
        endpoint: &Endpoint,
        deadline: &Deadline,
    ) -> Result<(Session, HandshakePacket<'static>)> {
        let mut session = Session {
            wire: Wire::connect(endpoint, deadline)?,
            capabilities: CapabilityFlags::empty(),
            version: String::new(),
            id: 0,
        };
        let greeting = session.wire.read_packet()?;
        if greeting.first() == Some(&0xff) {
            return Err(session.server_error(&greeting));
        }
        let greeting: HandshakePacket = session.parse(&greeting, ())?;
        session.version = greeting.server_version_str().into_owned();
        session.id = greeting.connection_id();
        session.capabilities = WANTED & greeting.capabilities();
        Ok((session, greeting.into_owned()))
    }

    /// From now on every wait ends with `deadline`.
    pub fn end_at(&mut self, deadline: Deadline) {
        self.wire.end_at(deadline);
    }

    /// What the server calls its version, as in `5.5.5-10.11.6-MariaDB`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The server's number for this connection.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Asks one question and reads the whole answer.
    ///
    /// # Errors
    /// The server's own, with its number; otherwise the session is unusable afterwards.
    pub fn ask(&mut self, sql: &str) -> Result<Answer> {
        self.send(sql)?;
        self.answer()
    }

    /// Sends a question without waiting; its [`Session::answer`] must be read later, in order.
    ///
    /// # Errors
    /// When the connection fails or time runs out.
    pub fn send(&mut self, sql: &str) -> Result<()> {
        self.send_all([sql])
    }

    /// Sends questions, in one go; all their answers are owed then. Not many hundreds: who sends
    /// without reading stops the other from answering.
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn send_all<T: AsRef<str>>(
        &mut self,
        questions: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        for sql in questions {
            let packet = [b"\x03", sql.as_ref().as_bytes()].concat(); // COM_QUERY
            self.wire.number_from(0);
            self.wire.add_packet(&packet);
        }
        self.wire.send()
    }

    /// Waits at most `patience` for the answer to begin; false when it has not.
    ///
    /// # Errors
    /// What the deadline's watch says, or the connection.
    pub fn answers_within(&mut self, patience: Duration) -> Result<bool> {
        self.wire.has_more_within(patience)
    }

    /// Whether there is time left for anything.
    ///
    /// # Errors
    /// [`Kind::Timeout`].
    pub fn must_have_time(&self) -> Result<()> {
        self.wire.must_have_time()
    }

    /// Reads the answer to the oldest question sent.
    ///
    /// # Errors
    /// The server's own, with its number; otherwise the session is unusable afterwards.
    pub fn answer(&mut self) -> Result<Answer> {
        self.wire.number_from(1);
        let first = self.wire.read_packet()?;
        match first.first() {
            Some(0x00) => Ok(Answer::default()),
            Some(0xff) => Err(self.server_error(&first)),
            Some(0xfb) => Err(self.wire.confused("asked for a local file")),
            _ => self.read_rows(),
        }
    }

    /// The same, with the server's own error as an answer: whatever else fails has broken the
    /// session.
    ///
    /// # Errors
    /// When the connection fails or time runs out.
    pub fn reply(&mut self) -> Result<Result<Answer>> {
        match self.answer() {
            Err(error) if error.server_code().is_none() => Err(error),
            answer => Ok(answer),
        }
    }

    /// Asks a few questions in one round trip; each has its answer.
    ///
    /// # Errors
    /// As [`Session::reply`].
    pub fn ask_all<const N: usize>(
        &mut self,
        questions: &[String; N],
    ) -> Result<[Result<Answer>; N]> {
        self.send_all(questions)?;
        let mut answers = std::array::from_fn(|_| Ok(Answer::default()));
        for answer in &mut answers {
            *answer = self.reply()?;
        }
        Ok(answers)
    }

    /// Says goodbye, so that the server counts no aborted connection.
    pub fn quit(mut self) {
        self.wire.number_from(0);
        let _ = self.wire.write_packet(&[0x01]); // COM_QUIT; the server only closes
    }

    fn read_rows(&mut self) -> Result<Answer> {
        let mut columns = Vec::new();
        loop {
            let packet = self.wire.read_packet()?;
            if is_eof(&packet) {
                break;
            }
            let column: Column = self.parse(&packet, ())?;
            columns.push(column);
        }
        let columns: Arc<[Column]> = columns.into();
        let mut rows = Vec::new();
        loop {
            let packet = self.wire.read_packet()?;
            if is_eof(&packet) {
                break;
            }
            if packet.first() == Some(&0xff) {
                return Err(self.server_error(&packet));
            }
            let row: RowDeserializer<ServerSide, Text> = self.parse(&packet, columns.clone())?;
            rows.push(texts(row.into_inner()));
        }
        Ok(Answer {
            columns: columns.iter().map(|c| c.name_str().into_owned()).collect(),
            rows,
        })
    }

    /// Goes over to TLS, if that is wanted and can be.
    #[inline(never)] // what TLS takes of the stack is not for those who have none
    fn encrypt(
        &mut self,
        greeting: &HandshakePacket<'_>,
        host: &str,
        encryption: &Encryption,
    ) -> Result<()> {
        let ssl = CapabilityFlags::CLIENT_SSL;
        let offered = greeting.capabilities().contains(ssl);
        match encryption.tls {
            config::Tls::Off => return Ok(()),
            config::Tls::Preferred if !offered || !tls::AVAILABLE => return Ok(()),
            _ if !offered => {
                return Err(Error::new(Kind::Denied, "the server offers no TLS")
                    .advise("give it ssl_cert and ssl_key, or set tls = \"preferred\" here"));
            }
            _ => {}
        }
        let tls = Tls::new(host, encryption)?;
        self.capabilities |= ssl;
        let request = SslRequest::new(self.capabilities, LONGEST_PACKET as u32, UTF8MB4);
        let mut packet = Vec::new();
        request.serialize(&mut packet);
        self.wire.write_packet(&packet)?;
        self.wire.encrypt(tls)
    }

    fn log_in(
        &mut self,
        greeting: &HandshakePacket<'_>,
        login: &Login,
        privacy: Privacy,
    ) -> Result<()> {
        let scramble = scramble(greeting);
        // The greeting names the server's default plugin, not this account's; one that needs a
        // conversation of its own is only begun when the server asks for it by an auth switch.
        let plugin = match greeting.auth_plugin() {
            Some(AuthPlugin::CachingSha2Password) => AuthPlugin::CachingSha2Password,
            _ => AuthPlugin::MysqlNativePassword,
        };
        let mut proof = Proof::begin(&plugin, &scramble, login, privacy)?;
        let first = proof.respond(&scramble)?;
        let response = HandshakeResponse::new(
            first,
            (5, 5, 3), // utf8mb4 exists since then
            Some(login.user.as_bytes()),
            None::<&[u8]>,
            Some(plugin),
            self.capabilities,
            None,
            LONGEST_PACKET as u32,
        );
        let mut packet = Vec::new();
        response.serialize(&mut packet);
        self.wire.write_packet(&packet)?;
        self.finish_login(proof, login, privacy)
    }

    fn finish_login<'a>(
        &mut self,
        mut proof: Proof<'a>,
        login: &'a Login,
        privacy: Privacy,
    ) -> Result<()> {
        loop {
            let packet = self.wire.read_packet()?;
            let reply = match packet.first() {
                Some(0x00) => return Ok(()),
                Some(0xff) => return Err(self.server_error(&packet)),
                Some(0x01) => proof.respond(&packet[1..])?,
                Some(0xfe) if packet.len() > 1 => {
                    let switch: AuthSwitchRequest = self.parse(&packet, ())?;
                    let scramble = switch.plugin_data().to_vec();
                    // MariaDB accounts that are identified by the socket alone switch to a plugin
                    // that asks nothing of the client.
                    proof = Proof::begin(&switch.auth_plugin(), &scramble, login, privacy)?;
                    Some(proof.respond(&scramble)?.unwrap_or_default())
                }
                _ => {
                    return Err(
                        Error::new(Kind::Denied, "the server wants a pre-4.1 password")
                            .advise("give the account a mysql_native_password or newer plugin"),
                    );
                }
            };
            if let Some(reply) = reply {
                self.wire.write_packet(&reply)?;
            }
        }
    }

    fn parse<'a, T: mysql_common::proto::MyDeserialize<'a>>(
        &self,
        packet: &'a [u8],
        context: T::Ctx,
    ) -> Result<T> {
        ParseBuf(packet).parse(context).map_err(|error| {
            self.wire
                .confused("sent a packet that makes no sense")
                .because(error)
        })
    }

    fn server_error(&self, packet: &[u8]) -> Error {
        let error: Result<ErrPacket> = self.parse(packet, self.capabilities);
        match error {
            Ok(ErrPacket::Error(error)) => Error::new(
                Kind::Denied,
                format!("error {}: {}", error.error_code(), error.message_str()),
            )
            .answered(error.error_code()),
            _ => self.wire.confused("sent an error that makes no sense"),
        }
    }
}

/// The 20 random bytes of the greeting, without the zero that ends them.
fn scramble(greeting: &HandshakePacket<'_>) -> Vec<u8> {
    let mut scramble = greeting.scramble_1_ref().to_vec();
    scramble.extend_from_slice(greeting.scramble_2_ref().unwrap_or_default());
    scramble.resize(20, 0);
    scramble
}

fn is_eof(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}

fn texts(row: Row) -> Vec<Option<String>> {
    let text = |value| match value {
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None, // in the text protocol everything but NULL is bytes
    };
    row.unwrap().into_iter().map(text).collect()
}
