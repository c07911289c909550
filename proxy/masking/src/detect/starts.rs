//! Where in a value a built-in pattern can begin: at the first of some digits (an IBAN two letters before them), at `+`, `(` and `@`.
//!
//! Eight bytes are looked at in one go, as the lanes of one number, because this pass is what values without personal data cost. In a lane the
//! highest bit is the answer; no lane carries into the next, since what is added to its lower seven bits stays below 256.

/// The same byte in every lane.
const fn lanes(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

const HIGH: u64 = lanes(0x80);
const LOW: u64 = lanes(0x7f);

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
    /// Whether digits go on from the lanes before: the highest bit of the first lane.
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
        let digit = within(ascii, b'0', b'9') & plain;
        let before = (digit << 8) | self.inside;
        self.inside = digit >> 56;
        self.escape |= ((is(ascii, b'\\') | is(ascii, b'&')) & plain) | (lanes & HIGH);
        let sign = is(ascii, b'+') | is(ascii, b'(') | is(ascii, b'@');
        self.found = (digit & !before) | (sign & plain);
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
        let mut before = false;
        value
            .iter()
            .enumerate()
            .filter(|(_, byte)| {
                let begins = !std::mem::replace(&mut before, byte.is_ascii_digit()) && byte.is_ascii_digit();
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
