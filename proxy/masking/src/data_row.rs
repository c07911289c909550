//! Rewriting a `DataRow` under a plan.

use bytes::BytesMut;

use crate::{ColumnMask, MaskKey};

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
    key: MaskKey,
    masked: Box<[u64]>,
}

impl RowMasker {
    /// A masker for rows with exactly these columns.
    #[must_use]
    pub fn new(columns: Vec<Option<ColumnMask>>, key: MaskKey) -> Self {
        let masked = vec![0; columns.len()].into_boxed_slice();
        Self { columns: columns.into_boxed_slice(), key, masked }
    }

    /// Appends the masked row to `out` as a whole frame (tag, length, body). `body` is the incoming frame's body.
    ///
    /// # Errors
    /// When the row is malformed or has another shape than the plan; `out` is then unchanged.
    pub fn mask(&mut self, body: &[u8], out: &mut BytesMut) -> Result<(), MaskError> {
        let _ = (body, out, &self.key);
        Err(MaskError::Malformed("not implemented yet"))
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
}
