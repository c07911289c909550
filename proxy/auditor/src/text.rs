//! Text from recordings, made harmless: whoever ran a statement chose its bytes, and may have chosen them for the auditor.

use std::fmt::Write as _;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

const MICROSECONDS: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// For a terminal: control characters (escape sequences among them) and characters that change or hide their neighbours are
/// written out as `\u{…}`. Line feeds stay when `lines` is true.
#[must_use]
pub fn visible(text: &str, lines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' if lines => out.push('\n'),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            character if is_deceptive(character) => {
                // Writing to a String does not fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
            }
            character => out.push(character),
        }
    }
    out
}

/// For HTML text and attributes: the above, and markup as text.
#[must_use]
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '`' => out.push_str("&#96;"),
            '\n' | '\t' => out.push(character),
            character if is_deceptive(character) => {
                let _ = write!(out, "<i class=\"odd\">U+{:04X}</i>", u32::from(character));
            }
            character => out.push(character),
        }
    }
    out
}

/// Bytes as text where they are text, otherwise as `\x…`.
#[must_use]
pub fn lossless(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("\\x{}", hex::encode(bytes)),
    }
}

/// RFC 3339, UTC.
#[must_use]
pub fn timestamp(time_us: i64) -> String {
    // Always with six digits, so that times stand under each other and sort as text; whole seconds, of certificates and policies, without.
    let whole = time_us.rem_euclid(1_000_000) == 0;
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time_us).saturating_mul(1000))
        .ok()
        .and_then(|time| if whole { time.format(&Rfc3339).ok() } else { time.format(MICROSECONDS).ok() })
        .unwrap_or_else(|| format!("{time_us} µs"))
}

/// `1.234 ms`, `12.3 s`.
#[must_use]
pub fn duration(us: u64) -> String {
    if us < 1_000_000 { format!("{}.{:03} ms", us / 1000, us % 1000) } else { format!("{}.{:03} s", us / 1_000_000, us / 1000 % 1000) }
}

/// Controls, bidirectional overrides and isolates, zero-width characters, separators, tags, private use.
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_shown_and_does_nothing() {
        for (text, terminal, page) in [
            ("plain ž 🙂", "plain ž 🙂", "plain ž 🙂"),
            ("\x1b[2J", "\\u{1b}[2J", "<i class=\"odd\">U+001B</i>[2J"),
            ("a\u{202e}b", "a\\u{202e}b", "a<i class=\"odd\">U+202E</i>b"),
            ("a\nb\tc", "a\\nb\\tc", "a\nb\tc"),
            ("\u{9b}31m", "\\u{9b}31m", "<i class=\"odd\">U+009B</i>31m"),
            ("<script>'\"&`", "<script>'\"&`", "&lt;script&gt;&#39;&quot;&amp;&#96;"),
        ] {
            assert_eq!(visible(text, false), terminal);
            assert_eq!(html(text), page);
        }
        assert_eq!(visible("a\nb", true), "a\nb");
    }

    #[test]
    fn times_and_bytes() {
        assert_eq!(timestamp(1_700_000_000_123_456), "2023-11-14T22:13:20.123456Z");
        assert_eq!(timestamp(1_700_000_000_123_400), "2023-11-14T22:13:20.123400Z");
        assert_eq!(timestamp(1_700_000_000_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(duration(1_234), "1.234 ms");
        assert_eq!(duration(12_345_678), "12.345 s");
        assert_eq!(lossless(b"ab"), "ab");
        assert_eq!(lossless(b"\xff"), "\\xff");
    }
}
