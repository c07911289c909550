//! As much of the protocol as a proxy between psql and a server needs that only looks at simple queries.

use std::io::{Read, Result, Write};
use std::net::TcpStream;

/// One message: type and body.
pub(crate) type Message = (u8, Vec<u8>);

pub(crate) fn read(stream: &mut TcpStream) -> Result<Message> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body)?;
    Ok((head[0], body))
}

/// A start-up packet, whole.
pub(crate) fn read_startup(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let mut packet = head.to_vec();
    packet.resize(u32::from_be_bytes(head) as usize, 0);
    stream.read_exact(&mut packet[4..])?;
    Ok(packet)
}

pub(crate) fn write(stream: &mut TcpStream, tag: u8, body: &[u8]) -> Result<()> {
    let mut message = vec![tag];
    message.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend(body);
    stream.write_all(&message)
}

/// Logs in without a password.
pub(crate) fn connect(port: u16, user: &str, database: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for text in ["user", user, "database", database, "client_encoding", "UTF8", ""] {
        body.extend(text.as_bytes());
        body.push(0);
    }
    stream.write_all(&u32::try_from(body.len() + 4).unwrap().to_be_bytes())?;
    stream.write_all(&body)?;
    while read(&mut stream)?.0 != b'Z' {}
    Ok(stream)
}

/// Runs a query of our own; its rows, or the SQLSTATE of its failure.
pub(crate) fn query(stream: &mut TcpStream, sql: &str) -> Result<std::result::Result<Vec<Vec<Option<String>>>, String>> {
    write(stream, b'Q', &[sql.as_bytes(), b"\0"].concat())?;
    let (mut rows, mut failure) = (Vec::new(), None);
    loop {
        match read(stream)? {
            (b'Z', _) => return Ok(failure.map_or(Ok(rows), Err)),
            (b'E', body) => failure = Some(field(&body, b'C')),
            (b'D', body) => rows.push(row(&body)),
            _ => {}
        }
    }
}

fn row(body: &[u8]) -> Vec<Option<String>> {
    let mut at = 2;
    let mut values = Vec::new();
    while at + 4 <= body.len() {
        let length = i32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
        at += 4;
        values.push(usize::try_from(length).ok().map(|length| {
            let value = String::from_utf8_lossy(&body[at..at + length]).into_owned();
            at += length;
            value
        }));
    }
    values
}

/// A field of an ErrorResponse.
pub(crate) fn field(body: &[u8], wanted: u8) -> String {
    let found = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&wanted));
    found.map(|field| String::from_utf8_lossy(&field[1..]).into_owned()).unwrap_or_default()
}
