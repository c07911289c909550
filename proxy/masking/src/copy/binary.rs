//! Binary format: a signature, then for each row a count and each value with its length, then -1.

use bytes::{BufMut as _, BytesMut};

use super::{Progress, Unit, check_count};
use crate::MaskError;
use crate::data_row::Treatment;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the extension.
const HEADER: usize = 19;

pub(super) fn next(pending: &[u8], progress: &mut Progress) -> Result<Unit, MaskError> {
    if pending.is_empty() {
        return Ok(Unit::Partial);
    }
    if progress.ended {
        return Err(MaskError::Malformed("copy data after the trailer"));
    }
    if !progress.begun {
        let Some(header) = pending.get(..HEADER) else { return Ok(Unit::Partial) };
        let (signature, rest) = header.split_at_checked(SIGNATURE.len()).unwrap_or_default();
        let (flags, extension) = rest.split_at_checked(4).unwrap_or_default();
        if signature != SIGNATURE || flags != [0; 4] || extension != [0; 4] {
            return Err(MaskError::Malformed("not the header of a binary copy"));
        }
        progress.begun = true;
        return Ok(Unit::Frame(HEADER));
    }
    let Some((count, mut rest)) = pending.split_first_chunk::<2>() else { return Ok(Unit::Partial) };
    let count = i16::from_be_bytes(*count);
    if count == -1 {
        progress.ended = true;
        return Ok(Unit::Frame(2));
    }
    if count < 0 {
        return Err(MaskError::Malformed("negative column count"));
    }
    for _ in 0..count {
        let Some((length, after)) = rest.split_first_chunk::<4>() else { return Ok(Unit::Partial) };
        rest = match i32::from_be_bytes(*length) {
            -1 => after,
            length => {
                let length = usize::try_from(length).map_err(|_| MaskError::Malformed("negative column length"))?;
                let Some(after) = after.get(length..) else { return Ok(Unit::Partial) };
                after
            }
        };
    }
    Ok(Unit::Row(pending.len().saturating_sub(rest.len())))
}

pub(super) fn row(row: &[u8], treatments: &[Treatment], masked: &mut [u64], out: &mut BytesMut) -> Result<(), MaskError> {
    let (count, mut rest) = row.split_first_chunk::<2>().ok_or(MaskError::Malformed("no column count"))?;
    let found = usize::try_from(i16::from_be_bytes(*count)).map_err(|_| MaskError::Malformed("negative column count"))?;
    check_count(found, treatments)?;
    out.extend_from_slice(count);
    for (treatment, changed) in treatments.iter().zip(masked) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(MaskError::Malformed("no column length"))?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            out.extend_from_slice(length);
            rest = after;
            continue;
        };
        let (value, after) = after.split_at_checked(length).ok_or(MaskError::Malformed("column longer than the row"))?;
        rest = after;
        let at = out.len();
        out.put_i32(-1);
        if treatment.changes(value) {
            *changed = changed.wrapping_add(1);
            if !treatment.apply(value, out) {
                continue;
            }
        } else {
            out.extend_from_slice(value);
        }
        let written = out.len().checked_sub(at.saturating_add(4)).and_then(|length| i32::try_from(length).ok());
        let written = written.ok_or(MaskError::Malformed("longer than a message can be"))?;
        if let Some(slot) = out.get_mut(at..at.saturating_add(4)) {
            slot.copy_from_slice(&written.to_be_bytes());
        }
    }
    Ok(())
}
