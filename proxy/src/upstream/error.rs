//! What can go wrong towards the server: for the operator in full, for the client without the server's words about the credential.

use countersign_wire::WireError;

use super::LoginRequest;
use crate::{
    config::SecretError,
    error::{ClientError, sqlstate},
};

/// A failure towards the server. `Display` is for operators.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The credential cannot be read.
    #[error("upstream password: {0}")]
    Secret(#[from] SecretError),
    /// No connection.
    #[error("upstream {address}: cannot connect: {error} (check upstream.host and upstream.port, and that the server runs)")]
    Dial {
        /// `host:port`
        address: String,
        /// Why.
        error: std::io::Error,
    },
    /// Too slow.
    #[error("upstream {address}: no login within {seconds} s")]
    Timeout {
        /// `host:port`
        address: String,
        /// Limit.
        seconds: u64,
    },
    /// The server has no TLS.
    #[error("upstream {address}: the server does not offer TLS (turn ssl on there; upstream.tls = \"disable\" is for loopback only)")]
    TlsRefused {
        /// `host:port`
        address: String,
    },
    /// Handshake.
    #[error("upstream {address}: TLS handshake failed: {error} (check upstream.host against the certificate, and upstream.ca)")]
    Tls {
        /// `host:port`
        address: String,
        /// Why.
        error: std::io::Error,
    },
    /// The connection broke.
    #[error("upstream connection lost: {0}")]
    Lost(std::io::Error),
    /// The server said no.
    #[error("upstream refused: {code}: {message}{}", login_hint(code))]
    Refused {
        /// SQLSTATE.
        code: String,
        /// The server's text.
        message: String,
    },
    /// The server asks for a login the gateway cannot or must not do.
    #[error("upstream login: {0}")]
    Method(String),
    /// Something that is not the protocol.
    #[error("upstream broke the protocol: {0}")]
    Protocol(String),
}

fn login_hint(code: &str) -> &'static str {
    match code {
        "28P01" => " (check upstream.user and upstream.password)",
        "28000" => " (check the server's pg_hba.conf for upstream.user, and upstream.client_certificate where it asks for one)",
        _ => "",
    }
}

impl From<WireError> for UpstreamError {
    fn from(error: WireError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl UpstreamError {
    /// Whether the server gave up waiting for a lock.
    #[must_use]
    pub fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "55P03")
    }

    /// The metric label.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Secret(_) | Self::Refused { .. } | Self::Method(_) => "login",
            Self::Dial { .. } | Self::Timeout { .. } => "dial",
            Self::TlsRefused { .. } | Self::Tls { .. } => "tls",
            Self::Lost(_) | Self::Protocol(_) => "lost",
        }
    }

    /// Whether the server knows the credential no longer.
    pub(super) fn refuses_credential(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "28P01" || code == "28000")
    }

    /// Whether another certificate may do better. One that is not taken shows in the handshake or right after it.
    pub(super) fn may_be_certificate(&self) -> bool {
        self.refuses_credential() || matches!(self, Self::Tls { .. } | Self::Lost(_))
    }

    /// What a client is told whose own settings the login carried: where the server speaks of one of those, in its words.
    #[must_use]
    pub fn client_of(&self, request: &LoginRequest) -> ClientError {
        if let Self::Refused { code, message } = self
            && let Some(code) = OF_SETTINGS.iter().find(|known| *known == code)
            && request.settings.iter().chain(&request.options).any(|setting| speaks_of(message, setting))
        {
            return ClientError::new(code, message.clone());
        }
        self.client(&request.database)
    }

    /// What the client is told. Names nothing of the service credential and repeats no text of the server.
    #[must_use]
    pub fn client(&self, database: &str) -> ClientError {
        let Self::Refused { code, .. } = self else {
            return match self {
                Self::Secret(_) | Self::Method(_) => rejected(),
                _ => ClientError::new(sqlstate::CONNECTION_FAILURE, "the gateway cannot reach the database server")
                    .hint("try again; the gateway's operators see why in its log"),
            };
        };
        match code.as_str() {
            "3D000" => ClientError::new(sqlstate::NO_DATABASE, format!("database \"{database}\" does not exist")),
            "53300" => ClientError::new(sqlstate::TOO_MANY_CONNECTIONS, "the database server has no connection to spare").hint("try again"),
            "57P03" => ClientError::new(sqlstate::CANNOT_CONNECT_NOW, "the database server does not take connections at the moment")
                .hint("try again"),
            "42501" => {
                ClientError::new(sqlstate::INSUFFICIENT_PRIVILEGE, format!("the gateway may not connect to database \"{database}\""))
            }
            "22023" | "42704" | "55P02" => ClientError::new(sqlstate::INVALID_PARAMETER, "the database server refused a start-up setting")
                .hint("check the values in `options` and the driver's start-up settings"),
            _ => rejected(),
        }
    }
}

/// SQLSTATEs of settings that the server does not take.
const OF_SETTINGS: &[&str] =
    &[sqlstate::INVALID_PARAMETER, sqlstate::UNDEFINED_OBJECT, sqlstate::CANNOT_CHANGE, sqlstate::INSUFFICIENT_PRIVILEGE];

/// Whether a message quotes the name or the value of a setting.
fn speaks_of(message: &str, (name, value): &(String, String)) -> bool {
    message.to_ascii_lowercase().contains(&format!("\"{}\"", name.to_ascii_lowercase()))
        || (!value.is_empty() && message.contains(&format!("\"{value}\"")))
}

fn rejected() -> ClientError {
    ClientError::new(sqlstate::REJECTED, "the gateway cannot log in to the database server")
        .hint("this is not about your token; the gateway's operators see why in its log")
}
