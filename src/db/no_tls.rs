//! In place of [`super::tls`] where the program is built without it: a connection that cannot be.

use std::io;
use std::net::TcpStream;

use nix::poll::PollFlags;

use crate::error::{Error, Kind, Result};
use crate::secret::Encryption;

/// Whether this program was built with TLS.
pub const AVAILABLE: bool = false;

/// There is none.
pub enum Tls {}

impl Tls {
    /// # Errors
    /// Always.
    pub fn new(_host: &str, _encryption: &Encryption) -> Result<Tls> {
        Err(
            Error::new(Kind::Config, "this hookbox was built without TLS")
                .advise("build it with --features tls, or set tls = \"off\""),
        )
    }

    pub fn is_shaking_hands(&self) -> bool {
        match *self {}
    }

    pub fn awaits(&self) -> PollFlags {
        match *self {}
    }

    pub fn shake_hands(&mut self, _: &mut TcpStream) -> io::Result<()> {
        match *self {}
    }

    pub fn read(&mut self, _: &mut TcpStream, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub fn write(&mut self, _: &mut TcpStream, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub fn flush(&mut self, _: &mut TcpStream) -> io::Result<()> {
        match *self {}
    }

    pub fn explain(&self, _: io::Error) -> Error {
        match *self {}
    }
}
