//! One value in one wire format.

use bytes::BytesMut;

use crate::types::Family;
use crate::{
    Mask, MaskKey, TextStyle, constant, number,
    secret::{self, Secret},
    text, time, types,
};

/// A mask bound to a result column: the mask, the column's type and the format its values arrive in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMask {
    /// What to do.
    pub mask: Mask,
    /// `pg_type.oid` of the column.
    pub type_oid: u32,
    /// Whether values arrive in binary format (format code 1).
    pub binary: bool,
}

/// A [`ColumnMask`] made ready: everything that does not depend on the value is decided here, once.
#[derive(Debug, Clone)]
pub struct ValueMasker {
    action: Action,
    /// The type's value for "masked in full"; `None` is NULL.
    zero: Option<Box<[u8]>>,
    /// Whether that is written with the currency of the value's own text.
    money: bool,
    /// Whether a NULL is shown as that, too.
    hides_null: bool,
    secret: Secret,
}

#[derive(Debug, Clone)]
enum Action {
    Null,
    Zero,
    Fixed(Box<[u8]>),
    Last4 { padded: bool },
    Email,
    Token,
    Hash { family: Family, binary: bool },
    Truncate { cut: time::Cut, binary: bool },
    Round { to: u64, family: Family, binary: bool },
}

impl ValueMasker {
    /// Prepares a column's mask.
    #[must_use]
    pub fn new(column: &ColumnMask, key: &MaskKey, style: TextStyle) -> Self {
        let ColumnMask { ref mask, type_oid, binary } = *column;
        let family = types::family(type_oid, binary);
        let textual = matches!(family, Family::Text | Family::Padded | Family::Name);
        let action = match mask {
            Mask::Null => Action::Null,
            Mask::Full | Mask::Derived => Action::Zero,
            Mask::Last4 if textual => Action::Last4 { padded: family == Family::Padded },
            Mask::Email if textual => Action::Email,
            Mask::Token if textual => Action::Token,
            Mask::Token if family == Family::Uuid => Action::Hash { family, binary },
            Mask::Hash if textual || secret::suits(family) => Action::Hash { family, binary },
            Mask::Constant { value } => {
                constant::encode(value, type_oid, binary, style).map_or(Action::Zero, |bytes| Action::Fixed(bytes.into_boxed_slice()))
            }
            Mask::Truncate { unit } => time::Cut::new(family, *unit, style).map_or(Action::Zero, |cut| Action::Truncate { cut, binary }),
            Mask::Round { to } if number::suits(family, *to) => Action::Round { to: *to, family, binary },
            Mask::Last4 | Mask::Email | Mask::Token | Mask::Hash | Mask::Round { .. } => Action::Zero,
        };
        let styled = style.zero(type_oid).filter(|_| !binary).map(|text| text.as_bytes().to_vec());
        let mut zero = styled.or_else(|| types::zero(type_oid, binary)).map(Vec::into_boxed_slice);
        let hides_null = *mask == Mask::Derived;
        let money = type_oid == types::MONEY && !binary;
        if money && hides_null {
            // A NULL has no text to take the currency from, and must not be told from other values.
            zero = Some(types::NO_DOLLARS.as_bytes().into());
        }
        Self { action, zero, money: money && !hides_null, hides_null, secret: Secret::new(key) }
    }

    /// What a NULL is shown as, where it is not shown as NULL.
    #[must_use]
    pub fn in_place_of_null(&self) -> Option<&[u8]> {
        self.zero.as_deref().filter(|_| self.hides_null)
    }

    /// Appends the masked form of a value that is not NULL to `out`. `None` means NULL; nothing of `value` is then in `out`.
    #[must_use]
    pub fn mask(&self, value: &[u8], out: &mut BytesMut) -> Option<()> {
        let start = out.len();
        let masked = match &self.action {
            Action::Null => return None,
            Action::Zero => None,
            Action::Fixed(bytes) => {
                out.extend_from_slice(bytes);
                Some(())
            }
            Action::Last4 { padded } => text::last4(value, *padded, out),
            Action::Email => text::email(value, out),
            Action::Token => text::token(value, &self.secret, out),
            Action::Hash { family, binary } => secret::hash(*family, *binary, value, &self.secret, out),
            Action::Truncate { cut, binary } => cut.apply(value, *binary, out),
            Action::Round { to, family, binary } => number::round(*family, *binary, *to, value, out),
        };
        if masked.is_some() {
            return masked;
        }
        out.truncate(start);
        let zero = if self.money { types::no_money(value).as_bytes() } else { self.zero.as_deref()? };
        out.extend_from_slice(zero);
        Some(())
    }
}

#[cfg(test)]
mod tests;
