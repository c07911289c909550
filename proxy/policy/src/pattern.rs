//! Name patterns of the policy document: `*` stands for any run of characters, everything else for itself.

use std::fmt;

/// A pattern over one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Box<str>);

impl Glob {
    /// Takes a pattern as it stands.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether the whole of `name` matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0_usize, 0_usize);
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p + 1, n));
                    p += 1;
                }
                Some(byte) if Some(byte) == name.get(n) => {
                    p += 1;
                    n += 1;
                }
                _ => match retry {
                    Some((after, from)) => {
                        p = after;
                        n = from + 1;
                        retry = Some((after, n));
                    }
                    None => return false,
                },
            }
        }
        pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
    }

    /// The pattern's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern matches one name only.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.0.contains('*')
    }
}

/// A pattern over `schema.name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    /// Schema.
    pub schema: Glob,
    /// Relation or function.
    pub name: Glob,
}

impl NamePattern {
    /// Parses `schema.name`; parts may be in double quotes, which a part with a dot needs.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match split(text)?.as_slice() {
            [schema, name] => Some(Self { schema: Glob::new(schema), name: Glob::new(name) }),
            _ => None,
        }
    }

    /// Whether `schema.name` matches.
    #[must_use]
    pub fn matches(&self, schema: &str, name: &str) -> bool {
        self.schema.matches(schema) && self.name.matches(name)
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema.as_str(), self.name.as_str())
    }
}

/// A pattern over `schema.relation.column`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnPattern {
    /// Schema and relation.
    pub relation: NamePattern,
    /// Column.
    pub column: Glob,
}

impl ColumnPattern {
    /// Parses `schema.relation.column`; parts may be in double quotes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match split(text)?.as_slice() {
            [schema, name, column] => {
                Some(Self { relation: NamePattern { schema: Glob::new(schema), name: Glob::new(name) }, column: Glob::new(column) })
            }
            _ => None,
        }
    }

    /// Whether it means one column only.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.relation.schema.is_literal() && self.relation.name.is_literal() && self.column.is_literal()
    }

    /// Whether it means a column.
    #[must_use]
    pub fn is(&self, schema: &str, relation: &str, column: &str) -> bool {
        self.relation.matches(schema, relation) && self.column.matches(column)
    }
}

fn split(text: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            _ => parts.last_mut()?.push(character),
        }
    }
    (!quoted && parts.iter().all(|part| !part.is_empty())).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abcabc", true),
            ("a*c", "abcab", false),
            ("abc", "abcd", false),
            ("", "a", false),
            ("a**b", "ab", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn names_split_at_dots_outside_quotes() {
        assert!(NamePattern::parse("public.*").is_some_and(|p| p.matches("public", "t")));
        assert!(NamePattern::parse("public.\"a.b\"").is_some_and(|p| p.matches("public", "a.b")));
        assert!(NamePattern::parse("t").is_none());
        assert!(NamePattern::parse("a.b.c").is_none());
        assert!(NamePattern::parse("a.\"b").is_none());
        assert!(ColumnPattern::parse("a.b.c").is_some());
    }
}
