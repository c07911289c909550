//! A policy's own patterns: regular expressions that cannot take more than linear time.
//!
//! The engine never backtracks, but looking for every match of a pattern of unbounded length still takes quadratic time on some inputs.
//! So each pattern must have a greatest length.

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use super::{Found, Kind};

/// Greatest length of a match, in bytes.
const LONGEST_MATCH: usize = 1024;
/// Greatest size of one compiled pattern, and of all of them, in bytes.
const COMPILED: usize = 1 << 20;

/// Why a pattern is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPattern {
    /// Not a regular expression.
    #[error("not a regular expression: {0}")]
    Syntax(String),
    /// A match may have no end.
    #[error("a match may be longer than {LONGEST_MATCH} bytes, write `{{1,40}}` in place of `+` and `{{0,40}}` in place of `*`")]
    Unbounded,
    /// A match may be empty.
    #[error("it matches the empty text")]
    Empty,
    /// Compiled it takes too much memory.
    #[error("compiled it takes more than {COMPILED} bytes, make it smaller")]
    TooLarge,
}

/// A pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    name: String,
    regex: Regex,
    keep: usize,
}

impl Pattern {
    /// Compiles a pattern; `keep` letters and digits at its end stay.
    ///
    /// # Errors
    /// When it is no regular expression, or one without a greatest length.
    pub fn new(name: &str, regex: &str, keep: usize) -> Result<Self, InvalidPattern> {
        let parsed = regex_syntax::ParserBuilder::new().utf8(false).build().parse(regex);
        let parsed =
            parsed.map_err(|error| InvalidPattern::Syntax(error.to_string().lines().last().unwrap_or_default().trim().to_owned()))?;
        let properties = parsed.properties();
        if properties.minimum_len().is_none_or(|least| least == 0) {
            return Err(InvalidPattern::Empty);
        }
        if properties.maximum_len().is_none_or(|most| most > LONGEST_MATCH) {
            return Err(InvalidPattern::Unbounded);
        }
        let regex = RegexBuilder::new(regex).size_limit(COMPILED).dfa_size_limit(COMPILED).build().map_err(|error| compiled(&error))?;
        Ok(Self { name: name.to_owned(), regex, keep })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn compiled(error: &regex::Error) -> InvalidPattern {
    match error {
        regex::Error::CompiledTooBig(_) => InvalidPattern::TooLarge,
        other => InvalidPattern::Syntax(other.to_string()),
    }
}

/// All patterns, with one automaton that says whether any of them matches.
#[derive(Debug)]
pub(super) struct Patterns {
    any: RegexSet,
    patterns: Vec<Pattern>,
}

impl Patterns {
    pub(super) fn new(patterns: Vec<Pattern>) -> Result<Self, InvalidPattern> {
        let texts = patterns.iter().map(|pattern| pattern.regex.as_str());
        let any = RegexSetBuilder::new(texts).size_limit(COMPILED).dfa_size_limit(COMPILED).build().map_err(|error| compiled(&error))?;
        Ok(Self { any, patterns })
    }

    pub(super) fn is_match(&self, value: &[u8]) -> bool {
        self.any.is_match(value)
    }

    pub(super) fn keep(&self, index: u16) -> usize {
        self.patterns.get(usize::from(index)).map_or(0, |pattern| pattern.keep)
    }

    /// Adds what these patterns find.
    pub(super) fn join(&self, value: &[u8], found: &mut Vec<Found>) {
        for index in self.any.matches(value) {
            let Some(pattern) = self.patterns.get(index) else { continue };
            let kind = Kind::Own(u16::try_from(index).unwrap_or(u16::MAX));
            found.extend(pattern.regex.find_iter(value).map(|hit| Found { kind, range: hit.range() }));
        }
        join(found);
    }
}

/// Puts findings in order; those that overlap become one.
pub(super) fn join(found: &mut Vec<Found>) {
    found.sort_by_key(|hit| (hit.range.start, hit.range.end));
    let mut joined: Vec<Found> = Vec::with_capacity(found.len());
    for hit in found.drain(..) {
        match joined.last_mut() {
            Some(last) if hit.range.start < last.range.end => {
                last.range.end = last.range.end.max(hit.range.end);
                // The policy's own pattern says how much of it stays.
                if matches!(hit.kind, Kind::Own(_)) {
                    last.kind = hit.kind;
                }
            }
            _ => joined.push(hit),
        }
    }
    *found = joined;
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use bytes::BytesMut;

    use super::*;
    use crate::detect::Detectors;

    #[test]
    fn patterns_are_bounded_or_refused() {
        for (regex, refused) in [
            (r"EMP-\d{6}", None),
            ("(?i)emp[- ]?[0-9]{1,12}", None),
            (r"\d+", Some(InvalidPattern::Unbounded)),
            ("a{2000}", Some(InvalidPattern::Unbounded)),
            ("x?", Some(InvalidPattern::Empty)),
            (r"\b", Some(InvalidPattern::Empty)),
            (r"(\pL{100}){10}", Some(InvalidPattern::Unbounded)),
            (r"((\pL{20}){20}){2}", Some(InvalidPattern::Unbounded)),
            (r"\w{250}", Some(InvalidPattern::TooLarge)),
        ] {
            assert_eq!(Pattern::new("x", regex, 0).err(), refused, "{regex}");
        }
        assert!(matches!(Pattern::new("x", "(", 0), Err(InvalidPattern::Syntax(_))));
        assert!(matches!(Pattern::new("x", r"(?=a)", 0), Err(InvalidPattern::Syntax(_))));
    }

    #[test]
    fn own_patterns_are_found_beside_the_others() {
        let staff = Pattern::new("staff", r"EMP-\d{6}", 2).unwrap();
        let ref_card = Pattern::new("reference", r"ref \d{4}", 0).unwrap();
        let detectors = Detectors::standard().with(vec![staff, ref_card]).unwrap();
        let mut out = BytesMut::new();
        let text = b"EMP-123456 wrote to alice@example.com, ref 4111-1111-1111-1111";
        assert_eq!(detectors.redact(text, &mut out), 3);
        assert_eq!(&out[..], b"***-****56 wrote to a****@example.com, *** ****-****-****-****");
        assert!(detectors.finds(b"EMP-123456"));
        assert!(!detectors.finds(b"EMP-12345"));
    }
}
