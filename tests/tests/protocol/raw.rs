//! A client that speaks the protocol by hand, without TLS, so that it can say what no driver says.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use countersign_e2e::client::Gateway;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// Longer than anything here may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A connection.
pub(crate) struct Raw {
    pub(crate) io: TcpStream,
    /// ParameterStatus values of the greeting, in order.
    pub(crate) parameters: Vec<(String, String)>,
    /// Process id and secret of BackendKeyData.
    pub(crate) key: (i32, Vec<u8>),
    /// Tags of the greeting.
    pub(crate) greeting: String,
}

/// Fields of an ErrorResponse by letter.
pub(crate) type Fields = BTreeMap<char, String>;

pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

pub(crate) fn startup(version: u32, pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        body.extend(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    let mut out = u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    out.extend(body);
    out
}

pub(crate) fn cancel_request((process_id, secret): (i32, &[u8])) -> Vec<u8> {
    let body = [&80_877_102_u32.to_be_bytes()[..], &process_id.to_be_bytes(), secret].concat();
    [&u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes()[..], &body].concat()
}

/// A TCP connection to the gateway from one of this machine's own addresses.
pub(crate) async fn dial_from(gateway: &Gateway, last: u8) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0)))?;
    Ok(socket.connect(SocketAddr::from(([127, 0, 0, 1], gateway.port))).await?)
}

impl Raw {
    /// Logs in with protocol 3.0 and reads the greeting.
    pub(crate) async fn login(gateway: &Gateway, token: &str) -> Result<Self> {
        Self::login_with(gateway, 0x0003_0000, &[("user", "raw"), ("database", &gateway.database)], token).await
    }

    pub(crate) async fn login_with(gateway: &Gateway, version: u32, pairs: &[(&str, &str)], token: &str) -> Result<Self> {
        Self::login_on(dial_from(gateway, 1).await?, version, pairs, token).await
    }

    pub(crate) async fn login_on(io: TcpStream, version: u32, pairs: &[(&str, &str)], token: &str) -> Result<Self> {
        let mut raw = Self { io, parameters: Vec::new(), key: (0, Vec::new()), greeting: String::new() };
        raw.send(&startup(version, pairs)).await?;
        let (tag, body) = raw.next().await?;
        ensure!((tag, body.as_slice()) == (b'R', &[0, 0, 0, 3]), "no password is asked for: {}", shown(tag, &body));
        raw.send(&message(b'p', format!("{token}\0").as_bytes())).await?;
        loop {
            let (tag, body) = raw.next().await?;
            raw.greeting.push(char::from(tag));
            match tag {
                b'S' => {
                    let mut texts = body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
                    raw.parameters.push((texts.next().unwrap_or_default(), texts.next().unwrap_or_default()));
                }
                b'K' => {
                    let (id, secret) = body.split_first_chunk::<4>().context("a short BackendKeyData")?;
                    raw.key = (i32::from_be_bytes(*id), secret.to_vec());
                }
                b'Z' => return Ok(raw),
                b'R' => ensure!(body == [0, 0, 0, 0], "{}", shown(tag, &body)),
                _ => bail!("no login: {}", shown(tag, &body)),
            }
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        tokio::time::timeout(LIMIT, self.io.write_all(bytes)).await.context("the gateway does not read")??;
        Ok(())
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Result<(u8, Vec<u8>)> {
        let (tag, length) = self.head().await?;
        let mut body = vec![0; length];
        tokio::time::timeout(LIMIT, self.io.read_exact(&mut body)).await.context("the gateway says nothing")??;
        Ok((tag, body))
    }

    /// Tag and length of the next message's body, which is still to be read.
    pub(crate) async fn head(&mut self) -> Result<(u8, usize)> {
        let mut head = [0; 5];
        tokio::time::timeout(LIMIT, self.io.read_exact(&mut head)).await.context("the gateway says nothing")??;
        let [tag, length @ ..] = head;
        Ok((tag, usize::try_from(u32::from_be_bytes(length).saturating_sub(4))?))
    }

    /// Reads until ReadyForQuery; the tags, and the first error.
    pub(crate) async fn answer(&mut self) -> Result<(String, Option<Fields>)> {
        let (mut tags, mut error) = (String::new(), None);
        loop {
            let (tag, body) = self.next().await?;
            tags.push(char::from(tag));
            if tag == b'E' && error.is_none() {
                error = Some(fields(&body));
            }
            if tag == b'Z' {
                return Ok((tags, error));
            }
        }
    }

    /// Runs one statement that must work; the texts of the first column.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<Vec<String>> {
        self.send(&query(sql)).await?;
        let mut rows = Vec::new();
        loop {
            let (tag, body) = self.next().await?;
            match tag {
                b'D' => rows.push(String::from_utf8_lossy(body.get(6..).unwrap_or_default()).into_owned()),
                b'E' => bail!("{sql}: {:?}", fields(&body)),
                b'Z' => return Ok(rows),
                _ => {}
            }
        }
    }

    /// Reads to the end of the connection; the FATAL error it ended with, if any.
    pub(crate) async fn last_words(&mut self) -> Result<Option<Fields>> {
        let mut said = Vec::new();
        // A reset is an end, too.
        let _ = tokio::time::timeout(LIMIT, self.io.read_to_end(&mut said)).await.context("the connection does not end")?;
        let (mut rest, mut last) = (said.as_slice(), None);
        while let Some(([tag, length @ ..], after)) = rest.split_first_chunk::<5>() {
            let length = usize::try_from(u32::from_be_bytes(*length).saturating_sub(4))?;
            let Some((body, after)) = after.split_at_checked(length) else { break };
            if *tag == b'E' {
                last = Some(fields(body));
            }
            rest = after;
        }
        Ok(last)
    }

    /// Checks that the session ends with this SQLSTATE.
    pub(crate) async fn ends_with(&mut self, code: &str) -> Result<()> {
        let last = self.last_words().await?.context("it ended without a word")?;
        ensure!(last.get(&'C').map(String::as_str) == Some(code), "{last:?}, not {code}");
        ensure!(last.get(&'S').map(String::as_str) == Some("FATAL"), "{last:?}");
        Ok(())
    }
}

pub(crate) fn fields(body: &[u8]) -> Fields {
    body.split(|byte| *byte == 0)
        .filter_map(|field| {
            String::from_utf8_lossy(field)
                .chars()
                .next()
                .map(|letter| (letter, String::from_utf8_lossy(field.get(1..).unwrap_or_default()).into_owned()))
        })
        .collect()
}

pub(crate) fn shown(tag: u8, body: &[u8]) -> String {
    format!("{:?} {}", char::from(tag), String::from_utf8_lossy(body))
}
