//! OAUTHBEARER: the token comes by SASL instead of as the password, as libpq 18 does it for people.
//!
//! RFC 7628, <https://www.postgresql.org/docs/18/sasl-authentication.html#SASL-OAUTHBEARER>

use bytes::{BufMut, BytesMut};
use countersign_wire::{Reader, WireError, be, fe, frame};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::Greeted;
use crate::{
    error::{ClientError, sqlstate},
    identity::UnverifiedToken,
};

const MECHANISM: &[u8] = b"OAUTHBEARER";
/// Separates key-value pairs, and is all a client answers to a failure.
const SEPARATOR: u8 = 0x01;

/// What a client said first.
#[derive(Debug)]
pub enum Bearer {
    /// A token.
    Token(UnverifiedToken),
    /// Nothing: it wants to know where tokens are had.
    Discovery,
}

/// What a client is told about getting a token (RFC 7628 section 3.2.2).
#[derive(Debug, Clone, serde::Serialize)]
pub struct Discovery {
    status: &'static str,
    #[serde(rename = "openid-configuration")]
    configuration: String,
    scope: String,
}

impl Discovery {
    /// Where the issuer's configuration is, and which scopes to ask for.
    #[must_use]
    pub const fn new(configuration: String, scope: String) -> Self {
        Self { status: "invalid_token", configuration, scope }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Greeted<S> {
    /// Asks for the token by SASL. `Ok(None)` when the client went away.
    ///
    /// # Errors
    /// When what comes is not this mechanism's.
    pub async fn ask_for_bearer(&mut self) -> Result<Option<Bearer>, ClientError> {
        let mut out = self.negotiation();
        // AuthenticationSASL
        frame(&mut out, be::AUTHENTICATION, |out| {
            out.put_i32(10);
            out.put_slice(MECHANISM);
            out.put_slice(&[0, 0]);
        });
        if self.io.write_all(&out).await.is_err() || self.io.flush().await.is_err() {
            return Ok(None);
        }
        let Some(body) = self.message(fe::PASSWORD, "a SASL response").await? else { return Ok(None) };
        first_message(&body).map(Some)
    }

    /// Tells a client without a good token where tokens are had. It answers with a separator; what it is refused with comes after that.
    ///
    /// # Errors
    /// When it answers something else.
    pub async fn tell_discovery(&mut self, discovery: &Discovery) -> Result<(), ClientError> {
        let json = serde_json::to_vec(discovery).unwrap_or_default();
        let mut out = BytesMut::new();
        // AuthenticationSASLContinue
        frame(&mut out, be::AUTHENTICATION, |out| {
            out.put_i32(11);
            out.put_slice(&json);
        });
        if self.io.write_all(&out).await.is_err() || self.io.flush().await.is_err() {
            return Ok(());
        }
        match self.message(fe::PASSWORD, "a SASL response").await? {
            Some(body) if *body != [SEPARATOR] => Err(violation("the answer to a failure is a single 0x01")),
            _ => Ok(()),
        }
    }
}

fn violation(message: &str) -> ClientError {
    ClientError::new(sqlstate::PROTOCOL_VIOLATION, format!("malformed OAUTHBEARER message: {message}"))
}

/// SASLInitialResponse: mechanism, length, and the mechanism's first message.
fn first_message(body: &[u8]) -> Result<Bearer, ClientError> {
    let broken = |error: WireError| violation(&error.to_string());
    let mut reader = Reader::new(body);
    if reader.cstring("mechanism").map_err(broken)? != MECHANISM {
        return Err(ClientError::new(sqlstate::PROTOCOL_VIOLATION, "client selected an invalid SASL authentication mechanism"));
    }
    let message = reader.value("first message").map_err(broken)?.ok_or_else(|| violation("it is missing"))?;
    reader.finish().map_err(broken)?;
    parse(message)
}

/// `gs2-header kvsep *kvpair kvsep` (RFC 7628 section 3.1).
fn parse(message: &[u8]) -> Result<Bearer, ClientError> {
    let text = std::str::from_utf8(message).map_err(|_| violation("it is not text"))?;
    let rest = match text.as_bytes() {
        [b'n' | b'y', b',', ..] => text.get(2..).unwrap_or_default(),
        [b'p', ..] => return Err(violation("it asks for channel binding, which the mechanism has not")),
        _ => return Err(violation("no channel binding flag")),
    };
    // The other user's name a client may want to act as.
    let pairs = rest.strip_prefix(",\u{1}").ok_or_else(|| violation("an authorization identity is not supported"))?;
    let pairs = pairs.strip_suffix("\u{1}\u{1}").ok_or_else(|| violation("it does not end with two separators"))?;
    let mut found = None;
    for pair in pairs.split('\u{1}') {
        let (key, value) = pair.split_once('=').ok_or_else(|| violation("a pair without a value"))?;
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(violation("a key is not letters"));
        }
        if !value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n')) {
            return Err(violation("a value is not printable"));
        }
        if key == "auth" && found.replace(value).is_some() {
            return Err(violation("two tokens"));
        }
    }
    match found {
        None => Err(violation("no token")),
        Some("") => Ok(Bearer::Discovery),
        Some(value) => {
            let scheme = value.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("Bearer "));
            let token = scheme.and_then(|_| value.get(7..)).map(|token| token.trim_start_matches(' '));
            let token = token.ok_or_else(|| violation("the token is not a bearer token"))?;
            // b64token of RFC 6750
            let plain = token.trim_end_matches('=');
            if plain.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)) {
                return Err(violation("the token has characters no bearer token has"));
            }
            Ok(Bearer::Token(UnverifiedToken::from_bearer(token)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_carries_one_token() {
        for good in ["n,,\u{1}auth=Bearer a.b-c_d~e+f/g==\u{1}\u{1}", "y,,\u{1}host=gw\u{1}port=6432\u{1}auth=bearer   x\u{1}\u{1}"] {
            assert!(matches!(parse(good.as_bytes()), Ok(Bearer::Token(_))), "{good:?}");
        }
        assert!(matches!(parse(b"n,,\x01auth=\x01\x01"), Ok(Bearer::Discovery)));
        for bad in [
            "",
            "n",
            "n,,",
            "n,,\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x\u{1}",
            "n,,auth=Bearer x\u{1}\u{1}",
            "p=tls-exporter,,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,a=postgres,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,,\u{1}auth=Basic x\u{1}\u{1}",
            "n,,\u{1}auth=Bearer\u{1}\u{1}",
            "n,,\u{1}auth=Bearer \u{1}\u{1}",
            "n,,\u{1}auth=Bearer a b\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x=y\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x\u{1}auth=Bearer y\u{1}\u{1}",
            "n,,\u{1}auth=Bearer \u{e9}\u{1}\u{1}",
            "n,,\u{1}=x\u{1}auth=Bearer x\u{1}\u{1}",
            "n,,\u{1}auth\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x\u{1}\u{1}\u{1}",
        ] {
            assert!(parse(bad.as_bytes()).is_err_and(|error| error.code == "08P01"), "{bad:?}");
        }
    }
}
