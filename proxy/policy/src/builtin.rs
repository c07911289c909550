//! What comes with the server: which functions, relations, types and settings are harmless, which are not and why.
//!
//! The list of harmless functions was made from PostgreSQL 15's `pg_proc` and read through: stable and immutable ones without
//! internal arguments, aggregates and window functions, and the volatile ones that change nothing. A function in neither list
//! is unknown.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use crate::StatementKind;

static HARMLESS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| include_str!("../data/harmless_functions.txt").lines().collect());

static OTHER: LazyLock<HashSet<&'static str>> = LazyLock::new(|| include_str!("../data/other_functions.txt").lines().collect());

/// Whether a function of `pg_catalog` is harmless to call.
pub(crate) fn is_harmless(name: &str) -> bool {
    HARMLESS.contains(name)
}

/// Whether `pg_catalog` has a function of that name in any of the versions the lists were made from.
pub(crate) fn is_function(name: &str) -> bool {
    HARMLESS.contains(name) || OTHER.contains(name) || ["pg_", "lo_", "binary_upgrade_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether the lists name a function that is not harmless, or not known to be.
pub(crate) fn is_listed(name: &str) -> bool {
    OTHER.contains(name)
}

/// One built-in function of a name: its argument types, how many of them have defaults, whether more may follow.
struct Signature {
    types: Vec<u32>,
    defaults: usize,
    variadic: bool,
}

/// Whether a built-in function of that name takes so many arguments, of these types where they are given.
pub(crate) fn takes(name: &str, count: usize, types: &[Option<u32>]) -> bool {
    static SIGNATURES: LazyLock<HashMap<&'static str, Vec<Signature>>> = LazyLock::new(|| {
        let mut found: HashMap<&'static str, Vec<Signature>> = HashMap::new();
        for line in include_str!("../data/signatures.txt").lines() {
            let mut words = line.split(' ');
            let (Some(name), Some(defaults)) = (words.next(), words.next()) else { continue };
            let signature = Signature {
                types: words.filter_map(|oid| oid.parse().ok()).collect(),
                defaults: defaults.parse().unwrap_or(0),
                variadic: defaults == "*",
            };
            found.entry(name).or_default().push(signature);
        }
        found
    });
    SIGNATURES.get(name).is_some_and(|signatures| {
        signatures.iter().any(|signature| {
            let counts = signature.variadic || (count <= signature.types.len() && count + signature.defaults >= signature.types.len());
            counts
                && types
                    .iter()
                    .enumerate()
                    .all(|(index, given)| given.is_none_or(|given| signature.types.get(index).is_some_and(|found| *found == given)))
        })
    })
}

/// The types of the operands of the built-in operators of a name, 0 where there is none.
pub(crate) fn operands(name: &str) -> &'static [(u32, u32)] {
    static OPERATORS: LazyLock<HashMap<&'static str, Vec<(u32, u32)>>> = LazyLock::new(|| {
        let mut found: HashMap<&'static str, Vec<(u32, u32)>> = HashMap::new();
        for line in include_str!("../data/operators.txt").lines() {
            let mut words = line.split(' ');
            let (Some(name), Some(left), Some(right)) = (words.next(), words.next(), words.next()) else { continue };
            if let (Ok(left), Ok(right)) = (left.parse(), right.parse()) {
                found.entry(name).or_default().push((left, right));
            }
        }
        found
    });
    OPERATORS.get(name).map_or(&[], Vec::as_slice)
}

/// Functions that look for the casts of the types they are given.
pub(crate) fn converts(name: &str) -> bool {
    name.contains("json") || matches!(name, "textanycat" | "anytextcat")
}

/// The class that a call of a harmful function gives a statement, and why.
pub(crate) fn harm(name: &str) -> Option<(StatementKind, &'static str)> {
    use StatementKind::{Dcl, Unknown, Utility, Write};
    Some(match name {
        "nextval" | "setval" => (Write, "changes a sequence"),
        "pg_notify" => (Write, "sends a notification"),
        "pg_logical_emit_message" => (Write, "writes to the log of changes"),
        "pg_export_snapshot" => (Utility, "exports a snapshot"),
        _ if name.starts_with("lo_") || name == "loread" || name == "lowrite" => match name {
            "lo_import" | "lo_export" => (Dcl, "reaches files of the server"),
            _ => (Write, "reaches large objects"),
        },
        _ if name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_") => (Utility, "takes an advisory lock"),
        _ if name.contains("_to_xml") => (Unknown, "runs SQL given as text"),
        "ts_stat" | "ts_rewrite" => (Unknown, "runs SQL given as text"),
        "pg_input_is_valid" | "pg_input_error_info" => (Unknown, "runs the checks of a type given as text"),
        "satisfies_hash_partition" => (Unknown, "runs the hash functions of a table given as a number"),
        "pg_restore_relation_stats" | "pg_restore_attribute_stats" | "pg_clear_relation_stats" | "pg_clear_attribute_stats" => {
            (Dcl, "changes the statistics of a table")
        }
        "pg_import_system_collations" | "pg_nextoid" | "pg_stop_making_pinned_objects" | "pg_sync_replication_slots" => {
            (Dcl, "administers the server")
        }
        _ if name.starts_with("pg_log_") => (Dcl, "administers the server"),
        "pg_get_backend_memory_contexts"
        | "pg_get_shmem_allocations"
        | "pg_get_shmem_allocations_numa"
        | "pg_get_aios"
        | "pg_get_loaded_modules" => (Dcl, "shows the server's internals"),
        "set_config" => (Dcl, "changes a setting"),
        "pg_terminate_backend" | "pg_cancel_backend" | "pg_reload_conf" | "pg_rotate_logfile" | "pg_promote" | "pg_switch_wal" => {
            (Dcl, "administers the server")
        }
        _ if name.starts_with("pg_read_") || name.starts_with("pg_ls_") || name.starts_with("pg_stat_file") => {
            (Dcl, "reaches files of the server")
        }
        _ if name.starts_with("pg_stat_reset") || name.starts_with("pg_replication_") || name.starts_with("pg_wal_replay") => {
            (Dcl, "administers the server")
        }
        _ if name.starts_with("pg_create_")
            || name.starts_with("pg_drop_")
            || name.starts_with("pg_copy_")
            || name.starts_with("pg_logical_slot") =>
        {
            (Dcl, "administers the server")
        }
        _ if name.starts_with("pg_backup") || name.starts_with("binary_upgrade") => (Dcl, "administers the server"),
        "pg_stat_get_activity" | "pg_stat_get_backend_activity" | "pg_prepared_statement" | "pg_cursor" => {
            (Dcl, "shows statements of others")
        }
        "pg_hba_file_rules" | "pg_ident_file_mappings" | "pg_show_all_file_settings" | "pg_config" | "pg_stat_get_wal_receiver" => {
            (Dcl, "shows the server's configuration")
        }
        "brin_summarize_new_values" | "brin_summarize_range" | "brin_desummarize_range" | "gin_clean_pending_list" => {
            (Utility, "maintains an index")
        }
        _ => return None,
    })
}

/// Set-returning functions, whose number of rows tells about their arguments.
pub(crate) fn returns_set(name: &str) -> bool {
    matches!(
        name,
        "generate_series"
            | "generate_subscripts"
            | "unnest"
            | "regexp_matches"
            | "regexp_split_to_table"
            | "string_to_table"
            | "json_each"
            | "json_each_text"
            | "jsonb_each"
            | "jsonb_each_text"
    ) || name.ends_with("_recordset")
        || name.ends_with("array_elements")
        || name.ends_with("array_elements_text")
        || name.ends_with("object_keys")
        || name.starts_with("jsonb_path_query")
}

/// Functions whose running time tells about their arguments.
pub(crate) fn takes_time(name: &str) -> bool {
    matches!(name, "pg_sleep" | "pg_sleep_for" | "pg_sleep_until")
}

/// Aggregates and kin whose result does not depend on the values they see.
pub(crate) fn is_count(name: &str) -> bool {
    matches!(name, "row_number" | "rank" | "dense_rank" | "pg_typeof")
}

/// Why a relation that comes with the server must not be read by everyone.
pub(crate) fn sensitive_relation(schema: &str, name: &str) -> Option<&'static str> {
    if schema == "information_schema" {
        return matches!(name, "user_mapping_options" | "_pg_user_mappings").then_some("holds credentials");
    }
    Some(match name {
        "pg_authid" | "pg_shadow" | "pg_user_mapping" | "pg_user_mappings" | "pg_subscription" | "pg_stat_wal_receiver" => {
            "holds credentials"
        }
        "pg_stats" | "pg_stats_ext" | "pg_stats_ext_exprs" | "pg_statistic" | "pg_statistic_ext_data" => "holds samples of column values",
        "pg_largeobject" => "holds the contents of large objects",
        "pg_stat_activity" | "pg_stat_statements" | "pg_prepared_statements" | "pg_cursors" => "holds statements with their literals",
        "pg_hba_file_rules" | "pg_ident_file_mappings" | "pg_file_settings" | "pg_config" => "holds the server's configuration",
        "pg_backend_memory_contexts" | "pg_shmem_allocations" => "holds the server's internals",
        _ => return None,
    })
}

/// Whether a column of the server's own relations holds values of other columns, or statements with their literals.
pub(crate) fn holds_values(relation: &str, column: &str) -> bool {
    match relation {
        "pg_stats" | "pg_stats_ext" | "pg_stats_ext_exprs" => {
            matches!(
                column,
                "most_common_vals" | "histogram_bounds" | "most_common_elems" | "range_bounds_histogram" | "range_length_histogram"
            )
        }
        "pg_statistic" => column.starts_with("stavalues"),
        "pg_statistic_ext_data" => matches!(column, "stxdmcv" | "stxdexpr"),
        "pg_stat_activity" | "pg_stat_statements" => column == "query",
        "pg_prepared_statements" | "pg_cursors" => column == "statement",
        "pg_largeobject" => column == "data",
        "pg_attribute" => column == "attmissingval",
        // How much a sort took that was larger than memory tells how large values are.
        "pg_stat_database" => matches!(column, "temp_bytes" | "temp_files"),
        "pg_stat_io" => column.ends_with("_bytes") || matches!(column, "writes" | "extends" | "reads"),
        _ => false,
    }
}

/// What a built-in function makes of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Makes {
    /// Something whose length follows from how long the arguments are, never from what is in them. Works with any value.
    Form,
    /// As `Form`, and neither an array nor `jsonb`.
    Text,
    /// Something of the value chosen by the other arguments. Works with any value where those are constants.
    Answer,
    /// As `Answer`; the second argument is a pattern.
    Match,
    /// What is not known to work with any value.
    Fails,
}

/// What a built-in function called with so many arguments makes of one of them, counted from 0.
pub(crate) fn makes(name: &str, argument: usize, count: usize) -> Makes {
    let first = |makes| if argument == 0 { makes } else { Makes::Fails };
    match name {
        // Of bytes in an encoding the length can be asked for, which they may not be in.
        "length" if count > 1 => Makes::Fails,
        "length" | "char_length" | "character_length" | "octet_length" | "bit_length" | "upper" | "lower" | "initcap" | "reverse"
        | "left" | "right" | "concat" | "concat_ws" | "quote_literal" | "quote_nullable" | "quote_ident" | "md5" | "sha224" | "sha256"
        | "sha384" | "sha512" | "hashtext" | "hashtextextended" | "to_json" | "row_to_json" | "array_to_json" | "json_build_array"
        | "json_agg" | "string_agg" | "xmlagg" | "num_nulls" | "num_nonnulls" | "pg_typeof" | "pg_column_size" => Makes::Text,
        "json_build_object" if !argument.is_multiple_of(2) => Makes::Text,
        "json_object_agg" if argument == 1 => Makes::Text,
        "btrim" | "ltrim" | "rtrim" if count == 1 => Makes::Text,
        "to_jsonb" | "jsonb_build_array" | "jsonb_agg" | "array_agg" | "any_value" | "first_value" | "last_value" => Makes::Form,
        "jsonb_build_object" if !argument.is_multiple_of(2) => Makes::Form,
        "jsonb_object_agg" if argument == 1 => Makes::Form,
        "lag" | "lead" | "nth_value" => first(Makes::Form),
        "btrim" | "ltrim" | "rtrim" | "replace" | "translate" | "strpos" | "position" | "starts_with" | "ascii" | "string_to_array"
        | "array_to_string" | "cardinality" | "array_length" | "array_append" | "min" | "max" | "avg" | "sum" | "stddev" | "stddev_pop"
        | "stddev_samp" | "variance" | "var_pop" | "var_samp" | "bool_and" | "bool_or" | "every" | "row_number" | "rank" | "dense_rank"
        | "percent_rank" | "cume_dist" | "mode" | "abs" | "ceil" | "ceiling" | "floor" | "round" | "trunc" | "sign" | "age" | "count" => {
            Makes::Answer
        }
        "substr" | "split_part" | "lpad" | "rpad" | "to_char" | "encode" => first(Makes::Answer),
        "substring"
        | "regexp_replace"
        | "regexp_match"
        | "regexp_matches"
        | "regexp_count"
        | "regexp_substr"
        | "regexp_like"
        | "regexp_split_to_array"
        | "regexp_split_to_table" => first(Makes::Match),
        "date_trunc" | "date_part" | "extract" | "timezone" if argument == 1 => Makes::Answer,
        _ => Makes::Fails,
    }
}

/// Functions of one value that give no more than they are given, and work with any: of what is made of a protected value, too.
pub(crate) fn lessens(name: &str) -> bool {
    matches!(
        name,
        "length"
            | "char_length"
            | "character_length"
            | "octet_length"
            | "bit_length"
            | "upper"
            | "lower"
            | "initcap"
            | "reverse"
            | "md5"
            | "sha224"
            | "sha256"
            | "sha384"
            | "sha512"
            | "ascii"
            | "btrim"
            | "ltrim"
            | "rtrim"
            | "left"
            | "right"
            | "min"
            | "max"
            | "count"
            | "any_value"
            | "bool_and"
            | "bool_or"
            | "every"
            | "cardinality"
            | "array_to_string"
            | "first_value"
            | "last_value"
            | "hashtext"
    )
}

/// Functions that give text, whatever is made of it.
pub(crate) fn makes_text(name: &str) -> bool {
    matches!(name, "substr" | "substring" | "split_part" | "lpad" | "rpad" | "replace" | "translate" | "regexp_replace" | "to_char")
}

/// Functions that give what they are given, rows of several values, too.
pub(crate) fn keeps_rows(name: &str) -> bool {
    matches!(
        name,
        "any_value" | "array_agg" | "first_value" | "last_value" | "nth_value" | "lag" | "lead" | "min" | "max" | "mode" | "unnest"
    ) || name.starts_with("array_")
}

/// Types to which every value of a built-in type can be cast.
pub(crate) fn takes_anything(name: &str) -> bool {
    matches!(name, "text" | "varchar" | "bpchar" | "name")
}

/// Types of `pg_catalog` that are written without their schema.
pub(crate) fn is_type(name: &str) -> bool {
    static NAMES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| include_str!("../data/types.txt").split_ascii_whitespace().collect());
    NAMES.contains(name.strip_prefix('_').unwrap_or(name))
}

/// What SET may do to a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Anyone may set it to anything.
    Harmless,
    /// Only to this value.
    Only(&'static str),
    /// Leaving read-only transactions is a write.
    ReadOnly,
    /// Tracked.
    SearchPath,
    /// A matter of administration.
    Restricted,
}

/// The name of a setting under whose other values no text could be judged.
pub(crate) fn pinned(name: &str) -> Option<&'static str> {
    ["client_encoding", "standard_conforming_strings"].into_iter().find(|pinned| pinned.eq_ignore_ascii_case(name))
}

/// What SET may do to a setting, by its name in any case.
pub(crate) fn setting(name: &str) -> Setting {
    match name.to_ascii_lowercase().as_str() {
        "search_path" => Setting::SearchPath,
        "client_encoding" => Setting::Only("utf8"),
        "standard_conforming_strings" => Setting::Only("on"),
        "transaction_read_only" | "default_transaction_read_only" => Setting::ReadOnly,
        "application_name"
        | "extra_float_digits"
        | "datestyle"
        | "intervalstyle"
        | "timezone"
        | "statement_timeout"
        | "lock_timeout"
        | "client_min_messages"
        | "work_mem"
        | "bytea_output"
        | "xmloption"
        | "xmlbinary"
        | "default_text_search_config"
        | "lc_messages"
        | "lc_monetary"
        | "lc_numeric"
        | "lc_time"
        | "idle_in_transaction_session_timeout"
        | "idle_session_timeout"
        | "transaction_isolation"
        | "default_transaction_isolation"
        | "transaction_deferrable"
        | "default_transaction_deferrable"
        | "tcp_keepalives_idle"
        | "tcp_keepalives_interval"
        | "tcp_keepalives_count"
        | "tcp_user_timeout"
        | "geqo"
        | "jit"
        | "random_page_cost"
        | "effective_cache_size"
        | "cursor_tuple_fraction"
        | "plan_cache_mode"
        | "from_collapse_limit"
        | "join_collapse_limit"
        | "max_parallel_workers_per_gather"
        | "synchronize_seqscans"
        | "quote_all_identifiers"
        | "gin_fuzzy_search_limit"
        | "escape_string_warning"
        | "array_nulls"
        | "transform_null_equals"
        | "icu_validation_level"
        | "commit_delay"
        | "vacuum_cost_delay"
        | "maintenance_work_mem"
        | "temp_buffers"
        | "row_security"
        | "restrict_nonsystem_relation_kind"
        | "check_function_bodies"
        | "default_tablespace"
        | "default_table_access_method"
        | "default_toast_compression"
        | "transaction_timeout"
        | "constraint_exclusion"
        | "default_statistics_target"
        | "parallel_leader_participation"
        | "parallel_setup_cost"
        | "parallel_tuple_cost"
        | "min_parallel_table_scan_size"
        | "min_parallel_index_scan_size"
        | "max_parallel_workers"
        | "max_parallel_maintenance_workers"
        | "force_parallel_mode"
        | "debug_parallel_query"
        | "seq_page_cost"
        | "cpu_tuple_cost"
        | "cpu_index_tuple_cost"
        | "cpu_operator_cost"
        | "jit_above_cost"
        | "jit_inline_above_cost"
        | "jit_optimize_above_cost"
        | "geqo_threshold"
        | "client_connection_check_interval"
        | "hash_mem_multiplier" => Setting::Harmless,
        name if name.starts_with("enable_") => Setting::Harmless,
        _ => Setting::Restricted,
    }
}

/// Whether a value of a boolean setting means on.
pub(crate) fn is_true(value: &str) -> bool {
    ["on", "true", "yes", "1", "t", "y"].contains(&value.to_ascii_lowercase().as_str())
}
