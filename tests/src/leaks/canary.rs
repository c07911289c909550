//! The search: raw, in other cases, reversed, in hexadecimal, base64, percent encoding and UTF-16, as binary numbers, digits as letters,
//! without separators, and put together again from fields, rows and messages.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::Received;

/// Shorter needles than this would be found by chance.
const SHORTEST: usize = 6;

/// Values to look for.
#[derive(Debug)]
pub struct Canaries {
    needles: BTreeMap<Vec<u8>, String>,
    /// Needles by their first two bytes.
    by_head: BTreeMap<[u8; 2], Vec<Vec<u8>>>,
    /// Letters and digits of each value, in lower case.
    bare: BTreeMap<Vec<u8>, String>,
    /// Whole values of a field: too short to be looked for anywhere else.
    exact: BTreeMap<Vec<u8>, String>,
}

impl Canaries {
    /// Everything these values could look like.
    #[must_use]
    pub fn new(values: &[&str]) -> Self {
        let mut needles = BTreeMap::new();
        let mut bare = BTreeMap::new();
        let mut exact = BTreeMap::new();
        for value in values {
            exact.extend(short(value).map(|number| (number.to_be_bytes().to_vec(), format!("{value} (in four bytes)"))));
            for (form, needle) in forms(value) {
                if needle.len() >= SHORTEST || form.starts_with("binary") {
                    needles.entry(needle).or_insert_with(|| format!("{value} ({form})"));
                }
            }
            let plain = letters(value.as_bytes());
            if plain.len() >= SHORTEST {
                bare.insert(plain.iter().rev().copied().collect(), format!("{value} (reversed, without separators)"));
                bare.insert(plain, format!("{value} (without separators)"));
            }
        }
        let mut by_head: BTreeMap<[u8; 2], Vec<Vec<u8>>> = BTreeMap::new();
        for needle in needles.keys() {
            if let Some(head) = needle.first_chunk::<2>() {
                by_head.entry(*head).or_default().push(needle.clone());
            }
        }
        Self { needles, by_head, bare, exact }
    }

    /// What is found in bytes as they stand, and in them without anything but letters and digits.
    #[must_use]
    pub fn in_bytes(&self, bytes: &[u8]) -> BTreeSet<String> {
        let mut found = self.raw(bytes);
        found.extend(self.plain(&letters(bytes)));
        found
    }

    /// The same of everything received, and of what its fields give when they are put together again.
    #[must_use]
    pub fn in_received(&self, received: &Received) -> BTreeSet<String> {
        let mut found = self.in_bytes(&received.bytes);
        let rows: Vec<&Vec<u8>> = received.rows.iter().flatten().collect();
        found.extend(rows.iter().filter_map(|value| self.exact.get(*value)).cloned());
        let mut joined: Vec<Vec<u8>> = vec![rows.iter().flat_map(|value| value.iter().copied()).collect()];
        let width = received.rows.iter().map(Vec::len).max().unwrap_or(0);
        for column in 0..width {
            let values: Vec<&Vec<u8>> = received.rows.iter().filter_map(|row| row.get(column)).collect();
            joined.push(values.iter().flat_map(|value| value.iter().copied()).collect());
            // Codes of characters, one a row.
            joined.push(values.iter().filter_map(|value| code(value)).collect());
            // The first character of each.
            joined.push(values.iter().filter_map(|value| value.first().copied()).collect());
        }
        for text in &joined {
            found.extend(self.in_bytes(text));
            let twice: Vec<u8> = String::from_utf8_lossy(text).chars().filter_map(|c| u8::try_from(c).ok()).collect();
            if let Ok(decoded) = hex::decode(letters(&twice)) {
                found.extend(self.in_bytes(&decoded));
            }
        }
        found
    }

    fn raw(&self, bytes: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (at, pair) in bytes.windows(2).enumerate() {
            let Some(needles) = pair.first_chunk::<2>().and_then(|head| self.by_head.get(head)) else { continue };
            for needle in needles {
                if bytes.get(at..).is_some_and(|rest| rest.starts_with(needle)) {
                    found.extend(self.needles.get(needle).cloned());
                }
            }
        }
        found
    }

    fn plain(&self, letters: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (bare, name) in &self.bare {
            if letters.windows(bare.len()).any(|window| window == bare) {
                found.insert(name.clone());
            }
        }
        found
    }
}

/// A value as an `int4` or a `date`.
fn short(value: &str) -> Option<i32> {
    let digits: String = value.chars().filter(char::is_ascii_digit).collect();
    let format = time::macros::format_description!("[year]-[month]-[day]");
    match time::Date::parse(value, format) {
        Ok(date) => i32::try_from((date - time::macros::date!(2000 - 01 - 01)).whole_days()).ok(),
        Err(_) => value.chars().all(|c| c.is_ascii_digit() || "-. ".contains(c)).then(|| digits.parse().ok()).flatten(),
    }
}

fn letters(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect()
}

fn code(value: &[u8]) -> Option<u8> {
    let number: u8 = match std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()) {
        Some(number) => number,
        None => u8::try_from(i32::from_be_bytes(value.try_into().ok()?)).ok()?,
    };
    number.is_ascii_graphic().then_some(number)
}

fn forms(value: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = value.as_bytes();
    let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
    let mut forms = vec![
        ("as it is", bytes.to_vec()),
        ("lower case", value.to_lowercase().into_bytes()),
        ("upper case", value.to_uppercase().into_bytes()),
        ("reversed", reversed.clone()),
        ("hexadecimal", hex::encode(bytes).into_bytes()),
        ("upper hexadecimal", hex::encode_upper(bytes).into_bytes()),
        ("hexadecimal, reversed", hex::encode(&reversed).into_bytes()),
        ("percent encoding", bytes.iter().flat_map(|byte| format!("%{byte:02X}").into_bytes()).collect()),
        (
            "percent encoding of separators",
            bytes
                .iter()
                .flat_map(|byte| if byte.is_ascii_alphanumeric() { vec![*byte] } else { format!("%{byte:02X}").into_bytes() })
                .collect(),
        ),
        ("UTF-16", bytes.iter().flat_map(|byte| [*byte, 0]).collect()),
        ("digits as letters", bytes.iter().map(|byte| if byte.is_ascii_digit() { byte - b'0' + b'a' } else { *byte }).collect()),
        ("escaped", bytes.iter().flat_map(|byte| format!("\\{byte:03o}").into_bytes()).collect()),
        ("as JSON escapes", bytes.iter().flat_map(|byte| format!("\\u{byte:04x}").into_bytes()).collect()),
    ];
    // Base64 at each of the three places in a longer text: what depends on the neighbours is cut off.
    for shift in 0..3_usize {
        let padded: Vec<u8> = std::iter::repeat_n(0, shift).chain(bytes.iter().copied()).collect();
        for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            let from = [0, 2, 3].get(shift).copied().unwrap_or(0);
            let to = encoded.len().saturating_sub(usize::from(!padded.len().is_multiple_of(3)));
            forms.push(("base64", encoded.as_bytes().get(from..to).unwrap_or_default().to_vec()));
        }
    }
    let digits: String = value.chars().filter(char::is_ascii_digit).collect();
    let rest = value.chars().filter(|c| !c.is_ascii_digit());
    if digits.len() >= 7
        && rest.clone().all(|c| "-. ".contains(c))
        && let Ok(number) = digits.parse::<i64>()
    {
        forms.push(("binary int8", number.to_be_bytes().to_vec()));
        let groups = |number: i64| {
            let mut left = number;
            let mut groups: Vec<u8> = Vec::new();
            while left > 0 {
                let group = u16::try_from(left % 10_000).unwrap_or_default();
                groups.splice(0..0, group.to_be_bytes());
                left /= 10_000;
            }
            groups
        };
        let numeric = groups(number);
        if numeric.len() >= SHORTEST {
            forms.push(("binary numeric", numeric));
        }
        forms.push(("and one", number.saturating_add(1).to_string().into_bytes()));
        forms.push(("binary cents", number.saturating_mul(100).to_be_bytes().to_vec()));
        if let Ok(float) = digits.parse::<f64>() {
            forms.push(("binary float8", float.to_be_bytes().to_vec()));
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_found_and_nothing_else() {
        let canaries = Canaries::new(&["314-15-9265", "Zephyr7Quokka"]);
        for text in [
            "x314-15-9265y",
            "5629-51-413",
            "3331342d31352d39323635",
            "%33%31%34%2D%31%35%2D%39%32%36%35",
            "dbe-bf-jcgf",
            "314 15 9265",
            "314159266",
            "zephyr7quokka",
            "WmVwaHlyN1F1b2trYQ",
            "eFplcGh5cjdRdW9ra2E",
            "eHhaZXBoeXI3UXVva2th",
            "a k k o u q 7 r y h p e z",
        ] {
            assert!(!canaries.in_bytes(text.as_bytes()).is_empty(), "{text}");
        }
        assert!(canaries.in_bytes(b"nothing 314-15-926 Zephyr7Quokk").is_empty());
        let pieces = |rows: &[&[&str]]| Received {
            rows: rows.iter().map(|row| row.iter().map(|value| value.as_bytes().to_vec()).collect()).collect(),
            ..Received::default()
        };
        for received in [
            pieces(&[&["314", "-", "15", "9265"]]),
            pieces(&[&["Zephyr7", "x"], &["Quokka", "y"]]),
            pieces(&[&["51"], &["49"], &["52"], &["45"], &["49"], &["53"], &["45"], &["57"], &["50"], &["54"], &["53"]]),
        ] {
            assert!(!canaries.in_received(&received).is_empty(), "{received:?}");
        }
        assert!(canaries.in_received(&pieces(&[&["1", "2"]])).is_empty());
    }
}
