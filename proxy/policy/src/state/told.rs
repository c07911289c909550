//! What a session did to the meaning of what it says next, as far as its text does not show it: settings that change how a statement is
//! read or whose rights it has. Reviewers are told, and an approval for one such session is none for another. No judgement hangs on it.

use std::collections::{BTreeMap, BTreeSet};

/// Settings whose values the server reports, under which the same text may mean another time or span of time.
const REPORTED: [&str; 3] = ["DateStyle", "IntervalStyle", "TimeZone"];
/// Most settings that are named, and most values of one.
const MOST_NAMES: usize = 32;
const MOST_VALUES: usize = 8;
/// What is shown of one value.
const LONGEST: usize = 200;

/// Settings that change how a statement runs, or what is said of it, and nothing of what it does.
fn is_indifferent(name: &str) -> bool {
    let ends = ["_timeout", "_cost", "_limit", "_mem"];
    let begins = ["enable_", "tcp_", "geqo", "jit", "max_parallel_", "min_parallel_", "parallel_"];
    matches!(
        name,
        "application_name"
            | "client_min_messages"
            | "client_encoding"
            | "standard_conforming_strings"
            | "escape_string_warning"
            | "quote_all_identifiers"
            | "lc_messages"
            | "temp_buffers"
            | "effective_cache_size"
            | "cursor_tuple_fraction"
            | "plan_cache_mode"
            | "constraint_exclusion"
            | "default_statistics_target"
            | "force_parallel_mode"
            | "debug_parallel_query"
            | "client_connection_check_interval"
            | "hash_mem_multiplier"
            | "commit_delay"
            | "vacuum_cost_delay"
    ) || (name != "gin_fuzzy_search_limit" && ends.iter().any(|end| name.ends_with(end)))
        || begins.iter().any(|begin| name.starts_with(begin))
}

/// What there is to tell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// As the server says now.
    reported: BTreeMap<&'static str, String>,
    /// Whatever the session gave a setting, ever: whether it still has that value is not known.
    given: BTreeMap<String, BTreeSet<String>>,
    more: bool,
    code: bool,
}

impl Told {
    pub(crate) fn reported(&mut self, name: &str, value: &str) {
        if let Some(name) = REPORTED.into_iter().find(|known| known.eq_ignore_ascii_case(name)) {
            let before = self.reported.insert(name, shortened(value));
            // What was parsed before is what it was then.
            if let Some(before) = before.filter(|before| *before != shortened(value)) {
                self.given(name, &before);
                self.given(name, value);
            }
        }
    }

    pub(crate) fn given(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        if is_indifferent(&name) {
            return;
        }
        if self.given.len() >= MOST_NAMES && !self.given.contains_key(&name) {
            self.more = true;
            return;
        }
        let values = self.given.entry(shortened(&name)).or_default();
        if values.len() < MOST_VALUES {
            values.insert(shortened(value));
        } else if !values.contains(&shortened(value)) {
            self.more = true;
        }
    }

    /// Code that nobody reviewed ran here, which can set anything.
    pub(crate) const fn code(&mut self) {
        self.code = true;
    }

    /// Whether a statement may mean anything else here than in a new session, apart from times being those of another zone.
    pub(crate) fn is_altered(&self) -> bool {
        self.code || self.more || self.given.keys().any(|name| !matches!(name.as_str(), "timezone" | "intervalstyle"))
    }

    pub(crate) fn lines(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        let list = |pairs: Vec<String>| pairs.join("; ");
        if !self.reported.is_empty() {
            let pairs = self.reported.iter().map(|(name, value)| format!("{name} {value}"));
            lines.push(("settings".to_owned(), list(pairs.collect())));
        }
        if !self.given.is_empty() {
            let values = |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(" or ");
            let mut pairs: Vec<String> = self.given.iter().map(|(name, given)| format!("{name} {}", values(given))).collect();
            if self.more {
                pairs.push("and others".to_owned());
            }
            lines.push(("set in this session".to_owned(), list(pairs)));
        }
        if self.code {
            lines.push(("ran in this session".to_owned(), "code that may have changed any setting".to_owned()));
        }
        lines
    }
}

/// Nothing is cut without a trace.
fn shortened(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    format!("{}… ({} characters)", text.chars().take(LONGEST).collect::<String>(), text.chars().count())
}

#[cfg(test)]
mod tests {
    use super::Told;

    #[test]
    fn what_changes_the_meaning_is_told_and_nothing_else() {
        let mut told = Told::default();
        for (name, value) in [("DateStyle", "ISO, MDY"), ("server_version", "15.1"), ("timezone", "Etc/UTC")] {
            told.reported(name, value);
        }
        for name in ["application_name", "statement_timeout", "enable_seqscan", "work_mem", "random_page_cost", "jit_above_cost"] {
            told.given(name, "1");
        }
        assert_eq!(told.lines(), [("settings".to_owned(), "DateStyle ISO, MDY; TimeZone Etc/UTC".to_owned())]);
        assert!(!told.is_altered());
        told.reported("TimeZone", "Asia/Tokyo");
        assert!(!told.is_altered());
        told.given("Transform_Null_Equals", "on");
        told.given("transform_null_equals", "off");
        assert!(told.is_altered());
        let given = |told: &Told| told.lines().get(1).map(|(_, words)| words.clone()).unwrap_or_default();
        assert_eq!(given(&told), "timezone Asia/Tokyo or Etc/UTC; transform_null_equals off or on");
        for number in 0..100 {
            told.given(&format!("app.x{number}"), &"y".repeat(300));
        }
        assert!(given(&told).ends_with("; and others") && given(&told).contains("(300 characters)"));
        told.code();
        assert_eq!(told.lines().len(), 3);
    }
}
