//! What the shell hands to the session driver once both sides are authenticated, and the services a session uses.
//!
//! The shell has NOT yet told the client that it is in: AuthenticationOk, ParameterStatus, BackendKeyData and ReadyForQuery are the
//! driver's to send, once the start of the session is recorded.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::BytesMut;
use countersign_masking::MaskKey;
use countersign_policy::{Policy, Principal};
use countersign_session::Opening;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use uuid::Uuid;

use crate::{
    approvals::Approvals,
    cancel::CancelHandle,
    catalog::CatalogSource,
    config::{Durability, Limits},
    policy_source::PolicySource,
    recorder::Recorder,
    shutdown::Drain,
    upstream::UpstreamCancel,
};

/// The client's connection. `S` is another stream in tests.
#[derive(Debug)]
pub enum ClientIo<S = TcpStream> {
    /// Without TLS, on loopback.
    Plain(S),
    /// With TLS.
    Tls(Box<tokio_rustls::server::TlsStream<S>>),
}

/// The connection to the server.
#[derive(Debug)]
pub enum UpstreamIo<S = TcpStream> {
    /// Without TLS, on loopback.
    Plain(S),
    /// With TLS.
    Tls(Box<tokio_rustls::client::TlsStream<S>>),
}

/// One session, authenticated on both sides.
#[derive(Debug)]
pub struct Established {
    /// Session id.
    pub session_id: Uuid,
    /// Client.
    pub client: ClientIo,
    /// Bytes the client sent after its password.
    pub client_buffer: BytesMut,
    /// Minor protocol version agreed with the client: 0 or 2.
    pub protocol_minor: u16,
    /// Server, after its first ReadyForQuery (`I`).
    pub upstream: UpstreamIo,
    /// Bytes the server sent after ReadyForQuery.
    pub upstream_buffer: BytesMut,
    /// Who the client is.
    pub principal: Arc<Principal>,
    /// Seconds since the epoch when the token expires.
    pub token_expires_at: u64,
    /// Database.
    pub database: String,
    /// Role the session runs as.
    pub upstream_user: String,
    /// ParameterStatus values of the server's login, in its order.
    pub parameters: Vec<(String, String)>,
    /// The search path of the server's login.
    pub search_path: Option<String>,
    /// The policy the session begins under.
    pub policy: Arc<Policy>,
    /// Settings of the start-up packet that it allowed, and that the login has.
    pub opening: Vec<Opening>,
    /// The gateway's own cancel key, and the bell it rings.
    pub cancel: CancelHandle,
    /// How to cancel what runs upstream.
    pub upstream_cancel: UpstreamCancel,
    /// `ip:port`
    pub client_addr: String,
    /// TLS version towards the client, empty for plaintext.
    pub client_tls: String,
    /// `host:port`
    pub upstream_addr: String,
    /// TLS version towards the server, empty for plaintext.
    pub upstream_tls: String,
    /// `application_name` the client gave, empty when none.
    pub application: String,
    /// What the client wants while a statement of it is held.
    pub holding: countersign_session::Holding,
    /// `user` the client gave. A label only: who the client is comes from the token.
    pub client_user: String,
}

/// What sessions use. Cheap to clone; the catalog is that of the session's database.
#[derive(Debug, Clone)]
pub struct Services {
    /// Recordings.
    pub recorder: Recorder,
    /// Approvals.
    pub approvals: Approvals,
    /// The policy in force.
    pub policy: PolicySource,
    /// Catalog facts of the session's database.
    pub catalog: CatalogSource,
    /// Settings that hold for the process's life.
    pub settings: Arc<SessionSettings>,
    /// The orderly end.
    pub drain: Drain,
}

/// Settings that hold for the process's life.
#[derive(Debug)]
pub struct SessionSettings {
    /// Name of the deployment.
    pub environment: String,
    /// When bytes may go on.
    pub durability: Durability,
    /// Key of keyed masks.
    pub mask_key: MaskKey,
    /// Limits.
    pub limits: Limits,
    /// How long a session may live at most.
    pub max_session: Option<std::time::Duration>,
}

macro_rules! delegate_io {
    ($name:ident) => {
        impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for $name<S> {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
                    Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
                }
            }
        }

        impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for $name<S> {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
                    Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
                }
            }

            fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
                    Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Plain(stream) => stream.is_write_vectored(),
                    Self::Tls(stream) => stream.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
                    Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
                    Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
                }
            }
        }
    };
}

delegate_io!(ClientIo);
delegate_io!(UpstreamIo);

/// Name of a negotiated TLS version, `TLSv1.3` say.
#[must_use]
pub fn tls_version(version: Option<rustls::ProtocolVersion>) -> String {
    match version {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}
