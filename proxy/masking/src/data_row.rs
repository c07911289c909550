//! Rewriting a `DataRow` under a plan.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-DATAROW>: a 16-bit count, then
//! for each column a 32-bit length, -1 for NULL, and that many bytes.

use bytes::{BufMut as _, BytesMut};

use crate::detect::Detectors;
use crate::scan::ValueScanner;
use crate::{ColumnMask, MaskKey, TextStyle, ValueMasker};

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

/// What happens to the values of one column.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ColumnPlan {
    /// Nothing.
    Clear,
    /// Each is masked.
    Mask(ColumnMask),
    /// What detectors find in them is hidden.
    Detect {
        /// Detectors.
        detectors: Detectors,
        /// `pg_type.oid` of the column.
        type_oid: u32,
        /// Whether values arrive in binary format (format code 1).
        binary: bool,
    },
}

/// A [`ColumnPlan`] made ready.
#[derive(Debug, Clone)]
pub(crate) enum Treatment {
    Clear,
    Mask(Box<ValueMasker>),
    Scan(ValueScanner),
}

impl Treatment {
    pub(crate) fn new(plan: &ColumnPlan, key: &MaskKey, style: TextStyle) -> Self {
        match plan {
            ColumnPlan::Clear => Self::Clear,
            ColumnPlan::Mask(mask) => Self::Mask(Box::new(ValueMasker::new(mask, key, style))),
            ColumnPlan::Detect { detectors, type_oid, binary } => {
                ValueScanner::new(detectors, *type_oid, *binary).map_or(Self::Clear, Self::Scan)
            }
        }
    }
}

impl Treatment {
    /// Whether a value that is not NULL is changed.
    pub(crate) fn changes(&self, value: &[u8]) -> bool {
        match self {
            Self::Clear => false,
            Self::Mask(_) => true,
            Self::Scan(scanner) => scanner.finds(value),
        }
    }

    /// What a NULL is shown as, where it is not shown as NULL.
    fn in_place_of_null(&self) -> Option<&[u8]> {
        match self {
            Self::Mask(masker) => masker.in_place_of_null(),
            Self::Clear | Self::Scan(_) => None,
        }
    }

    /// Whether what the column has in a row is not shown as it is.
    fn hides(&self, value: Option<&[u8]>) -> bool {
        value.map_or_else(|| self.in_place_of_null().is_some(), |value| self.changes(value))
    }

    /// Appends what is shown of a value; `false`: NULL, and nothing was appended.
    pub(crate) fn apply(&self, value: &[u8], out: &mut BytesMut) -> bool {
        match self {
            Self::Clear => out.extend_from_slice(value),
            Self::Mask(masker) => return masker.mask(value, out).is_some(),
            Self::Scan(scanner) => {
                scanner.redact(value, out);
            }
        }
        true
    }
}

/// Masks the rows of one result set.
#[derive(Debug, Clone)]
pub struct RowMasker {
    treatments: Box<[Treatment]>,
    masked: Box<[u64]>,
}

impl RowMasker {
    /// A masker for rows with exactly these columns, whose texts are written in that style.
    #[must_use]
    pub fn new(columns: &[ColumnPlan], key: &MaskKey, style: TextStyle) -> Self {
        let masked = vec![0; columns.len()].into_boxed_slice();
        Self { treatments: columns.iter().map(|plan| Treatment::new(plan, key, style)).collect(), masked }
    }

    /// Whether rows pass as they are, whatever is in them.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.treatments.iter().all(|treatment| matches!(treatment, Treatment::Clear))
    }

    /// Whether a row passes as it is. `body` is the incoming frame's body.
    ///
    /// # Errors
    /// When the row is malformed or has another shape than the plan.
    pub fn passes(&self, body: &[u8]) -> Result<bool, MaskError> {
        let mut row = Columns::new(body)?;
        if row.count != self.treatments.len() {
            return Err(MaskError::ColumnCount { expected: self.treatments.len(), found: row.count });
        }
        for treatment in &self.treatments {
            match (treatment, row.next()?) {
                (Treatment::Mask(_), Some(_)) => return Ok(false),
                (Treatment::Scan(scanner), Some(value)) if scanner.finds(value) => return Ok(false),
                (treatment, None) if treatment.in_place_of_null().is_some() => return Ok(false),
                _ => {}
            }
        }
        if row.position == body.len() { Ok(true) } else { Err(MaskError::Malformed("bytes after the last column")) }
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

    /// How many values were changed in each column so far.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.masked
    }

    fn append(&mut self, body: &[u8], out: &mut BytesMut, done: &mut usize) -> Result<(), MaskError> {
        let start = out.len();
        out.put_u8(b'D');
        out.put_i32(0);
        let mut row = Columns::new(body)?;
        if row.count != self.treatments.len() {
            return Err(MaskError::ColumnCount { expected: self.treatments.len(), found: row.count });
        }
        // Neighbouring clear columns are copied in one piece, from here to the next masked value.
        let mut clear_from = 0;
        for (treatment, masked) in self.treatments.iter().zip(&mut self.masked) {
            let before = row.position;
            let value = row.next()?;
            if treatment.hides(value) {
                out.extend_from_slice(body.get(clear_from..before).unwrap_or_default());
                clear_from = row.position;
                put_value(treatment, value, out)?;
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
        for (treatment, masked) in self.treatments.iter().zip(&mut self.masked).take(done) {
            if row.next().is_ok_and(|value| treatment.hides(value)) {
                *masked = masked.wrapping_sub(1);
            }
        }
    }
}

fn put_value(treatment: &Treatment, value: Option<&[u8]>, out: &mut BytesMut) -> Result<(), MaskError> {
    let at = out.len();
    out.put_i32(-1);
    let shown = match (value, treatment.in_place_of_null()) {
        (Some(value), _) => treatment.apply(value, out),
        (None, Some(value)) => {
            out.extend_from_slice(value);
            true
        }
        (None, None) => false,
    };
    if shown {
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
