//! How large a message may be. The server's own bounds, so that what it would take is taken here and what it would not is not.
//!
//! `PQ_SMALL_MESSAGE_LIMIT` and `PQ_LARGE_MESSAGE_LIMIT` of the server's `libpq.h` count the length field, too.

use crate::fe;

/// Largest body of a message that carries names and numbers only.
pub const SMALL_BODY: usize = 10_000 - 4;
/// Largest body of a message that carries text or data: just below 1 GiB.
pub const LARGE_BODY: usize = 0x3fff_fffe - 4;

/// Largest body of a message a client may send within a session; `None` for a tag that is no such message.
#[must_use]
pub const fn client_body_limit(tag: u8) -> Option<usize> {
    match tag {
        fe::QUERY | fe::PARSE | fe::BIND | fe::FUNCTION_CALL | fe::COPY_DATA => Some(LARGE_BODY),
        fe::CLOSE | fe::DESCRIBE | fe::EXECUTE | fe::FLUSH | fe::SYNC | fe::TERMINATE | fe::COPY_DONE | fe::COPY_FAIL => Some(SMALL_BODY),
        _ => None,
    }
}
