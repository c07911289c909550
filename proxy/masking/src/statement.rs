//! Literals in the text of a statement: which of them hold something personal, and the text without these.
//!
//! For recordings that seal what is personal in a statement. A literal is hidden whole, whatever part of it was found, and leaves a mark
//! behind that is a literal itself, so that the statement still parses where it did. The text is read as Postgres's own scanner reads it
//! (src/backend/parser/scan.l, with `standard_conforming_strings`), escapes and all; what cannot be told counts as found.

use std::ops::Range;

use crate::detect::Detectors;
use crate::scan::ValueScanner;

mod tokens;

use tokens::{Kind, Token, tokens};

/// What stands in place of what is hidden.
pub const MARK: &str = "[sealed]";

/// Bodies in bodies in bodies that are looked into; deeper ones are hidden whole.
const DEEPEST: usize = 4;

/// Which literals are hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Those in which a detector finds something.
    Detected,
    /// All, with comments.
    All,
}

/// Hides literals.
#[derive(Debug, Clone)]
pub struct Literals {
    detectors: Vec<Detectors>,
    extent: Extent,
}

impl Literals {
    /// By these detectors, all of them.
    #[must_use]
    pub const fn new(detectors: Vec<Detectors>, extent: Extent) -> Self {
        Self { detectors, extent }
    }

    /// Whether anything is found in a text that is no statement.
    #[must_use]
    pub fn finds(&self, text: &[u8]) -> bool {
        self.detectors.iter().any(|detectors| detectors.finds(text))
    }

    /// A text that is no statement, with what is found overwritten by stars; its length stays. `None`: nothing is found.
    #[must_use]
    pub fn overwritten(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut out = text.to_vec();
        let mut any = false;
        for found in self.found(text) {
            if let Some(part) = out.get_mut(found) {
                part.fill(b'*');
                any = true;
            }
        }
        any.then_some(out)
    }

    /// Whether a bound value is to be hidden.
    #[must_use]
    pub fn hides_parameter(&self, type_oid: u32, binary: bool, value: &[u8]) -> bool {
        if self.extent == Extent::All {
            return true;
        }
        let integer = if binary { integer(type_oid, value) } else { None };
        self.detectors.iter().any(|detectors| {
            let scanner = if binary { ValueScanner::new(detectors, type_oid, true) } else { None };
            integer.as_ref().is_some_and(|digits| detectors.finds(digits.as_bytes()))
                || scanner.is_some_and(|scanner| scanner.finds(value))
                // Also where the type says that there is no text: what type a parameter has, its sender says.
                || detectors.finds(value)
        })
    }

    /// The statement without what is to be hidden; `None`: it stays as it is.
    #[must_use]
    pub fn hide(&self, text: &[u8]) -> Option<Vec<u8>> {
        self.hide_within(text, 0)
    }

    fn hide_within(&self, text: &[u8], depth: usize) -> Option<Vec<u8>> {
        let tokens = tokens(text);
        let found = self.found(text);
        // What is found within one literal is hidden with it.
        let within = |range: &Range<usize>| {
            let before = tokens.partition_point(|token| token.content.start <= range.start);
            let token = before.checked_sub(1).and_then(|at| tokens.get(at));
            token.is_some_and(|token| token.kind != Kind::Number && range.end <= token.content.end)
        };
        let mut cuts: Vec<Cut> =
            found.iter().filter(|range| !within(range)).map(|range| Cut { range: range.clone(), put: quoted() }).collect();
        for (token, joined) in tokens.iter().zip(self.joined(text, &tokens)) {
            if let Some(put) = self.instead(token, joined, &found, depth) {
                cuts.push(Cut { range: token.content.clone(), put });
            }
        }
        (!cuts.is_empty()).then(|| replaced(text, cuts))
    }

    /// What is put in place of a token's content.
    fn instead(&self, token: &Token, joined: bool, found: &[Range<usize>], depth: usize) -> Option<Vec<u8>> {
        if token.content.is_empty() {
            return None;
        }
        let next = found.partition_point(|found| found.end <= token.content.start);
        let overlaps = found.get(next).is_some_and(|found| found.start < token.content.end);
        let mark = match (token.kind, self.extent) {
            (Kind::Number, Extent::All) => return Some(quoted()),
            (Kind::Number, Extent::Detected) => return overlaps.then(quoted),
            (Kind::Text | Kind::Body | Kind::Comment, Extent::All) => true,
            (Kind::Body, Extent::Detected) if depth < DEEPEST => {
                return self.hide_within(&token.value, depth.saturating_add(1)).or_else(|| (overlaps || joined).then(bare));
            }
            _ => token.opaque || overlaps || joined || self.finds(&token.value),
        };
        mark.then(bare)
    }

    /// For each token, whether the value that it makes together with its neighbours has something: `'123-' '45-6789'`, `'123-' || '45-6789'`.
    fn joined(&self, text: &[u8], tokens: &[Token]) -> Vec<bool> {
        let mut hidden = vec![false; tokens.len()];
        let mut start = 0;
        while start < tokens.len() {
            let run =
                1 + tokens.iter().zip(tokens.iter().skip(1)).skip(start).take_while(|(before, after)| adjoin(text, before, after)).count();
            let end = start.saturating_add(run);
            if run > 1 {
                let value: Vec<u8> = tokens.iter().take(end).skip(start).flat_map(|token| token.value.iter().copied()).collect();
                if self.finds(&value) {
                    hidden.iter_mut().take(end).skip(start).for_each(|hide| *hide = true);
                }
            }
            start = end;
        }
        hidden
    }

    /// What all detectors find, in order and without overlaps.
    fn found(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = self.detectors.iter().flat_map(|d| d.scan(text)).map(|found| found.range).collect();
        found.sort_by_key(|range| range.start);
        found.dedup_by(|next, before| {
            let overlaps = next.start < before.end;
            if overlaps {
                before.end = before.end.max(next.end);
            }
            overlaps
        });
        found
    }
}

struct Cut {
    range: Range<usize>,
    put: Vec<u8>,
}

/// Within quotes that stay.
fn bare() -> Vec<u8> {
    MARK.as_bytes().to_vec()
}

/// Where a number stood.
fn quoted() -> Vec<u8> {
    format!("'{MARK}'").into_bytes()
}

fn adjoin(text: &[u8], before: &Token, after: &Token) -> bool {
    let between = text.get(before.whole.end..after.whole.start).unwrap_or_default();
    before.kind == Kind::Text && after.kind == Kind::Text && between.iter().all(|byte| byte.is_ascii_whitespace() || *byte == b'|')
}

/// Cuts that overlap become one, with what the one over all of it puts there.
fn replaced(text: &[u8], mut cuts: Vec<Cut>) -> Vec<u8> {
    cuts.sort_by_key(|cut| (cut.range.start, std::cmp::Reverse(cut.range.end)));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    for cut in cuts {
        if cut.range.start < at {
            at = at.max(cut.range.end);
            continue;
        }
        out.extend_from_slice(text.get(at..cut.range.start).unwrap_or_default());
        out.extend_from_slice(&cut.put);
        at = cut.range.end;
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default());
    out
}

/// The digits of an integer in binary format.
fn integer(type_oid: u32, value: &[u8]) -> Option<String> {
    Some(match type_oid {
        20 => i64::from_be_bytes(value.try_into().ok()?).to_string(),
        23 => i32::from_be_bytes(value.try_into().ok()?).to_string(),
        1700 => crate::number::numeric_integer(value)?.to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::detect::Kind;

    fn hidden(extent: Extent, text: &str) -> String {
        let literals = Literals::new(vec![Detectors::standard()], extent);
        literals.hide(text.as_bytes()).map_or_else(|| text.to_owned(), |hidden| String::from_utf8(hidden).unwrap())
    }

    #[test]
    fn literals_that_hold_something_are_hidden_whole_and_others_stay() {
        for (text, expected) in [
            ("select 1", "select 1"),
            (
                "select * from t where ssn = '123-45-6789' and branch = 'north'",
                "select * from t where ssn = '[sealed]' and branch = 'north'",
            ),
            ("select 'Ann, 123-45-6789, born 1970'", "select '[sealed]'"),
            ("insert into t values (7, 4111111111111111, 'x')", "insert into t values (7, '[sealed]', 'x')"),
            ("select 123-45-6789", "select '[sealed]'"),
            ("select E'123\\x2d45\\0556789', E'\\u0061'", "select E'[sealed]', E'\\u0061'"),
            ("select U&'\\0031x', U&\"n\\0061me\"", "select U&'[sealed]', U&\"[sealed]\""),
            ("select '123-'\n  '45-6789', 'x'", "select '[sealed]'\n  '[sealed]', 'x'"),
            ("select '123-' || '45' || '-6789'", "select '[sealed]' || '[sealed]' || '[sealed]'"),
            ("select 'it''s 123-45-6789'", "select '[sealed]'"),
            ("select $q$a 'b' 123-45-6789$q$", "select $q$a 'b' '[sealed]'$q$"),
            ("do $$ begin perform f('123-45-6789', 'ok'); end $$", "do $$ begin perform f('[sealed]', 'ok'); end $$"),
            ("select /* for 123-45-6789 */ 1 -- ann@example.com\n", "select /*[sealed]*/ 1 --[sealed]\n"),
            ("select 1 as \"123-45-6789\"", "select 1 as \"[sealed]\""),
            ("select '\\x3132332d34352d36373839'::bytea", "select '[sealed]'::bytea"),
            ("select * from t where ssn = 123456789", "select * from t where ssn = '[sealed]'"),
            ("select $1, x'1f', t1.c2 from t1", "select $1, x'1f', t1.c2 from t1"),
            ("select 'unfinished 123-45-6789", "select '[sealed]"),
        ] {
            assert_eq!(hidden(Extent::Detected, text), expected);
        }
    }

    #[test]
    fn all_literals_are_hidden_on_demand() {
        for (text, expected) in [
            ("select a, 'x', 1.5e-3, t1.c2 from t1", "select a, '[sealed]', '[sealed]', t1.c2 from t1"),
            ("select '' /* c */, $1, $$a$$, b'1'", "select '' /*[sealed]*/, $1, $$[sealed]$$, b'[sealed]'"),
            ("select name from t", "select name from t"),
        ] {
            assert_eq!(hidden(Extent::All, text), expected);
        }
    }

    #[test]
    fn bound_values_are_found_in_either_format() {
        let literals = Literals::new(vec![Detectors::of(&[Kind::Card])], Extent::Detected);
        assert!(literals.hides_parameter(25, false, b"4111 1111 1111 1111"));
        assert!(literals.hides_parameter(20, true, &4_111_111_111_111_111_i64.to_be_bytes()));
        assert!(literals.hides_parameter(20, false, b"4111111111111111"));
        assert!(literals.hides_parameter(25, true, b"4111111111111111"));
        assert!(!literals.hides_parameter(20, true, &7_i64.to_be_bytes()));
        assert!(!literals.hides_parameter(25, false, b"north"));
        assert!(Literals::new(Vec::new(), Extent::All).hides_parameter(25, false, b"north"));
    }

    proptest! {
        /// However a statement is put together, what a detector finds in it, or in a literal of it, is gone.
        #[test]
        fn nothing_that_is_found_stays(parts in proptest::collection::vec("('|\"|\\$\\$|\\$a\\$|/\\*|\\*/|--|\n|\\\\|E'|U&'|123-45-6789|ann@example.com| |x|1)", 0..24)) {
            let text = parts.concat();
            let literals = Literals::new(vec![Detectors::standard()], Extent::Detected);
            let shown = literals.hide(text.as_bytes()).unwrap_or_else(|| text.clone().into_bytes());
            prop_assert!(!Detectors::standard().finds(&shown), "{}", String::from_utf8_lossy(&shown));
        }
    }
}
