//! Servers that misbehave on a unix socket.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};

use crate::packets::{self, column, packet, read_packet};
use crate::site::{Site, ms};

const VERSION: &str = "5.5.5-10.11.6-MariaDB";

/// What a fake server does with a connection; it ends when the other side is gone.
pub type Manners = fn(UnixStream) -> std::io::Result<()>;

/// A site whose server is a fake one. `check` are lines of `[check]`.
pub fn site(
    check: &str,
    manners: impl Fn(UnixStream) -> std::io::Result<()> + Copy + Send + 'static,
) -> Site {
    let site = nobody_listens(check);
    let listener = UnixListener::bind(socket(&site)).unwrap();
    spawn(move || {
        for stream in listener.incoming().flatten() {
            spawn(move || manners(stream));
        }
    });
    site
}

/// A site whose socket is not there.
pub fn nobody_listens(check: &str) -> Site {
    let site = Site::new("");
    let path = socket(&site);
    site.configure(&format!("{check}\n[mysql]\nsocket = '{}'", path.display()));
    site
}

pub fn socket(site: &Site) -> PathBuf {
    site.dir.join("s")
}

/// Fills the backlog of a socket on which nobody accepts; the connections must be kept.
pub fn fill_backlog(path: &Path) -> (UnixListener, Vec<std::os::fd::OwnedFd>) {
    use nix::sys::socket::*;
    use std::os::fd::AsRawFd;
    let new = || {
        socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_NONBLOCK,
            None,
        )
        .unwrap()
    };
    let address = UnixAddr::new(path).unwrap();
    let listener = new();
    bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = new();
        if connect(client.as_raw_fd(), &address).is_err() {
            return (listener.into(), waiting);
        }
        waiting.push(client);
    }
}

/// Accepts and says nothing.
pub fn silent(mut stream: UnixStream) -> std::io::Result<()> {
    until_closed(&mut stream)
}

pub fn trickles_its_greeting(mut stream: UnixStream) -> std::io::Result<()> {
    trickle(&mut stream, &greeting())
}

pub fn greets_and_then_is_silent(mut stream: UnixStream) -> std::io::Result<()> {
    stream.write_all(&greeting())?;
    until_closed(&mut stream)
}

pub fn logs_in_and_then_is_silent(mut stream: UnixStream) -> std::io::Result<()> {
    log_in(&mut stream)?;
    until_closed(&mut stream)
}

pub fn trickles_its_answer(mut stream: UnixStream) -> std::io::Result<()> {
    log_in(&mut stream)?;
    read_packet(&mut stream)?;
    trickle(&mut stream, &packet(1, &[2]))?;
    trickle(&mut stream, &packet(2, &[b'x'; 200]))
}

/// Columns without end, as fast as they are taken.
pub fn answers_without_end(mut stream: UnixStream) -> std::io::Result<()> {
    log_in(&mut stream)?;
    read_packet(&mut stream)?;
    stream.write_all(&packet(1, &[1]))?;
    for seq in 2_u32.. {
        stream.write_all(&packet(seq as u8, &column("c")))?;
    }
    Ok(())
}

/// One packet without end: parts of 16 MB, each continued by the next.
pub fn greets_without_end(mut stream: UnixStream) -> std::io::Result<()> {
    let megabyte = vec![b'x'; 1 << 20];
    for seq in 0_u32.. {
        stream.write_all(&[0xff, 0xff, 0xff, seq as u8])?;
        for _ in 0..15 {
            stream.write_all(&megabyte)?;
        }
        stream.write_all(&megabyte[1..])?;
    }
    Ok(())
}

pub fn closes_at_once(stream: UnixStream) -> std::io::Result<()> {
    drop(stream);
    Ok(())
}

pub fn speaks_http(mut stream: UnixStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")?;
    until_closed(&mut stream)
}

/// A well formed packet whose content is none.
pub fn greets_with_nonsense(mut stream: UnixStream) -> std::io::Result<()> {
    stream.write_all(&packet(0, b"\x0a\n\0\r\nno\x1b[31m"))?;
    until_closed(&mut stream)
}

/// A server error whose text is more than a line, and longer than what a process can be given.
pub fn refuses_in_many_lines(mut stream: UnixStream) -> std::io::Result<()> {
    stream.write_all(&packet(
        0,
        b"\xff\x1d\x04Server\nshutdown\0in\x1b[31m\rprogress",
    ))?;
    until_closed(&mut stream)
}

pub fn announces_16_mb(mut stream: UnixStream) -> std::io::Result<()> {
    stream.write_all(&[0xff, 0xff, 0xff, 0, 10])?;
    until_closed(&mut stream)
}

/// One that is well: it answers the one question with "writable, fake".
pub fn healthy(mut stream: UnixStream) -> std::io::Result<()> {
    log_in(&mut stream)?;
    read_packet(&mut stream)?;
    stream.write_all(&answer())?;
    until_closed(&mut stream)
}

/// As [`healthy`], after 300 ms.
pub fn slow(mut stream: UnixStream) -> std::io::Result<()> {
    log_in(&mut stream)?;
    read_packet(&mut stream)?;
    sleep(ms(300));
    stream.write_all(&answer())?;
    until_closed(&mut stream)
}

/// One that takes writes and started an hour ago; it does nothing that it is told.
pub fn up_for_an_hour(mut stream: UnixStream) -> std::io::Result<()> {
    log_in(&mut stream)?;
    loop {
        read_packet(&mut stream)?;
        stream.write_all(&rows(&[
            ["Uptime", "3600"],
            ["read_only", "OFF"],
            ["server_id", "1"],
        ]))?;
    }
}

/// The same one, which has no room for the first to come.
pub fn up_for_an_hour_and_full_at_first(mut stream: UnixStream) -> std::io::Result<()> {
    static HAS_COME: AtomicBool = AtomicBool::new(false);
    if HAS_COME.swap(true, Ordering::Relaxed) {
        return up_for_an_hour(stream);
    }
    stream.write_all(&packet(0, b"\xff\x10\x04Too many connections"))
}

/// Protocol::AuthSwitchRequest.
pub fn asks_for(plugin: &str, challenge: &[u8], mut stream: UnixStream) -> std::io::Result<()> {
    stream.write_all(&greeting())?;
    read_packet(&mut stream)?;
    let request = [b"\xfe", plugin.as_bytes(), b"\0", challenge].concat();
    stream.write_all(&packet(2, &request))?;
    until_closed(&mut stream)
}

/// sha256_password, which asks for the server's public key even by the socket.
pub fn sends_for_its_key(key: &str, mut stream: UnixStream) -> std::io::Result<()> {
    stream.write_all(&greeting())?;
    read_packet(&mut stream)?;
    let request = [&b"\xfesha256_password\0"[..], &[b'x'; 20], b"\0"].concat();
    stream.write_all(&packet(2, &request))?;
    read_packet(&mut stream)?;
    stream.write_all(&packet(4, &[b"\x01", key.as_bytes()].concat()))?;
    until_closed(&mut stream)
}

fn answer() -> Vec<u8> {
    rows(&[["0", "fake"]])
}

/// An answer of two columns.
fn rows(rows: &[[&str; 2]]) -> Vec<u8> {
    let row = |row: &[&str; 2]| row.map(|value| Some(value.to_owned())).to_vec();
    let rows: Vec<_> = rows.iter().map(row).collect();
    packets::table(&["c", "c"], &rows)
}

fn log_in(stream: &mut UnixStream) -> std::io::Result<()> {
    packets::log_in(stream, VERSION)
}

fn greeting() -> Vec<u8> {
    packets::greeting(VERSION)
}

fn trickle(stream: &mut UnixStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte])?;
        sleep(ms(20));
    }
    until_closed(stream)
}

fn until_closed(stream: &mut UnixStream) -> std::io::Result<()> {
    let mut heard = [0; 1024];
    while stream.read(&mut heard)? > 0 {}
    Ok(())
}
