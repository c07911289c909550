//! Text format: `CopyAttributeOutText` in src/backend/commands/copyto.c.

use bytes::{BufMut as _, BytesMut};

use super::{Progress, Unit, check_count};
use crate::MaskError;
use crate::data_row::Treatment;

/// A row ends at a line feed without a backslash before it.
pub(super) fn next(pending: &[u8], progress: &mut Progress) -> Unit {
    for (offset, byte) in pending.iter().enumerate().skip(progress.at) {
        if progress.escaped {
            progress.escaped = false;
        } else if *byte == b'\\' {
            progress.escaped = true;
        } else if *byte == b'\n' {
            return Unit::Row(offset.saturating_add(1));
        }
    }
    progress.at = pending.len();
    Unit::Partial
}

pub(super) fn row(
    row: &[u8],
    delimiter: u8,
    null: &[u8],
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
    let mut fields = Fields { rest: Some(line), delimiter };
    let mut treated = treatments.iter().zip(masked.iter_mut());
    let mut found = 0_usize;
    for raw in fields.by_ref() {
        if found > 0 {
            out.put_u8(delimiter);
        }
        found = found.saturating_add(1);
        let Some((treatment, count)) = treated.next() else { return check_count(found, treatments) };
        if raw == null || matches!(treatment, Treatment::Clear) {
            out.extend_from_slice(raw);
            continue;
        }
        scratch.clear();
        let value = if raw.contains(&b'\\') {
            unescape(raw, scratch);
            scratch.split()
        } else {
            BytesMut::from(raw)
        };
        if !treatment.changes(&value) {
            out.extend_from_slice(raw);
            continue;
        }
        *count = count.wrapping_add(1);
        scratch.clear();
        if treatment.apply(&value, scratch) {
            escape(scratch, delimiter, out);
        } else {
            out.extend_from_slice(null);
        }
    }
    check_count(found, treatments)?;
    out.extend_from_slice(line_end);
    Ok(())
}

/// The raw values of a line.
struct Fields<'a> {
    rest: Option<&'a [u8]>,
    delimiter: u8,
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.rest?;
        let mut escaped = false;
        let end = line.iter().position(|byte| {
            let ends = !escaped && *byte == self.delimiter;
            escaped = !escaped && *byte == b'\\';
            ends
        });
        let (field, rest) = match end.and_then(|end| line.split_at_checked(end)) {
            Some((field, rest)) => (field, rest.get(1..)),
            None => (line, None),
        };
        self.rest = rest;
        Some(field)
    }
}

fn unescape(raw: &[u8], out: &mut BytesMut) {
    let mut escaped = false;
    for byte in raw {
        if !escaped && *byte == b'\\' {
            escaped = true;
            continue;
        }
        out.put_u8(match (escaped, byte) {
            (true, b'b') => 8,
            (true, b'f') => 12,
            (true, b'n') => b'\n',
            (true, b'r') => b'\r',
            (true, b't') => b'\t',
            (true, b'v') => 11,
            _ => *byte,
        });
        escaped = false;
    }
}

fn escape(value: &[u8], delimiter: u8, out: &mut BytesMut) {
    for byte in value {
        let letter = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            other if *other == delimiter => delimiter,
            other => {
                out.put_u8(*other);
                continue;
            }
        };
        out.put_u8(b'\\');
        out.put_u8(letter);
    }
}
