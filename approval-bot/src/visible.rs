//! Text as reviewers must see it: nothing hidden, nothing that a viewer would interpret.
//!
//! Characters that are invisible, reorder text or look like a space are replaced by `⟨U+202E⟩`; runs of spaces and empty lines that could
//! push the rest out of sight by `⟨60 spaces⟩`. The brackets themselves are replaced too, so a notation in the output is always ours.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Spaces in a row that are shown as they are.
const MAX_SPACES: usize = 24;
/// Line ends in a row that are shown as they are.
const MAX_LINES: usize = 3;

/// A text made visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visible {
    /// What to show.
    pub text: String,
    /// Whether anything was replaced.
    pub replaced: bool,
    /// Characters outside ASCII, which may look like others.
    pub foreign: BTreeSet<char>,
    /// Whether some of it runs from right to left.
    pub right_to_left: bool,
}

/// Makes a text visible, keeping its line ends.
#[must_use]
pub fn text(input: &str) -> Visible {
    let mut out = Visible { text: String::with_capacity(input.len()), replaced: false, foreign: BTreeSet::new(), right_to_left: false };
    let mut rest = input.chars().peekable();
    while let Some(char) = rest.next() {
        let mut run = 1;
        if matches!(char, ' ' | '\n') {
            while rest.next_if_eq(&char).is_some() {
                run += 1;
            }
        }
        out.push(char, run);
    }
    out
}

/// Makes a text visible on one line.
#[must_use]
pub fn line(input: &str) -> String {
    text(input).text.replace('\n', "⟨U+000A⟩")
}

impl Visible {
    fn push(&mut self, char: char, run: usize) {
        match char {
            ' ' if run <= MAX_SPACES => self.text.extend(std::iter::repeat_n(' ', run)),
            '\n' if run <= MAX_LINES => self.text.extend(std::iter::repeat_n('\n', run)),
            ' ' => self.replace(&format!("⟨{run} spaces⟩")),
            '\n' => self.replace(&format!("⟨{run} line ends⟩\n")),
            '\t' => self.text.push('\t'),
            _ if is_hidden(char) => self.replace(&format!("⟨U+{:04X}⟩", u32::from(char))),
            _ => {
                // Quotes, semicolons and dashes have doubles as letters have.
                if !char.is_ascii() {
                    self.foreign.insert(char);
                    self.right_to_left |= is_right_to_left(char);
                }
                self.text.push(char);
            }
        }
    }

    fn replace(&mut self, notation: &str) {
        self.replaced = true;
        self.text.push_str(notation);
    }

    /// What a reviewer should be told about the text, if anything.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.replaced {
            notes.push("contains characters that would be invisible or misleading; they are written as ⟨…⟩".to_owned());
        }
        if !self.foreign.is_empty() {
            let mut note = "contains characters outside ASCII, which may look like others:".to_owned();
            for char in self.foreign.iter().take(12) {
                let _ = write!(note, " {char} (U+{:04X})", u32::from(*char));
            }
            if self.foreign.len() > 12 {
                let _ = write!(note, " and {} more", self.foreign.len().saturating_sub(12));
            }
            notes.push(note);
        }
        if self.right_to_left {
            notes.push("contains letters written from right to left, so the order on the screen may not be the order that runs".to_owned());
        }
        notes
    }
}

/// Whether a character is one that a viewer hides, reorders by, or shows as plain space.
fn is_hidden(char: char) -> bool {
    matches!(char,
        '\u{0}'..='\u{1F}' | '\u{7F}'..='\u{9F}'            // C0, DEL, C1
        | '\u{A0}' | '\u{AD}' | '\u{34F}' | '\u{61C}'
        | '\u{115F}' | '\u{1160}' | '\u{1680}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
        | '\u{2000}'..='\u{200F}' | '\u{2028}'..='\u{202F}' // spaces, zero width, marks, separators, bidi
        | '\u{205F}'..='\u{206F}'
        | '\u{27E8}' | '\u{27E9}'                           // our own brackets
        | '\u{2800}' | '\u{3000}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFD}'
        | '\u{E000}'..='\u{F8FF}'                           // private use
        | '\u{110BD}' | '\u{110CD}' | '\u{13430}'..='\u{1345F}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D159}' | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{10FFFF}'                        // tags, variation selectors, private planes
    ) || (char.is_whitespace() && !char.is_ascii())
        || is_combining(char)
}

/// Letters of scripts that run from right to left, which reorder the digits and punctuation around them without any hidden mark.
const fn is_right_to_left(char: char) -> bool {
    matches!(char, '\u{590}'..='\u{8FF}' | '\u{FB1D}'..='\u{FDFF}' | '\u{FE70}'..='\u{FEFE}' | '\u{10800}'..='\u{10FFF}' | '\u{1E800}'..='\u{1EFFF}')
}

/// Combining marks change the letter before them; SQL that needs them is rare and its reviewers should see them.
fn is_combining(char: char) -> bool {
    matches!(char, '\u{300}'..='\u{36F}' | '\u{483}'..='\u{489}' | '\u{1AB0}'..='\u{1AFF}' | '\u{1DC0}'..='\u{1DFF}' | '\u{20D0}'..='\u{20FF}' | '\u{FE20}'..='\u{FE2F}')
}

/// Escapes what Slack's markup gives a meaning, for the few texts that must be markup.
#[must_use]
pub fn markup(input: &str) -> String {
    line(input).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Length as Slack counts it: UTF-16 code units, the larger of the counts in use.
#[must_use]
pub fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// Cuts a text into pieces of at most `limit` units, at line ends where there are any.
#[must_use]
pub fn pieces(text: &str, limit: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for line in text.split_inclusive('\n') {
        if units(&piece).saturating_add(units(line)) > limit && !piece.is_empty() {
            pieces.push(std::mem::take(&mut piece));
        }
        let mut room = limit.saturating_sub(units(&piece));
        for char in line.chars() {
            if char.len_utf16() > room {
                pieces.push(std::mem::take(&mut piece));
                room = limit;
            }
            piece.push(char);
            room = room.saturating_sub(char.len_utf16());
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::{line, markup, pieces, text, units};

    #[test]
    fn hidden_characters_are_written_out() {
        let cases = [
            ("select 1", "select 1"),
            ("a\u{202e}b", "a⟨U+202E⟩b"),
            ("a\u{200b}b\u{feff}", "a⟨U+200B⟩b⟨U+FEFF⟩"),
            ("a\rb", "a⟨U+000D⟩b"),
            ("a\0b\u{1b}[8m", "a⟨U+0000⟩b⟨U+001B⟩[8m"),
            ("\u{e0041}", "⟨U+E0041⟩"),
            ("⟨U+202E⟩", "⟨U+27E8⟩U+202E⟨U+27E9⟩"),
            ("a\u{a0}b", "a⟨U+00A0⟩b"),
            ("e\u{301}", "e⟨U+0301⟩"),
        ];
        for (input, expected) in cases {
            assert_eq!(text(input).text, expected);
        }
        assert_eq!(text(&format!("a{}b", " ".repeat(60))).text, "a⟨60 spaces⟩b");
        assert_eq!(text(&format!("a{}b", "\n".repeat(900))).text, "a⟨900 line ends⟩\nb");
        assert_eq!(line("a\nb"), "a⟨U+000A⟩b");
    }

    #[test]
    fn letters_that_may_deceive_are_pointed_out() {
        assert!(text("select 'plain'").notes().is_empty());
        let notes = text("delete from \u{0441}ustomers").notes();
        assert!(notes.iter().any(|note| note.contains("U+0441")), "{notes:?}");
        // Quotes that are none, a Greek question mark, a minus that is no operator.
        for (deceptive, code) in
            [("x = \u{2019}a\u{2019}", "U+2019"), ("select 1\u{37e}", "U+037E"), ("a \u{2212} b", "U+2212"), ("a\u{ff1b}b", "U+FF1B")]
        {
            let notes = text(deceptive).notes();
            assert!(notes.iter().any(|note| note.contains(code)), "{code}: {notes:?}");
        }
        let notes = text("name = '\u{5d0}' and id = 1").notes();
        assert!(notes.iter().any(|note| note.contains("right to left")), "{notes:?}");
    }

    #[test]
    fn markup_is_inert() {
        assert_eq!(markup("<!channel> & <@U1>"), "&lt;!channel&gt; &amp; &lt;@U1&gt;");
    }

    #[test]
    fn pieces_join_to_the_whole_and_keep_the_limit() {
        let long = format!("{}\n{}\n😀{}", "a".repeat(25), "b".repeat(3), "é".repeat(40));
        for limit in [2, 7, 10, 1000] {
            let cut = pieces(&long, limit);
            assert_eq!(cut.concat(), long);
            assert!(cut.iter().all(|piece| units(piece) <= limit && !piece.is_empty()));
        }
    }
}
