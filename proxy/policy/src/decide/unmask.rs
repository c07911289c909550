//! Clear text for one statement: a read that asks for it is held, and what runs under the reviewers' grant is shown as it is.
//!
//! The client asks by a comment at the start of the text, `/* countersign:unmask … */`, which is part of what reviewers see and sign.

use crate::StatementKind;
use crate::analysis::Analysis;
use crate::masks::Protection;

/// What the recording and reviewers are given as the rule.
pub(super) const RULE: &str = "countersign:unmask";

const WORD: &str = "countersign:unmask";

/// Whether a text asks for clear text, may ask, and has anything to ask for.
pub(super) fn is_asked(sql: &str, analysis: &Analysis, protection: &Protection<'_>) -> bool {
    let asked = sql
        .trim_start()
        .strip_prefix("/*")
        .map(str::trim_start)
        .and_then(|text| text.strip_prefix(WORD))
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_whitespace() || c == '*'));
    let may = protection
        .policy()
        .masking()
        .unmask
        .as_ref()
        .is_some_and(|unmask| unmask.who.as_ref().is_none_or(|who| who.matches(protection.principal())));
    asked
        && may
        && analysis.protected
        && (!analysis.shows.is_empty() || analysis.exposed.is_some())
        && matches!(analysis.facts.kind, StatementKind::Read | StatementKind::CopyOut)
}

/// What reviewers are told.
pub(super) fn reason(analysis: &Analysis) -> String {
    if analysis.shows.is_empty() {
        return "asks to use protected columns as they are".to_owned();
    }
    format!("asks to see in clear: {}", analysis.shows.join(", "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_word_is_the_same_everywhere() {
        assert_eq!(super::WORD, super::RULE);
    }
}
