//! The queries that load a snapshot. All columns are text; the order of columns is what `load` reads.

use super::CatalogQuery;

pub(super) const SEARCH_PATH: usize = 0;
pub(super) const DEFAULTS: usize = 1;
pub(super) const SCHEMAS: usize = 2;
pub(super) const RELATIONS: usize = 3;
pub(super) const COLUMNS: usize = 4;
pub(super) const INHERITS: usize = 5;
pub(super) const VIEWS: usize = 6;
pub(super) const RULES: usize = 7;
pub(super) const CODE: usize = 8;
pub(super) const FOREIGN_KEYS: usize = 9;
pub(super) const FUNCTIONS: usize = 10;
pub(super) const OPERATORS: usize = 11;
pub(super) const TYPES: usize = 12;
pub(super) const CASTS: usize = 13;
pub(super) const EXPRESSIONS: usize = 14;
pub(super) const TEMPORARY: usize = 15;
pub(super) const SUPPORT: usize = 16;

/// What `ALTER ROLE … SET` and `ALTER DATABASE … SET` said, all of it: where it has not changed, an older login has today's defaults.
pub const ROLE_SETTINGS: &str = "SELECT pg_catalog.string_agg(pg_catalog.row_to_json(s)::text, ' ' ORDER BY s.setdatabase, s.setrole) FROM pg_catalog.pg_db_role_setting s";

/// The queries, in order.
pub const QUERIES: &[CatalogQuery] = &[
    // With nothing but pg_catalog on the path, definitions come out fully qualified.
    CatalogQuery { name: "search_path", sql: "SELECT pg_catalog.set_config('search_path', 'pg_catalog', true)" },
    CatalogQuery {
        name: "defaults",
        sql: "SELECT session_user::text, reset_val, pg_catalog.current_database()::text, pg_catalog.current_setting('server_version_num') \
              FROM pg_catalog.pg_settings WHERE name = 'search_path'",
    },
    CatalogQuery {
        name: "schemas",
        sql: "SELECT nspname::text, pg_catalog.has_schema_privilege(oid, 'USAGE')::text FROM pg_catalog.pg_namespace \
              WHERE nspname !~ '^pg_(toast_)?temp_' ORDER BY 1",
    },
    CatalogQuery {
        name: "relations",
        sql: "SELECT c.oid::text, n.nspname::text, c.relname::text, c.relkind::text, c.relrowsecurity::text, c.reltype::text \
              FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
              WHERE c.relkind IN ('r','v','m','f','p','S','c') AND n.nspname !~ '^pg_(toast|temp|toast_temp)' ORDER BY c.oid",
    },
    CatalogQuery {
        name: "columns",
        sql: "SELECT a.attrelid::text, a.attnum::text, a.attname::text, a.atttypid::text, \
              t.description, \
              CASE WHEN a.attgenerated <> '' THEN (SELECT pg_catalog.string_agg(DISTINCT d.refobjsubid::text, ' ') FROM pg_catalog.pg_depend d \
                WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = a.attrelid AND d.refobjsubid > 0 \
                AND d.refobjsubid <> a.attnum AND ((d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = a.attrelid AND d.objsubid = a.attnum) \
                  OR (d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = \
                    (SELECT g.oid FROM pg_catalog.pg_attrdef g WHERE g.adrelid = a.attrelid AND g.adnum = a.attnum)))) END \
              FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
              JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
              LEFT JOIN pg_catalog.pg_description t ON t.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass \
                AND t.objoid = a.attrelid AND t.objsubid = a.attnum AND t.description LIKE '%countersign:%' \
              WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r','v','m','f','p','S','c') \
              AND n.nspname !~ '^pg_(toast|temp|toast_temp)' ORDER BY a.attrelid, a.attnum",
    },
    CatalogQuery {
        name: "inherits",
        sql: "SELECT inhrelid::text, inhparent::text FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid \
              WHERE c.relkind IN ('r','f','p') ORDER BY inhparent, inhrelid",
    },
    CatalogQuery {
        name: "views",
        // Spelling a definition out locks the view and what it names. Who has one of them locked may be the very session that waits for
        // these facts, so such a view comes without its definition, which makes it one that cannot be judged.
        sql: "SELECT c.oid::text, CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.mode = 'AccessExclusiveLock' AND l.locktype = 'relation' \
              AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
              AND (l.relation = c.oid OR l.relation IN (SELECT d.refobjid FROM pg_catalog.pg_rewrite r \
                JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid \
                AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass WHERE r.ev_class = c.oid))) \
              THEN NULL ELSE pg_catalog.pg_get_viewdef(c.oid) END FROM pg_catalog.pg_class c \
              JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('v','m') \
              AND (n.nspname NOT IN ('pg_catalog','information_schema') OR EXISTS (SELECT FROM pg_catalog.pg_rewrite r \
                JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid \
                AND d.refobjid >= 16384 WHERE r.ev_class = c.oid)) AND n.nspname !~ '^pg_(toast|temp|toast_temp)' ORDER BY c.oid",
    },
    CatalogQuery {
        name: "rules",
        sql: "SELECT r.ev_class::text, r.ev_type::text, d.refclassid::pg_catalog.regclass::text, d.refobjid::text \
              FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class \
              JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
              LEFT JOIN (SELECT DISTINCT objid, refclassid, refobjid FROM pg_catalog.pg_depend \
                WHERE classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND deptype = 'n' \
                AND refclassid IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_proc'::pg_catalog.regclass)) d ON d.objid = r.oid \
              WHERE n.nspname NOT IN ('pg_catalog','information_schema') ORDER BY r.oid, d.refclassid, d.refobjid",
    },
    CatalogQuery {
        name: "code",
        sql: "SELECT tgrelid::text, 'w', tgfoid::text FROM pg_catalog.pg_trigger WHERE NOT tgisinternal \
              UNION SELECT t.tgrelid::text, 'w', d.refobjid::text FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_depend d \
                ON d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND d.objid = t.oid AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
                WHERE NOT t.tgisinternal AND t.tgqual IS NOT NULL \
              UNION SELECT a.attrelid::text, 'w', d.refobjid::text FROM pg_catalog.pg_type t JOIN pg_catalog.pg_depend d \
                ON d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
                JOIN pg_catalog.pg_attribute a ON a.atttypid = t.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE t.typdefaultbin IS NOT NULL \
              UNION SELECT p.polrelid::text, 'r', d.refobjid::text FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_depend d \
                ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.objid = p.oid AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
              UNION SELECT a.adrelid::text, 'w', d.refobjid::text FROM pg_catalog.pg_attrdef a JOIN pg_catalog.pg_depend d \
                ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = a.oid AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
              UNION SELECT k.conrelid::text, 'w', d.refobjid::text FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_depend d \
                ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.objid = k.oid AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
                WHERE k.conrelid <> 0 \
              UNION SELECT s.stxrelid::text, 'i', d.refobjid::text FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_depend d \
                ON d.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass AND d.objid = s.oid AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
              UNION SELECT i.indrelid::text, 'i', d.refobjid::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_depend d \
                ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.indexrelid AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
              ORDER BY 1, 2, 3",
    },
    CatalogQuery {
        name: "foreign keys",
        sql: "SELECT confrelid::text, conrelid::text FROM pg_catalog.pg_constraint \
              WHERE contype = 'f' AND (confupdtype IN ('c','n','d') OR confdeltype IN ('c','n','d')) ORDER BY 1, 2",
    },
    CatalogQuery {
        name: "functions",
        sql: "SELECT p.oid::text, n.nspname::text, p.proname::text, p.prokind::text, p.provolatile::text, p.prosecdef::text, l.lanname::text, \
              p.proretset::text, p.pronargs::text, p.pronargdefaults::text, (p.provariadic <> 0)::text, p.proargtypes::text, p.prorettype::text, \
              p.probin::text, CASE WHEN p.prokind <> 'a' AND l.lanname IN ('c', 'internal') THEN p.prosrc END, \
              pg_catalog.concat_ws(' ', a.aggtransfn::oid, a.aggfinalfn::oid, a.aggcombinefn::oid, a.aggserialfn::oid, a.aggdeserialfn::oid, \
                a.aggmtransfn::oid, a.aggminvtransfn::oid, a.aggmfinalfn::oid) \
              FROM pg_catalog.pg_proc p LEFT JOIN pg_catalog.pg_aggregate a ON a.aggfnoid = p.oid JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
              WHERE (n.nspname <> 'pg_catalog' OR p.oid >= 16384) AND n.nspname !~ '^pg_(toast_)?temp_' ORDER BY p.oid",
    },
    CatalogQuery {
        name: "operators",
        sql: "SELECT n.nspname::text, o.oprname::text, o.oprleft::text, o.oprright::text, o.oprcode::oid::text \
              FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace \
              WHERE o.oid >= 16384 OR o.oprcode::oid >= 16384 ORDER BY o.oid",
    },
    CatalogQuery {
        name: "types",
        sql: "SELECT t.oid::text, n.nspname::text, t.typname::text, t.typtype::text, t.typbasetype::text, t.typelem::text, t.typrelid::text, \
              (SELECT pg_catalog.string_agg('(' || pg_catalog.pg_get_expr(k.conbin, 0) || ')', ' AND ' ORDER BY k.oid) \
               FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'), \
              r.subtype \
              FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
              LEFT JOIN (SELECT rngtypid::text AS type, rngsubtype::text AS subtype FROM pg_catalog.pg_range \
                UNION ALL SELECT pg_catalog.to_jsonb(m)->>'rngmultitypid', rngsubtype::text FROM pg_catalog.pg_range m) r ON r.type = t.oid::text \
              WHERE n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_(toast|temp|toast_temp)' ORDER BY t.oid",
    },
    CatalogQuery {
        name: "casts",
        sql: "SELECT castsource::text, casttarget::text, castfunc::text, castcontext::text FROM pg_catalog.pg_cast \
              WHERE oid >= 16384 ORDER BY oid",
    },
    // Built-in functions are pinned, so pg_depend does not tell of them: what runs with a row is read as text.
    CatalogQuery {
        name: "expressions",
        sql: "SELECT p.polrelid::text, CASE WHEN p.polcmd IN ('r','*') THEN 'r' ELSE 'w' END, pg_catalog.pg_get_expr(p.polqual, p.polrelid) \
              FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid WHERE c.relrowsecurity AND p.polqual IS NOT NULL \
              UNION ALL SELECT p.polrelid::text, 'w', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) FROM pg_catalog.pg_policy p \
                JOIN pg_catalog.pg_class c ON c.oid = p.polrelid WHERE c.relrowsecurity AND p.polwithcheck IS NOT NULL \
              UNION ALL SELECT a.adrelid::text, 'w', pg_catalog.pg_get_expr(a.adbin, a.adrelid) FROM pg_catalog.pg_attrdef a \
                WHERE a.adrelid >= 16384 \
              UNION ALL SELECT a.attrelid::text, 'w', pg_catalog.pg_get_expr(t.typdefaultbin, 0) FROM pg_catalog.pg_type t \
                JOIN pg_catalog.pg_attribute a ON a.atttypid = t.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE t.typdefaultbin IS NOT NULL \
              UNION ALL SELECT g.tgrelid::text, 'g', pg_catalog.pg_get_triggerdef(g.oid) FROM pg_catalog.pg_trigger g \
                WHERE g.tgqual IS NOT NULL AND NOT g.tgisinternal \
              UNION ALL SELECT k.conrelid::text, 'p', pg_catalog.pg_get_expr(k.conbin, k.conrelid) FROM pg_catalog.pg_constraint k \
                WHERE k.conrelid >= 16384 AND k.contype = 'c' \
              UNION ALL SELECT i.indrelid::text, 'p', pg_catalog.pg_get_expr(i.indexprs, i.indrelid) FROM pg_catalog.pg_index i \
                WHERE i.indrelid >= 16384 AND i.indexprs IS NOT NULL \
              UNION ALL SELECT i.indrelid::text, 'p', pg_catalog.pg_get_expr(i.indpred, i.indrelid) FROM pg_catalog.pg_index i \
                WHERE i.indrelid >= 16384 AND i.indpred IS NOT NULL \
              UNION ALL SELECT t.partrelid::text, 'p', pg_catalog.pg_get_expr(t.partexprs, t.partrelid) FROM pg_catalog.pg_partitioned_table t \
                WHERE t.partexprs IS NOT NULL \
              ORDER BY 1, 2, 3",
    },
    CatalogQuery {
        name: "temporary",
        sql: "SELECT c.relname::text, (c.relkind IN ('v','f') OR c.relrowsecurity OR c.relhasrules)::text, NULL FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
              WHERE n.nspname ~ '^pg_temp_' AND (c.relkind IN ('v','f') OR c.relrowsecurity OR c.relhasrules OR c.relhastriggers) \
              UNION SELECT t.typname::text, 'false', 'type' FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
              WHERE n.nspname ~ '^pg_temp_' AND t.typcategory <> 'A' ORDER BY 1, 2, 3",
    },
    // What orders, hashes or looks up values: functions in SQL or another language of users, of default operator classes, of the classes
    // that ranges, indexes and partition keys name. Multiranges are newer than some servers, so their column is looked up by name.
    CatalogQuery {
        name: "support",
        sql: "WITH code AS (SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
                WHERE p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal')), \
              class AS (SELECT o.oid, o.opcmethod, o.opcintype, o.opcdefault, s.function FROM pg_catalog.pg_opclass o \
                JOIN (SELECT f.amprocfamily AS family, f.amproc::oid AS function FROM pg_catalog.pg_amproc f \
                  UNION SELECT a.amopfamily, p.oprcode::oid FROM pg_catalog.pg_amop a JOIN pg_catalog.pg_operator p ON p.oid = a.amopopr) s \
                ON s.family = o.opcfamily JOIN code ON code.oid = s.function) \
              SELECT 't', c.opcintype::text, c.function::text FROM class c JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod \
                WHERE c.opcdefault AND m.amname IN ('btree', 'hash') \
              UNION SELECT 't', t.oid::text, c.function::text FROM pg_catalog.pg_range r JOIN class c ON c.oid = r.rngsubopc \
                JOIN pg_catalog.pg_type t ON t.oid::text IN (r.rngtypid::text, pg_catalog.to_jsonb(r)->>'rngmultitypid') \
              UNION SELECT 'r', i.indrelid::text, c.function::text FROM pg_catalog.pg_index i, \
                pg_catalog.unnest(i.indclass::oid[]) AS u(class) JOIN class c ON c.oid = u.class \
              UNION SELECT 'r', k.partrelid::text, c.function::text FROM pg_catalog.pg_partitioned_table k, \
                pg_catalog.unnest(k.partclass::oid[]) AS u(class) JOIN class c ON c.oid = u.class \
              ORDER BY 1, 2, 3",
    },
];
