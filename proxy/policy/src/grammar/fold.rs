//! Long chains of one operator, put into groups so that their tree is flat enough to be handed over.
//!
//! `a + b + c + …` leans to the left, two messages deeper with every term; libpg_query hands over no more than 10,000 of them, which is
//! about 5,000 terms. `a + (b + … ) + ( … )` has the same names, functions and operators, and no judgement looks at the order in which they
//! are applied. Only the text that is judged is grouped, never the one that is sent.

use std::ops::Range;

use pg_query::protobuf::{KeywordKind, ScanToken, Token};

/// Terms of a group.
const GROUP: usize = 256;

/// The text with its long chains in groups; `None` when it has none.
pub(super) fn chains(sql: &str) -> Option<String> {
    let tokens = pg_query::scan(sql).ok()?.tokens;
    let mut open: Vec<Run> = vec![Run::default()];
    let mut groups: Vec<Range<usize>> = Vec::new();
    for token in &tokens {
        let place = Range { start: usize::try_from(token.start).ok()?, end: usize::try_from(token.end).ok()? };
        let text = sql.get(place.clone())?;
        match text {
            "(" | "[" => open.push(Run::default()),
            ")" | "]" => {
                open.pop();
                open.last_mut()?.operand();
            }
            _ => open.last_mut()?.take(token, text, place, &mut groups),
        }
    }
    if groups.is_empty() {
        return None;
    }
    groups.sort_by_key(|group| group.start);
    let mut folded = String::with_capacity(sql.len() + 2 * groups.len());
    let mut at = 0;
    for group in groups {
        folded.push_str(sql.get(at..group.start)?);
        folded.push('(');
        folded.push_str(sql.get(group.clone())?);
        folded.push(')');
        at = group.end;
    }
    folded.push_str(sql.get(at..)?);
    Some(folded)
}

/// Operators of one precedence, one after another inside one pair of parentheses.
#[derive(Debug, Default)]
struct Run {
    /// How tightly they bind, 0 before the first.
    class: u8,
    /// Where the group at hand begins: behind an operator.
    begins: usize,
    terms: usize,
    /// What came last: nothing, an operand's end, a word, an operator of the run.
    last: Last,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Nothing,
    Operand,
    Word,
    /// A dot or a cast: a word belongs to what comes before.
    Joint,
    Operator,
}

impl Run {
    /// Something in parentheses or brackets ended: arguments, a subscript, an operand.
    fn operand(&mut self) {
        self.last = Last::Operand;
    }

    fn stop(&mut self) {
        *self = Self::default();
    }

    fn take(&mut self, token: &ScanToken, text: &str, place: Range<usize>, groups: &mut Vec<Range<usize>>) {
        match text {
            "." | "::" if matches!(self.last, Last::Operand | Last::Word) => self.last = Last::Joint,
            "||" => self.operator(1, place, groups),
            "+" | "-" => self.operator(2, place, groups),
            "*" | "/" | "%" => self.operator(3, place, groups),
            _ => match Token::try_from(token.token) {
                Ok(Token::SqlComment | Token::CComment) => {}
                Ok(Token::Iconst | Token::Fconst | Token::Sconst | Token::Param) if matches!(self.last, Last::Operator | Last::Nothing) => {
                    self.last = Last::Operand;
                }
                Ok(Token::Ident) => self.word(),
                // After a dot or in a cast words are names.
                _ if token.keyword_kind == i32::from(KeywordKind::UnreservedKeyword) => self.word(),
                _ if token.keyword_kind != i32::from(KeywordKind::NoKeyword) && self.last == Last::Joint => self.word(),
                _ => self.stop(),
            },
        }
    }

    /// Two words side by side are no operand: an alias, a clause, an operator that is written as a word.
    fn word(&mut self) {
        match self.last {
            Last::Operator | Last::Joint | Last::Nothing => self.last = Last::Word,
            Last::Operand | Last::Word => self.stop(),
        }
    }

    fn operator(&mut self, class: u8, place: Range<usize>, groups: &mut Vec<Range<usize>>) {
        if !matches!(self.last, Last::Operand | Last::Word) {
            return self.stop();
        }
        if self.class != 0 && class > self.class {
            // It binds more tightly: part of an operand.
            self.last = Last::Operator;
            return;
        }
        if self.class != class {
            *self = Self { class, begins: place.end, terms: 0, last: Last::Operator };
            return;
        }
        self.terms += 1;
        if self.terms == GROUP {
            groups.push(Range { start: self.begins, end: place.start });
            self.terms = 0;
            self.begins = place.end;
        }
        self.last = Last::Operator;
    }
}

#[cfg(test)]
mod tests {
    use super::chains;

    fn chain(operator: &str, terms: usize) -> String {
        (0..terms).map(|n| format!("a{n}")).collect::<Vec<_>>().join(operator)
    }

    #[test]
    fn long_chains_are_put_in_groups_and_nothing_else_is() {
        for text in [
            "select a + b",
            "select 1",
            "",
            "select (",
            "select 'a",
            &format!("select {}", chain(", ", 2000)),
            &format!("select {}", chain(" and ", 2000)),
        ] {
            assert_eq!(chains(text), None, "{text}");
        }
        for operator in ["+", " - ", " || ", "*", " + lower(x) || ", " + t.b::int + "] {
            let text = format!("select {} from t where c = 1", chain(operator, 3000));
            let folded = chains(&text).unwrap_or_default();
            assert_eq!(folded.replace(['(', ')'], ""), text.replace(['(', ')'], ""), "{operator}: other words");
            assert!(folded.len() > text.len() && pg_query::parse(&folded, 0).is_ok(), "{operator}: {folded:.200}");
        }
    }

    #[test]
    fn what_binds_less_ends_a_group() {
        // Long enough for one group, and not too deep for the stack of a test.
        let long = chain(" + ", 300);
        for text in [
            format!("select {long} = {long}"),
            format!("select {long} as x, {long}"),
            format!("select x from t where {long} > 0 and {long} between {long} and {long} order by {long} desc"),
            format!("select f({long}, {long}), array[{long}], ({long})::text || {long}"),
            format!("select case when {long} > 0 then {long} else {long} end"),
            format!("select {long} collate \"C\", {long} at time zone 'x', - {long}"),
        ] {
            let before = pg_query::parse(&text, 0).map(|parsed| parsed.tables());
            let folded = chains(&text).unwrap_or_default();
            let after = pg_query::parse(&folded, 0).map(|parsed| parsed.tables());
            assert!(before.is_ok() && before.ok() == after.ok(), "{text:.80}\n{folded:.80}");
        }
    }
}
