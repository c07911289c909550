//! What the gateway itself says to the server, on connections of its own: known by every word.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::{Sent, normal};

/// The gateway's own queries: what it asks of the catalog on connections of its own, in the words of this release.
const OWN: &str = include_str!("../../../policy/src/catalog/queries.rs");

/// What it says on the connection of a session, before the client does.
pub(super) const AT_LOGIN: &str = "SHOW search_path";

/// What else those connections say.
const OWN_FRAME: [&str; 7] = [
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "SET LOCAL lock_timeout = '500ms'",
    "BEGIN READ ONLY",
    "COMMIT",
    "ROLLBACK",
    AT_LOGIN,
    "SELECT pg_catalog.current_setting('search_path'), pg_catalog.current_setting('role'), \
pg_catalog.current_setting('standard_conforming_strings'), pg_catalog.current_setting('client_encoding'), \
COALESCE((SELECT pg_catalog.json_agg(c.relname) FROM pg_catalog.pg_class c \
WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() AND c.relkind OPERATOR(pg_catalog.<>) 'i')::pg_catalog.text, '[]'), \
COALESCE((SELECT pg_catalog.json_agg(t.typname) FROM pg_catalog.pg_type t \
WHERE t.typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())::pg_catalog.text, '[]'), \
COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_array(s.name, pg_catalog.int8(pg_catalog.float8mul(pg_catalog.date_part('epoch', s.prepare_time), 1000000)))) \
FROM pg_catalog.pg_prepared_statements s WHERE s.from_sql)::pg_catalog.text, '[]'), \
COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_array(c.name, pg_catalog.int8(pg_catalog.float8mul(pg_catalog.date_part('epoch', c.creation_time), 1000000)))) \
FROM pg_catalog.pg_cursors c)::pg_catalog.text, '[]')",
];

/// What the gateway puts before a held statement to estimate its rows.
const ESTIMATE: &str = "EXPLAIN (FORMAT JSON, VERBOSE) ";

/// Whether a text in the log is one of the gateway's own. An estimate is of a statement that is recorded, exactly.
pub(super) fn said(text: &str, database: &str, sent: &Sent) -> bool {
    match text.strip_prefix(ESTIMATE) {
        Some(explained) => sent.has(database, explained),
        None => fixed(text),
    }
}

/// The same of an entry of `pg_stat_statements`, which has one statement each and no constants.
pub(super) fn counted(query: &str, database: &str, sent: &Sent) -> bool {
    static FORMS: OnceLock<BTreeSet<String>> = OnceLock::new();
    let forms = FORMS.get_or_init(|| {
        let limits = ["SET LOCAL statement_timeout = 1", "SET LOCAL lock_timeout = 1", "SET LOCAL lock_timeout = '1'"];
        queries().iter().map(String::as_str).chain(OWN_FRAME).chain(limits).map(normal::form).collect()
    });
    match query.strip_prefix(ESTIMATE) {
        Some(explained) => sent.of_form(database, &normal::form(explained)) > 0,
        None => forms.contains(&normal::form(query)),
    }
}

/// Whether a text is a query of the catalog, or what frames one.
fn fixed(text: &str) -> bool {
    let is_limit = |part: &str| {
        let value = part.strip_prefix("SET LOCAL statement_timeout = ").or_else(|| part.strip_prefix("SET LOCAL lock_timeout = "));
        value.is_some_and(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()))
    };
    text.split("; ").all(|part| OWN_FRAME.contains(&part) || is_limit(part)) || queries().contains(text)
}

/// The literals of [`OWN`], as the compiler reads them: a backslash at the end of a line takes the line's end and the blanks after it away.
fn queries() -> &'static BTreeSet<String> {
    static QUERIES: OnceLock<BTreeSet<String>> = OnceLock::new();
    QUERIES.get_or_init(|| {
        let mut plain = String::new();
        let mut rest = OWN;
        while let Some((before, after)) = rest.split_once("\\\n") {
            plain.push_str(before);
            rest = after.trim_start();
        }
        plain.push_str(rest);
        // There is no quote in them, nor outside of them.
        plain.split('"').skip(1).step_by(2).filter(|literal| literal.len() > 20).map(str::to_owned).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Sent {
        let text = "delete from accounts where id = 1";
        let sealed = normal::form("update accounts set owner = '[sealed]' where id = 1");
        let key = |text: &str| ("bank".to_owned(), text.to_owned());
        Sent { forms: [(key(&normal::form(text)), 1), (key(&sealed), 1)].into(), exact: [key(text)].into(), sealed: [key(&sealed)].into() }
    }

    #[test]
    fn every_query_of_the_catalog_is_found_in_its_source() {
        let known = queries();
        assert!(known.iter().all(|query| query.starts_with("SELECT ") || query.starts_with("WITH ")), "{known:?}");
        assert!(known.len() > 15, "{}", known.len());
    }

    #[test]
    fn the_gateways_own_queries_are_known_and_no_others() {
        let sent = sent();
        for text in [
            "SELECT pg_catalog.set_config('search_path', 'pg_catalog', true)",
            "SELECT pg_catalog.string_agg(pg_catalog.row_to_json(s)::text, ' ' ORDER BY s.setdatabase, s.setrole) FROM pg_catalog.pg_db_role_setting s",
            "COMMIT",
            "SELECT pg_catalog.current_setting('search_path'), pg_catalog.current_setting('role'), \
             pg_catalog.current_setting('standard_conforming_strings'), pg_catalog.current_setting('client_encoding'), \
             COALESCE((SELECT pg_catalog.json_agg(c.relname) FROM pg_catalog.pg_class c \
             WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() AND c.relkind OPERATOR(pg_catalog.<>) 'i')::pg_catalog.text, '[]'), \
             COALESCE((SELECT pg_catalog.json_agg(t.typname) FROM pg_catalog.pg_type t \
             WHERE t.typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())::pg_catalog.text, '[]'), \
             COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_array(s.name, pg_catalog.int8(pg_catalog.float8mul(pg_catalog.date_part('epoch', s.prepare_time), 1000000)))) \
             FROM pg_catalog.pg_prepared_statements s WHERE s.from_sql)::pg_catalog.text, '[]'), \
             COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_array(c.name, pg_catalog.int8(pg_catalog.float8mul(pg_catalog.date_part('epoch', c.creation_time), 1000000)))) \
             FROM pg_catalog.pg_cursors c)::pg_catalog.text, '[]')",
            "BEGIN READ ONLY; SET LOCAL statement_timeout = 800; SET LOCAL lock_timeout = 200",
            "EXPLAIN (FORMAT JSON, VERBOSE) delete from accounts where id = 1",
            // What stays sealed is known but for its constants.
            "EXPLAIN (FORMAT JSON, VERBOSE) update accounts set owner = 'Ann' where id = 7",
        ] {
            assert!(said(text, "bank", &sent), "{text}");
        }
        for text in [
            "",
            "SELECT",
            "select 1",
            "SELECT pg_catalog.set_config('search_path', 'pg_catalog', true); delete from accounts",
            "BEGIN READ ONLY; delete from accounts",
            "SET LOCAL statement_timeout = ",
            "SET LOCAL statement_timeout = 1; delete from accounts where id = 1",
            "EXPLAIN (FORMAT JSON, VERBOSE) delete from accounts",
            "EXPLAIN (FORMAT JSON, VERBOSE) delete from accounts where id = 2",
            "EXPLAIN (FORMAT JSON, VERBOSE) DELETE from accounts where id = 1",
            "EXPLAIN (FORMAT JSON, VERBOSE) delete from accounts where id = 1 -- and more",
            "EXPLAIN (FORMAT JSON, VERBOSE) delete from accounts where id = 1; select 1",
            "EXPLAIN (FORMAT JSON, VERBOSE) update accounts set branch = 'Ann' where id = 7",
            "EXPLAIN (ANALYZE, FORMAT JSON) delete from accounts where id = 1",
        ] {
            assert!(!said(text, "bank", &sent), "{text}");
        }
        assert!(!said("EXPLAIN (FORMAT JSON, VERBOSE) delete from accounts where id = 1", "other", &sent));
        // Entries of pg_stat_statements have no constants to compare.
        assert!(counted("EXPLAIN (FORMAT JSON, VERBOSE) delete from accounts where id = $1", "bank", &sent));
        assert!(!counted("EXPLAIN (FORMAT JSON, VERBOSE) delete from accounts", "bank", &sent));
        for query in [
            "SELECT pg_catalog.set_config($1, $2, $3)",
            "SELECT pg_catalog.string_agg(pg_catalog.row_to_json(s)::text, $1 ORDER BY s.setdatabase, s.setrole) FROM pg_catalog.pg_db_role_setting s",
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            "SET LOCAL statement_timeout = 12000",
            "SET LOCAL lock_timeout = $1",
        ] {
            assert!(counted(query, "bank", &sent), "{query}");
        }
        assert!(!counted("SELECT pg_catalog.set_config($1, $2, $3), $4", "bank", &sent));
        assert!(!counted("delete from accounts", "bank", &sent));
    }
}
