//! The login itself: start-up packet, password or SCRAM, parameters, until the server is ready.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>,
//! <https://www.postgresql.org/docs/current/sasl-authentication.html>

use bytes::{BufMut, Bytes, BytesMut};
use countersign_wire::{Reader, be, fe, frame, parameter_status, ready_status};
use postgres_protocol::authentication::{
    md5_hash,
    sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Frames, LoginRequest, UpstreamError};
use crate::config::{self, SecretValue, UpstreamTls};

/// SSLRequest, whole.
pub(super) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// Code of CancelRequest, 80877102.
pub(super) const CANCEL_REQUEST_CODE: [u8; 4] = [0x04, 0xd2, 0x16, 0x2e];
/// Protocol 3.0: every server speaks it, and nothing the gateway needs came later.
const PROTOCOL: u32 = 0x0003_0000;
/// What the server keeps of a name (NAMEDATALEN - 1).
const NAME_BYTES: usize = 63;
/// More ParameterStatus messages than any server sends.
const MAX_PARAMETERS: usize = 1024;
/// More bytes in them than any server sends.
const MAX_PARAMETER_BYTES: usize = 1024 * 1024;
/// Longest cancel secret the protocol allows.
const MAX_SECRET: usize = 256;
/// More rounds of SCRAM than anybody asks for who means well. Each login has to do them all.
const MAX_ITERATIONS: u32 = 1_000_000;

/// What a login leaves.
#[derive(Debug, Default)]
pub(super) struct Login {
    pub(super) parameters: Vec<(String, String)>,
    pub(super) process_id: i32,
    pub(super) secret: Bytes,
}

/// Logs in on a fresh stream. `binding` is the channel binding data of a TLS connection (RFC 5929 tls-server-end-point).
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    frames: &mut Frames<S>,
    settings: &config::Upstream,
    request: &LoginRequest,
    password: Option<&SecretValue>,
    binding: Option<Vec<u8>>,
) -> Result<Login, UpstreamError> {
    frames.send(&startup_packet(&settings.user, request)).await?;
    let encrypted = settings.tls != UpstreamTls::Disable;
    authenticate(frames, &settings.user, password, encrypted, binding).await?;
    let mut login = Login::default();
    let mut parameter_bytes = 0_usize;
    loop {
        let (tag, body) = frames.next_answer().await?;
        match tag {
            be::PARAMETER_STATUS => {
                let (name, value) = parameter_status(&body)?;
                parameter_bytes = parameter_bytes.saturating_add(body.len());
                if login.parameters.len() >= MAX_PARAMETERS || parameter_bytes > MAX_PARAMETER_BYTES {
                    return Err(UpstreamError::Protocol("too many parameters".to_owned()));
                }
                login.parameters.push((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned()));
            }
            be::BACKEND_KEY_DATA => {
                let mut reader = Reader::new(&body);
                login.process_id = reader.i32("process id")?;
                login.secret = Bytes::copy_from_slice(reader.rest());
                if login.secret.len() > MAX_SECRET {
                    return Err(UpstreamError::Protocol("a cancel key that is too long".to_owned()));
                }
            }
            be::READY => {
                ready_status(&body)?;
                return check_encoding(login);
            }
            other => return Err(UpstreamError::Protocol(format!("message {:?} during login", char::from(other)))),
        }
    }
}

/// Statements are judged as UTF-8 and values are masked as UTF-8, so nothing else may be spoken.
fn check_encoding(login: Login) -> Result<Login, UpstreamError> {
    let value = |name: &str| login.parameters.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str());
    if value("client_encoding") != "UTF8" {
        return Err(UpstreamError::Method(format!(
            "client_encoding is {:?} after login, not UTF8 (the role or a pooler overrides it)",
            value("client_encoding")
        )));
    }
    if value("standard_conforming_strings") != "on" {
        return Err(UpstreamError::Method(
            "standard_conforming_strings is not on after login (the role or the server overrides it)".to_owned(),
        ));
    }
    Ok(login)
}

fn startup_packet(user: &str, request: &LoginRequest) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u32(0);
    out.put_u32(PROTOCOL);
    let application = cut(&request.application_name);
    let fixed = [
        ("user", user),
        ("database", &request.database),
        ("application_name", application),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
    ];
    let given = request.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let options = options(&request.options);
    let options = (!options.is_empty()).then_some(("options", options.as_str()));
    for (name, value) in fixed.into_iter().chain(options).chain(given) {
        for text in [name, value] {
            out.extend(text.bytes().filter(|byte| *byte != 0));
            out.put_u8(0);
        }
    }
    out.put_u8(0);
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
    if let Some(slot) = out.first_chunk_mut::<4>() {
        *slot = length.to_be_bytes();
    }
    out
}

/// Settings as words of the server's command line: white space separates, a backslash takes what follows as it is.
fn options(settings: &[(String, String)]) -> String {
    let mut out = String::new();
    for (name, value) in settings {
        out.push_str(if out.is_empty() { "-c " } else { " -c " });
        for character in name.chars().chain(['=']).chain(value.chars()) {
            if matches!(character, '\\' | ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c') {
                out.push('\\');
            }
            out.push(character);
        }
    }
    out
}

/// The longest prefix of whole characters the server keeps.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(NAME_BYTES);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    frames: &mut Frames<S>,
    user: &str,
    password: Option<&SecretValue>,
    encrypted: bool,
    binding: Option<Vec<u8>>,
) -> Result<(), UpstreamError> {
    let mut asked = 0_u8;
    let mut binding = Some(binding);
    loop {
        let (tag, body) = frames.next_answer().await?;
        if tag != be::AUTHENTICATION {
            return Err(UpstreamError::Protocol(format!("message {:?} during authentication", char::from(tag))));
        }
        let mut reader = Reader::new(&body);
        let method = reader.i32("authentication method")?;
        if method == 0 {
            return Ok(());
        }
        // A server asks once. One that asks again is fishing for passwords.
        asked = asked.saturating_add(1);
        if asked > 1 {
            return Err(UpstreamError::Protocol("more than one authentication request".to_owned()));
        }
        let Some(password) = password else {
            return Err(UpstreamError::Method(format!(
                "the server asks for authentication method {method}, but there is only a certificate (give upstream.password, or let \
                 pg_hba.conf take the certificate by `cert`)"
            )));
        };
        match method {
            3 if encrypted => send_password(frames, password.expose().as_bytes()).await?,
            3 => {
                return Err(UpstreamError::Method(
                    "the server asks for a cleartext password without TLS (use scram-sha-256 there)".to_owned(),
                ));
            }
            5 => {
                let salt = reader.bytes(4, "md5 salt")?;
                let salt: [u8; 4] = salt.try_into().unwrap_or_default();
                send_password(frames, md5_hash(user.as_bytes(), password.expose().as_bytes(), salt).as_bytes()).await?;
            }
            10 => scram(frames, &mut reader, password, binding.take().flatten()).await?,
            other => {
                return Err(UpstreamError::Method(format!(
                    "the server asks for authentication method {other}, which the gateway does not speak (use scram-sha-256 there)"
                )));
            }
        }
    }
}

async fn send_password<S: AsyncRead + AsyncWrite + Unpin>(frames: &mut Frames<S>, password: &[u8]) -> Result<(), UpstreamError> {
    let mut out = BytesMut::new();
    frame(&mut out, fe::PASSWORD, |out| {
        out.put_slice(password);
        out.put_u8(0);
    });
    frames.send(&out).await
}

async fn scram<S: AsyncRead + AsyncWrite + Unpin>(
    frames: &mut Frames<S>,
    reader: &mut Reader<'_>,
    password: &SecretValue,
    binding: Option<Vec<u8>>,
) -> Result<(), UpstreamError> {
    let mut offered = Vec::new();
    loop {
        match reader.cstring("SASL mechanism")? {
            b"" => break,
            name => offered.push(String::from_utf8_lossy(name).into_owned()),
        }
    }
    let offers = |name: &str| offered.iter().any(|offer| offer == name);
    let (mechanism, binding) = match binding {
        Some(data) if offers(SCRAM_SHA_256_PLUS) => (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(data)),
        // `y`: we could bind, but you did not offer it. The server notices when somebody on the way removed the offer.
        Some(_) if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
        None if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        _ => return Err(UpstreamError::Method(format!("the server offers {} only (use scram-sha-256 there)", offered.join(", ")))),
    };
    let broken = |error: std::io::Error| UpstreamError::Method(format!("SCRAM: {error} (is this the right server?)"));
    let mut exchange = ScramSha256::new(password.expose().as_bytes(), binding);
    let mut out = BytesMut::new();
    frame(&mut out, fe::PASSWORD, |out| {
        out.put_slice(mechanism.as_bytes());
        out.put_u8(0);
        out.put_u32(u32::try_from(exchange.message().len()).unwrap_or(0));
        out.put_slice(exchange.message());
    });
    frames.send(&out).await?;
    let first = sasl_step(frames, 11).await?;
    let rounds = iterations(&first);
    if rounds.is_some_and(|rounds| rounds > MAX_ITERATIONS) {
        return Err(UpstreamError::Method(format!(
            "SCRAM: the server asks for more than {MAX_ITERATIONS} iterations (set the password anew)"
        )));
    }
    // All those rounds are no work for a thread that carries sessions.
    let computed = tokio::task::spawn_blocking(move || exchange.update(&first).map(|()| exchange));
    let mut exchange = computed.await.map_err(|_| UpstreamError::Protocol("SCRAM was broken off".to_owned()))?.map_err(broken)?;
    let mut out = BytesMut::new();
    frame(&mut out, fe::PASSWORD, |out| out.put_slice(exchange.message()));
    frames.send(&out).await?;
    // The server proves that it knows the password too. Nothing is trusted before.
    exchange.finish(&sasl_step(frames, 12).await?).map_err(broken)
}

/// What a server's first SCRAM message asks for; the exchange itself says what is wrong with one that does not.
fn iterations(first: &[u8]) -> Option<u32> {
    let asked = first.split(|byte| *byte == b',').find_map(|attribute| attribute.strip_prefix(b"i="))?;
    // Too many digits are too many rounds.
    std::str::from_utf8(asked).ok().map(|digits| digits.parse().unwrap_or(u32::MAX))
}

async fn sasl_step<S: AsyncRead + AsyncWrite + Unpin>(frames: &mut Frames<S>, expected: i32) -> Result<Vec<u8>, UpstreamError> {
    let (tag, body) = frames.next_answer().await?;
    let mut reader = Reader::new(&body);
    if tag != be::AUTHENTICATION || reader.i32("authentication method")? != expected {
        return Err(UpstreamError::Protocol("unexpected message within SCRAM".to_owned()));
    }
    Ok(reader.rest().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn application_names_are_cut_at_a_character() {
        assert_eq!(cut("countersign:dana"), "countersign:dana");
        let long = "ä".repeat(40);
        assert_eq!(cut(&long).len(), 62);
        assert!(cut(&"x".repeat(100)).len() == 63);
    }

    #[test]
    fn a_zero_byte_cannot_end_a_value_early() {
        let request = LoginRequest { database: "bank\0user\0postgres".to_owned(), ..LoginRequest::default() };
        let packet = startup_packet("svc", &request);
        let text = String::from_utf8_lossy(&packet).into_owned();
        assert!(text.contains("database\0bankuserpostgres\0"), "{text:?}");
    }
}
