//! What the name of a column says its values are, in the way people name columns: `ssn`, `SocialSecurityNo`, `home_phone2`.

use super::Kind;

/// Words that say by themselves what a value is.
const WORDS: [(&str, Kind); 16] = [
    ("ssn", Kind::Ssn),
    ("ssno", Kind::Ssn),
    ("tin", Kind::Ssn),
    ("socsec", Kind::Ssn),
    ("routing", Kind::Routing),
    ("aba", Kind::Routing),
    ("rtn", Kind::Routing),
    ("phone", Kind::Phone),
    ("phones", Kind::Phone),
    ("telephone", Kind::Phone),
    ("cellphone", Kind::Phone),
    ("mobile", Kind::Phone),
    ("cell", Kind::Phone),
    ("tel", Kind::Phone),
    ("fax", Kind::Phone),
    ("msisdn", Kind::Phone),
];

/// The same of words together, wherever they stand in the name.
const PARTS: [(&str, Kind); 7] = [
    ("socialsecurity", Kind::Ssn),
    ("socsec", Kind::Ssn),
    ("taxid", Kind::Ssn),
    ("taxpayerid", Kind::Ssn),
    ("routingn", Kind::Routing),
    ("phonen", Kind::Phone),
    ("mobilen", Kind::Phone),
];

/// How the name of an account's number ends; `account_id` is none.
const ACCOUNTS: [&str; 3] = ["account", "acct", "konto"];
const NUMBERS: [&str; 6] = ["", "no", "nr", "num", "number", "nummer"];

/// Longer names than this are none of anybody's choice.
const LONGEST: usize = 128;

/// The kinds that a name speaks of.
pub(super) fn kinds(name: &str) -> Vec<Kind> {
    let words = words(name);
    let joined = words.concat();
    let mut kinds: Vec<Kind> = WORDS.iter().filter(|(word, _)| words.iter().any(|found| found == word)).map(|(_, kind)| *kind).collect();
    kinds.extend(PARTS.iter().filter(|(part, _)| joined.contains(part)).map(|(_, kind)| *kind));
    let ends =
        |account: &&'static str| NUMBERS.iter().any(|number| joined.strip_suffix(number).is_some_and(|rest| rest.ends_with(*account)));
    kinds.extend(ACCOUNTS.iter().any(ends).then_some(Kind::Account));
    kinds
}

/// The words of a name in lower case, without the digits at their ends.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_is_lower = false;
    for c in name.chars().take(LONGEST) {
        if !c.is_alphanumeric() || (before_is_lower && c.is_uppercase()) {
            words.push(String::new());
        }
        before_is_lower = c.is_lowercase();
        if let Some(word) = words.last_mut()
            && c.is_alphanumeric()
        {
            word.extend(c.to_lowercase());
        }
    }
    words.iter().map(|word| word.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_values_are() {
        for (name, expected) in [
            ("ssn", Some(Kind::Ssn)),
            ("SSN", Some(Kind::Ssn)),
            ("spouse_ssn2", Some(Kind::Ssn)),
            ("customerSsn", Some(Kind::Ssn)),
            ("social_security_no", Some(Kind::Ssn)),
            ("SocialSecurityNumber", Some(Kind::Ssn)),
            ("tax_id", Some(Kind::Ssn)),
            ("aba_routing", Some(Kind::Routing)),
            ("routing_number", Some(Kind::Routing)),
            ("account", Some(Kind::Account)),
            ("account_no", Some(Kind::Account)),
            ("beneficiaryAccountNumber", Some(Kind::Account)),
            ("kontonummer", Some(Kind::Account)),
            ("home_phone2", Some(Kind::Phone)),
            ("phonenumber", Some(Kind::Phone)),
            ("account_id", None),
            ("classname", None),
            ("session", None),
            ("cells", None),
            ("amount", None),
            ("", None),
            ("?column?", None),
        ] {
            assert_eq!(kinds(name).first().copied(), expected, "{name}");
        }
    }
}
