//! Where in a value a built-in pattern can begin: at the first digit or capital of a word, at a small letter with a digit two places on (an IBAN),
//! at `+`, `(` and `@`.
//!
//! Eight bytes are looked at in one go, as the lanes of one number, because this pass is what values without personal data cost. In a lane the
//! highest bit is the answer; no lane carries into the next, since what is added to its lower seven bits stays below 256.

/// The same byte in every lane.
const fn lanes(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

const HIGH: u64 = lanes(0x80);
const LOW: u64 = lanes(0x7f);
/// The last two lanes.
const BEYOND: u64 = 0x8080_0000_0000_0000;

/// Lanes (of ASCII) from `first` on.
const fn from(ascii: u64, first: u8) -> u64 {
    ascii.wrapping_add(lanes(0x80_u8.wrapping_sub(first)))
}

/// Lanes (of ASCII) from `first` to `last`.
const fn within(ascii: u64, first: u8, last: u8) -> u64 {
    from(ascii, first) & !from(ascii, last.wrapping_add(1))
}

/// Lanes (of ASCII) that are this byte.
const fn is(ascii: u64, byte: u8) -> u64 {
    !(ascii ^ lanes(byte)).wrapping_add(LOW)
}

/// Goes through the places, in order.
pub(super) struct Starts<'v> {
    rest: &'v [u8],
    /// Where the lanes looked at begin.
    at: usize,
    /// Where the next ones do.
    next: usize,
    /// Places in them that are not handed out yet.
    found: u64,
    /// Whether a word goes on from the lanes before: the highest bit of the first lane.
    inside: u64,
    escape: u64,
}

impl<'v> Starts<'v> {
    pub(super) const fn of(value: &'v [u8]) -> Self {
        Self { rest: value, at: 0, next: 0, found: 0, inside: 0, escape: 0 }
    }

    /// Whether what was gone through has a byte with which something begins that is read otherwise than it stands ([`super::escapes`]): a backslash,
    /// `&`, or one beyond ASCII.
    pub(super) const fn saw_escape(&self) -> bool {
        self.escape != 0
    }

    fn look(&mut self, lanes: u64) {
        let ascii = lanes & LOW;
        let plain = !lanes & HIGH;
        let digit = within(ascii, b'0', b'9');
        let letter = within(ascii | self::lanes(0x20), b'a', b'z');
        // Bit 0x20 tells small letters from capitals.
        let capital = letter & !(lanes << 2);
        let word = (digit | letter | is(ascii, b'_')) & plain;
        let before = (word << 8) | self.inside;
        self.inside = word >> 56;
        self.escape |= ((is(ascii, b'\\') | is(ascii, b'&')) & plain) | (lanes & HIGH);
        let sign = is(ascii, b'+') | is(ascii, b'(') | is(ascii, b'@');
        // What stands two places on from the last two lanes is not seen here: they are looked at in any case.
        let numbered = letter & (((digit & plain) >> 16) | BEYOND);
        self.found = (((digit | capital | numbered) & !before) | sign) & plain;
    }
}

impl Iterator for Starts<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.found == 0 {
            let lanes = match self.rest.split_first_chunk::<8>() {
                Some((lanes, rest)) => {
                    self.rest = rest;
                    u64::from_le_bytes(*lanes)
                }
                None if self.rest.is_empty() => return None,
                None => {
                    let mut lanes = [0; 8];
                    for (lane, byte) in lanes.iter_mut().zip(self.rest) {
                        *lane = *byte;
                    }
                    self.rest = &[];
                    u64::from_le_bytes(lanes)
                }
            };
            self.at = self.next;
            self.next = self.next.saturating_add(8);
            self.look(lanes);
        }
        let lane = usize::try_from(self.found.trailing_zeros() >> 3).unwrap_or_default();
        self.found &= self.found.wrapping_sub(1);
        Some(self.at.saturating_add(lane))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, byte by byte.
    fn one_by_one(value: &[u8]) -> Vec<usize> {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let mut before = false;
        value
            .iter()
            .enumerate()
            .filter(|(index, byte)| {
                let numbered = index % 8 > 5 || value.get(index + 2).is_some_and(u8::is_ascii_digit);
                let letter = byte.is_ascii_uppercase() || (byte.is_ascii_lowercase() && numbered);
                let begins = !std::mem::replace(&mut before, is_word(byte)) && (byte.is_ascii_digit() || letter);
                begins || matches!(byte, b'+' | b'(' | b'@')
            })
            .map(|(index, _)| index)
            .collect()
    }

    proptest! {
        #[test]
        fn lanes_say_what_bytes_say(
            value in prop::collection::vec(
                prop_oneof![any::<u8>(), prop::sample::select(b"09azAZ_+(@\\& -/:`{[^\x7f\x80\xb0\xc1\xff".to_vec())],
                0..40,
            )
        ) {
            let mut starts = Starts::of(&value);
            let found: Vec<usize> = starts.by_ref().collect();
            prop_assert_eq!(found, one_by_one(&value));
            prop_assert_eq!(starts.saw_escape(), value.iter().any(|byte| matches!(byte, b'\\' | b'&') || !byte.is_ascii()));
        }
    }
}
