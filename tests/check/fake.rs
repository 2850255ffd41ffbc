//! Servers that misbehave on a unix socket.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{sleep, spawn};

use crate::site::{Site, ms};

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
        stream.write_all(&packet(seq as u8, &column()))?;
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
            b"\x06Uptime\x043600",
            b"\x09read_only\x03OFF",
            b"\x09server_id\x011",
        ]))?;
    }
}

/// Protocol::AuthSwitchRequest.
pub fn asks_for(plugin: &str, challenge: &[u8], mut stream: UnixStream) -> std::io::Result<()> {
    stream.write_all(&greeting())?;
    read_packet(&mut stream)?;
    let request = [b"\xfe", plugin.as_bytes(), b"\0", challenge].concat();
    stream.write_all(&packet(2, &request))?;
    until_closed(&mut stream)
}

fn answer() -> Vec<u8> {
    rows(&[b"\x010\x04fake"])
}

/// An answer of two columns.
fn rows(rows: &[&[u8]]) -> Vec<u8> {
    let eof = [0xfe, 0, 0, 2, 0];
    let mut answer = packet(1, &[2]);
    answer.extend(packet(2, &column()));
    answer.extend(packet(3, &column()));
    answer.extend(packet(4, &eof));
    for (row, seq) in rows.iter().zip(5..) {
        answer.extend(packet(seq, row));
    }
    answer.extend(packet(5 + rows.len() as u8, &eof));
    answer
}

/// Protocol::ColumnDefinition41, of a text column called `c`.
fn column() -> Vec<u8> {
    let mut column = b"\x03def\x00\x00\x00\x01c\x00\x0c".to_vec();
    column.extend([0x21, 0, 10, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0]);
    column
}

fn log_in(stream: &mut UnixStream) -> std::io::Result<()> {
    stream.write_all(&greeting())?;
    read_packet(stream)?;
    stream.write_all(&packet(2, &[0, 0, 0, 2, 0, 0, 0]))
}

/// Protocol::HandshakeV10.
fn greeting() -> Vec<u8> {
    let mut payload = b"\x0a5.5.5-10.11.6-MariaDB\0".to_vec();
    payload.extend(7_u32.to_le_bytes());
    payload.extend(b"12345678\0");
    payload.extend([0xfe, 0xf7, 0x21, 2, 0, 0x0f, 0, 21]);
    payload.extend([0; 10]);
    payload.extend(b"123456789012\0mysql_native_password\0");
    packet(0, &payload)
}

fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = (payload.len() as u32).to_le_bytes()[..3].to_vec();
    packet.push(seq);
    packet.extend(payload);
    packet
}

fn read_packet(stream: &mut UnixStream) -> std::io::Result<()> {
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
    stream.read_exact(&mut vec![0; length as usize])
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
