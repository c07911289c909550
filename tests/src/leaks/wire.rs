//! A client that speaks the protocol byte by byte and keeps what it receives.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How rows are asked for in the extended protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text.
    Text,
    /// Binary.
    Binary,
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// Every byte.
    pub bytes: Vec<u8>,
    /// Values of rows, of lines of COPY data, of errors, notices and notifications; NULLs are left out.
    pub rows: Vec<Vec<Vec<u8>>>,
    /// SQLSTATEs of errors.
    pub errors: Vec<String>,
    /// Messages of errors.
    pub messages: Vec<String>,
    /// Whether the connection was closed.
    pub closed: bool,
    /// How many DataRow messages there were.
    pub data_rows: usize,
    /// How many CopyData messages there were.
    pub copy_data: usize,
}

/// A connection without TLS.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// Connects and logs in with a password in clear text.
    ///
    /// # Errors
    /// It is not let in.
    pub async fn connect(port: u16, user: &str, password: &str, database: &str) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut wire = Self { stream, buffer: Vec::new() };
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for text in ["user", user, "database", database, "application_name", "leaks"] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        let length = u32::try_from(body.len().saturating_add(4))?;
        wire.stream.write_all(&[&length.to_be_bytes()[..], &body].concat()).await?;
        loop {
            match wire.frame().await?.context("closed before the login")? {
                (b'R', body) if body.starts_with(&3_u32.to_be_bytes()) => {
                    wire.send(b'p', &[password.as_bytes(), &[0]].concat()).await?;
                }
                (b'E', body) => bail!("not let in: {:?}", fields(&body).get(&b'M')),
                (b'Z', _) => return Ok(wire),
                _ => {}
            }
        }
    }

    /// A simple Query.
    ///
    /// # Errors
    /// No whole answer comes.
    pub async fn simple(&mut self, sql: &str) -> Result<Received> {
        self.send(b'Q', &[sql.as_bytes(), &[0]].concat()).await?;
        self.until_ready().await
    }

    /// Parse, Bind, Execute without Describe, Sync.
    ///
    /// # Errors
    /// No whole answer comes.
    pub async fn extended(&mut self, sql: &str, parameters: &[&str], format: Format) -> Result<Received> {
        let mut out = Vec::new();
        put(&mut out, b'P', &[&[0], sql.as_bytes(), &[0, 0, 0]].concat())?;
        let mut bind = vec![0, 0, 0, 0];
        bind.extend(u16::try_from(parameters.len())?.to_be_bytes());
        for value in parameters {
            bind.extend(u32::try_from(value.len())?.to_be_bytes());
            bind.extend_from_slice(value.as_bytes());
        }
        bind.extend([0, 1, 0, u8::from(format == Format::Binary)]);
        put(&mut out, b'B', &bind)?;
        put(&mut out, b'E', &[0, 0, 0, 0, 0])?;
        put(&mut out, b'S', &[])?;
        self.stream.write_all(&out).await?;
        self.until_ready().await
    }

    /// Two statements in one go, the second under the name of the first, each portal read a row at a time, columns in turn in binary and in
    /// text; Parse, Bind, Execute, Execute, Close and again, without Describe, Sync.
    ///
    /// # Errors
    /// No whole answer comes.
    pub async fn pipelined(&mut self, first: &str, second: &str, formats: &[u8]) -> Result<Received> {
        let mut out = Vec::new();
        for sql in [first, second] {
            put(&mut out, b'P', &[b"s\0", sql.as_bytes(), &[0, 0, 0]].concat())?;
            let mut bind = b"p\0s\0\0\0\0\0".to_vec();
            bind.extend(u16::try_from(formats.len())?.to_be_bytes());
            bind.extend(formats.iter().flat_map(|format| [0, *format]));
            put(&mut out, b'B', &bind)?;
            for rows in [1_u32, 1, 0] {
                put(&mut out, b'E', &[b"p\0".as_slice(), &rows.to_be_bytes()].concat())?;
            }
            put(&mut out, b'C', b"Pp\0")?;
            put(&mut out, b'C', b"Ss\0")?;
        }
        put(&mut out, b'S', &[])?;
        self.stream.write_all(&out).await?;
        self.until_ready().await
    }

    /// Statements in one go, a Sync behind the last; of `open`, bound before all of them if there is one, a row is read before
    /// and behind each.
    ///
    /// # Errors
    /// No whole answer comes.
    pub async fn together(&mut self, open: Option<&str>, statements: &[&str]) -> Result<Received> {
        let mut out = Vec::new();
        if let Some(open) = open {
            put(&mut out, b'P', &[&[0], open.as_bytes(), &[0, 0, 0]].concat())?;
            put(&mut out, b'B', b"open\0\0\0\0\0\0\0\0")?;
            put(&mut out, b'E', b"open\0\0\0\0\x01")?;
        }
        for sql in statements {
            put(&mut out, b'P', &[&[0], sql.as_bytes(), &[0, 0, 0]].concat())?;
            put(&mut out, b'B', &[0; 8])?;
            put(&mut out, b'E', &[0; 5])?;
            if open.is_some() {
                put(&mut out, b'E', b"open\0\0\0\0\x01")?;
            }
        }
        put(&mut out, b'S', &[])?;
        self.stream.write_all(&out).await?;
        self.until_ready().await
    }

    async fn send(&mut self, tag: u8, body: &[u8]) -> Result<()> {
        let mut out = Vec::new();
        put(&mut out, tag, body)?;
        Ok(self.stream.write_all(&out).await?)
    }

    async fn until_ready(&mut self) -> Result<Received> {
        let mut received = Received::default();
        loop {
            let Some((tag, body)) = self.frame().await? else {
                received.closed = true;
                return Ok(received);
            };
            put(&mut received.bytes, tag, &body)?;
            match tag {
                b'D' => {
                    received.data_rows = received.data_rows.saturating_add(1);
                    received.rows.push(values(&body));
                }
                b'd' => {
                    received.copy_data = received.copy_data.saturating_add(1);
                    received.rows.push(body.split(|byte| b"\t,\n|".contains(byte)).map(<[u8]>::to_vec).collect());
                }
                b'E' | b'N' => {
                    let found = fields(&body);
                    if tag == b'E' {
                        let text = |letter: u8| String::from_utf8_lossy(found.get(&letter).map_or(&[], Vec::as_slice)).into_owned();
                        received.errors.push(text(b'C'));
                        received.messages.push(text(b'M'));
                    }
                    received.rows.push(found.into_values().collect());
                }
                b'A' => received.rows.push(body.get(4..).unwrap_or_default().split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()),
                b'Z' => return Ok(received),
                _ => {}
            }
        }
    }

    /// The next message; `None` at the end of the connection.
    async fn frame(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        loop {
            if let Some((head, rest)) = self.buffer.split_first_chunk::<5>()
                && let [tag, length @ ..] = *head
                && let Some(body) = rest.get(..usize::try_from(u32::from_be_bytes(length))?.saturating_sub(4))
            {
                let body = body.to_vec();
                self.buffer.drain(..body.len().saturating_add(5));
                return Ok(Some((tag, body)));
            }
            let mut chunk = vec![0; 64 * 1024];
            let count = tokio::time::timeout(PATIENCE, self.stream.read(&mut chunk)).await.context("no answer")?.unwrap_or(0);
            if count == 0 {
                return Ok(None);
            }
            self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
        }
    }
}

fn put(out: &mut Vec<u8>, tag: u8, body: &[u8]) -> Result<()> {
    out.push(tag);
    out.extend(u32::try_from(body.len().saturating_add(4))?.to_be_bytes());
    out.extend_from_slice(body);
    Ok(())
}

fn values(body: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = body.get(2..).unwrap_or_default();
    let mut values = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        rest = after;
        if let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) {
            let (value, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            values.push(value.to_vec());
            rest = after;
        }
    }
    values
}

fn fields(body: &[u8]) -> std::collections::BTreeMap<u8, Vec<u8>> {
    body.split(|byte| *byte == 0).filter_map(|field| field.split_first()).map(|(letter, text)| (*letter, text.to_vec())).collect()
}
