//! CSV: `CopyAttributeOutCSV` in src/backend/commands/copyto.c.

use bytes::{BufMut as _, BytesMut};

use super::{Progress, Unit, check_count};
use crate::MaskError;
use crate::data_row::Treatment;

/// The characters of a CSV.
pub(super) struct Dialect<'a> {
    pub(super) delimiter: u8,
    pub(super) null: &'a [u8],
    pub(super) quote: u8,
    pub(super) escape: u8,
    pub(super) force_quote: &'a [bool],
}

/// A row ends at a line feed outside of quotes.
pub(super) fn next(pending: &[u8], quote: u8, escape: u8, progress: &mut Progress) -> Unit {
    for (offset, byte) in pending.iter().enumerate().skip(progress.at) {
        if progress.escaped {
            progress.escaped = false;
        } else if progress.quoted && *byte == escape && escape != quote {
            progress.escaped = true;
        } else if *byte == quote {
            // A quote escaped by another ends the quotes and opens them again.
            progress.quoted = !progress.quoted;
        } else if *byte == b'\n' && !progress.quoted {
            return Unit::Row(offset.saturating_add(1));
        }
    }
    progress.at = pending.len();
    Unit::Partial
}

pub(super) fn row(
    row: &[u8],
    dialect: &Dialect<'_>,
    treatments: &[Treatment],
    masked: &mut [u64],
    scratch: &mut BytesMut,
    out: &mut BytesMut,
) -> Result<(), MaskError> {
    let line = row.strip_suffix(b"\n").unwrap_or(row);
    let line_end = if line.ends_with(b"\r") { b"\r\n".as_slice() } else { b"\n" };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if treatments.is_empty() && line.is_empty() {
        out.extend_from_slice(row);
        return Ok(());
    }
    let mut fields = Fields { rest: Some(line), dialect };
    let mut treated = treatments.iter().zip(masked.iter_mut()).enumerate();
    let mut found = 0_usize;
    for raw in fields.by_ref() {
        if found > 0 {
            out.put_u8(dialect.delimiter);
        }
        found = found.saturating_add(1);
        let Some((index, (treatment, count))) = treated.next() else { return check_count(found, treatments) };
        if raw == dialect.null || matches!(treatment, Treatment::Clear) {
            out.extend_from_slice(raw);
            continue;
        }
        scratch.clear();
        unquote(raw, dialect, scratch);
        let value = scratch.split();
        if !treatment.changes(&value) {
            out.extend_from_slice(raw);
            continue;
        }
        *count = count.wrapping_add(1);
        scratch.clear();
        if treatment.apply(&value, scratch) {
            // Whether the value as it was needed quotes would tell about it.
            let forced = dialect.force_quote.get(index).copied().unwrap_or(false);
            put(scratch, forced || treatments.len() == 1 && &scratch[..] == b"\\.", dialect, out);
        } else {
            out.extend_from_slice(dialect.null);
        }
    }
    check_count(found, treatments)?;
    out.extend_from_slice(line_end);
    Ok(())
}

/// The raw values of a line, quotes included.
struct Fields<'a, 'd> {
    rest: Option<&'a [u8]>,
    dialect: &'d Dialect<'d>,
}

impl<'a> Iterator for Fields<'a, '_> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.rest?;
        let Dialect { delimiter, quote, escape, .. } = *self.dialect;
        let (mut quoted, mut escaped) = (false, false);
        let end = line.iter().position(|byte| {
            if escaped {
                escaped = false;
            } else if quoted && *byte == escape && escape != quote {
                escaped = true;
            } else if *byte == quote {
                quoted = !quoted;
            } else {
                return !quoted && *byte == delimiter;
            }
            false
        });
        let (field, rest) = match end.and_then(|end| line.split_at_checked(end)) {
            Some((field, rest)) => (field, rest.get(1..)),
            None => (line, None),
        };
        self.rest = rest;
        Some(field)
    }
}

fn unquote(raw: &[u8], dialect: &Dialect<'_>, out: &mut BytesMut) {
    let inner = raw.strip_prefix(&[dialect.quote]).and_then(|rest| rest.strip_suffix(&[dialect.quote]));
    let Some(inner) = inner else {
        out.extend_from_slice(raw);
        return;
    };
    let mut rest = inner;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == dialect.escape
            && let Some((escaped, after)) = after.split_first()
            && (*escaped == dialect.quote || *escaped == dialect.escape)
        {
            out.put_u8(*escaped);
            rest = after;
        } else {
            out.put_u8(*byte);
        }
    }
}

fn put(value: &[u8], forced: bool, dialect: &Dialect<'_>, out: &mut BytesMut) {
    let special = |byte: &u8| *byte == dialect.delimiter || *byte == dialect.quote || matches!(byte, b'\n' | b'\r');
    if !forced && value != dialect.null && !value.iter().any(special) {
        out.extend_from_slice(value);
        return;
    }
    out.put_u8(dialect.quote);
    for byte in value {
        if *byte == dialect.quote || *byte == dialect.escape {
            out.put_u8(dialect.escape);
        }
        out.put_u8(*byte);
    }
    out.put_u8(dialect.quote);
}
