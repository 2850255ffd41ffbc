//! Packets to and from a server, over a socket that never blocks.
//!
//! Every byte, in or out, is waited for on the [`Deadline`], so that a full backlog, a silent
//! server, or one that trickles bytes costs no more time than was given. With TLS that is so of the
//! handshake too, and nothing is waited for at the end: `close_notify` is neither sent nor expected,
//! since MySQL's packets say themselves where they end.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::PollFlags;

use super::endpoint::{Endpoint, reach};
use super::tls::Tls;
use crate::error::{Error, Kind, Result};
use crate::time::Deadline;

/// A packet of this length is continued by the next one (MySQL protocol, "payload length").
pub const LONGEST_PACKET: usize = 0xff_ff_ff;

/// More than any answer to what is asked here: what goes on for longer is no server of this kind,
/// or one gone wrong.
const LONGEST_VALUE: usize = 4 * LONGEST_PACKET;

/// How much is read at once: little where little is awaited.
const CHUNK: RangeInclusive<usize> = 4 << 10..=64 << 10;

/// A connection that carries packets.
pub struct Wire {
    socket: TcpStream,
    /// In a box: it is large, and a check by the socket has none.
    tls: Option<Box<Tls>>,
    name: String,
    deadline: Deadline,
    received: Vec<u8>,
    to_send: Vec<u8>,
    /// The number that the next packet, in or out, has to have.
    next_seq: u8,
    /// Nothing was read since the last word from here, so that nobody can have answered yet.
    spoke_last: bool,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// As [`reach`].
    pub fn connect(endpoint: &Endpoint, deadline: &Deadline) -> Result<Wire> {
        Ok(Wire {
            socket: TcpStream::from(reach(endpoint, deadline)?),
            tls: None,
            name: endpoint.to_string(),
            deadline: deadline.clone(),
            received: Vec::new(),
            to_send: Vec::new(),
            next_seq: 0,
            spoke_last: true,
        })
    }

    /// From now on every wait ends with `deadline`.
    pub fn end_at(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    /// Whether what is said now is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// From now on everything goes through `tls`.
    ///
    /// # Errors
    /// [`Kind::Denied`] when the two do not come to terms: the server is alive, it has greeted.
    /// [`Kind::Timeout`] when it takes too long.
    pub fn encrypt(&mut self, mut tls: Tls) -> Result<()> {
        // What came in the clear beside the greeting can be anybody's, and would be taken for
        // something that the server said under TLS.
        if !self.received.is_empty() {
            return Err(self.confused("speaks before its turn"));
        }
        while tls.is_shaking_hands() {
            self.must_have_time()?;
            match tls.shake_hands(&mut self.socket) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.deadline.ready(self.socket.as_fd(), tls.awaits())?;
                }
                Err(error) => return Err(tls.explain(error)),
            }
        }
        self.tls = Some(Box::new(tls));
        Ok(())
    }

    /// The packets from now on are numbered from `seq`: each command is a conversation of its own.
    pub fn number_from(&mut self, seq: u8) {
        self.next_seq = seq;
    }

    /// Waits at most `patience` for something to read; false when nothing came.
    ///
    /// # Errors
    /// What the deadline's watch says, or the connection.
    pub fn has_more_within(&mut self, patience: Duration) -> Result<bool> {
        let deadline = self.deadline.at_most(patience);
        // That the socket is readable says nothing: TLS has messages of its own.
        while self.received.is_empty() {
            match self.receive_some(0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let events = self.awaits(PollFlags::POLLIN);
                    let ready = deadline.any_ready(&[self.socket.as_fd()], events)?;
                    if ready.is_empty() || deadline.passed() {
                        break;
                    }
                }
                Err(error) => self.wait_or_fail(error, PollFlags::POLLIN, "read from")?,
                Ok(()) => {}
            }
        }
        Ok(!self.received.is_empty())
    }

    /// Reads one packet, put together if it came in parts.
    ///
    /// # Errors
    /// When the connection fails, time runs out, or the server does not keep to the protocol.
    pub fn read_packet(&mut self) -> Result<Vec<u8>> {
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

    /// Sends one packet, in parts if it is a long one.
    ///
    /// # Errors
    /// As [`Wire::send`].
    pub fn write_packet(&mut self, payload: &[u8]) -> Result<()> {
        self.add_packet(payload);
        self.send()
    }

    /// Has a packet ready for the next [`Wire::send`].
    pub fn add_packet(&mut self, payload: &[u8]) {
        let mut rest = payload;
        loop {
            let (chunk, more) = rest.split_at(rest.len().min(LONGEST_PACKET));
            self.to_send
                .extend_from_slice(&(chunk.len() as u32).to_le_bytes()[..3]);
            self.to_send.push(self.next_seq);
            self.next_seq = self.next_seq.wrapping_add(1);
            self.to_send.extend_from_slice(chunk);
            rest = more;
            if chunk.len() < LONGEST_PACKET {
                break;
            }
        }
    }

    /// Sends what is ready, together.
    ///
    /// # Errors
    /// When the connection fails or time runs out.
    pub fn send(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.to_send);
        let mut unsent = &bytes[..];
        while !unsent.is_empty() {
            match self.write(unsent) {
                Ok(n) => unsent = &unsent[n..],
                Err(error) => self.wait_or_fail(error, PollFlags::POLLOUT, "write to")?,
            }
        }
        while let Err(error) = self.flush() {
            self.wait_or_fail(error, PollFlags::POLLOUT, "write to")?;
        }
        self.spoke_last = true;
        Ok(())
    }

    /// The server does not keep to the protocol; `what` says how. Whoever it is, it is alive.
    pub fn confused(&self, what: &str) -> Error {
        Error::new(Kind::Bug, format!("{} {what}", self.name))
    }

    /// Reads until at least `count` bytes are there.
    fn receive(&mut self, count: usize) -> Result<()> {
        while self.received.len() < count {
            self.must_have_time()?;
            // TLS may have read on already.
            if std::mem::take(&mut self.spoke_last) && self.tls.is_none() {
                self.deadline
                    .ready(self.socket.as_fd(), PollFlags::POLLIN)?;
            }
            if let Err(error) = self.receive_some(count - self.received.len()) {
                self.wait_or_fail(error, PollFlags::POLLIN, "read from")?;
            }
        }
        Ok(())
    }

    /// A server that never pauses never makes us wait.
    ///
    /// # Errors
    /// [`Kind::Timeout`].
    pub fn must_have_time(&self) -> Result<()> {
        match self.deadline.passed() {
            true => Err(Error::new(Kind::Timeout, "no end of the answer in time")),
            false => Ok(()),
        }
    }

    /// Takes what there is, without waiting; `missing` bytes are awaited.
    fn receive_some(&mut self, missing: usize) -> io::Result<()> {
        let mut chunk = vec![0; missing.clamp(*CHUNK.start(), *CHUNK.end())];
        let read = match &mut self.tls {
            Some(tls) => tls.read(&mut self.socket, &mut chunk),
            None => self.socket.read(&mut chunk),
        };
        match read? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.received.extend_from_slice(&chunk[..n]);
                Ok(())
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.write(&mut self.socket, bytes),
            None => self.socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.flush(&mut self.socket),
            None => Ok(()),
        }
    }

    /// What to wait for where `usual` would be right without TLS.
    fn awaits(&self, usual: PollFlags) -> PollFlags {
        self.tls.as_ref().map_or(usual, |tls| tls.awaits())
    }

    fn wait_or_fail(&self, error: io::Error, usual: PollFlags, doing: &str) -> Result<()> {
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                let events = self.awaits(usual);
                self.deadline.ready(self.socket.as_fd(), events)
            }
            io::ErrorKind::Interrupted => Ok(()),
            _ => Err(self.broken(error, doing)),
        }
    }

    fn broken(&self, error: io::Error, doing: &str) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                let what = format!("{} closed the connection", self.name);
                Error::new(Kind::Unreachable, what)
            }
            _ => Error::new(Kind::Unreachable, format!("{doing} {}", self.name)).because(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::scratch::Scratch;

    /// Reads one packet from somebody who says `words` and hangs up.
    fn hear(words: &'static [u8]) -> Error {
        let dir = Scratch::new();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let speaker = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(words).unwrap();
        });
        let deadline = Deadline::after(Duration::from_secs(5));
        let mut wire = Wire::connect(&Endpoint::Socket(path), &deadline).unwrap();
        speaker.join().unwrap();
        wire.read_packet().unwrap_err()
    }

    #[test]
    fn who_talks_nonsense_is_alive_and_who_hangs_up_is_not_there() {
        let error = hear(b"HTTP/1.1 400 Bad Request\r\n");
        assert!(!error.is_silence(), "{error:?}");
        for cut_short in [&b""[..], b"\x4a\0\0\0\x0a5.7"] {
            let error = hear(cut_short);
            assert!(error.is_silence(), "{error:?}");
        }
    }
}
