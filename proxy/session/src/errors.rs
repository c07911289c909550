//! Errors and notices the client sees.

use countersign_policy::Denial;
use countersign_wire::ErrorFields;

/// Letters of fields that hold names, positions and classes, never values.
/// <https://www.postgresql.org/docs/current/protocol-error-fields.html>
const NAMES_ONLY: &[u8] = b"SVCstcdn";

/// SQLSTATE classes and codes whose primary message PostgreSQL builds from nothing or from names.
const TEXT_IS_HARMLESS: &[&str] = &["25", "40", "57", "53", "42P03", "42P05", "42501", "26000"];

/// Codes whose primary message quotes the client's own text when the error was found in it, which its position shows. Without a position
/// they come from values, too: `ssn::regclass` says which relation does not exist.
const TEXT_IS_THE_CLIENTS: &[&str] = &["42601", "42703", "42P01", "42P02", "42883"];

fn raised(severity: &str, code: &str, message: &str) -> ErrorFields {
    ErrorFields(vec![(b'S', severity.to_owned()), (b'V', severity.to_owned()), (b'C', code.to_owned()), (b'M', message.to_owned())])
}

/// An error after which the session goes on.
pub(crate) fn error(code: &str, message: &str) -> ErrorFields {
    raised("ERROR", code, message)
}

/// An error that ends the session.
pub(crate) fn fatal(code: &str, message: &str) -> ErrorFields {
    raised("FATAL", code, message)
}

/// A notice from the gateway.
pub(crate) fn notice(message: &str, detail: Option<String>) -> ErrorFields {
    let mut fields = raised("NOTICE", "00000", message);
    fields.0.extend(detail.map(|text| (b'D', text)));
    fields
}

/// Adds DETAIL and HINT.
pub(crate) fn with(mut fields: ErrorFields, detail: Option<String>, hint: Option<String>) -> ErrorFields {
    fields.0.extend(detail.map(|text| (b'D', text)));
    fields.0.extend(hint.map(|text| (b'H', text)));
    fields
}

/// A refusal by policy.
pub(crate) fn denied(denial: &Denial) -> ErrorFields {
    with(error(&denial.code, &denial.message), denial.detail.clone(), denial.hint.clone())
}

/// The server's words where protected relations are in play: class and names stay, texts that can carry values go.
pub(crate) fn withheld(fields: &ErrorFields) -> ErrorFields {
    let code = fields.code();
    let has = |letter: u8| fields.0.iter().any(|(known, _)| *known == letter);
    // With a context the error is raised inside of a function, which can put values into every field.
    let inside = has(b'W') || has(b'q');
    let harmless =
        !inside && (TEXT_IS_HARMLESS.iter().any(|prefix| code.starts_with(prefix)) || (has(b'P') && TEXT_IS_THE_CLIENTS.contains(&code)));
    let mut kept: Vec<(u8, String)> = Vec::with_capacity(fields.0.len());
    for (letter, text) in &fields.0 {
        let name = NAMES_ONLY.contains(letter) && (!inside || b"SVC".contains(letter));
        if name || (harmless && matches!(letter, b'M' | b'P')) {
            kept.push((*letter, text.clone()));
        } else if *letter == b'M' {
            kept.push((b'M', format!("the text of this message is withheld, protected relations are in play (SQLSTATE {code})")));
        }
    }
    ErrorFields(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_do_not_survive_withholding() {
        let fields = ErrorFields(vec![
            (b'S', "ERROR".to_owned()),
            (b'C', "23505".to_owned()),
            (b'M', "duplicate key 123-45-6789".to_owned()),
            (b'D', "Key (ssn)=(123-45-6789) already exists.".to_owned()),
            (b'n', "customers_ssn_key".to_owned()),
        ]);
        let kept = withheld(&fields);
        assert!(kept.0.iter().all(|(_, text)| !text.contains("123-45")));
        assert_eq!(kept.get(b'n'), "customers_ssn_key");
        assert_eq!(kept.code(), "23505");
    }

    #[test]
    fn texts_made_of_values_do_not_survive() {
        let missing = |more: Option<(u8, &str)>| {
            let mut fields = ErrorFields(vec![
                (b'C', "42P01".to_owned()),
                (b'M', "relation \"123-45-6789\" does not exist".to_owned()),
                (b'n', "123-45-6789".to_owned()),
            ]);
            fields.0.extend(more.map(|(letter, text)| (letter, text.to_owned())));
            withheld(&fields)
        };
        assert!(!missing(None).get(b'M').contains("123"));
        assert!(missing(Some((b'P', "15"))).get(b'M').contains("123"));
        let raised = missing(Some((b'W', "PL/pgSQL function f() line 1 at RAISE")));
        assert!(raised.0.iter().all(|(_, text)| !text.contains("123")));
    }

    #[test]
    fn a_syntax_error_keeps_its_text() {
        let fields =
            ErrorFields(vec![(b'C', "42601".to_owned()), (b'M', "syntax error at or near \"x\"".to_owned()), (b'P', "3".to_owned())]);
        assert_eq!(withheld(&fields), fields);
    }
}
