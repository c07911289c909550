//! Start-up packets: bytes to their meaning, every length bounded.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-STARTUPMESSAGE>

use countersign_wire::{Reader, WireError};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::options;
use crate::error::{ClientError, sqlstate};

/// Largest packet before authentication, its length field included. The server's own limit, which does not count that field.
pub const MAX_STARTUP_BYTES: u32 = 10_004;
/// Newest minor version of protocol 3 spoken.
pub const NEWEST_MINOR: u16 = 2;

const SPECIAL: u16 = 1234;
const CANCEL: u16 = 5678;
const SSL: u16 = 5679;
const GSS: u16 = 5680;
/// Longest cancel secret the protocol allows.
const MAX_SECRET: usize = 256;

/// One packet, parsed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Ssl,
    Gss,
    Cancel { process_id: i32, secret: Vec<u8> },
    Startup(StartupPacket),
}

/// A start-up packet of protocol 3.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StartupPacket {
    pub(super) minor: u16,
    pub(super) pairs: Vec<(String, String)>,
}

/// Why no packet was read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The connection ended.
    Gone(&'static str),
    /// The packet is refused.
    Refused(ClientError),
}

/// Reads one packet and not a byte more.
pub(super) async fn read<S: AsyncRead + Unpin>(io: &mut S) -> Result<Packet, ReadError> {
    let mut first = [0_u8; 1];
    match io.read(&mut first).await {
        Ok(1..) => read_after(io, first).await,
        Ok(0) | Err(_) => Err(ReadError::Gone("closed before start-up")),
    }
}

/// Reads the rest of a packet whose first byte was read already.
pub(super) async fn read_after<S: AsyncRead + Unpin>(io: &mut S, [first]: [u8; 1]) -> Result<Packet, ReadError> {
    let gone = |_| ReadError::Gone("closed within the start-up packet");
    let mut rest = [0_u8; 3];
    io.read_exact(&mut rest).await.map_err(gone)?;
    let [second, third, fourth] = rest;
    let length = u32::from_be_bytes([first, second, third, fourth]);
    if !(8..=MAX_STARTUP_BYTES).contains(&length) {
        return Err(ReadError::Refused(ClientError::new(sqlstate::PROTOCOL_VIOLATION, "invalid length of start-up packet")));
    }
    let mut body = vec![0_u8; usize::try_from(length.saturating_sub(4)).unwrap_or(0)];
    io.read_exact(&mut body).await.map_err(gone)?;
    // A cancel request is never answered, whatever is wrong with it.
    let cancels = body.starts_with(&[SPECIAL.to_be_bytes(), CANCEL.to_be_bytes()].concat());
    parse(&body).map_err(|error| if cancels { ReadError::Gone("not a cancel request") } else { ReadError::Refused(error) })
}

/// Parses a packet without its length field.
pub(super) fn parse(body: &[u8]) -> Result<Packet, ClientError> {
    let broken = |error: WireError| ClientError::new(sqlstate::PROTOCOL_VIOLATION, format!("invalid start-up packet: {error}"));
    let mut reader = Reader::new(body);
    let code = reader.u32("protocol version").map_err(broken)?.to_be_bytes();
    let [a, b, c, d] = code;
    match (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])) {
        (SPECIAL, SSL) => reader.finish().map(|()| Packet::Ssl).map_err(broken),
        (SPECIAL, GSS) => reader.finish().map(|()| Packet::Gss).map_err(broken),
        (SPECIAL, CANCEL) => {
            let process_id = reader.i32("process id").map_err(broken)?;
            let secret = reader.rest();
            if secret.is_empty() || secret.len() > MAX_SECRET {
                return Err(broken(WireError::Length("cancel key")));
            }
            Ok(Packet::Cancel { process_id, secret: secret.to_vec() })
        }
        (3, minor) => pairs(reader).map(|pairs| Packet::Startup(StartupPacket { minor, pairs })),
        (major, minor) => Err(ClientError::new(
            sqlstate::NOT_SUPPORTED,
            format!("unsupported frontend protocol {major}.{minor}: the gateway speaks 3.0 to 3.{NEWEST_MINOR}"),
        )),
    }
}

fn pairs(mut reader: Reader<'_>) -> Result<Vec<(String, String)>, ClientError> {
    // In the server's words, which drivers' tests look for.
    let layout = |_| ClientError::new(sqlstate::PROTOCOL_VIOLATION, "invalid startup packet layout: expected terminator as last byte");
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec())
            .map_err(|_| ClientError::new(sqlstate::PROTOCOL_VIOLATION, "invalid start-up packet: a value is not UTF-8"))
    };
    let mut pairs = Vec::new();
    loop {
        let name = reader.cstring("parameter name").map_err(layout)?;
        if name.is_empty() {
            reader.finish().map_err(layout)?;
            return Ok(pairs);
        }
        let value = reader.cstring("parameter value").map_err(layout)?;
        pairs.push((text(name)?, text(value)?));
    }
}

/// What a client asks for. Nothing of it changes what statements mean but what is [`Self::judged`] later.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StartupParameters {
    /// `user`: a label. Who the client is comes from the token.
    pub user: String,
    /// `database`, when named.
    pub database: Option<String>,
    /// `application_name`, empty when not given.
    pub application: String,
    /// Settings to ask the server for.
    pub settings: Vec<(String, String)>,
    /// Settings to ask the server for once they are judged, as the SETs they stand for.
    pub judged: Vec<(String, String)>,
    /// `countersign.on_hold`, `countersign.notices` and `countersign.break_glass`.
    pub holding: countersign_session::Holding,
}

impl StartupParameters {
    /// Judges the pairs of a packet. The second part are protocol options that are not known (`_pq_.…`).
    ///
    /// # Errors
    /// Says which parameter is refused and what to do instead.
    pub(super) fn judge(pairs: Vec<(String, String)>) -> Result<(Self, Vec<String>), ClientError> {
        let mut parameters = Self::default();
        let mut unknown = Vec::new();
        // As the server does, in whatever order they come: the last `options` count, and what has a pair of its own overrides them.
        if let Some((_, options)) = pairs.iter().rfind(|(name, _)| name == "options") {
            for (name, value) in options::split(options)? {
                parameters.setting(&name, value)?;
            }
        }
        for (name, value) in pairs {
            match name.as_str() {
                "user" => parameters.user = value,
                "database" => parameters.database = Some(value).filter(|value| !value.is_empty()),
                "replication" => refuse_replication(&value)?,
                "options" => {}
                _ if name.starts_with("_pq_.") => unknown.push(name),
                _ => parameters.setting(&name, value)?,
            }
        }
        if parameters.user.is_empty() {
            return Err(ClientError::new(sqlstate::INVALID_AUTHORIZATION, "no PostgreSQL user name specified in startup packet")
                .hint("any name will do: who you are comes from the token"));
        }
        // Both end in log lines and in error messages on somebody's terminal.
        let words = [Some(&parameters.user), parameters.database.as_ref()];
        if words.into_iter().flatten().any(|word| word.chars().any(char::is_control)) {
            return Err(ClientError::new(sqlstate::INVALID_PARAMETER, "user and database names must not hold control characters"));
        }
        Ok((parameters, unknown))
    }

    fn setting(&mut self, name: &str, value: String) -> Result<(), ClientError> {
        match options::judge(name, &value)? {
            options::Setting::Application => self.application = value,
            options::Setting::Fixed => {}
            options::Setting::Returns(returns) => self.holding.returns = returns,
            options::Setting::Notices(notices) => self.holding.notices = notices,
            options::Setting::BreakGlass(reason) => self.holding.break_glass = Some(reason),
            options::Setting::Pass(name) => {
                self.judged.retain(|(known, _)| known != name);
                self.settings.retain(|(known, _)| known != name);
                self.settings.push((name.to_owned(), value));
            }
            options::Setting::Judged => {
                let name = name.to_ascii_lowercase();
                self.settings.retain(|(known, _)| *known != name);
                self.judged.retain(|(known, _)| *known != name);
                self.judged.push((name, value));
            }
        }
        Ok(())
    }
}

/// Replication connections stream changes past every judgement.
fn refuse_replication(value: &str) -> Result<(), ClientError> {
    if matches!(value.to_ascii_lowercase().as_str(), "false" | "off" | "no" | "0" | "f" | "n") {
        return Ok(());
    }
    Err(ClientError::new(sqlstate::NOT_SUPPORTED, "replication connections do not go through the gateway"))
}
