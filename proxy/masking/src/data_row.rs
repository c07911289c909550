//! Rewriting a `DataRow` under a plan.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-DATAROW>: a 16-bit count, then
//! for each column a 32-bit length, -1 for NULL, and that many bytes.

use bytes::{BufMut as _, BytesMut};

use crate::{ColumnMask, MaskKey, ValueMasker};

/// Why a row could not be masked. The caller must not forward the row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaskError {
    /// The row is not a well-formed `DataRow`.
    #[error("malformed data row: {0}")]
    Malformed(&'static str),
    /// The row has another number of columns than the plan.
    #[error("data row has {found} columns, the plan {expected}")]
    ColumnCount {
        /// Columns in the plan.
        expected: usize,
        /// Columns in the row.
        found: usize,
    },
}

/// Masks the rows of one result set.
#[derive(Debug, Clone)]
pub struct RowMasker {
    columns: Box<[Option<ColumnMask>]>,
    maskers: Box<[Option<ValueMasker>]>,
    masked: Box<[u64]>,
}

impl RowMasker {
    /// A masker for rows with exactly these columns.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "the key belongs to the masker's makers, who hand out clones")]
    pub fn new(columns: Vec<Option<ColumnMask>>, key: MaskKey) -> Self {
        let maskers = columns.iter().map(|column| column.as_ref().map(|column| ValueMasker::new(column, &key))).collect();
        let masked = vec![0; columns.len()].into_boxed_slice();
        Self { columns: columns.into_boxed_slice(), maskers, masked }
    }

    /// Appends the masked row to `out` as a whole frame (tag, length, body). `body` is the incoming frame's body.
    ///
    /// # Errors
    /// When the row is malformed or has another shape than the plan; `out` and the counts are then unchanged.
    pub fn mask(&mut self, body: &[u8], out: &mut BytesMut) -> Result<(), MaskError> {
        let start = out.len();
        let mut done = 0;
        let result = self.append(body, out, &mut done);
        if result.is_err() {
            out.truncate(start);
            self.uncount(body, done);
        }
        result
    }

    /// How many non-null values were masked in each column so far.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.masked
    }

    /// The plan.
    #[must_use]
    pub fn columns(&self) -> &[Option<ColumnMask>] {
        &self.columns
    }

    fn append(&mut self, body: &[u8], out: &mut BytesMut, done: &mut usize) -> Result<(), MaskError> {
        let start = out.len();
        out.put_u8(b'D');
        out.put_i32(0);
        let mut row = Columns::new(body)?;
        if row.count != self.maskers.len() {
            return Err(MaskError::ColumnCount { expected: self.maskers.len(), found: row.count });
        }
        // Neighbouring clear columns are copied in one piece, from here to the next masked value.
        let mut clear_from = 0;
        for (masker, masked) in self.maskers.iter().zip(&mut self.masked) {
            let before = row.position;
            let value = row.next()?;
            if let (Some(masker), Some(value)) = (masker, value) {
                out.extend_from_slice(body.get(clear_from..before).unwrap_or_default());
                clear_from = row.position;
                put_value(masker, value, out)?;
                *masked = masked.wrapping_add(1);
            }
            *done = done.wrapping_add(1);
        }
        if row.position != body.len() {
            return Err(MaskError::Malformed("bytes after the last column"));
        }
        out.extend_from_slice(body.get(clear_from..).unwrap_or_default());
        let length = out.len().checked_sub(start.saturating_add(1)).and_then(|length| i32::try_from(length).ok());
        let length = length.ok_or(MaskError::Malformed("longer than a message can be"))?;
        set_i32(out, start.saturating_add(1), length);
        Ok(())
    }

    /// Takes back the counts of the first `done` columns of a row that was not forwarded.
    fn uncount(&mut self, body: &[u8], done: usize) {
        let Ok(mut row) = Columns::new(body) else {
            return;
        };
        for (masker, masked) in self.maskers.iter().zip(&mut self.masked).take(done) {
            if let (Some(_), Ok(Some(_))) = (masker, row.next()) {
                *masked = masked.wrapping_sub(1);
            }
        }
    }
}

fn put_value(masker: &ValueMasker, value: &[u8], out: &mut BytesMut) -> Result<(), MaskError> {
    let at = out.len();
    out.put_i32(-1);
    if masker.mask(value, out).is_some() {
        let length = out.len().checked_sub(at.saturating_add(4)).and_then(|length| i32::try_from(length).ok());
        set_i32(out, at, length.ok_or(MaskError::Malformed("longer than a message can be"))?);
    }
    Ok(())
}

fn set_i32(out: &mut BytesMut, at: usize, value: i32) {
    if let Some(slot) = out.get_mut(at..at.saturating_add(4)) {
        slot.copy_from_slice(&value.to_be_bytes());
    }
}

/// Walks a `DataRow`'s columns, checking every length.
struct Columns<'a> {
    body: &'a [u8],
    position: usize,
    count: usize,
}

impl<'a> Columns<'a> {
    fn new(body: &'a [u8]) -> Result<Self, MaskError> {
        let count = body.first_chunk::<2>().ok_or(MaskError::Malformed("no column count"))?;
        let count = usize::try_from(i16::from_be_bytes(*count)).map_err(|_| MaskError::Malformed("negative column count"))?;
        Ok(Self { body, position: 2, count })
    }

    fn next(&mut self) -> Result<Option<&'a [u8]>, MaskError> {
        let rest = self.body.get(self.position..).unwrap_or_default();
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(MaskError::Malformed("no column length"))?;
        self.position = self.position.saturating_add(4);
        let length = match i32::from_be_bytes(*length) {
            -1 => return Ok(None),
            length => usize::try_from(length).map_err(|_| MaskError::Malformed("negative column length"))?,
        };
        let value = rest.get(..length).ok_or(MaskError::Malformed("column longer than the row"))?;
        self.position = self.position.saturating_add(length);
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests;
