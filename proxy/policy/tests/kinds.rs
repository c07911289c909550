//! Statement to kind and decision; limits; no panic on any text.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "kinds/made.rs"]
mod made;

use std::collections::{BTreeMap, BTreeSet};

use countersign_policy::catalog::Snapshot;
use countersign_policy::judge::STACK_BYTES;
use countersign_policy::{Catalog, JudgeRequest, Judgement, Policy, Principal, SessionState, StatementKind as K, Verdict, judge};
use proptest::prelude::*;

const POLICY: &str = "version = 1\n[[rules]]\nname = \"all\"\naction = \"allow\"\n[[masks]]\ncolumns = [\"public.customers.ssn\"]\nmask = { kind = \"full\" }\n";

fn catalog() -> Catalog {
    Snapshot::from_json(include_str!("data/setup.snapshot.json")).unwrap().build().unwrap()
}

fn nobody() -> Principal {
    Principal { issuer: "i".into(), subject: "s".into(), email: None, groups: BTreeSet::new(), claims: BTreeMap::new() }
}

fn one(sql: &str, policy: &Policy, catalog: &Catalog, state: &SessionState) -> Judgement {
    let principal = nobody();
    judge(sql, &JudgeRequest { policy, principal: &principal, database: "bank", catalog, state, parameter_types: &[], now: 0 })
}

fn on_a_big_stack(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, test).unwrap().join().unwrap());
}

#[test]
fn statements_have_their_kinds() {
    let table = [
        ("", K::Empty),
        ("-- nothing\n", K::Empty),
        ("begin", K::Transaction),
        ("BEGIN READ ONLY", K::Transaction),
        ("BEGIN READ WRITE", K::Write),
        ("select version(), current_schema(), current_setting('TimeZone'), txid_current()", K::Read),
        ("show search_path", K::Session),
        ("set application_name = 'x'", K::Session),
        ("set role dba_role", K::Dcl),
        ("reset role", K::Dcl),
        ("reset transaction_read_only", K::Write),
        ("set local transaction_read_only to default", K::Write),
        ("reset default_transaction_read_only", K::Session),
        ("set client_encoding = 'UTF8'", K::Session),
        ("set client_encoding = 'GBK'", K::Dcl),
        ("set standard_conforming_strings = off", K::Dcl),
        ("select set_config('search_path', '', false)", K::Session),
        ("select set_config('role', 'x', false)", K::Dcl),
        // As asyncpg does; a value it binds is its own, but not every setting may be set to any.
        ("select set_config('jit', $1, false)", K::Session),
        ("select set_config('role', $1, false)", K::Dcl),
        ("select set_config($1, 'off', false)", K::Dcl),
        ("select * from accounts", K::Read),
        ("select * from accounts for share", K::Write),
        ("select nextval('acct_seq')", K::Write),
        ("select * into x from accounts", K::Ddl),
        ("update accounts set balance = 0", K::Write),
        ("insert into notes(body) values ('x')", K::Procedural),
        ("explain update accounts set balance = 0", K::Read),
        ("explain analyze update accounts set balance = 0", K::Write),
        ("prepare p as delete from accounts", K::Write),
        ("declare c cursor for select 1", K::Read),
        ("execute nobody_knows", K::Unknown),
        ("copy accounts to stdout", K::CopyOut),
        ("copy accounts from stdin", K::CopyIn),
        ("copy accounts to '/tmp/x'", K::Dcl),
        ("vacuum accounts", K::Utility),
        ("do $$ begin end $$", K::Procedural),
        ("call p_wipe()", K::Procedural),
        ("select 1 operator(scratch.+) 'x'::text", K::Procedural),
        ("select scratch.f_nothing()", K::Unknown),
        ("select * from v_wipe", K::Procedural),
        ("select * from v_file", K::Dcl),
        ("select * from secured", K::Procedural),
        ("select * from nowhere", K::Unknown),
        ("select nothing from accounts", K::Unknown),
        ("select 'x'::scratch.evil_t", K::Procedural),
        ("grant select on accounts to svc", K::Dcl),
        ("create index on accounts(balance)", K::Ddl),
        ("update pg_settings set setting = 'x'", K::Unknown),
        ("select rolpassword from pg_authid", K::Dcl),
        (
            "select c.relname from pg_catalog.pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r','p') and pg_catalog.pg_table_is_visible(c.oid) order by 1",
            K::Read,
        ),
        ("select table_name from information_schema.tables", K::Read),
        ("not sql at all", K::Unknown),
        ("select 1\u{0}", K::Unknown),
    ];
    on_a_big_stack(|| {
        let (policy, catalog) = (Policy::parse(POLICY).unwrap(), catalog());
        let state = SessionState::default();
        let mut failures = Vec::new();
        for (sql, kind) in table {
            let judgement = one(sql, &policy, &catalog, &state);
            let found = judgement.statements.iter().map(|facts| facts.kind).max().unwrap();
            if found != kind {
                failures.push(format!("{sql}: {:?}", judgement.statements));
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    });
}

#[test]
fn large_and_deep_texts_get_a_decision() {
    on_a_big_stack(|| {
        let (policy, catalog) = (Policy::parse(POLICY).unwrap(), catalog());
        let state = SessionState::default();
        for (sql, kinds) in [
            (format!("select {}1{}", "(".repeat(10_000), ")".repeat(10_000)), vec![K::Unknown]),
            (format!("select {}1{}", "(".repeat(3000), ")".repeat(3000)), vec![K::Read]),
            (format!("select id from accounts where id = 0{}", " or id = 1".repeat(35_000)), vec![K::Read]),
            (format!("select 1{}", "+1".repeat(4900)), vec![K::Read]),
            (format!("select id{} from accounts", " + id * 2".repeat(5000)), vec![K::Read]),
            (format!("select name{} from customers", " || name".repeat(20_000)), vec![K::Read]),
            (format!("select 1{}", "+1".repeat(35_000)), vec![K::Read]),
            (format!("select 1{}{}", "+1".repeat(6000), " + nextval('acct_seq')"), vec![K::Write]),
            (format!("select nextval('acct_seq'){}", "+1".repeat(6000)), vec![K::Write]),
            (format!("select 1 from accounts where id in (0{})", ", 1000000".repeat(125_000)), vec![K::Read]),
            (
                format!(
                    "select * from accounts a0{}",
                    (1..500).map(|n| format!(" join accounts a{n} on a{n}.id = a0.id")).collect::<String>()
                ),
                vec![K::Read],
            ),
            (format!("select {}1{}", "(select ".repeat(1600), ")".repeat(1600)), vec![K::Unknown]),
            (format!("select '{}'", "x".repeat(10 << 20)), vec![K::Unknown]),
            ("select 1;".repeat(5000), vec![K::Unknown]),
            // What costs twice as much with each level.
            (
                format!(
                    "with c0 as (select a.*, b.* from customers a, customers b){} select 1",
                    (1..30).map(|n| format!(", c{n} as (select a.*, b.* from c{} a, c{} b)", n - 1, n - 1)).collect::<String>()
                ),
                vec![K::Unknown],
            ),
            (
                format!("select id from customers{}{}", " group by ssn, (select id from customers".repeat(40), ")".repeat(40)),
                vec![K::Unknown],
            ),
            (
                format!(
                    "{} true {} returning 1",
                    "with a as (delete from notes where exists (".repeat(40),
                    ") returning 1) delete from notes where exists (select from a)".repeat(40)
                ),
                vec![K::Unknown],
            ),
            (
                format!("select * from customers c{}", (0..600).map(|n| format!(" natural join customers a{n}")).collect::<String>()),
                vec![K::Read, K::Unknown],
            ),
            (format!("select 1 {} 1", "+".repeat(20_000)), vec![K::Unknown]),
            (format!("select 1 {} 1", "+".repeat(100)), vec![K::Read, K::Unknown]),
        ] {
            let judgement = one(&sql, &policy, &catalog, &state);
            let found = judgement.statements.iter().map(|facts| facts.kind).max().unwrap_or(K::Unknown);
            assert!(kinds.contains(&found), "{:.60}: {found:?}", sql);
        }
    });
}

#[test]
fn state_changes_what_a_text_means() {
    on_a_big_stack(|| {
        let (policy, catalog) = (Policy::parse(POLICY).unwrap(), catalog());
        let mut state = SessionState::default();
        let kind =
            |sql: &str, state: &SessionState| one(sql, &policy, &catalog, state).statements.iter().map(|facts| facts.kind).max().unwrap();
        let forward = |sql: &str, state: &mut SessionState| {
            let judgement = one(sql, &policy, &catalog, state);
            let before = state.epoch();
            state.forwarded(&judgement);
            (judgement, before)
        };
        let (_, before) = forward("prepare p as delete from accounts", &mut state);
        assert_ne!(state.epoch(), before);
        assert_eq!(kind("execute p", &state), K::Write);
        forward("declare c cursor for select ssn from customers", &mut state);
        assert!(one("fetch all from c", &policy, &catalog, &state).touches_protected);
        assert_eq!(kind("set search_path = evil; select * from harmless", &state), K::Session);
        assert!(one("set search_path = evil; select * from harmless", &policy, &catalog, &state).touches_protected);
        let (path, _) = forward("set search_path = evil", &mut state);
        assert_eq!(kind("select * from harmless", &state), K::Unknown);
        state.completed(&path);
        assert_eq!(kind("select * from harmless", &state), K::Read);
        state.parameter("standard_conforming_strings", "off");
        assert_eq!(kind("select 1", &state), K::Unknown);
    });
}

/// Reviewers see what EXECUTE and FETCH run, in the words it was written with.
#[test]
fn a_name_is_told_by_the_texts_it_may_stand_for() {
    on_a_big_stack(|| {
        let (policy, catalog) = (Policy::parse(POLICY).unwrap(), catalog());
        let mut state = SessionState::default();
        let forward = |sql: &str, state: &mut SessionState| {
            let judgement = one(sql, &policy, &catalog, state);
            // Its literals run later: no other text may stand in for it.
            assert_eq!(judgement.is_shared(), sql.starts_with("select"), "{sql}");
            state.forwarded(&judgement);
        };
        let told = |sql: &str, state: &SessionState| -> Vec<Vec<String>> {
            one(sql, &policy, &catalog, state).statements.into_iter().map(|facts| facts.executes).collect()
        };
        let text = "prepare p(int) as delete from accounts where id = $1 -- Ünter\n";
        forward("select 1", &mut state);
        forward(&format!("  {text}  ; declare c cursor for select id from accounts where id = 7;"), &mut state);
        assert_eq!(told("execute p(1)", &state), [[text.trim()]]);
        assert_eq!(told("explain execute p(1)", &state), [[text.trim()]]);
        assert_eq!(told("explain analyze execute p(1)", &state), [[text.trim()]]);
        assert_eq!(
            told("select 1; execute p(1); fetch c", &state),
            [vec![], vec![text.trim()], vec!["declare c cursor for select id from accounts where id = 7"]]
        );
        // The same name again, as after DEALLOCATE: it may be either.
        forward("prepare p(int) as delete from accounts where id > $1", &mut state);
        assert_eq!(told("execute p(1)", &state), [[text.trim(), "prepare p(int) as delete from accounts where id > $1"]]);
        assert_eq!(told("execute unheard_of", &state), [Vec::<String>::new()]);
        // Behind a chain too long to be handed over as it is written, nothing of the text is lost.
        let chain = vec!["id"; 6_000].join(" + ");
        forward(
            &format!("/* */ select {chain} from accounts; prepare q as delete from accounts where id = 1; {}", "select 1; ".repeat(30)),
            &mut state,
        );
        let told = told("execute q", &state).concat().concat();
        assert!(
            told.contains("prepare q as delete from accounts where id = 1"),
            "{}",
            told.get(told.len().saturating_sub(100)..).unwrap_or_default()
        );
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_makes_it_panic(sql in "\\PC{0,80}", words in prop::collection::vec(prop::sample::select(vec!["select", "from", "accounts", "customers", "(", ")", ",", "*", "ssn", "where", "=", "1", "'a'", "union", "with", "as", "insert", "into", "values", "c", ".", "execute", "set", "::", "int"]), 0..24)) {
        on_a_big_stack(|| {
            let (policy, catalog) = (Policy::parse(POLICY).unwrap(), catalog());
            let state = SessionState::default();
            for text in [sql, words.join(" ")] {
                let judgement = one(&text, &policy, &catalog, &state);
                assert!(!judgement.statements.is_empty());
            }
        });
    }
}

#[test]
fn a_condition_picks_rows_or_is_none() {
    on_a_big_stack(|| {
        let (policy, catalog) = (Policy::parse(POLICY).unwrap(), catalog());
        let missing = |sql: &str| one(sql, &policy, &catalog, &SessionState::default()).statements.iter().any(|facts| facts.missing_where);
        for condition in [
            "true",
            "1 = 1",
            "id = id",
            "not false",
            "(select true)",
            "exists (select 1)",
            "'a' = 'a'",
            "2 > 1",
            "null is null",
            "id = 1 or true",
            "id = 1 or 1 = 1",
            "true is true",
            "random() >= 0",
            "id is not null",
            "id + 0 = id",
            "not (1 = 2)",
            "true and 'a' like 'a'",
            "not (id is null)",
            "(id is null) is false",
            "(id is null) is not true",
            "(id is null) is not unknown",
            "id is distinct from null",
            "(id = id) = true",
            "(select id = id)",
            "exists (select id)",
            "id in (select id from accounts)",
            "not (owner_id is null or id is null)",
            "id = abs(id)",
            "not (id <> abs(id))",
            "ctid = ctid",
            "ctid in (select ctid from accounts)",
            "num_nulls(id) >= 0",
            "num_nonnulls(id, owner_id)::int8 < 5",
            "id::text like '%'",
            "id::text ~ '^.*$'",
            "id in (select id from accounts where true)",
            "id = any (select b.id from accounts b where b.id = accounts.id)",
            "id in (select z.id from (select * from accounts) z)",
            "exists (select from accounts b where b.id = accounts.id)",
            "exists (select from accounts b where b.id >= accounts.id and b.owner_id = accounts.owner_id)",
            "exists (select from customers c where c.id = 5)",
            "id = (select b.id from accounts b where b.id = accounts.id)",
        ] {
            assert!(missing(&format!("delete from accounts where {condition}")), "{condition}");
            assert!(missing(&format!("explain analyze update accounts set owner_id = 1 where {condition}")), "{condition}");
            assert!(missing(&format!("merge into accounts using customers c on {condition} when matched then delete")), "{condition}");
        }
        for condition in [
            "id = 1",
            "id = $1",
            "id in (1, 2)",
            "true and id > 5",
            "id = 1 or owner_id = 2",
            "not id = 1",
            "owner_id is null",
            "id = owner_id",
            "id between 1 and 2",
            "id in (select id from customers)",
            "exists (select from customers c where c.id = accounts.id)",
            "not (id is not null)",
            "(id = 1) is true",
            "(id = 1) is not false",
            "id is not distinct from null",
            "(id = 1) = true",
            "(select id = 1)",
            "id in (select id from accounts where balance < 0)",
            "id not in (select id from customers)",
            "abs(id) = 1",
            "accounts.id = any($1)",
            "id in (select owner_id from accounts)",
            "id in (select id from accounts order by balance limit 10)",
            "id in (select min(id) from accounts group by owner_id)",
            "id in (select b.id from accounts b join customers c on c.id = b.owner_id)",
            "id in (select b.id from accounts b join customers c using (id))",
            "exists (select from accounts b where b.id = accounts.id and b.balance < 0)",
            "exists (select from accounts b where b.id < accounts.id and b.owner_id = accounts.owner_id)",
            "exists (select from (select * from customers where id = 5) c where c.id = accounts.id)",
            "balance = (select max(b.balance) from accounts b where b.owner_id = accounts.owner_id)",
            "id::text like '1%'",
            "id <> abs(id)",
            "balance is distinct from round(balance)",
            "not (balance = round(balance))",
            "ctid = '(0,1)'",
            "ctid in (select ctid from accounts where balance = 0 limit 100)",
            "id::text not in (select name from customers)",
        ] {
            assert!(!missing(&format!("delete from accounts where {condition}")), "{condition}");
        }
        // The whole of the same table read besides leaves nothing out, by whatever name; a condition on that does.
        for from in [
            "accounts b",
            "(select * from accounts) b",
            "(select distinct owner_id, id from public.accounts x) b",
            "accounts c join accounts b using (id)",
            "accounts b left join customers c on true",
            "accounts b, customers c",
        ] {
            for (condition, lacks) in [
                ("a.id = b.id", true),
                ("b.id = a.id and true", true),
                ("a.id <= b.id", true),
                ("a.id is not distinct from b.id", true),
                ("(a.id, a.owner_id) = (b.id, b.owner_id)", true),
                ("a.id = b.id and b.owner_id = 5", false),
                ("b.owner_id = 5 and a.owner_id = b.owner_id", false),
                ("b.owner_id = 5", true),
                ("a.id < b.id and a.owner_id = b.owner_id", false),
                ("a.id = b.owner_id", false),
            ] {
                for text in ["delete from accounts a using {f} where {c}", "update accounts a set balance = 0 from {f} where {c}"] {
                    let text = text.replace("{f}", from).replace("{c}", condition);
                    assert_eq!(missing(&text), lacks, "{text}");
                }
            }
        }
        assert!(missing("with b as (select * from accounts) delete from accounts using b where accounts.id = b.id"));
        assert!(missing(
            "with c as (select * from accounts), b as (select id from c) delete from accounts using b d where accounts.id = d.id"
        ));
        assert!(!missing("with b as (select * from accounts where balance < 0) delete from accounts using b where accounts.id = b.id"));
        assert!(!missing(
            "with c as (select * from accounts limit 5), b as (table c) delete from accounts using b where accounts.id = b.id"
        ));
        assert!(!missing("delete from accounts using (select id from accounts limit 1000) b where accounts.id = b.id"));
        assert!(!missing("update accounts a set balance = 0 from accounts b join customers c on c.id = b.owner_id where a.id = b.id"));
        assert!(!missing("update accounts a set balance = 0 from accounts b join customers c using (id) where a.id = b.id"));
        assert!(missing("merge into accounts a using accounts b on a.id = b.id when matched then delete"));
        assert!(!missing("merge into accounts a using accounts b on a.id = b.id when matched and b.balance = 0 then delete"));
        assert!(!missing("merge into accounts a using accounts b on a.id = b.id and b.balance = 0 when matched then delete"));
        assert!(missing("merge into accounts a using customers c on a.id = c.id when not matched by source then delete"));
        assert!(!missing(
            "merge into accounts a using customers c on a.id = c.id when not matched by source and a.balance = 0 then delete"
        ));
        assert!(missing("insert into accounts select * from accounts on conflict (id) do update set balance = 0"));
        assert!(!missing(
            "insert into accounts select * from accounts on conflict (id) do update set balance = 0 where accounts.balance < 0"
        ));
        assert!(!missing("insert into accounts values (1) on conflict (id) do update set balance = 0"));
        assert!(!missing("insert into accounts select * from accounts on conflict do nothing"));
        assert!(!missing("delete from accounts a using customers c where a.id = c.id"));
        assert!(missing("delete from accounts a using customers c where c.id = 1"));
        assert!(!missing("merge into accounts a using customers c on a.id = c.id when matched then delete"));
        assert!(!missing("merge into accounts a using customers c on true when not matched then insert (id) values (1)"));
        assert!(!missing("delete from accounts where current of c"));
    });
}

#[test]
fn sequences_and_large_objects_are_what_is_touched() {
    on_a_big_stack(|| {
        let policy = Policy::parse(
            "version = 1\n[[rules]]\nname = \"own\"\nwhat = { kinds = [\"read\", \"write\"], relations = [\"public.*\"] }\naction = \"allow\"\n",
        )
        .unwrap();
        let catalog = catalog();
        for (sql, allowed) in [
            ("select nextval('acct_seq')", true),
            ("select setval('public.acct_seq'::regclass, 5)", true),
            ("select nextval('elsewhere.acct_seq')", false),
            ("select setval('scratch.acct_seq', 5)", false),
            ("select setval(pg_get_serial_sequence('\"accounts\"', 'id'), coalesce(max(\"id\"), 1)) from \"accounts\"", true),
            ("select setval(pg_get_serial_sequence('scratch.accounts', 'id')::regclass, 5)", false),
            ("select setval('bank.public.acct_seq', 5)", false),
            ("select bank.pg_catalog.nextval('elsewhere.acct_seq')", false),
            ("select nextval($1)", false),
            ("select nextval('\"acct_seq\"')", false),
            ("select lo_unlink(4711)", false),
        ] {
            let judgement = one(sql, &policy, &catalog, &SessionState::default());
            assert_eq!(judgement.verdict == Verdict::Allow, allowed, "{sql}: {:?}", judgement.statements);
        }
        let limits = |sql: &str| one(sql, &policy, &catalog, &SessionState::default()).statements.first().and_then(|facts| facts.limit);
        assert_eq!(limits("select id from accounts limit 1"), Some(1));
        assert_eq!(limits("select id from accounts order by owner_id fetch first 1 rows with ties"), None);
    });
}

#[test]
fn what_is_no_sql_is_told_as_the_server_would() {
    on_a_big_stack(|| {
        let policy =
            Policy::parse("version = 1\n[[rules]]\nname = \"reads\"\nwhat = { kinds = [\"read\"] }\naction = \"allow\"\n").unwrap();
        let judgement = one("selec 1", &policy, &catalog(), &SessionState::new(&nobody(), "bank", &[]));
        let told =
            if let Verdict::Deny(denial) = &judgement.verdict { Some((denial.code.as_str(), denial.message.as_str())) } else { None };
        assert_eq!(told, Some(("42601", "syntax error at or near \"selec\"")));
    });
}

#[test]
fn settings_that_judgement_rests_on_stay_whatever_rules_say() {
    on_a_big_stack(|| {
        let policy = Policy::parse("version = 1\n[[rules]]\nname = \"all\"\naction = \"allow\"\n").unwrap();
        let (catalog, state) = (catalog(), SessionState::default());
        for sql in [
            "set client_encoding = 'GBK'",
            "SET NAMES 'latin1'",
            "set local standard_conforming_strings = off",
            "select 1; SET \"Client_Encoding\" TO sjis",
        ] {
            let Verdict::Deny(denial) = one(sql, &policy, &catalog, &state).verdict else { panic!("{sql} is let through") };
            assert_eq!(denial.code, "0A000", "{sql}");
        }
        for sql in
            ["set client_encoding = 'utf-8'", "set standard_conforming_strings = on", "set backslash_quote = on", "reset client_encoding"]
        {
            assert_eq!(one(sql, &policy, &catalog, &state).verdict, Verdict::Allow, "{sql}");
        }
    });
}

/// Whoever changes definitions may run code that no text names; the server is asked afterwards what it has set.
#[test]
fn what_may_run_unseen_code_is_told() {
    on_a_big_stack(|| {
        let policy = Policy::parse("version = 1\n[[rules]]\nname = \"all\"\naction = \"allow\"\n").unwrap();
        let catalog = catalog();
        for (sql, runs) in [
            ("comment on table accounts is 'x'", true),
            ("alter table accounts validate constraint positive", true),
            ("grant select on accounts to dba_role", true),
            ("select id from accounts", false),
            ("commit", false),
        ] {
            assert_eq!(one(sql, &policy, &catalog, &SessionState::default()).runs_code(), runs, "{sql}");
        }
        // Once code ran, what it deferred may run with these.
        let mut state = SessionState::default();
        state.forwarded(&one("do $$ begin end $$", &policy, &catalog, &state));
        for sql in ["commit", "commit and chain", "rollback", "set constraints all immediate", "prepare transaction 'x'"] {
            assert!(one(sql, &policy, &catalog, &state).runs_code(), "{sql}");
        }
    });
}

/// Conditions that a change of definitions makes of masked columns are predicates like any other.
#[test]
fn definitions_do_not_ask_about_protected_columns() {
    on_a_big_stack(|| {
        let (policy, catalog) = (Policy::parse(POLICY).unwrap(), catalog());
        for (sql, allowed) in [
            ("create policy p on customers using (ssn like '1%')", false),
            ("create policy p on customers with check (id > 5)", true),
            ("alter policy p on customers using (ssn like '1%')", false),
            (
                "create trigger t before update on customers for each row when (old.ssn like '1%') execute function suppress_redundant_updates_trigger()",
                false,
            ),
            (
                "create trigger t before update on customers for each row when (old.id = 1) execute function suppress_redundant_updates_trigger()",
                true,
            ),
            ("create rule r as on update to customers where old.ssn like '1%' do instead nothing", false),
            ("create publication p for table customers where (ssn like '1%')", false),
            ("alter table customers alter name set expression as (1 / length(ssn))", false),
        ] {
            let verdict = one(sql, &policy, &catalog, &SessionState::default()).verdict;
            assert_eq!(verdict == Verdict::Allow, allowed, "{sql}: {verdict:?}");
        }
    });
}
