//! A server's side of MySQL's protocol, for servers that are played.
#![allow(dead_code, reason = "every user needs a part of it")]

use std::io::{Read, Result, Write};

/// Protocol::HandshakeV10, of a server that calls its version so.
pub fn greeting(version: &str) -> Vec<u8> {
    let mut payload = vec![0x0a];
    payload.extend(version.as_bytes());
    payload.push(0);
    payload.extend(7_u32.to_le_bytes());
    payload.extend(b"12345678\0");
    payload.extend([0xfe, 0xf7, 0x21, 2, 0, 0x0f, 0, 21]);
    payload.extend([0; 10]);
    payload.extend(b"123456789012\0mysql_native_password\0");
    packet(0, &payload)
}

/// Greets and lets everybody in.
pub fn log_in(stream: &mut (impl Read + Write), version: &str) -> Result<()> {
    stream.write_all(&greeting(version))?;
    read_packet(stream)?;
    stream.write_all(&ok(2))
}

/// OK_Packet.
pub fn ok(seq: u8) -> Vec<u8> {
    packet(seq, &[0, 0, 0, 2, 0, 0, 0])
}

/// ERR_Packet.
pub fn error(code: u16, text: &str) -> Vec<u8> {
    let code = code.to_le_bytes();
    packet(
        1,
        &[b"\xff", &code[..], b"#HY000", text.as_bytes()].concat(),
    )
}

/// A text resultset.
pub fn table<T: AsRef<str>>(columns: &[T], rows: &[Vec<Option<String>>]) -> Vec<u8> {
    let eof = [0xfe, 0, 0, 2, 0];
    let columns = columns.iter().map(|name| column(name.as_ref()));
    let rows = rows
        .iter()
        .map(|values| values.iter().flat_map(text).collect());
    let mut payloads: Vec<Vec<u8>> = columns.collect();
    payloads.insert(0, vec![payloads.len() as u8]);
    payloads.push(eof.to_vec());
    payloads.extend(rows);
    payloads.push(eof.to_vec());
    let numbered = payloads.iter().zip(1_usize..);
    numbered
        .flat_map(|(payload, seq)| packet(seq as u8, payload))
        .collect()
}

/// Protocol::ColumnDefinition41, of a text column.
pub fn column(name: &str) -> Vec<u8> {
    let mut column = b"\x03def\x00\x00\x00".to_vec();
    column.push(name.len() as u8);
    column.extend(name.as_bytes());
    column.extend([0, 0x0c, 0x21, 0, 10, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0]);
    column
}

/// Protocol::LengthEncodedString, or what stands for NULL.
fn text(value: &Option<String>) -> Vec<u8> {
    let Some(value) = value else {
        return vec![0xfb];
    };
    let length = value.len() as u16;
    let mut text = match value.len() {
        0..251 => vec![length as u8],
        _ => [&[0xfc], &length.to_le_bytes()[..]].concat(),
    };
    text.extend(value.as_bytes());
    text
}

pub fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = (payload.len() as u32).to_le_bytes()[..3].to_vec();
    packet.push(seq);
    packet.extend(payload);
    packet
}

pub fn read_packet(stream: &mut impl Read) -> Result<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload)?;
    Ok(payload)
}
