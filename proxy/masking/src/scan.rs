//! Detectors over one value in one wire format: what part of it is text, and how a finding is hidden so that the value stays one of its
//! type.
//!
//! Of numbers (`numeric`) whole ones are looked at. Dates, UUIDs, addresses and the like are not: their digits mean nothing. A policy names such
//! columns under its masks.

use bytes::{BufMut as _, BytesMut};

use crate::detect::{Detectors, Form};
use crate::types::{MONEY, array_element};

mod numeric;

use numeric::Number;

/// Nesting of arrays and composites that is followed; deeper ones are looked at as plain bytes.
const DEEPEST: usize = 6;
/// First OID of types that do not come with the server.
const FIRST_USER_OID: u32 = 16384;
/// `pg_type.oid` of text.
const TEXT: u32 = 25;

/// Detectors bound to a result column. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ValueScanner {
    detectors: Detectors,
    shape: Shape,
}

/// How a value is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Characters.
    Text,
    /// JSON, after so many bytes.
    Json(usize),
    /// JSON within the text of an array.
    Quoted,
    /// Any bytes; looked at when they are text.
    Bytes,
    /// The same in the hexadecimal form of `bytea`.
    Hex,
    /// `array_send`.
    Array,
    /// `record_send`.
    Record,
    /// A type in binary format whose layout is not known.
    Guess,
    /// Text of a type that is not known, or of several.
    Loose,
    /// A number in binary format.
    Number(Number),
    /// Numbers in text, whatever stands between them.
    Numbers,
    /// A value of the type of that OID, in that format, that is replaced whole when a number in it is found.
    Whole(u32, bool),
}

/// How a type is looked at; `None` when nothing in it could be found.
fn shape(detectors: &Detectors, oid: u32, binary: bool) -> Option<Shape> {
    let number = Number::of(oid).or(Number::of_range(oid).map(|(element, _)| element));
    if let Some(number) = number.or(numeric::geometry(oid).map(|_| Number::Float8)) {
        let one = Number::of(oid).filter(|number| *number != Number::Money || binary);
        let shape = match one {
            Some(number) if binary => Shape::Number(number),
            Some(_) => Shape::Numbers,
            None => Shape::Whole(oid, binary),
        };
        return number.can_hold(detectors).then_some(shape);
    }
    Some(match oid {
        // text, varchar, bpchar, name, unknown, refcursor, cstring
        25 | 1043 | 1042 | 19 | 705 | 1790 | 2275 => Shape::Text,
        114 => Shape::Json(0),
        3802 => Shape::Json(usize::from(binary)),
        142 => Shape::Text,
        17 => {
            if binary {
                Shape::Bytes
            } else {
                Shape::Hex
            }
        }
        // jsonpath
        4072 => Shape::Json(usize::from(binary)),
        // tsvector, tsquery, pg_node_tree
        3614 | 3615 | 194 => {
            if binary {
                Shape::Guess
            } else {
                Shape::Text
            }
        }
        // record, record[], anyarray, cstring[]
        2249 => {
            if binary {
                Shape::Record
            } else {
                Shape::Loose
            }
        }
        2287 | 2277 | 1263 => {
            if binary {
                Shape::Array
            } else {
                Shape::Loose
            }
        }
        oid if oid >= FIRST_USER_OID => {
            if binary {
                Shape::Guess
            } else {
                Shape::Loose
            }
        }
        oid => {
            let element = array_element(oid)?;
            let inner = shape(detectors, element, binary)?;
            match (binary, inner) {
                (true, _) => Shape::Array,
                (false, Shape::Json(_)) => Shape::Quoted,
                (false, Shape::Numbers) => Shape::Numbers,
                (false, Shape::Whole(..)) => Shape::Whole(oid, binary),
                (false, _) => Shape::Text,
            }
        }
    })
}

impl ValueScanner {
    /// Detectors for values of a type; `None` when nothing in them could be found.
    #[must_use]
    pub fn new(detectors: &Detectors, type_oid: u32, binary: bool) -> Option<Self> {
        shape(detectors, type_oid, binary).map(|shape| Self { detectors: detectors.clone(), shape })
    }

    /// Detectors for values whose type is not known, in text format.
    #[must_use]
    pub fn untyped(detectors: &Detectors) -> Self {
        Self { detectors: detectors.clone(), shape: Shape::Text }
    }

    /// Whether anything is in a value.
    #[must_use]
    pub fn finds(&self, value: &[u8]) -> bool {
        match self.shape {
            // Structure only ever splits what is looked at, so that nothing in the bytes as they stand mostly means nothing at all; a
            // length that looks like a digit may hide the start of a number, so parts are looked at by themselves.
            Shape::Array | Shape::Record | Shape::Guess => self.parts(self.shape, value, &mut BytesMut::new(), 0) > 0,
            Shape::Hex => match unhex(value) {
                Some(bytes) => self.bytes_find(&bytes),
                None => self.detectors.finds(value),
            },
            Shape::Bytes => self.bytes_find(value),
            Shape::Text | Shape::Quoted | Shape::Loose => self.detectors.finds(value),
            Shape::Number(number) => number.is_found(&self.detectors, value),
            Shape::Numbers => numeric::is_found_in_text(&self.detectors, value),
            Shape::Whole(oid, binary) => self.is_whole_found(oid, binary, value),
            Shape::Json(skip) => self.detectors.finds(value.get(skip..).unwrap_or_default()),
        }
    }

    fn bytes_find(&self, bytes: &[u8]) -> bool {
        if is_text(bytes) { self.detectors.finds(bytes) } else { self.detectors.finds_in_bytes(bytes) }
    }

    fn redact_bytes(&self, bytes: &[u8], out: &mut BytesMut) -> usize {
        if is_text(bytes) { self.detectors.redact_as(Form::Text, bytes, out) } else { self.detectors.redact_bytes(bytes, out) }
    }

    fn is_whole_found(&self, oid: u32, binary: bool, value: &[u8]) -> bool {
        let detectors = &self.detectors;
        match (binary, numeric::geometry(oid), Number::of_range(oid)) {
            (true, Some(skip), _) => numeric::is_found_in_geometry(detectors, skip, value),
            (true, None, Some((element, false))) => numeric::is_found_in_range(detectors, element, value),
            (true, None, Some((element, true))) => numeric::is_found_in_multirange(detectors, element, value),
            _ if oid == MONEY => numeric::is_found_in_money(detectors, value),
            _ if array_element(oid) == Some(MONEY) => {
                numeric::array_elements(value).any(|element| numeric::is_found_in_money(detectors, element))
            }
            _ => numeric::is_found_in_text(detectors, value),
        }
    }

    /// Appends the value with what was found hidden, and says how much that was.
    pub fn redact(&self, value: &[u8], out: &mut BytesMut) -> usize {
        self.parts(self.shape, value, out, 0)
    }

    fn parts(&self, shape: Shape, value: &[u8], out: &mut BytesMut, depth: usize) -> usize {
        let start = out.len();
        let clear = |out: &mut BytesMut| {
            out.truncate(start);
            out.extend_from_slice(value);
            0
        };
        match shape {
            Shape::Text => self.detectors.redact_as(Form::Text, value, out),
            Shape::Quoted => self.detectors.redact_as(Form::Strict, value, out),
            Shape::Json(skip) => {
                let (head, json) = value.split_at_checked(skip).unwrap_or((&[], value));
                out.extend_from_slice(head);
                self.detectors.redact_as(Form::Json, json, out)
            }
            Shape::Bytes => self.redact_bytes(value, out),
            Shape::Hex => match unhex(value) {
                Some(bytes) => {
                    let mut hidden = BytesMut::new();
                    let hits = self.redact_bytes(&bytes, &mut hidden);
                    if hits == 0 {
                        return clear(out);
                    }
                    out.extend_from_slice(b"\\x");
                    crate::secret::hex(&hidden, out);
                    hits
                }
                // bytea_output = escape
                None => self.detectors.redact_as(Form::Text, value, out),
            },
            Shape::Loose => self.detectors.redact_as(Form::Loose, value, out),
            Shape::Numbers => numeric::redact_text(&self.detectors, value, out),
            Shape::Number(number) => match number.hide(&self.detectors, value, out) {
                Some(()) => 1,
                None => clear(out),
            },
            Shape::Whole(oid, binary) => {
                if !self.is_whole_found(oid, binary, value) {
                    return clear(out);
                }
                numeric::nothing(oid, binary, value, out);
                1
            }
            Shape::Array => match self.array(value, out, depth) {
                Some(hits) => hits,
                None => {
                    out.truncate(start);
                    self.detectors.redact_as(Form::Text, value, out)
                }
            },
            Shape::Record => match self.record(value, out, depth) {
                Some(hits) => hits,
                None => {
                    out.truncate(start);
                    self.detectors.redact_as(Form::Text, value, out)
                }
            },
            Shape::Guess => {
                if is_text(value) {
                    return self.detectors.redact_as(Form::Text, value, out);
                }
                for attempt in [Self::record, Self::array, Self::pairs] {
                    if let Some(hits) = attempt(self, value, out, depth) {
                        return hits;
                    }
                    out.truncate(start);
                }
                if let Some(number) = numeric::guess(&self.detectors, value) {
                    return self.parts(Shape::Number(number), value, out, depth);
                }
                self.detectors.redact_as(Form::Text, value, out)
            }
        }
    }

    /// `array_send` in src/backend/utils/adt/arrayfuncs.c: dimensions, flags, element type, then for each dimension its size and lower
    /// bound, then each element with its length.
    fn array(&self, value: &[u8], out: &mut BytesMut, depth: usize) -> Option<usize> {
        let (dimensions, rest) = int4(value)?;
        let (_, rest) = int4(rest)?;
        let (element, mut rest) = int4(rest)?;
        let element = u32::from_be_bytes(element.to_be_bytes());
        if !(0..=6).contains(&dimensions) || depth > DEEPEST {
            return None;
        }
        let mut count = i64::from(dimensions > 0);
        for _ in 0..dimensions {
            let (size, after) = int4(rest)?;
            let (_, after) = int4(after)?;
            count = count.checked_mul(i64::from(size))?;
            rest = after;
        }
        out.extend_from_slice(value.get(..value.len().checked_sub(rest.len())?)?);
        let mut hits = 0_usize;
        for _ in 0..count {
            rest = self.field(element, rest, out, depth, &mut hits)?;
        }
        rest.is_empty().then_some(hits)
    }

    /// `record_send` in src/backend/utils/adt/rowtypes.c: count, then each field with its type and length.
    fn record(&self, value: &[u8], out: &mut BytesMut, depth: usize) -> Option<usize> {
        let (count, mut rest) = int4(value)?;
        if !(1..=1664).contains(&count) || depth > DEEPEST {
            return None;
        }
        out.put_i32(count);
        let mut hits = 0_usize;
        for _ in 0..count {
            let (oid, after) = int4(rest)?;
            out.put_i32(oid);
            rest = self.field(u32::from_be_bytes(oid.to_be_bytes()), after, out, depth, &mut hits)?;
        }
        rest.is_empty().then_some(hits)
    }

    /// `hstore_send` in contrib/hstore/hstore_io.c: count, then each key and each value with its length.
    fn pairs(&self, value: &[u8], out: &mut BytesMut, depth: usize) -> Option<usize> {
        let (count, mut rest) = int4(value)?;
        if !(1..=1_000_000).contains(&count) {
            return None;
        }
        out.put_i32(count);
        let mut hits = 0_usize;
        for _ in 0..count {
            for _ in 0..2 {
                rest = self.field(TEXT, rest, out, depth, &mut hits)?;
            }
        }
        rest.is_empty().then_some(hits)
    }

    fn field<'v>(&self, oid: u32, value: &'v [u8], out: &mut BytesMut, depth: usize, hits: &mut usize) -> Option<&'v [u8]> {
        let (length, rest) = int4(value)?;
        let at = out.len();
        out.put_i32(length);
        if length == -1 {
            return Some(rest);
        }
        let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        match shape(&self.detectors, oid, true) {
            Some(shape) => *hits = hits.saturating_add(self.parts(shape, value, out, depth.saturating_add(1))),
            None => out.extend_from_slice(value),
        }
        let written = i32::try_from(out.len().checked_sub(at.checked_add(4)?)?).ok()?;
        out.get_mut(at..at.checked_add(4)?)?.copy_from_slice(&written.to_be_bytes());
        Some(rest)
    }
}

fn int4(value: &[u8]) -> Option<(i32, &[u8])> {
    let (first, rest) = value.split_first_chunk::<4>()?;
    Some((i32::from_be_bytes(*first), rest))
}

/// Whether bytes are text somebody could have written: UTF-8 without control characters other than white space.
fn is_text(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r')) && std::str::from_utf8(value).is_ok()
}

/// The bytes of `\x…`.
fn unhex(value: &[u8]) -> Option<Vec<u8>> {
    let digits = value.strip_prefix(b"\\x")?;
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(crate::secret::nibble(*high)? << 4 | crate::secret::nibble(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
