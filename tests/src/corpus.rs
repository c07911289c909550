//! The corpus of attacks, and a player of its steps that writes and reads raw protocol bytes.
//!
//! Owns: the cases, framing towards a server or gateway without TLS, every byte received. Does not own: what must hold afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

const CASES: &str = include_str!("../../proxy/policy/tests/data/corpus.jsonl");
/// Roles, once a server.
pub const ROLES: &str = include_str!("../../proxy/policy/tests/data/roles.sql");
/// What a case's database holds.
pub const FIXTURE: &str = include_str!("../../proxy/policy/tests/data/fixture.sql");

/// How long an answer may take that must come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer is waited for that a refused attack may never get.
const MOMENT: Duration = Duration::from_millis(1500);

/// One case.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    /// Name.
    pub id: String,
    /// `classify`, `wire`, `masking` …
    pub area: String,
    /// The pivotal statement.
    #[serde(default)]
    pub sql: Option<String>,
    /// What the gateway must do, in words.
    #[serde(default)]
    pub expected_proxy: String,
    /// Must not be blocked.
    #[serde(default)]
    pub control: bool,
    /// `svc` or `postgres`.
    #[serde(default)]
    pub run_as: Option<String>,
    /// SQL by the superuser beforehand.
    #[serde(default)]
    pub setup_sql: Option<String>,
    /// SQL by the superuser afterwards.
    #[serde(default)]
    pub cleanup: Option<String>,
    /// The same.
    #[serde(default)]
    pub post: Option<String>,
    /// More start-up parameters.
    #[serde(default)]
    pub startup: Option<BTreeMap<String, String>>,
    /// The script; absent: one Query of `sql`.
    #[serde(default)]
    pub steps: Option<Vec<Vec<Value>>>,
    /// What is true of a bare server.
    #[serde(default)]
    pub oracle: Oracle,
}

/// What is true of a bare server.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Oracle {
    /// SQL that is true afterwards.
    pub effect: Option<String>,
    /// A pattern that the bytes received match.
    pub leak: Option<String>,
    /// A pattern that they do not match.
    pub noleak: Option<String>,
    /// SQLSTATEs that are received.
    pub err: Option<Value>,
    /// The connection that is closed.
    pub expect_close: Option<String>,
}

impl Oracle {
    /// The SQLSTATEs.
    #[must_use]
    pub fn codes(&self) -> Vec<&str> {
        match &self.err {
            Some(Value::String(code)) => vec![code.as_str()],
            Some(Value::Array(codes)) => codes.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

impl Case {
    /// Parts of its set-up and clean-up.
    #[must_use]
    pub fn parts(sql: Option<&str>) -> Vec<String> {
        sql.into_iter().flat_map(|sql| sql.split("\n;;\n")).map(str::to_owned).collect()
    }
}

/// All cases of the areas that run against a server.
///
/// # Errors
/// The corpus cannot be read.
pub fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for line in CASES.lines().filter(|line| !line.trim().is_empty()) {
        let case: Case = serde_json::from_str(line).with_context(|| format!("bad case: {line:.80}"))?;
        let runs = case.steps.is_some() || case.sql.is_some();
        if matches!(case.area.as_str(), "classify" | "wire" | "masking") && runs && !case.oracle.is_empty() {
            cases.push(case);
        }
    }
    Ok(cases)
}

impl Oracle {
    const fn is_empty(&self) -> bool {
        self.effect.is_none() && self.leak.is_none() && self.noleak.is_none() && self.err.is_none() && self.expect_close.is_none()
    }
}

/// Where steps are played.
#[derive(Debug, Clone)]
pub struct Target {
    /// Port on 127.0.0.1, plain TCP.
    pub port: u16,
    /// User at start-up.
    pub user: String,
    /// Answer to a request for a password.
    pub password: String,
    /// Database.
    pub database: String,
    /// What `$PORT` stands for.
    pub server_port: u16,
    /// What `$SCRATCH` stands for.
    pub scratch: String,
}

/// What came back.
#[derive(Debug, Default)]
pub struct Played {
    /// Every byte received on any connection, each as the character of that number.
    pub text: String,
    /// SQLSTATE and message of every ERROR and FATAL.
    pub errors: Vec<(String, String)>,
    /// Connections the other side closed.
    pub closed: Vec<String>,
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    key: Option<(u32, u32)>,
    closed: bool,
}

/// Plays a case.
///
/// # Errors
/// The target cannot be reached, does not answer in time, or a step is not understood.
pub async fn play(case: &Case, target: &Target) -> Result<Played> {
    let mut player = Player { case, target, connections: BTreeMap::new(), played: Played::default() };
    let whole = vec![vec![Value::from("A"), Value::from("Q"), Value::from(case.sql.clone().unwrap_or_default())]];
    for step in case.steps.as_ref().unwrap_or(&whole) {
        player.step(step).await.with_context(|| format!("step {step:?}"))?;
    }
    player.finish().await;
    Ok(player.played)
}

struct Player<'a> {
    case: &'a Case,
    target: &'a Target,
    connections: BTreeMap<String, Connection>,
    played: Played,
}

impl Player<'_> {
    async fn step(&mut self, step: &[Value]) -> Result<()> {
        let name = step.first().and_then(Value::as_str).context("no connection")?.to_owned();
        let op = step.get(1).and_then(Value::as_str).context("no op")?;
        let argument = |index: usize| step.get(index.saturating_add(2)).unwrap_or(&Value::Null);
        let target = self.target;
        let bytes = |index: usize| bytes_of(target, argument(index));
        match op {
            "open" => {
                let extra = argument(0).as_object().cloned().unwrap_or_default();
                let extra = extra.into_iter().map(|(key, value)| (key, value.as_str().unwrap_or_default().to_owned())).collect();
                return self.open(&name, extra).await;
            }
            "openraw" => return self.connect(&name).await,
            "sleep" => {
                tokio::time::sleep(Duration::from_secs_f64(argument(0).as_f64().unwrap_or(0.0))).await;
                return Ok(());
            }
            "cancel" => {
                let other = argument(0).as_str().unwrap_or_default();
                let (pid, secret) = self.connections.get(other).and_then(|other| other.key).context("no key to cancel with")?;
                let secret = argument(1).as_u64().map_or(Ok(secret), u32::try_from)?;
                let mut message = Vec::new();
                for number in [16_u32, 80_877_102, pid, secret] {
                    message.extend_from_slice(&number.to_be_bytes());
                }
                let mut stream = TcpStream::connect(("127.0.0.1", self.target.port)).await?;
                stream.write_all(&message).await?;
                let _ = stream.read(&mut [0]).await;
                return Ok(());
            }
            _ => {}
        }
        if !self.connections.contains_key(&name) {
            self.open(&name, self.case.startup.clone().unwrap_or_default()).await?;
        }
        let sent = match op {
            "Q" | "Qnw" => frame(b'Q', &zero_ended(&bytes(0))),
            "P" => {
                let mut body = zero_ended(&bytes(0));
                body.extend(zero_ended(&bytes(1)));
                let types = argument(2).as_array().cloned().unwrap_or_default();
                body.extend(u16::try_from(types.len())?.to_be_bytes());
                for oid in &types {
                    body.extend(u32::try_from(oid.as_u64().context("an OID")?)?.to_be_bytes());
                }
                frame(b'P', &body)
            }
            "B" => {
                let mut body = zero_ended(&bytes(0));
                body.extend(zero_ended(&bytes(1)));
                body.extend(shorts(argument(3))?);
                let values = argument(2).as_array().cloned().unwrap_or_default();
                body.extend(u16::try_from(values.len())?.to_be_bytes());
                for value in &values {
                    if value.is_null() {
                        body.extend((-1_i32).to_be_bytes());
                    } else {
                        let value = bytes_of(target, value);
                        body.extend(u32::try_from(value.len())?.to_be_bytes());
                        body.extend(value);
                    }
                }
                body.extend(shorts(argument(4))?);
                frame(b'B', &body)
            }
            "D" | "C" => {
                let mut body = bytes(0);
                body.extend(zero_ended(&bytes(1)));
                frame(if op == "D" { b'D' } else { b'C' }, &body)
            }
            "E" => {
                let mut body = zero_ended(&bytes(0));
                body.extend(u32::try_from(argument(1).as_u64().unwrap_or(0))?.to_be_bytes());
                frame(b'E', &body)
            }
            "S" => frame(b'S', &[]),
            "H" => frame(b'H', &[]),
            "F" => {
                let mut body = u32::try_from(argument(0).as_u64().unwrap_or(0))?.to_be_bytes().to_vec();
                body.extend(0_u16.to_be_bytes());
                let values = argument(1).as_array().cloned().unwrap_or_default();
                body.extend(u16::try_from(values.len())?.to_be_bytes());
                for value in &values {
                    let value = bytes_of(target, value);
                    body.extend(u32::try_from(value.len())?.to_be_bytes());
                    body.extend(value);
                }
                body.extend(0_u16.to_be_bytes());
                frame(b'F', &body)
            }
            "d" => frame(b'd', &bytes(0)),
            "c" => frame(b'c', &[]),
            "f" => frame(b'f', &zero_ended(&bytes(0))),
            "msg" => frame(*bytes(0).first().context("no type")?, &bytes(1)),
            "raw" => bytes(0),
            "close" => frame(b'X', &[]),
            "wait" => {
                let kinds = bytes(0);
                return self.read(&name, &kinds, MOMENT, false).await;
            }
            "drop" => {
                self.connections.remove(&name);
                return Ok(());
            }
            other => bail!("unknown op {other}"),
        };
        let connection = self.connections.get_mut(&name).context("no such connection")?;
        if connection.stream.write_all(&sent).await.is_err() {
            connection.closed = true;
        }
        match op {
            "Q" => self.read(&name, b"ZGWH", PATIENCE, true).await,
            "S" | "F" => self.read(&name, b"Z", PATIENCE, true).await,
            _ => Ok(()),
        }
    }

    async fn connect(&mut self, name: &str) -> Result<()> {
        let stream = TcpStream::connect(("127.0.0.1", self.target.port)).await?;
        stream.set_nodelay(true)?;
        self.connections.insert(name.to_owned(), Connection { stream, buffer: Vec::new(), key: None, closed: false });
        Ok(())
    }

    async fn open(&mut self, name: &str, extra: BTreeMap<String, String>) -> Result<()> {
        self.connect(name).await?;
        let mut parameters =
            BTreeMap::from([("user".to_owned(), self.target.user.clone()), ("database".to_owned(), self.target.database.clone())]);
        parameters.extend(extra);
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for (key, value) in &parameters {
            body.extend(zero_ended(key.as_bytes()));
            body.extend(zero_ended(value.as_bytes()));
        }
        body.push(0);
        let mut packet = u32::try_from(body.len().saturating_add(4))?.to_be_bytes().to_vec();
        packet.extend(body);
        let password = frame(b'p', &zero_ended(self.target.password.as_bytes()));
        let connection = self.connections.get_mut(name).context("no such connection")?;
        let _ = connection.stream.write_all(&packet).await;
        self.read(name, b"RE", PATIENCE, true).await?;
        if let Some(connection) = self.connections.get_mut(name)
            && !connection.closed
        {
            let _ = connection.stream.write_all(&password).await;
            self.read(name, b"ZE", PATIENCE, true).await?;
        }
        Ok(())
    }

    /// Reads until a message of one of `kinds`, or the end.
    async fn read(&mut self, name: &str, kinds: &[u8], limit: Duration, must: bool) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let connection = self.connections.get_mut(name).context("no such connection")?;
            while let Some((kind, body)) = next_frame(&mut connection.buffer) {
                match kind {
                    b'E' => self.played.errors.push(error_fields(&body)),
                    b'K' => {
                        let number =
                            |at: usize| body.get(at..at.saturating_add(4)).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes);
                        connection.key = number(0).zip(number(4));
                    }
                    _ => {}
                }
                if kinds.contains(&kind) {
                    return Ok(());
                }
            }
            if connection.closed {
                if !self.played.closed.iter().any(|known| known == name) {
                    self.played.closed.push(name.to_owned());
                }
                return Ok(());
            }
            let mut chunk = [0_u8; 16 * 1024];
            match timeout_at(end, connection.stream.read(&mut chunk)).await {
                Ok(Ok(0) | Err(_)) => connection.closed = true,
                Ok(Ok(count)) => {
                    let new = chunk.get(..count).unwrap_or_default();
                    self.played.text.extend(new.iter().map(|byte| char::from(*byte)));
                    connection.buffer.extend_from_slice(new);
                }
                Err(_) if must => bail!("no answer within {} s", limit.as_secs()),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Whatever is still on its way, then goodbye.
    async fn finish(&mut self) {
        for name in self.connections.keys().cloned().collect::<Vec<_>>() {
            let _ = self.read(&name, b"", Duration::from_millis(30), false).await;
        }
        for connection in self.connections.values_mut() {
            let _ = connection.stream.write_all(&frame(b'X', &[])).await;
        }
    }
}

fn bytes_of(target: &Target, value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text
            .replace("$SCRATCH", &target.scratch)
            .replace("$PORT", &target.server_port.to_string())
            .replace("$DB", &target.database)
            .into_bytes(),
        Value::Object(object) => object.get("hex").and_then(Value::as_str).and_then(|text| hex::decode(text).ok()).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn next_frame(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let kind = *buffer.first()?;
    let length = usize::try_from(u32::from_be_bytes(buffer.get(1..5)?.try_into().ok()?)).ok()?;
    let body = buffer.get(5..length.checked_add(1)?)?.to_vec();
    buffer.drain(..length.saturating_add(1));
    Some((kind, body))
}

fn error_fields(body: &[u8]) -> (String, String) {
    let field = |letter: u8| {
        let found = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&letter));
        String::from_utf8_lossy(found.and_then(|field| field.get(1..)).unwrap_or_default()).into_owned()
    };
    (field(b'C'), field(b'M'))
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(u32::try_from(body.len().saturating_add(4)).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn zero_ended(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.push(0);
    out
}

fn shorts(value: &Value) -> Result<Vec<u8>> {
    let values = value.as_array().cloned().unwrap_or_default();
    let mut out = u16::try_from(values.len())?.to_be_bytes().to_vec();
    for value in &values {
        out.extend(u16::try_from(value.as_u64().context("a format")?)?.to_be_bytes());
    }
    Ok(out)
}
