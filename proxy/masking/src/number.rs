//! Cutting numbers down to a multiple, towards zero so that no result leaves the type's range.

use std::fmt::Write as _;

use bytes::{BufMut as _, BytesMut};

use crate::types::Family;

/// Integers below these are all different in the type.
const EXACT_F32: f64 = 16_777_216.0;
const EXACT_F64: f64 = 9_007_199_254_740_992.0;

/// Whether rounding hides anything of the family. To a multiple of one it hides nothing of an integer.
pub(crate) const fn suits(family: Family, to: u64) -> bool {
    match family {
        Family::Int2 | Family::Int4 | Family::Int8 => to > 1,
        Family::Float4 | Family::Float8 | Family::Numeric => to > 0,
        _ => false,
    }
}

/// Appends the rounded value. `None`: not a value of its type, or not finite; hide all of it.
pub(crate) fn round(family: Family, binary: bool, to: u64, value: &[u8], out: &mut BytesMut) -> Option<()> {
    let multiple = i128::from(to);
    match (family, binary) {
        (Family::Int2, true) => {
            let cut = cut(i128::from(i16::from_be_bytes(value.try_into().ok()?)), multiple)?;
            out.put_i16(i16::try_from(cut).ok()?);
        }
        (Family::Int4, true) => {
            let cut = cut(i128::from(i32::from_be_bytes(value.try_into().ok()?)), multiple)?;
            out.put_i32(i32::try_from(cut).ok()?);
        }
        (Family::Int8, true) => {
            let cut = cut(i128::from(i64::from_be_bytes(value.try_into().ok()?)), multiple)?;
            out.put_i64(i64::try_from(cut).ok()?);
        }
        (Family::Float4, true) => {
            let cut = cut_float(f64::from(f32::from_be_bytes(value.try_into().ok()?)), to, EXACT_F32)?;
            out.put_f32(to_f32(cut)?);
        }
        (Family::Float8, true) => out.put_f64(cut_float(f64::from_be_bytes(value.try_into().ok()?), to, EXACT_F64)?),
        (Family::Numeric, true) => numeric_encode(cut(numeric_integer(value)?, multiple)?, out)?,
        (Family::Float4 | Family::Float8, false) => {
            let number: f64 = std::str::from_utf8(value).ok()?.parse().ok()?;
            let exact = if family == Family::Float4 { EXACT_F32 } else { EXACT_F64 };
            write!(out, "{}", cut_float(number, to, exact)?).ok()?;
        }
        (Family::Int2 | Family::Int4 | Family::Int8 | Family::Numeric, false) => {
            write!(out, "{}", cut(text_integer(value)?, multiple)?).ok()?;
        }
        _ => return None,
    }
    Some(())
}

fn cut(value: i128, multiple: i128) -> Option<i128> {
    value.checked_div(multiple)?.checked_mul(multiple)
}

fn cut_float(value: f64, to: u64, exact: f64) -> Option<f64> {
    let [high, low] = [to >> 32, to & u64::from(u32::MAX)].map(|half| u32::try_from(half).map_or(0.0, f64::from));
    let multiple = high * 4_294_967_296.0 + low;
    let cut = (value / multiple).trunc() * multiple;
    // From here on the neighbours are more than one apart, and "rounded" may be the value itself.
    (cut.is_finite() && value.abs() < exact).then_some(cut)
}

#[expect(clippy::as_conversions, reason = "the only way from f64 to f32; it saturates to an infinity, which is refused")]
fn to_f32(value: f64) -> Option<f32> {
    let narrow = value as f32;
    narrow.is_finite().then_some(narrow)
}

/// The integer part of `-123.45`.
fn text_integer(value: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(value).ok()?;
    let (integer, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    integer.parse().ok()
}

/// The integer part of a `numeric` in binary: count, weight, sign, scale, then base-10000 digits
/// (`numeric_send` in src/backend/utils/adt/numeric.c).
pub(crate) fn numeric_integer(value: &[u8]) -> Option<i128> {
    let (header, digits) = value.split_at_checked(8)?;
    let (count, header) = header.split_first_chunk::<2>()?;
    let (weight, header) = header.split_first_chunk::<2>()?;
    let (sign, _) = header.split_first_chunk::<2>()?;
    let (count, weight) = (usize::from(u16::from_be_bytes(*count)), i16::from_be_bytes(*weight));
    if digits.len() != count.checked_mul(2)? {
        return None;
    }
    let mut digits = digits.chunks_exact(2);
    let mut integer = 0_i128;
    for _ in 0..i32::from(weight).checked_add(1)? {
        let digit = match digits.next() {
            Some(pair) => u16::from_be_bytes(pair.try_into().ok()?),
            None => 0,
        };
        if digit > 9999 {
            return None;
        }
        integer = integer.checked_mul(10_000)?.checked_add(i128::from(digit))?;
    }
    match u16::from_be_bytes(*sign) {
        0 => Some(integer),
        0x4000 => integer.checked_neg(),
        // NaN and the infinities
        _ => None,
    }
}

pub(crate) fn numeric_encode(value: i128, out: &mut BytesMut) -> Option<()> {
    let mut digits = [0_u16; 10];
    let mut rest = value.unsigned_abs();
    let mut used = 0_usize;
    for slot in digits.iter_mut().rev() {
        if rest == 0 {
            break;
        }
        *slot = u16::try_from(rest % 10_000).ok()?;
        rest /= 10_000;
        used = used.checked_add(1)?;
    }
    if rest != 0 {
        return None;
    }
    let digits = digits.get(digits.len().checked_sub(used)?..)?;
    let kept = digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last.saturating_add(1));
    out.put_u16(u16::try_from(kept).ok()?);
    out.put_u16(u16::try_from(used.saturating_sub(1)).ok()?);
    out.put_u16(if value < 0 { 0x4000 } else { 0 });
    out.put_u16(0);
    digits.iter().take(kept).for_each(|digit| out.put_u16(*digit));
    Some(())
}
