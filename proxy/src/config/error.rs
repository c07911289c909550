//! What is wrong with a configuration file, where, and how to mend it.

use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
};

/// One fault. Displays as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, when it came from one.
    pub file: Option<PathBuf>,
    /// Line, from 1; 0 when the fault is not in the text.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Dotted key, when one is at fault.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl ConfigError {
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "name an existing file with --config",
            io::ErrorKind::InvalidData => "the file must be UTF-8 text",
            _ => "the proxy's user must be able to read it",
        };
        Self {
            file: Some(path.to_path_buf()),
            line: 0,
            column: 0,
            key: None,
            message: format!("cannot read: {error}"),
            hint: Some(hint.to_owned()),
        }
    }

    /// From the TOML reader, whose messages may span lines and quote the text.
    pub(super) fn syntax(text: &str, error: &toml::de::Error) -> Self {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().split('\n').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        let hint = unknown_key_hint(&message).or_else(|| missing_key_hint(&message));
        let (line, column) = line_and_column(text, span.start);
        Self { file: None, line, column, key: None, message, hint }
    }

    pub(super) fn at(text: &str, key: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        let (line, column) = line_and_column(text, span.start);
        Self { file: None, line, column, key: Some(key.to_owned()), message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn in_file(mut self, path: &Path) -> Self {
        self.file = Some(path.to_path_buf());
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}", file.display())?,
            None => f.write_str("configuration")?,
        }
        if self.line > 0 {
            write!(f, " line {}, column {}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " (hint: {hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Line and column, both from 1, of a byte offset.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.bytes().filter(|byte| *byte == b'\n').count().saturating_add(1);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
    (line, column)
}

/// `unknown field `x`, expected one of `a`, `b`` -> the nearest known name.
fn unknown_key_hint(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field ")?;
    let mut names = rest.split('`').skip(1).step_by(2);
    let given = names.next()?;
    let known: Vec<&str> = names.collect();
    let nearest = known.iter().map(|name| (distance(given, name), *name)).min()?;
    if nearest.0 <= given.len().max(3) / 2 {
        Some(format!("did you mean `{}`?", nearest.1))
    } else {
        Some(format!("known here: {}", known.join(", ")))
    }
}

fn missing_key_hint(message: &str) -> Option<String> {
    let name = message.strip_prefix("missing field `")?.split('`').next()?;
    let section = matches!(name, "listen" | "admin" | "identity" | "upstream" | "policy" | "approvals" | "recording");
    Some(if section { format!("add a [{name}] section; docs/configuration.md has an example") } else { format!("add `{name} = …` here") })
}

/// Levenshtein distance over bytes; keys are short.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        let mut next = vec![left];
        for (above, y) in row.iter().skip(1).zip(b.bytes()) {
            let cost = diagonal.saturating_add(usize::from(x != y));
            left = cost.min(above.saturating_add(1)).min(left.saturating_add(1));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
