//! Frames: a tag, an Int32 length that counts itself, a body.

use crate::WireError;

/// Bytes before the body.
pub const HEADER_LEN: usize = 5;

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Message tag.
    pub tag: u8,
    /// Length of the whole frame, tag and length field included.
    pub total: usize,
}

impl FrameHeader {
    /// Length of the body.
    #[must_use]
    pub const fn body(&self) -> usize {
        self.total.saturating_sub(HEADER_LEN)
    }
}

/// Reads the header at the start of `buffer`; `None` when fewer than five bytes are there. `limit` bounds the body.
///
/// # Errors
/// When the declared length is below 4 or above the limit.
pub fn peek_frame(buffer: &[u8], limit: usize) -> Result<Option<FrameHeader>, WireError> {
    let Some(([tag, length @ ..], _)) = buffer.split_first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length);
    let body = length.checked_sub(4).ok_or(WireError::FrameLength { tag: char::from(*tag), length })?;
    let too_large = WireError::TooLarge { tag: char::from(*tag), length, limit };
    let body = usize::try_from(body).map_err(|_| too_large.clone())?;
    if body > limit {
        return Err(too_large);
    }
    let total = body.checked_add(HEADER_LEN).ok_or(too_large)?;
    Ok(Some(FrameHeader { tag: *tag, total }))
}
