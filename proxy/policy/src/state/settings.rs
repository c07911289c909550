//! Which values of settings are the client's or the server's own. Others may have been put together by code, out of anything that code can read.

use std::collections::{HashMap, VecDeque};

/// Values kept for one setting.
const MOST_VALUES: usize = 32;
/// Settings of which values are kept; more than a server reports.
const MOST_SETTINGS: usize = 64;
/// Longest value kept.
const LONGEST: usize = 1024;

/// Settings that a server reports and code cannot put a text into: their values are those of a list.
const LISTED: &[(&str, &[&str])] = &[
    ("datestyle", &["iso", "sql", "postgres", "german", "mdy", "dmy", "ymd"]),
    ("intervalstyle", &["postgres", "postgres_verbose", "sql_standard", "iso_8601"]),
    ("client_encoding", &["utf8"]),
    ("standard_conforming_strings", &["on", "off"]),
    ("default_transaction_read_only", &["on", "off"]),
    ("in_hot_standby", &["on", "off"]),
    ("is_superuser", &["on", "off"]),
    ("integer_datetimes", &["on", "off"]),
];

/// Settings, besides [`LISTED`], that no statement can give a value of its own making.
const FIXED: &[&str] = &[
    "server_version",
    "server_version_num",
    "server_encoding",
    "max_identifier_length",
    "max_index_keys",
    "block_size",
    "lc_collate",
    "lc_ctype",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_deferrable",
    "default_transaction_isolation",
    "bytea_output",
];

/// Known values of settings, and whether others are to be expected.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    known: HashMap<String, VecDeque<String>>,
    /// Code ran that may have set anything to anything.
    pub(crate) foreign: bool,
}

impl Settings {
    /// The client or the server gave a setting that value.
    pub(crate) fn know(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        if value.len() > LONGEST || (self.known.len() >= MOST_SETTINGS && !self.known.contains_key(&name)) {
            return;
        }
        let values = self.known.entry(name).or_default();
        if !values.iter().any(|known| known == value) {
            if values.len() >= MOST_VALUES {
                values.pop_front();
            }
            values.push_back(value.to_owned());
        }
    }

    /// The server reported a value.
    pub(crate) fn reported(&mut self, name: &str, value: &str) {
        if !self.foreign {
            self.know(name, value);
        }
    }

    /// Whether a value that the server reports can be nothing but the client's or the server's own.
    pub(crate) fn is_known(&self, name: &str, value: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let listed = LISTED
            .iter()
            .find(|(listed, _)| *listed == name)
            .is_some_and(|(_, values)| value.split(',').all(|part| values.iter().any(|known| known.eq_ignore_ascii_case(part.trim()))));
        listed
            || !self.foreign
            || self.known.get(&name).is_some_and(|values| {
                values.iter().any(|known| known.eq_ignore_ascii_case(value) || (name == "application_name" && is_cleaned(known, value)))
            })
    }
}

/// Whether a setting can hold a text of somebody's making.
pub(crate) fn can_hold_text(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !FIXED.contains(&name.as_str()) && !LISTED.iter().any(|(listed, _)| *listed == name)
}

/// `application_name` as the server keeps it: cut to 63 bytes, what is not printable ASCII as `?`, or as `\xe2` since version 16.
fn is_cleaned(given: &str, reported: &str) -> bool {
    let clean = |other: &dyn Fn(u8) -> String| -> String {
        let shown = given.bytes().map(|byte| if (32..127).contains(&byte) { char::from(byte).to_string() } else { other(byte) });
        shown.collect::<String>().chars().take(63).collect()
    };
    clean(&|_| "?".to_owned()) == reported || clean(&|byte| format!("\\x{byte:02x}")) == reported
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_unknown_making_are_told_apart() {
        let mut settings = Settings::default();
        settings.reported("TimeZone", "Etc/UTC");
        settings.know("application_name", "Ärger");
        assert!(settings.is_known("application_name", "anything"), "no code ran yet");
        settings.foreign = true;
        settings.reported("application_name", "314-15-9265");
        for (name, value, known) in [
            ("TimeZone", "Etc/UTC", true),
            ("timezone", "ETC/utc", true),
            ("TimeZone", "<314159265>5", false),
            ("application_name", "314-15-9265", false),
            ("application_name", "??rger", true),
            ("application_name", "\\xc3\\x84rger", true),
            ("DateStyle", "German, DMY", true),
            ("DateStyle", "314, DMY", false),
            ("search_path", "hr", false),
        ] {
            assert_eq!(settings.is_known(name, value), known, "{name} = {value}");
        }
        (0..100).for_each(|number| settings.know("application_name", &number.to_string()));
        assert!(settings.is_known("application_name", "99") && !settings.is_known("application_name", "1"));
    }
}
