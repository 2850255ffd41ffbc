//! One connection to a MySQL or MariaDB server, on the protocol types of `mysql_common`.
//!
//! The socket never blocks: every byte, in or out, is waited for on the [`Deadline`], so that a
//! full backlog, a silent server, or one that trickles bytes costs no more time than was given.
//! Client libraries bound single system calls, not the whole conversation. After an error that is
//! not the server's own answer the session is unusable: the next answer on it would belong to the
//! previous question.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{
    AuthPlugin, AuthSwitchRequest, Column, ErrPacket, HandshakePacket, HandshakeResponse,
};
use mysql_common::proto::{MySerialize, Text};
use mysql_common::row::{Row, RowDeserializer};
use mysql_common::value::{ServerSide, Value};
use nix::poll::PollFlags;

use super::endpoint::{Endpoint, reach};
use super::login::Proof;
use crate::error::{Error, Kind, Result};
use crate::secret::Login;
use crate::time::Deadline;

/// A packet of this length is continued by the next one (MySQL protocol, "payload length").
const LONGEST_PACKET: usize = 0xff_ff_ff;

/// More than any answer to what is asked here: what goes on for longer is no server of this kind,
/// or one gone wrong.
const LONGEST_VALUE: usize = 4 * LONGEST_PACKET;

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
    stream: TcpStream,
    local: bool,
    name: String,
    deadline: Deadline,
    received: Vec<u8>,
    capabilities: CapabilityFlags,
    version: String,
    id: u32,
    next_seq: u8,
}

impl Session {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`Kind::Unreachable`] when nothing listens, [`Kind::Timeout`] when the deadline passes
    /// first, [`Kind::Denied`] with the server's number when it refuses.
    pub fn open(endpoint: &Endpoint, login: &Login, deadline: &Deadline) -> Result<Session> {
        let mut session = Session {
            stream: TcpStream::from(reach(endpoint, deadline)?),
            local: matches!(endpoint, Endpoint::Socket(_)),
            name: endpoint.to_string(),
            deadline: deadline.clone(),
            received: Vec::new(),
            capabilities: CapabilityFlags::empty(),
            version: String::new(),
            id: 0,
            next_seq: 0,
        };
        session
            .log_in(login)
            .map_err(|e| e.during(format!("log in to {endpoint} as {}", login.user)))?;
        Ok(session)
    }

    /// From now on every wait ends with `deadline`.
    pub fn end_at(&mut self, deadline: Deadline) {
        self.deadline = deadline;
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
        let mut packet = Vec::with_capacity(sql.len() + 1);
        packet.push(0x03); // COM_QUERY
        packet.extend_from_slice(sql.as_bytes());
        self.next_seq = 0;
        self.write_packet(&packet)
    }

    /// Waits at most `patience` for the answer to begin; false when it has not.
    ///
    /// # Errors
    /// What the deadline's watch says.
    pub fn answers_within(&self, patience: Duration) -> Result<bool> {
        let deadline = self.deadline.at_most(patience);
        let ready = deadline.any_ready(&[self.stream.as_fd()], PollFlags::POLLIN)?;
        Ok(!ready.is_empty() || !self.received.is_empty())
    }

    /// Reads the answer to the oldest question sent.
    ///
    /// # Errors
    /// The server's own, with its number; otherwise the session is unusable afterwards.
    pub fn answer(&mut self) -> Result<Answer> {
        self.next_seq = 1;
        let first = self.read_packet()?;
        match first.first() {
            Some(0x00) => Ok(Answer::default()),
            Some(0xff) => Err(self.server_error(&first)),
            Some(0xfb) => Err(self.confused("asked for a local file")),
            _ => self.read_rows(),
        }
    }

    /// Says goodbye, so that the server counts no aborted connection.
    pub fn quit(mut self) {
        self.next_seq = 0;
        let _ = self.write_packet(&[0x01]); // COM_QUIT; the server only closes
    }

    fn read_rows(&mut self) -> Result<Answer> {
        let mut columns = Vec::new();
        loop {
            let packet = self.read_packet()?;
            if is_eof(&packet) {
                break;
            }
            let column: Column = self.parse(&packet, ())?;
            columns.push(column);
        }
        let columns: Arc<[Column]> = columns.into();
        let mut rows = Vec::new();
        loop {
            let packet = self.read_packet()?;
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

    fn log_in(&mut self, login: &Login) -> Result<()> {
        let greeting = self.read_packet()?;
        if greeting.first() == Some(&0xff) {
            return Err(self.server_error(&greeting));
        }
        let greeting: HandshakePacket = self.parse(&greeting, ())?;
        self.version = greeting.server_version_str().into_owned();
        self.id = greeting.connection_id();
        self.capabilities = WANTED & greeting.capabilities();
        let scramble = scramble(&greeting);
        // The greeting names the server's default plugin, not this account's; one that needs a
        // conversation of its own is only begun when the server asks for it by an auth switch.
        let plugin = match greeting.auth_plugin() {
            Some(AuthPlugin::CachingSha2Password) => AuthPlugin::CachingSha2Password,
            _ => AuthPlugin::MysqlNativePassword,
        };
        let mut proof = Proof::begin(&plugin, &scramble, login, self.local)?;
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
        self.write_packet(&packet)?;
        self.finish_login(proof, login)
    }

    fn finish_login<'a>(&mut self, mut proof: Proof<'a>, login: &'a Login) -> Result<()> {
        loop {
            let packet = self.read_packet()?;
            let reply = match packet.first() {
                Some(0x00) => return Ok(()),
                Some(0xff) => return Err(self.server_error(&packet)),
                Some(0x01) => proof.respond(&packet[1..])?,
                Some(0xfe) if packet.len() > 1 => {
                    let switch: AuthSwitchRequest = self.parse(&packet, ())?;
                    let scramble = switch.plugin_data().to_vec();
                    // MariaDB accounts that are identified by the socket alone switch to a plugin
                    // that asks nothing of the client.
                    proof = Proof::begin(&switch.auth_plugin(), &scramble, login, self.local)?;
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
                self.write_packet(&reply)?;
            }
        }
    }

    fn read_packet(&mut self) -> Result<Vec<u8>> {
        let mut payload = Vec::new();
        loop {
            self.receive(4)?;
            let length = usize::from(self.received[0])
                | usize::from(self.received[1]) << 8
                | usize::from(self.received[2]) << 16;
            if self.received[3] != self.next_seq {
                return Err(self.confused("answered out of order"));
            }
            self.next_seq = self.next_seq.wrapping_add(1);
            self.receive(4 + length)?;
            payload.extend_from_slice(&self.received[4..4 + length]);
            self.received.drain(..4 + length);
            if length < LONGEST_PACKET {
                return Ok(payload);
            }
            if payload.len() >= LONGEST_VALUE {
                return Err(self.confused("sends a packet without end"));
            }
        }
    }

    /// Reads until at least `count` bytes are there.
    fn receive(&mut self, count: usize) -> Result<()> {
        let mut chunk = [0; 16 * 1024];
        while self.received.len() < count {
            // A server that never pauses never makes us wait.
            if self.deadline.passed() {
                return Err(Error::new(Kind::Timeout, "no end of the answer in time"));
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    return Err(Error::new(
                        Kind::Unreachable,
                        format!("{} closed the connection", self.name),
                    ));
                }
                Ok(n) => self.received.extend_from_slice(&chunk[..n]),
                Err(error) => self.wait_or_fail(error, PollFlags::POLLIN, "read from")?,
            }
        }
        Ok(())
    }

    fn write_packet(&mut self, payload: &[u8]) -> Result<()> {
        let mut bytes = Vec::with_capacity(payload.len() + 4);
        let mut rest = payload;
        loop {
            let (chunk, more) = rest.split_at(rest.len().min(LONGEST_PACKET));
            bytes.extend_from_slice(&(chunk.len() as u32).to_le_bytes()[..3]);
            bytes.push(self.next_seq);
            self.next_seq = self.next_seq.wrapping_add(1);
            bytes.extend_from_slice(chunk);
            rest = more;
            if chunk.len() < LONGEST_PACKET {
                break;
            }
        }
        let mut unsent = &bytes[..];
        while !unsent.is_empty() {
            match self.stream.write(unsent) {
                Ok(n) => unsent = &unsent[n..],
                Err(error) => self.wait_or_fail(error, PollFlags::POLLOUT, "write to")?,
            }
        }
        Ok(())
    }

    fn wait_or_fail(&self, error: io::Error, events: PollFlags, doing: &str) -> Result<()> {
        match error.kind() {
            io::ErrorKind::WouldBlock => self.deadline.ready(self.stream.as_fd(), events),
            io::ErrorKind::Interrupted => Ok(()),
            _ => {
                Err(Error::new(Kind::Unreachable, format!("{doing} {}", self.name)).because(error))
            }
        }
    }

    fn parse<'a, T: mysql_common::proto::MyDeserialize<'a>>(
        &self,
        packet: &'a [u8],
        context: T::Ctx,
    ) -> Result<T> {
        ParseBuf(packet).parse(context).map_err(|error| {
            self.confused("sent a packet that makes no sense")
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
            _ => self.confused("sent an error that makes no sense"),
        }
    }

    fn confused(&self, what: &str) -> Error {
        Error::new(Kind::Unreachable, format!("{} {what}", self.name))
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
