//! Functions in C of widely used extensions that have been read: they calculate with their arguments and do nothing else.
//!
//! A function in C or of the server's own inside can be made by superusers only, and its library and symbol name the very code that runs, so
//! that nothing made by anybody else passes for one. Whatever runs a text of its caller, reads or writes relations or files, keeps something
//! in the session or calls what others made is left out, as is the whole of a library in which most does (`dblink`, `file_fdw`, `lo`,
//! `postgres_fdw`, `xml2`, `pg_stat_statements`, `plperl` …). Functions in SQL that come with an extension are functions of users here.

/// Libraries, each with the symbols that are left out.
const LIBRARIES: [(&str, &[&str]); 21] = [
    ("_int", &[]),
    ("btree_gin", &[]),
    ("btree_gist", &[]),
    ("citext", &[]),
    ("cube", &[]),
    ("dict_int", &[]),
    ("dict_xsyn", &[]),
    ("earthdistance", &[]),
    ("fuzzystrmatch", &[]),
    // Makes values of the types of a row, with whatever their checks call.
    ("hstore", &["hstore_populate_record"]),
    // Changes what the session takes for valid.
    ("isn", &["accept_weak_input"]),
    ("ltree", &[]),
    ("pg_trgm", &["set_limit"]),
    ("pgcrypto", &[]),
    ("seg", &[]),
    // These run a text, or read what another names.
    ("tablefunc", &["crosstab", "crosstab_hash", "connectby_text", "connectby_text_serial"]),
    ("tsm_system_rows", &[]),
    ("tsm_system_time", &[]),
    ("unaccent", &[]),
    ("uuid-ossp", &[]),
    ("vector", &[]),
];

/// Symbols of the server's own that extensions make functions of their types with (`citext`).
const INTERNAL: [&str; 12] = [
    "textin",
    "textout",
    "textrecv",
    "textsend",
    "booltext",
    "rtrim1",
    "network_show",
    "texticlike",
    "texticnlike",
    "texticregexeq",
    "texticregexne",
    "hashvarlena",
];

/// Whether a function with that language, library and symbol is one of them.
pub(crate) fn is_reviewed(language: &str, library: Option<&str>, symbol: Option<&str>) -> bool {
    let Some(symbol) = symbol else { return false };
    match language {
        "internal" => INTERNAL.contains(&symbol),
        "c" => {
            let name = library.and_then(|library| library.strip_prefix("$libdir/"));
            LIBRARIES.iter().any(|(known, others)| name == Some(known) && !others.contains(&symbol))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_read_passes() {
        assert!(is_reviewed("c", Some("$libdir/citext"), Some("citext_eq")));
        assert!(is_reviewed("internal", None, Some("texticlike")));
        for (language, library, symbol) in [
            ("c", Some("$libdir/hstore"), Some("hstore_populate_record")),
            ("c", Some("$libdir/tablefunc"), Some("crosstab")),
            ("c", Some("$libdir/dblink"), Some("dblink_record")),
            ("c", Some("/tmp/citext"), Some("citext_eq")),
            ("c", Some("citext"), Some("citext_eq")),
            ("c", None, Some("citext_eq")),
            ("c", Some("$libdir/citext"), None),
            ("sql", Some("$libdir/citext"), Some("citext_eq")),
            ("plpgsql", None, Some("textin")),
            ("internal", None, Some("pg_terminate_backend")),
        ] {
            assert!(!is_reviewed(language, library, symbol), "{language} {library:?} {symbol:?}");
        }
    }
}
