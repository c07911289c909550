//! Masking what `COPY … TO STDOUT` sends: text, CSV and binary.
//!
//! <https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.10>: nothing in the protocol says that a row and a CopyData message
//! begin and end together, so rows are put together from the bytes of all messages. What comes out is one message a row, as the server's own is.

use bytes::{Buf as _, BufMut as _, BytesMut};

use crate::data_row::Treatment;
use crate::{ColumnPlan, MaskError, MaskKey, TextStyle};

mod binary;
mod csv;
mod text;

/// How the rows of a COPY are written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyFormat {
    /// Lines, with backslash escapes.
    Text {
        /// Between values.
        delimiter: u8,
        /// Stands for NULL.
        null: Vec<u8>,
    },
    /// Comma-separated values.
    Csv {
        /// Between values.
        delimiter: u8,
        /// Stands for NULL where it is not quoted.
        null: Vec<u8>,
        /// Around values.
        quote: u8,
        /// Before a quote or itself in quoted values.
        escape: u8,
        /// For each column, whether its values are always quoted.
        force_quote: Vec<bool>,
    },
    /// PostgreSQL's own.
    Binary,
}

/// The format, and whether a line of column names comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyLayout {
    /// Format.
    pub format: CopyFormat,
    /// Whether the first line is a header; never in binary.
    pub header: bool,
}

/// Masks the rows of one COPY.
#[derive(Debug)]
pub struct CopyMasker {
    layout: CopyLayout,
    treatments: Box<[Treatment]>,
    masked: Box<[u64]>,
    pending: BytesMut,
    progress: Progress,
    rows: u64,
    scratch: BytesMut,
    /// The header of a binary copy. The server puts it into one message with what comes next, and drivers count on that.
    lead: BytesMut,
}

/// How far the row at the start of what is pending was looked at.
#[derive(Debug, Default, Clone, Copy)]
struct Progress {
    /// Whether what comes before the first row is through.
    begun: bool,
    /// Whether what comes after the last row is through.
    ended: bool,
    at: usize,
    quoted: bool,
    escaped: bool,
}

/// One unit at the start of what is pending.
enum Unit {
    /// Bytes that are not a row: a header or trailer of that length.
    Frame(usize),
    /// A row of that length.
    Row(usize),
    /// It is not all here yet.
    Partial,
}

impl CopyMasker {
    /// A masker for rows with exactly these columns. Masks and detectors must be for text format, or all for binary, as the layout is.
    #[must_use]
    pub fn new(layout: CopyLayout, columns: &[ColumnPlan], key: &MaskKey, style: TextStyle) -> Self {
        Self {
            layout,
            treatments: columns.iter().map(|plan| Treatment::new(plan, key, style)).collect(),
            masked: vec![0; columns.len()].into_boxed_slice(),
            pending: BytesMut::new(),
            progress: Progress::default(),
            rows: 0,
            scratch: BytesMut::new(),
            lead: BytesMut::new(),
        }
    }

    /// Whether rows pass as they are, whatever is in them.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.treatments.iter().all(|treatment| matches!(treatment, Treatment::Clear))
    }

    /// Takes the body of one CopyData message and appends the masked form of what is complete to `out`, as whole CopyData frames.
    ///
    /// # Errors
    /// When the data is not in the layout or has other columns than the plan. Nothing of it must then be forwarded.
    pub fn feed(&mut self, data: &[u8], out: &mut BytesMut) -> Result<(), MaskError> {
        self.pending.extend_from_slice(data);
        loop {
            let unit = match &self.layout.format {
                CopyFormat::Text { .. } => text::next(&self.pending, &mut self.progress),
                CopyFormat::Csv { quote, escape, .. } => csv::next(&self.pending, *quote, *escape, &mut self.progress),
                CopyFormat::Binary => binary::next(&self.pending, &mut self.progress)?,
            };
            let length = match unit {
                Unit::Partial => return Ok(()),
                Unit::Frame(length) | Unit::Row(length) => length,
            };
            let unit_bytes = self.pending.get(..length).ok_or(MaskError::Malformed("copy data shorter than it says"))?;
            if matches!(unit, Unit::Frame(_)) && self.layout.format == CopyFormat::Binary && !self.progress.ended {
                self.lead.extend_from_slice(unit_bytes);
                self.pending.advance(length.min(self.pending.len()));
                continue;
            }
            let start = out.len();
            out.put_u8(b'd');
            out.put_i32(0);
            out.extend_from_slice(&self.lead);
            self.lead.clear();
            let header = !matches!(unit, Unit::Row(_)) || (self.layout.header && !std::mem::replace(&mut self.progress.begun, true));
            if header {
                out.extend_from_slice(unit_bytes);
            } else {
                let done = match &self.layout.format {
                    CopyFormat::Text { delimiter, null } => {
                        text::row(unit_bytes, *delimiter, null, &self.treatments, &mut self.masked, &mut self.scratch, out)
                    }
                    CopyFormat::Csv { delimiter, null, quote, escape, force_quote } => {
                        let dialect = csv::Dialect { delimiter: *delimiter, null, quote: *quote, escape: *escape, force_quote };
                        csv::row(unit_bytes, &dialect, &self.treatments, &mut self.masked, &mut self.scratch, out)
                    }
                    CopyFormat::Binary => binary::row(unit_bytes, &self.treatments, &mut self.masked, out),
                };
                if let Err(error) = done {
                    out.truncate(start);
                    return Err(error);
                }
                self.rows = self.rows.wrapping_add(1);
            }
            let length_of_frame = out.len().checked_sub(start.saturating_add(1)).and_then(|length| i32::try_from(length).ok());
            let length_of_frame = length_of_frame.ok_or(MaskError::Malformed("longer than a message can be"))?;
            if let Some(slot) = out.get_mut(start.saturating_add(1)..start.saturating_add(5)) {
                slot.copy_from_slice(&length_of_frame.to_be_bytes());
            }
            self.pending.advance(length.min(self.pending.len()));
            self.progress = Progress { begun: self.progress.begun, ended: self.progress.ended, ..Progress::default() };
        }
    }

    /// The copy is over.
    ///
    /// # Errors
    /// When it ended within a row, which was then not forwarded.
    pub fn finish(&self) -> Result<(), MaskError> {
        let whole = self.pending.is_empty() && (self.layout.format != CopyFormat::Binary || self.progress.ended);
        if whole { Ok(()) } else { Err(MaskError::Malformed("copy data ends within a row")) }
    }

    /// Bytes of a row that is not complete yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Rows so far, headers not counted.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// How many non-null values were changed in each column so far.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.masked
    }
}

/// Counts the values of a row that were changed, all of them or none.
fn check_count(found: usize, treatments: &[Treatment]) -> Result<(), MaskError> {
    if found == treatments.len() { Ok(()) } else { Err(MaskError::ColumnCount { expected: treatments.len(), found }) }
}

#[cfg(test)]
mod tests;
