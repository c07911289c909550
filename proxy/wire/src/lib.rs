//! PostgreSQL protocol 3 frames and messages: bytes to borrowed views, values to bytes, caps on every length.
//!
//! Owns: finding frames in a buffer, bounds-checked views of the messages the gateway looks into, and the encoding of those it
//! writes. Does not own: what a message means in a session (`countersign-session`), start-up packets (the proxy's shell).
//!
//! Cold messages are encoded with `pgwire`'s message types. Nothing is *decoded* with them: their decoders read past the end of a
//! short body and panic, which a hostile client would use; the views here return [`WireError`] instead.
//!
//! Source of the formats: <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

mod backend;
mod encode;
mod frame;
mod frontend;
mod limits;
mod reader;

pub use backend::{ErrorFields, FieldDescription, ReadyStatus, RowDescription, command_tag, notice_fields, parameter_status, ready_status};
pub use encode::*;
pub use frame::{FrameHeader, HEADER_LEN, peek_frame};
pub use frontend::{BindView, CloseView, DescribeView, ExecuteView, ParseView, Target, bind, close, describe, execute, parse, query_text};
pub use limits::{LARGE_BODY, SMALL_BODY, client_body_limit};
pub use reader::{Reader, WireError};

/// Frontend message tags.
pub mod fe {
    /// Bind
    pub const BIND: u8 = b'B';
    /// Close
    pub const CLOSE: u8 = b'C';
    /// CopyData
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone
    pub const COPY_DONE: u8 = b'c';
    /// CopyFail
    pub const COPY_FAIL: u8 = b'f';
    /// Describe
    pub const DESCRIBE: u8 = b'D';
    /// Execute
    pub const EXECUTE: u8 = b'E';
    /// Flush
    pub const FLUSH: u8 = b'H';
    /// FunctionCall
    pub const FUNCTION_CALL: u8 = b'F';
    /// Parse
    pub const PARSE: u8 = b'P';
    /// Query
    pub const QUERY: u8 = b'Q';
    /// Sync
    pub const SYNC: u8 = b'S';
    /// Terminate
    pub const TERMINATE: u8 = b'X';
    /// PasswordMessage, SASLInitialResponse, SASLResponse
    pub const PASSWORD: u8 = b'p';
}

/// Backend message tags.
pub mod be {
    /// Authentication
    pub const AUTHENTICATION: u8 = b'R';
    /// BackendKeyData
    pub const BACKEND_KEY_DATA: u8 = b'K';
    /// BindComplete
    pub const BIND_COMPLETE: u8 = b'2';
    /// CloseComplete
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// CommandComplete
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// CopyBothResponse
    pub const COPY_BOTH: u8 = b'W';
    /// CopyData
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone
    pub const COPY_DONE: u8 = b'c';
    /// CopyInResponse
    pub const COPY_IN: u8 = b'G';
    /// CopyOutResponse
    pub const COPY_OUT: u8 = b'H';
    /// DataRow
    pub const DATA_ROW: u8 = b'D';
    /// EmptyQueryResponse
    pub const EMPTY_QUERY: u8 = b'I';
    /// ErrorResponse
    pub const ERROR: u8 = b'E';
    /// FunctionCallResponse
    pub const FUNCTION_CALL: u8 = b'V';
    /// NoData
    pub const NO_DATA: u8 = b'n';
    /// NoticeResponse
    pub const NOTICE: u8 = b'N';
    /// NotificationResponse
    pub const NOTIFICATION: u8 = b'A';
    /// ParameterDescription
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    /// ParameterStatus
    pub const PARAMETER_STATUS: u8 = b'S';
    /// ParseComplete
    pub const PARSE_COMPLETE: u8 = b'1';
    /// PortalSuspended
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// ReadyForQuery
    pub const READY: u8 = b'Z';
    /// RowDescription
    pub const ROW_DESCRIPTION: u8 = b'T';
}
