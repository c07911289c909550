//! The client's side until it has shown a token: TLS, the start-up packet, the password request.
//!
//! Start-up packets have no tag and come from anybody, so every length is bounded and nothing is read further than needed: bytes that
//! wait before the TLS handshake were not protected by it and end the connection.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>

mod oauth;
mod options;
mod packet;
mod transport;

use bytes::{Buf, BufMut, BytesMut};
use countersign_wire::{HEADER_LEN, be, fe, frame, peek_frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    error::{ClientError, sqlstate},
    established::ClientIo,
    identity::UnverifiedToken,
};

pub use oauth::{Bearer, Discovery};
pub use packet::{MAX_STARTUP_BYTES, NEWEST_MINOR, StartupParameters};
pub use transport::{Transport, TransportError};

use packet::{Packet, StartupPacket};

/// Largest password message: a 64 KiB token, its zero byte, and some.
const MAX_PASSWORD_BYTES: usize = 64 * 1024 + 16;

/// What a fresh connection wants.
#[derive(Debug)]
pub enum Greeting<S> {
    /// A session.
    Session(Box<Greeted<S>>),
    /// To cancel a statement of another connection. Nothing is answered.
    Cancel {
        /// Process id.
        process_id: i32,
        /// Secret.
        secret: Vec<u8>,
    },
    /// Nothing: it closed or broke off. Nothing can be answered.
    Gone {
        /// For logs and metrics.
        reason: &'static str,
    },
    /// Something that is refused.
    Refused {
        /// The stream, to tell it.
        io: ClientIo<S>,
        /// What to tell.
        error: ClientError,
    },
}

/// A client that has sent a good start-up packet.
#[derive(Debug)]
pub struct Greeted<S> {
    /// Stream.
    pub io: ClientIo<S>,
    /// Bytes read ahead.
    pub buffer: BytesMut,
    /// Agreed minor version: the client's, at most [`NEWEST_MINOR`].
    pub minor: u16,
    /// Whether the client asked for more than there is; then it must be told before anything else.
    negotiate: Option<Vec<String>>,
    /// What it asked for.
    pub parameters: StartupParameters,
}

/// Reads what a fresh connection wants. The caller bounds the time. Not cancel-safe: dropped halfway, the connection is lost.
pub async fn greet<S: AsyncRead + AsyncWrite + Unpin>(stream: S, transport: &Transport) -> Greeting<S> {
    let gone = |reason| Greeting::Gone { reason };
    let mut io = match transport::open(stream, transport).await {
        Ok(transport::Opened::Ready { io, packet }) => return settle(io, packet),
        Ok(transport::Opened::Encrypted(io)) => io,
        Err(transport::Failure::Gone(reason)) => return gone(reason),
        Err(transport::Failure::Refused { io, error }) => return Greeting::Refused { io: ClientIo::Plain(io), error },
    };
    match packet::read(&mut io).await {
        Ok(packet) => settle(io, packet),
        Err(packet::ReadError::Gone(reason)) => gone(reason),
        Err(packet::ReadError::Refused(error)) => Greeting::Refused { io, error },
    }
}

fn settle<S>(io: ClientIo<S>, packet: Packet) -> Greeting<S> {
    match packet {
        Packet::Cancel { process_id, secret } => Greeting::Cancel { process_id, secret },
        // Encryption requests inside of encryption, or a second one of a kind.
        Packet::Ssl | Packet::Gss => {
            Greeting::Refused { io, error: ClientError::new(sqlstate::PROTOCOL_VIOLATION, "encryption was requested twice") }
        }
        Packet::Startup(StartupPacket { minor, pairs }) => match StartupParameters::judge(pairs) {
            Ok((parameters, unknown)) => {
                let newer = minor > NEWEST_MINOR;
                let negotiate = (newer || !unknown.is_empty()).then_some(unknown);
                Greeting::Session(Box::new(Greeted { io, buffer: BytesMut::new(), minor: minor.min(NEWEST_MINOR), negotiate, parameters }))
            }
            Err(error) => Greeting::Refused { io, error },
        },
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Greeted<S> {
    /// Asks for the token. `Ok(None)` when the client went away, as psql does to ask a person first.
    ///
    /// # Errors
    /// When what comes is not a password.
    pub async fn ask_for_token(&mut self) -> Result<Option<UnverifiedToken>, ClientError> {
        let mut out = self.negotiation();
        // AuthenticationCleartextPassword
        frame(&mut out, be::AUTHENTICATION, |out| out.put_i32(3));
        if self.io.write_all(&out).await.is_err() || self.io.flush().await.is_err() {
            return Ok(None);
        }
        let Some(body) = self.message(fe::PASSWORD, "a password").await? else { return Ok(None) };
        UnverifiedToken::from_password(&body).map(Some)
    }

    /// NegotiateProtocolVersion, where the client must be told before anything else.
    fn negotiation(&self) -> BytesMut {
        let mut out = BytesMut::new();
        if let Some(unknown) = &self.negotiate {
            put_negotiate(&mut out, self.minor, unknown);
        }
        out
    }

    /// The body of the next message, which must have this tag. `Ok(None)` when the client went away.
    async fn message(&mut self, expected: u8, what: &str) -> Result<Option<BytesMut>, ClientError> {
        loop {
            let violation = |message: String| ClientError::new(sqlstate::PROTOCOL_VIOLATION, message);
            if let Some(tag) = self.buffer.first()
                && *tag != expected
            {
                return Err(violation(format!("expected {what}, got message {:?}", char::from(*tag))));
            }
            let header = peek_frame(&self.buffer, MAX_PASSWORD_BYTES).map_err(|error| violation(format!("{what}: {error}")))?;
            if let Some(header) = header
                && self.buffer.len() >= header.total
            {
                let mut body = self.buffer.split_to(header.total);
                body.advance(HEADER_LEN);
                return Ok(Some(body));
            }
            match self.io.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }
}

/// NegotiateProtocolVersion: the version that will be spoken and the options that are not known.
fn put_negotiate(out: &mut BytesMut, minor: u16, unknown: &[String]) {
    frame(out, b'v', |out| {
        out.put_u16(3);
        out.put_u16(minor);
        out.put_u32(u32::try_from(unknown.len()).unwrap_or(0));
        for name in unknown {
            out.put_slice(name.as_bytes());
            out.put_u8(0);
        }
    });
}

/// Tells the client why it must go, and closes. What cannot be delivered is not: it is gone then.
pub async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut io: ClientIo<S>, error: &ClientError) {
    let mut out = BytesMut::new();
    error.put(&mut out);
    if io.write_all(&out).await.is_ok() {
        let _ = io.shutdown().await;
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
