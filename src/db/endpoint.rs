//! Where a server listens, and getting there without ever blocking.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, UnixAddr, connect, getsockopt, socket,
    sockopt,
};

use super::resolver::resolve;
use crate::error::{Error, Kind, Result};
use crate::time::Deadline;

/// Between two tries to enter a unix socket's full backlog: the kernel has no event for "room".
const BACKLOG_RETRY: Duration = Duration::from_millis(5);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Socket(PathBuf),
    /// TCP host and port.
    Tcp(String, u16),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Socket(path) => write!(f, "{}", path.display()),
            Endpoint::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// A connected, non-blocking socket.
///
/// # Errors
/// [`Kind::Unreachable`] when nothing listens, [`Kind::Timeout`] when the deadline passes first.
pub fn reach(endpoint: &Endpoint, deadline: &Deadline) -> Result<OwnedFd> {
    match endpoint {
        Endpoint::Socket(path) => reach_socket(path, deadline),
        Endpoint::Tcp(host, port) => {
            let mut last = None;
            for address in resolve(host, *port, deadline)? {
                match reach_address(address, deadline) {
                    Ok(fd) => return Ok(fd),
                    Err(error) if host.parse::<IpAddr>().is_ok() => last = Some(error),
                    Err(error) => last = Some(error.during(address.to_string())),
                }
            }
            Err(last
                .unwrap_or_else(|| Error::new(Kind::Unreachable, format!("{host} has no address"))))
        }
    }
    .map_err(|e| e.during(format!("connect to {endpoint}")))
}

fn reach_socket(path: &PathBuf, deadline: &Deadline) -> Result<OwnedFd> {
    let address = UnixAddr::new(path)
        .map_err(|errno| Error::new(Kind::Config, "not a usable socket path").because(errno))?;
    let fd = new_socket(AddressFamily::Unix)?;
    loop {
        match connect(fd.as_raw_fd(), &address) {
            Ok(()) => return Ok(fd),
            Err(Errno::EAGAIN) => {
                deadline
                    .pause(BACKLOG_RETRY)
                    .map_err(|error| match error.kind() {
                        Kind::Timeout => Error::new(Kind::Timeout, "its backlog is full"),
                        _ => error,
                    })?
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::new(Kind::Unreachable, errno.desc())),
        }
    }
}

fn reach_address(address: SocketAddr, deadline: &Deadline) -> Result<OwnedFd> {
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let fd = new_socket(family)?;
    let unreachable = |errno: Errno| Error::new(Kind::Unreachable, errno.desc());
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => deadline.ready(fd.as_fd(), PollFlags::POLLOUT)?,
        Err(errno) => return Err(unreachable(errno)),
    }
    match getsockopt(&fd, sockopt::SocketError) {
        Ok(0) => {}
        Ok(code) => return Err(unreachable(Errno::from_raw(code))),
        Err(errno) => return Err(unreachable(errno)),
    }
    let _ = nix::sys::socket::setsockopt(&fd, sockopt::TcpNoDelay, &true);
    Ok(fd)
}

fn new_socket(family: AddressFamily) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket(family, SockType::Stream, flags, None)
        .map_err(|errno| Error::new(Kind::Bug, "open a socket").because(errno))
}
