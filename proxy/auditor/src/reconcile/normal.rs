//! Statements without their constants, so that a text and its entry in `pg_stat_statements` compare equal.

/// The form: constants and parameters are `?`, comments and a semicolon at the end are gone, white space is one blank, and case is gone outside of
/// quoted names. A list of constants is one.
pub(super) fn form(text: &str) -> String {
    forms(text).join("; ")
}

/// The form of each statement in a text.
pub(super) fn forms(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (taken, replacement): (usize, &str) = match first {
            '\'' => (string(rest, false), "?"),
            '"' => {
                let length = quoted(rest, '"');
                out.push_str(rest.get(..length).unwrap_or_default());
                (length, "")
            }
            '-' if rest.starts_with("--") => (rest.find('\n').unwrap_or(rest.len()), " "),
            '/' if rest.starts_with("/*") => (comment(rest), " "),
            '$' => dollar(rest),
            _ if (first.eq_ignore_ascii_case(&'e') || first.eq_ignore_ascii_case(&'b') || first.eq_ignore_ascii_case(&'x'))
                && rest.get(1..).is_some_and(|after| after.starts_with('\''))
                && !in_word(&out) =>
            {
                (string(rest.get(1..).unwrap_or_default(), first.eq_ignore_ascii_case(&'e')).saturating_add(1), "?")
            }
            _ if first.is_ascii_digit() && !in_word(&out) => (number(rest), "?"),
            _ if !in_word(&out) && keyword(rest) > 0 => (keyword(rest), "?"),
            _ if first.is_whitespace() => (first.len_utf8(), " "),
            ';' => {
                all.push(std::mem::take(&mut out));
                (1, "")
            }
            _ => {
                out.extend(first.to_lowercase());
                (first.len_utf8(), "")
            }
        };
        if replacement == " " {
            if !out.ends_with(' ') && !out.is_empty() {
                out.push(' ');
            }
        } else if replacement == "?" {
            // The sign belongs to the constant.
            if out.ends_with('-') {
                out.pop();
            }
            out.push('?');
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    all.push(out);
    all.iter().map(|form| folded(form.trim_end())).filter(|form| !form.is_empty()).collect()
}

/// Newer servers write a list of constants as its first and a comment: `IN ($1 /*, ... */)`.
fn folded(form: &str) -> String {
    let mut form = form.to_owned();
    loop {
        let folded = form.replace("?, ?", "?").replace("?,?", "?").replace("? )", "?)");
        if folded == form {
            return form;
        }
        form = folded;
    }
}

fn in_word(out: &str) -> bool {
    out.chars().next_back().is_some_and(|last| last.is_alphanumeric() || last == '_' || last == '$')
}

/// Length of a constant that is a word; 0 when there is none.
fn keyword(text: &str) -> usize {
    let word = text.find(|character: char| !(character.is_alphanumeric() || character == '_' || character == '$')).unwrap_or(text.len());
    let constant = text.get(..word).is_some_and(|word| ["true", "false", "null"].iter().any(|known| word.eq_ignore_ascii_case(known)));
    if constant { word } else { 0 }
}

/// Length of a string constant.
fn string(text: &str, escapes: bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if escapes => at = at.saturating_add(2),
            b'\'' if bytes.get(at.saturating_add(1)) == Some(&b'\'') => at = at.saturating_add(2),
            b'\'' => return at.saturating_add(1),
            _ => at = at.saturating_add(1),
        }
    }
    text.len()
}

fn quoted(text: &str, quote: char) -> usize {
    text.get(1..).and_then(|rest| rest.find(quote)).map_or(text.len(), |at| at.saturating_add(2))
}

fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0_usize);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth = depth.saturating_add(1);
            at = at.saturating_add(2);
        } else if rest.starts_with("*/") {
            depth = depth.saturating_sub(1);
            at = at.saturating_add(2);
            if depth == 0 {
                return at;
            }
        } else {
            at = at.saturating_add(rest.chars().next().map_or(1, char::len_utf8));
        }
    }
    text.len()
}

/// A parameter, a dollar-quoted string, or a dollar.
fn dollar(text: &str) -> (usize, &'static str) {
    let after = text.get(1..).unwrap_or_default();
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 {
        return (digits.saturating_add(1), "?");
    }
    let tag = after.split('$').next().unwrap_or_default();
    let delimiter = format!("${tag}$");
    if tag.chars().all(|character| character.is_alphanumeric() || character == '_') && text.starts_with(&delimiter) {
        let body = text.get(delimiter.len()..).unwrap_or_default();
        let end = body.find(&delimiter).map_or(text.len(), |at| at.saturating_add(delimiter.len().saturating_mul(2)));
        return (end, "?");
    }
    (1, "")
}

fn number(text: &str) -> usize {
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'.' || *byte == b'_').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_and_its_entry_are_of_one_form() {
        for (text, entry) in [
            ("SELECT * FROM t WHERE id = 17 AND name = 'O''Neil'", "SELECT * FROM t WHERE id = $1 AND name = $2"),
            ("select -5, t1.c2 from t1;", "select $1, t1.c2 from t1"),
            ("insert into t values (1, E'a\\'b', $$x$$, 1.5e3)", "insert into t values ($1, $2, $3, $4)"),
            ("select /* a /* b */ c */ 1 -- d\n , \"Quoted 1\"", "select $1 , \"Quoted 1\""),
            ("update t set a = a + 1", "update t set a = a + $1"),
            ("select f(TRUE, null), nullif(a, b), t.true_one is null", "select f($1, $2), nullif(a, b), t.true_one is null"),
            ("select * from t where id in (1, 2,3)", "select * from t where id in ($1 /*, ... */)"),
        ] {
            assert_eq!(form(text), form(entry));
        }
        assert_ne!(form("select a from t"), form("select b from t"));
        let several = "begin; update t set a = ';' where \"x;y\" = 1;; -- ;\n commit;";
        assert_eq!(forms(several), ["begin", "update t set a = ? where \"x;y\" = ?", "commit"]);
        assert!(forms(" ; /* nothing */ ").is_empty());
    }
}
