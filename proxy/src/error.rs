//! Errors a client may see. Only a [`ClientError`] reaches a client before its session begins; operators read another text in the log.
//!
//! There is no conversion from catch-all errors on purpose: each kind decides by itself what it tells and under which SQLSTATE.

use std::fmt;

use bytes::BytesMut;
use countersign_policy::Denial;
use countersign_wire::{ErrorFields, put_error};

/// SQLSTATEs the shell uses. <https://www.postgresql.org/docs/current/errcodes-appendix.html>
pub mod sqlstate {
    /// invalid_authorization_specification
    pub const INVALID_AUTHORIZATION: &str = "28000";
    /// invalid_password
    pub const INVALID_PASSWORD: &str = "28P01";
    /// protocol_violation
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// sqlserver_rejected_establishment_of_sqlconnection
    pub const REJECTED: &str = "08004";
    /// connection_failure
    pub const CONNECTION_FAILURE: &str = "08006";
    /// feature_not_supported
    pub const NOT_SUPPORTED: &str = "0A000";
    /// invalid_parameter_value
    pub const INVALID_PARAMETER: &str = "22023";
    /// undefined_object
    pub const UNDEFINED_OBJECT: &str = "42704";
    /// cant_change_runtime_param
    pub const CANNOT_CHANGE: &str = "55P02";
    /// syntax_error
    pub const SYNTAX_ERROR: &str = "42601";
    /// invalid_catalog_name
    pub const NO_DATABASE: &str = "3D000";
    /// insufficient_privilege
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    /// too_many_connections
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    /// cannot_connect_now
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    /// admin_shutdown
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    /// io_error
    pub const IO_ERROR: &str = "58030";
}

/// What a client is told when its connection ends before it became a session. Always FATAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientError {
    /// SQLSTATE.
    pub code: &'static str,
    /// One line, lower case, no secrets.
    pub message: String,
    /// DETAIL.
    pub detail: Option<String>,
    /// HINT.
    pub hint: Option<String>,
}

impl ClientError {
    /// An error without detail and hint.
    #[must_use]
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None }
    }

    /// A refusal by policy, or by the judge.
    #[must_use]
    pub fn denied(denial: Denial) -> Self {
        let known = [sqlstate::INVALID_PARAMETER, sqlstate::SYNTAX_ERROR, sqlstate::NOT_SUPPORTED];
        let code = known.into_iter().find(|known| *known == denial.code).unwrap_or(sqlstate::INSUFFICIENT_PRIVILEGE);
        Self { code, message: denial.message, detail: denial.detail, hint: denial.hint }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Appends the ErrorResponse.
    pub fn put(&self, out: &mut BytesMut) {
        let mut fields =
            vec![(b'S', "FATAL".to_owned()), (b'V', "FATAL".to_owned()), (b'C', self.code.to_owned()), (b'M', self.message.clone())];
        fields.extend(self.detail.iter().map(|text| (b'D', text.clone())));
        fields.extend(self.hint.iter().map(|text| (b'H', text.clone())));
        put_error(out, &ErrorFields(fields));
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for ClientError {}
