//! What can happen in a session.

use bytes::Bytes;

use super::sealed::Sealed;

/// One event. Its number in the session, its time and the hash of the event before are the envelope's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "the large one comes once in a session")]
pub enum Event {
    /// Always event 0.
    SessionStart(SessionStart),
    /// A statement text as the client sent it, with its bound parameters. One per simple Query, one per Execute.
    Statement {
        /// Number of the statement within the session, from 1; later events refer to it.
        statement: u64,
        /// Whether it came by the extended protocol.
        extended: bool,
        /// Exact bytes.
        text: Bytes,
        /// Bound parameters.
        parameters: Vec<Parameter>,
        /// `countersign_approval::StatementDigest` of the two above.
        digest: [u8; 32],
    },
    /// The policy's decision.
    Decision {
        /// Statement.
        statement: u64,
        /// `allow`, `deny` or `hold`.
        verdict: Verdict,
        /// Rule.
        rule: String,
        /// Policy digest.
        policy: [u8; 32],
        /// Facts as JSON (an array, one object per statement in the text).
        facts: String,
    },
    /// A request for approval was placed.
    Hold {
        /// Statement.
        statement: u64,
        /// Request id.
        request: String,
        /// The request, JSON, exactly as stored.
        body: String,
    },
    /// A hold ended.
    Approval {
        /// Statement.
        statement: u64,
        /// Request id.
        request: String,
        /// `granted`, `denied`, `expired`, `cancelled`, `failed`.
        outcome: String,
        /// The signed decisions, whole (compact JWS).
        decisions: Vec<String>,
    },
    /// Server messages as the client saw them: whole frames (tag, length, body), after masking: RowDescription, DataRow, CopyOutResponse, CopyData to the client.
    Rows {
        /// Statement.
        statement: u64,
        /// Frames.
        frames: Bytes,
        /// DataRow and CopyData frames among them.
        count: u64,
    },
    /// CopyData from the client: whole frames.
    CopyIn {
        /// Statement.
        statement: u64,
        /// Frames.
        frames: Bytes,
    },
    /// How much was masked in one result set.
    Masked {
        /// Statement.
        statement: u64,
        /// Result column, source, mask, values masked.
        columns: Vec<MaskedColumn>,
    },
    /// A command completed.
    Completion {
        /// Statement.
        statement: u64,
        /// Command tag, `PortalSuspended`, or empty for an empty query.
        tag: String,
        /// Microseconds since the statement was forwarded.
        duration_us: u64,
    },
    /// An error went to the client.
    Error {
        /// Statement, 0 when none was running.
        statement: u64,
        /// SQLSTATE.
        code: String,
        /// Message as the client saw it.
        message: String,
        /// Whether the server (true) or the gateway (false) raised it.
        from_server: bool,
    },
    /// NoticeResponse or NotificationResponse to the client: one whole frame.
    Notice {
        /// Frame.
        frame: Bytes,
    },
    /// ParameterStatus.
    Parameter {
        /// Name.
        name: String,
        /// Value.
        value: String,
    },
    /// The session goes on under a newer token.
    Token {
        /// Issuer.
        issuer: String,
        /// Subject.
        subject: String,
        /// When it ends, microseconds since the epoch.
        expires_us: i64,
    },
    /// A CancelRequest with the right key.
    Cancel {
        /// Statement running or held, 0 when none.
        statement: u64,
    },
    /// Events that were lost (`async` durability only).
    Gap {
        /// How many events may be missing.
        events: u64,
        /// Why.
        reason: String,
    },
    /// Something for operators: the analysis and the server disagreed, say.
    Anomaly {
        /// Statement, 0 when none.
        statement: u64,
        /// What.
        what: String,
    },
    /// Another event, of which a part is sealed.
    Sealed(Sealed),
    /// Always the last event of a sealed recording.
    SessionEnd {
        /// Why: `client terminated`, `client gone`, `upstream gone`, `drain`, `lifetime`, `recorder failed`, `orphan` …
        reason: String,
    },
}

/// How a session began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionStart {
    /// Session id (UUID text).
    pub session: String,
    /// Name of the deployment.
    pub environment: String,
    /// Build of the proxy: version.
    pub build: String,
    /// Issuer of the token.
    pub issuer: String,
    /// Subject.
    pub subject: String,
    /// E-mail.
    pub email: Option<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Verified claims kept, name and value.
    pub claims: Vec<(String, String)>,
    /// Client address, `ip:port`.
    pub client_addr: String,
    /// TLS version towards the client, empty for plaintext.
    pub client_tls: String,
    /// Upstream address.
    pub upstream_addr: String,
    /// TLS version towards upstream, empty for plaintext.
    pub upstream_tls: String,
    /// Process id of the server's backend, as in its log and `pg_stat_activity`; 0 when unknown.
    pub upstream_pid: u32,
    /// Upstream role.
    pub upstream_user: String,
    /// Database.
    pub database: String,
    /// `application_name` the client gave.
    pub application: String,
    /// Policy digest at start.
    pub policy: [u8; 32],
    /// `strict` or `async`.
    pub durability: String,
}

/// A bound parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// `pg_type.oid`, 0 when unknown.
    pub type_oid: u32,
    /// Format code.
    pub format: i16,
    /// Bytes, `None` for NULL.
    pub value: Option<Bytes>,
}

/// A masked column of one result set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedColumn {
    /// Name in the result.
    pub column: String,
    /// `schema.table.column`, or `derived`.
    pub source: String,
    /// Mask.
    pub mask: String,
    /// Values masked.
    pub values: u64,
}

/// Verdict of a decision event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed.
    Allow,
    /// Denied.
    Deny,
    /// Held.
    Hold,
}
