//! What masks cannot cover and what a policy lets through all the same: aggregates, functions, clear text by a grant, tags, detectors.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use countersign_masking::{MaskKey, TextStyle};
use countersign_policy::catalog::{CatalogBuilder, QUERIES, Snapshot};
use countersign_policy::judge::STACK_BYTES;
use countersign_policy::{
    Catalog, CopyOutcome, JudgeRequest, Judgement, MaskOutcome, Place, Policy, Principal, ResultColumn, SessionState, Verdict, fingerprint,
    judge, plan_copy, plan_masks, text_detectors,
};

const BASE: &str = r#"
version = 1
[[reviewers]]
person = "dana"
groups = ["privacy"]
[[rules]]
name = "reads"
what = { kinds = ["read", "copy-out", "session", "transaction"] }
action = "allow"
[[masks]]
columns = ["public.customers.ssn", "public.customers.balance"]
mask = { kind = "full" }
"#;

fn principal(group: &str) -> Principal {
    Principal {
        issuer: "https://issuer.example".into(),
        subject: "ana".into(),
        email: None,
        groups: BTreeSet::from([group.to_owned()]),
        claims: BTreeMap::new(),
    }
}

fn catalog() -> Catalog {
    let path = format!("{}/tests/data/fixture.snapshot.json", env!("CARGO_MANIFEST_DIR"));
    Snapshot::from_json(&std::fs::read_to_string(path).unwrap()).unwrap().build().unwrap()
}

fn on_a_big_stack(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, test).unwrap().join().unwrap());
}

fn judged(sql: &str, more: &str, group: &str) -> Judgement {
    let policy = Policy::parse(&format!("{BASE}{more}")).unwrap();
    let (principal, catalog, state) = (principal(group), catalog(), SessionState::default());
    judge(
        sql,
        &JudgeRequest {
            policy: &policy,
            principal: &principal,
            database: "bank",
            catalog: &catalog,
            state: &state,
            parameter_types: &[],
            now: 0,
        },
    )
}

/// `c`: clear, `m`: masked, `x`: refused.
fn outcome(sql: &str, more: &str) -> String {
    let judgement = judged(sql, more, "analyst");
    if judgement.verdict != Verdict::Allow {
        return "x".to_owned();
    }
    let outputs = judgement.trace.outputs();
    let columns = outputs.first().cloned().flatten().unwrap_or_default();
    columns.iter().map(|(_, tainted)| if *tainted { 'm' } else { 'c' }).collect()
}

#[test]
fn aggregates_are_shown_when_the_query_asks_for_enough_values() {
    let more = "[masking]\naggregates = { functions = [\"avg\", \"sum\"], min_rows = 10 }\n";
    on_a_big_stack(|| {
        for (sql, expected) in [
            ("select avg(balance) from customers having count(balance) >= 10", "c"),
            ("select name, avg(balance) from customers group by name having count(balance) > 9 and count(*) > 3", "cc"),
            ("select avg(c.balance) as a from customers c where id > 3 having count(c.balance) >= 10", "c"),
            ("select a + 1 from (select sum(balance) a from customers having count(balance) >= 12) s", "c"),
            ("select avg(balance) from customers", "m"),
            ("select avg(balance) from customers having count(*) >= 10", "m"),
            ("select avg(balance) from customers having count(balance) >= 9", "m"),
            ("select avg(balance) from customers having count(balance) >= 10 or true", "m"),
            ("select avg(balance) from customers having count(id) >= 10", "m"),
            ("select avg(balance) filter (where id = 1) from customers having count(balance) >= 10", "m"),
            ("select avg(distinct balance) from customers having count(balance) >= 10", "m"),
            ("select max(balance) from customers having count(balance) >= 10", "m"),
            ("select (select avg(o.balance) from customers o where o.id = 1 having count(c.balance) >= 10) from customers c", "x"),
            ("select (select avg(o.balance) from customers o having count(o.balance) >= 10) from customers c", "c"),
            ("select avg(nullif(balance, 1000)) from customers having count(balance) >= 10", "x"),
            ("select avg(c.balance) from customers c, generate_series(1, 10) having count(c.balance) >= 10", "m"),
            ("select avg(c.balance) from customers c join accounts a on true having count(c.balance) >= 10", "m"),
            ("select avg(case when id = 1 then balance end) from customers having count(balance) >= 10", "m"),
            ("select avg(balance) over (partition by id) from customers having count(balance) >= 10", "m"),
            ("select (select avg(balance) from customers where id = 1) from customers having count(balance) >= 10", "m"),
            ("select count(ssn), count(*) from customers", "cc"),
            ("select count(nullif(ssn, '123-45-6789')) from customers", "m"),
            ("select count(distinct ssn) from customers", "m"),
        ] {
            assert_eq!(outcome(sql, more), expected, "{sql}");
        }
        assert_eq!(outcome("select avg(balance) from customers having count(balance) >= 10", ""), "m", "no policy for it");
        // What the judgement looked at must not be left out of the key it is remembered under.
        let key = |sql: &str| {
            let mut key = Vec::new();
            fingerprint(sql.as_bytes(), &mut key).then_some(key)
        };
        let asks = |least: u32| key(&format!("select avg(balance) from customers where id = 7 having count(balance) >= {least}"));
        assert!(asks(10).is_none() || asks(10) != asks(9));
    });
}

#[test]
fn listed_functions_are_shown_and_those_that_can_fail_refused() {
    on_a_big_stack(|| {
        for (sql, plain, listed) in [
            ("select length(ssn) from customers", "m", "c"),
            ("select length(substr(ssn, 1, 3)) from customers", "m", "m"),
            ("select length(regexp_replace(ssn, '^123', 'longer than it was')) from customers", "m", "m"),
            ("select length(s) from (select replace(ssn, '1', '12') as s from customers) q", "m", "m"),
            ("select length(s) from (select ssn as s from customers) q", "m", "c"),
            ("select length(ssn) filter (where true) from customers", "m", "m"),
            ("select upper(ssn) from customers", "m", "m"),
            ("select ssn::text from customers", "m", "m"),
            ("select ssn::int from customers", "x", "x"),
            ("select to_number(ssn, '999') from customers", "x", "x"),
            ("select substr('abc', 1, strpos(ssn, '1')) from customers", "x", "x"),
            ("select chr(ascii(ssn)) from customers", "x", "x"),
            ("select coalesce(ssn, '') from customers", "m", "m"),
            ("select coalesce(nullif(ssn, '1'), pg_sleep(1)::text) from customers", "x", "x"),
            ("select ssn = '1' or id / 0 = 1 from customers", "x", "x"),
            ("select json_build_object('ssn', ssn) from customers", "m", "m"),
            ("select json_build_object(nullif(ssn, '1'), 1) from customers", "x", "x"),
            ("select id::text, abs(id), coalesce(name, upper(name)) from customers", "ccc", "ccc"),
        ] {
            assert_eq!(outcome(sql, ""), plain, "{sql}");
            assert_eq!(outcome(sql, "[masking]\nfunctions = [\"length\"]\n"), listed, "{sql} with length listed");
        }
    });
}

const UNMASK: &str = "[masking]\nunmask = { who = { groups = [\"analyst\"] }, reviewers = [\"privacy\"], quorum = 1, expiry = \"15m\" }\n";

#[test]
fn clear_text_is_a_hold_and_only_for_whom_and_what_the_policy_says() {
    on_a_big_stack(|| {
        let ask = |sql: &str| judged(sql, UNMASK, "analyst");
        let held = ask("/* countersign:unmask INC-7 */ select ssn, name from customers where ssn = '123-45-6789'");
        let Verdict::Hold(terms) = &held.verdict else { panic_with(&held) };
        assert_eq!((held.rule.as_str(), held.trace.unmask()), ("countersign:unmask", true));
        assert_eq!(terms.reason, "asks to see in clear: public.customers.ssn");
        assert!(ask("/*countersign:unmask*/copy customers to stdout").trace.unmask());
        for sql in [
            "select ssn /* countersign:unmask */ from customers",
            "/* please countersign:unmask */ select ssn from customers",
            "/* countersign:unmasked */ select ssn from customers",
            "-- countersign:unmask\nselect ssn from customers",
            "/* countersign:unmask */ select name from customers",
            "/* countersign:unmask */ select ssn from customers; select 1",
            "/* countersign:unmask */ update customers set name = name returning ssn",
        ] {
            let judgement = ask(sql);
            assert!(!judgement.trace.unmask() && !matches!(judgement.verdict, Verdict::Hold(_)), "{sql}: {:?}", judgement.verdict);
        }
        let others = judged("/* countersign:unmask */ select ssn from customers", UNMASK, "intern");
        assert_eq!((others.verdict, others.trace.unmask()), (Verdict::Allow, false));
        let never = judged("/* countersign:unmask */ select ssn from customers", "", "analyst");
        assert_eq!((never.verdict, never.trace.unmask()), (Verdict::Allow, false));
    });
}

fn panic_with(judgement: &Judgement) -> ! {
    std::panic::resume_unwind(Box::new(format!("{:?}", judgement.verdict)))
}

fn column(table: u32, attribute: i16, type_oid: u32) -> ResultColumn {
    ResultColumn { name: "x".into(), table_oid: table, attribute, type_oid, format: 0 }
}

/// A table of two columns, the second with a comment.
fn tagged(comment: Option<&str>) -> Catalog {
    let mut builder = CatalogBuilder::default();
    let query = |name: &str| QUERIES.iter().position(|query| query.name == name).unwrap();
    builder.row(query("defaults"), &[Some("svc"), Some("public"), Some("bank"), Some("150000")]).unwrap();
    builder.row(query("schemas"), &[Some("public"), Some("true")]).unwrap();
    builder.row(query("relations"), &[Some("20000"), Some("public"), Some("people"), Some("r"), Some("false"), Some("20001")]).unwrap();
    builder.row(query("columns"), &[Some("20000"), Some("1"), Some("id"), Some("23"), None]).unwrap();
    builder.row(query("columns"), &[Some("20000"), Some("2"), Some("tax"), Some("25"), comment]).unwrap();
    builder.finish().unwrap()
}

#[test]
fn tags_in_comments_name_columns() {
    let policy = Policy::parse(
        "version = 1\n[[rules]]\nname = \"r\"\naction = \"allow\"\n[[masks]]\ntags = [\"pii\", \"secret-*\"]\nmask = { kind = \"full\" }\n",
    )
    .unwrap();
    on_a_big_stack(|| {
        for (comment, masked) in [
            (Some("Tax number (countersign:pii)."), true),
            (Some("countersign:secret-2, see wiki"), true),
            (Some("countersign:public"), false),
            (Some("xcountersign:pii"), false),
            (None, false),
        ] {
            let (principal, catalog, state) = (principal("analyst"), tagged(comment), SessionState::default());
            let request = JudgeRequest {
                policy: &policy,
                principal: &principal,
                database: "bank",
                catalog: &catalog,
                state: &state,
                parameter_types: &[],
                now: 0,
            };
            let judgement = judge("select id, tax from people", &request);
            let plan =
                plan_masks(&judgement, &[column(20000, 1, 23), column(20000, 2, 25)], Place::default(), &request, &MaskKey::new([7; 32]));
            assert_eq!(matches!(plan, MaskOutcome::Mask { .. }), masked, "{comment:?}");
        }
    });
}

#[test]
fn detectors_are_about_columns_and_principals() {
    let more = "[[detect]]\nkinds = [\"ssn\"]\nexcept = [\"public.*.notes\"]\nunless = { groups = [\"privacy\"] }\n[[detect]]\nunless = { groups = [\"privacy\"] }\n";
    let policy = Policy::parse(&format!("{BASE}{more}")).unwrap();
    on_a_big_stack(|| {
        let (catalog, state) = (catalog(), SessionState::default());
        let columns = ["name", "notes"].map(|name| {
            let sql = format!("select {name} from customers");
            (name, sql)
        });
        for (group, found) in [("analyst", [true, false]), ("privacy", [false, false])] {
            let principal = principal(group);
            let request = JudgeRequest {
                policy: &policy,
                principal: &principal,
                database: "bank",
                catalog: &catalog,
                state: &state,
                parameter_types: &[],
                now: 0,
            };
            for ((name, sql), found) in columns.iter().zip(found) {
                let judgement = judge(&format!("copy ({sql}) to stdout"), &request);
                let plan = plan_copy(&judgement, 0, false, 1, TextStyle::default(), &request, &MaskKey::new([7; 32]));
                assert_eq!(matches!(plan, CopyOutcome::Mask { .. }), found, "{name} for {group}");
                assert!(matches!(
                    plan_copy(&judgement, 1, false, 1, TextStyle::default(), &request, &MaskKey::new([7; 32])),
                    CopyOutcome::Refuse(_)
                ));
            }
            assert_eq!(text_detectors(&policy, &principal).is_some(), group == "analyst");
        }
    });
}

#[test]
fn faults_are_told_with_a_way_to_mend_them() {
    for (more, message) in [
        ("[[masks]]\nmask = { kind = \"full\" }\n", "a mask needs `columns` or `tags`"),
        ("[[masks]]\ntags = [\"a b\"]\nmask = { kind = \"full\" }\n", "is not a tag"),
        ("[masking]\naggregates = { functions = [\"avg\"], min_rows = 1 }\n", "min_rows is out of range"),
        ("[masking]\naggregates = { functions = [\"max\"], min_rows = 10 }\n", "shows single values"),
        ("[masking]\nunmask = { reviewers = [\"nobody\"], expiry = \"1h\" }\n", "no reviewer is in the group `nobody`"),
        ("[[detect]]\nkinds = [\"passport\"]\n", "unknown variant"),
        ("[[detect]]\npatterns = [{ name = \"x\", regex = '\\d+' }]\n", "a match may be longer than"),
        ("[[detect]]\npatterns = [{ name = \"x\", regex = '(' }]\n", "not a regular expression"),
        ("[[detect]]\nexcept = [\"notes\"]\n", "is not `schema.relation.column`"),
    ] {
        let error = Policy::parse(&format!("{BASE}{more}")).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.line > 12, "{error}");
    }
}
