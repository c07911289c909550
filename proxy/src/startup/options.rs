//! Settings in the start-up packet, by themselves or in `options`: a short list goes on to the server, everything else is judged once it is
//! known who asks, as the SET it stands for.
//!
//! The list holds what drivers send by themselves and what cannot change the meaning of a statement.

use crate::error::{ClientError, sqlstate};

/// What becomes of a setting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// `application_name`
    Application,
    /// The gateway has fixed it to this value already.
    Fixed,
    /// `countersign.on_hold`: the gateway's own, whether a held statement comes back at once.
    Returns(bool),
    /// `countersign.notices`: the gateway's own, whether the client is told how its request fares.
    Notices(bool),
    /// `countersign.break_glass`: the gateway's own, why held statements are to run at once.
    BreakGlass(String),
    /// Goes to the server under this name.
    Pass(&'static str),
    /// Goes to the server where the policy would allow the SET.
    Judged,
}

const HARMLESS: &[&str] = &[
    "bytea_output",
    "client_min_messages",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "extra_float_digits",
    "geqo",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "statement_timeout",
    "timezone",
    "transaction_timeout",
];

pub(super) fn judge(name: &str, value: &str) -> Result<Setting, ClientError> {
    let (lower, lower_value) = (name.to_ascii_lowercase(), value.to_ascii_lowercase());
    match lower.as_str() {
        "application_name" => Ok(Setting::Application),
        "countersign.on_hold" | "countersign.notices" => own(&lower, value),
        "countersign.break_glass" if value.is_empty() => Ok(Setting::Fixed),
        "countersign.break_glass" if countersign_approval::break_glass::is_reason(value) => Ok(Setting::BreakGlass(value.to_owned())),
        "countersign.break_glass" => {
            let error = ClientError::new(sqlstate::INVALID_PARAMETER, "countersign.break_glass is not a reason".to_owned());
            Err(error.hint("say in 10 to 500 characters on one line why held statements must run at once; reviewers will read it"))
        }
        "client_encoding" if is_utf8(value) => Ok(Setting::Fixed),
        "client_encoding" => Err(ClientError::new(
            sqlstate::INVALID_PARAMETER,
            format!("client_encoding \"{}\" is not supported by the gateway", shown(value)),
        )
        .hint("use UTF8: set PGCLIENTENCODING=UTF8 or client_encoding=UTF8")),
        "standard_conforming_strings" if is_on(&lower_value) => Ok(Setting::Fixed),
        "default_transaction_read_only" if is_on(&lower_value) => Ok(Setting::Pass("default_transaction_read_only")),
        // Other values of these are not UTF8's, or not `on`: no statement could be judged under them. Others of the gateway's own are none.
        "standard_conforming_strings" => Err(not_allowed(name)),
        own if own.starts_with("countersign.") => Err(not_allowed(name)),
        _ => Ok(HARMLESS.iter().find(|known| **known == lower).map_or(Setting::Judged, |known| Setting::Pass(known))),
    }
}

fn is_on(value: &str) -> bool {
    matches!(value, "on" | "true" | "yes" | "1" | "t")
}

fn not_allowed(name: &str) -> ClientError {
    let error =
        ClientError::new(sqlstate::INSUFFICIENT_PRIVILEGE, format!("start-up setting \"{}\" is not allowed by the gateway", shown(name)));
    error.hint("statements are judged under what the gateway has set")
}

/// The gateway's own settings.
fn own(name: &str, value: &str) -> Result<Setting, ClientError> {
    match (name, value.to_ascii_lowercase().as_str()) {
        ("countersign.on_hold", "wait") => Ok(Setting::Returns(false)),
        ("countersign.on_hold", "return") => Ok(Setting::Returns(true)),
        ("countersign.notices", "on" | "true" | "yes" | "1") => Ok(Setting::Notices(true)),
        ("countersign.notices", "off" | "false" | "no" | "0") => Ok(Setting::Notices(false)),
        _ => {
            let error = ClientError::new(sqlstate::INVALID_PARAMETER, format!("invalid value for \"{name}\": \"{}\"", shown(value)));
            Err(error.hint("countersign.on_hold is wait or return, countersign.notices is on or off"))
        }
    }
}

/// The server compares encodings by letters and digits only.
fn is_utf8(value: &str) -> bool {
    let plain: String = value.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    matches!(plain.as_str(), "utf8" | "unicode")
}

/// Splits `options` as the server does: spaces separate, a backslash takes the next character as it is.
pub(super) fn split(options: &str) -> Result<Vec<(String, String)>, ClientError> {
    let mut words = words(options).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let refused = || {
            ClientError::new(sqlstate::INVALID_PARAMETER, format!("option \"{}\" is not allowed by the gateway", shown(&word)))
                .hint("`options` may hold -c name=value and --name=value only")
        };
        let assignment = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            // The server reads a dash in a long option as an underscore.
            (Some(long), _) => long.split_once('=').map(|(name, value)| (name.replace('-', "_"), value.to_owned())),
            (None, Some("")) => {
                words.next().and_then(|next| next.split_once('=').map(|(name, value)| (name.replace('-', "_"), value.to_owned())))
            }
            (None, Some(joined)) => joined.split_once('=').map(|(name, value)| (name.replace('-', "_"), value.to_owned())),
            (None, None) => None,
        };
        settings.push(assignment.filter(|(name, _)| !name.is_empty()).ok_or_else(refused)?);
    }
    Ok(settings)
}

fn words(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

/// The client's own words, short and without control characters.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn options_split_as_the_server_splits() {
        let table: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("  -c  geqo=off ", &[("geqo", "off")]),
            ("-cgeqo=off --statement-timeout=5s", &[("geqo", "off"), ("statement_timeout", "5s")]),
            (r"-c DateStyle=ISO,\ MDY", &[("DateStyle", "ISO, MDY")]),
            (r"--x=a\\b", &[("x", r"a\b")]),
            ("-c a=b=c", &[("a", "b=c")]),
        ];
        for (options, expected) in table {
            let expected: Vec<(String, String)> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            assert_eq!(split(options).unwrap(), expected, "{options:?}");
        }
        for bad in ["-c", "-c geqo", "--geqo", "-d 5", "geqo=off", "-cgeqo", "--=x", "-c =x", "-B 100", r"\-", "\\"] {
            assert!(split(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_harmless_settings_pass_unjudged() {
        assert_eq!(judge("TimeZone", "UTC"), Ok(Setting::Pass("timezone")));
        assert_eq!(judge("Application_Name", "x"), Ok(Setting::Application));
        for utf8 in ["UTF8", "utf-8", "'utf-8'", "Unicode", "UTF_8"] {
            assert_eq!(judge("client_encoding", utf8), Ok(Setting::Fixed), "{utf8}");
        }
        for (name, value) in [
            ("client_encoding", "LATIN1"),
            ("client_encoding", "SQL_ASCII"),
            ("client_encoding", ""),
            ("standard_conforming_strings", "off"),
            ("Standard_Conforming_Strings", ""),
            ("countersign.resume", "on"),
        ] {
            assert!(judge(name, value).is_err(), "{name}={value}");
        }
        for (name, value) in [
            ("search_path", "evil"),
            ("role", "postgres"),
            ("session_authorization", "postgres"),
            ("row_security", "off"),
            ("local_preload_libraries", "x"),
            ("session_replication_role", "replica"),
            ("default_transaction_read_only", "off"),
            ("", ""),
        ] {
            assert_eq!(judge(name, value), Ok(Setting::Judged), "{name}={value}");
        }
    }
}
