//! What masks allow: what is made of protected columns, and where those decide.

use countersign_policy::{Policy, SessionState, Verdict};

use super::{POLICY, catalog, nobody, on_a_big_stack, one};

#[test]
fn lineage_tells_what_is_made_of_a_protected_column() {
    let table = [
        ("select id, name from customers", "ff"),
        ("select count(*), max(balance) from customers", "ff"),
        ("select ssn from customers", "t"),
        ("select upper(ssn), id from customers", "tf"),
        ("select rank('2') within group (order by ssn), dense_rank(true) within group (order by ssn like '1%') from customers", "tt"),
        ("select rank() over (order by id), ssn from customers", "ft"),
        ("select t, u, id from v_nested", "ttf"),
        ("select * from v_customers", "fft"),
        ("with q as (select ssn as s, id from customers) select s, id from q", "tf"),
        ("with recursive r(a, n) as (select ssn, 1 from customers union all select a, n + 1 from r where n < 3) select n, a from r", "ft"),
        ("select k from mv_customers", "t"),
        ("select ssn from vip", "t"),
        ("select (select ssn from customers limit 1), 1", "tf"),
        ("select c from customers c", "t"),
        ("select f.* from f_customers() f", "?"),
    ];
    on_a_big_stack(|| {
        let (policy, catalog) = (Policy::parse(POLICY).unwrap(), catalog());
        let state = SessionState::default();
        for (sql, expected) in table {
            let judgement = one(sql, &policy, &catalog, &state);
            let outputs = judgement.trace.outputs();
            let found: String = match outputs.first() {
                Some(Some(columns)) => columns.iter().map(|(_, tainted)| if *tainted { 't' } else { 'f' }).collect(),
                _ => "?".to_owned(),
            };
            assert_eq!(found, expected, "{sql}: {:?}", judgement.statements);
            assert!(judgement.touches_protected, "{sql}");
        }
    });
}

#[test]
fn protected_columns_do_not_decide() {
    let table = [
        ("select id from customers where id = 1", true),
        ("select id from customers where ssn like '1%'", false),
        ("select id from customers order by ssn", false),
        ("select ssn from customers group by ssn", true),
        ("select count(*) from customers group by ssn = '1'", false),
        ("select ssn, count(*), count(ssn), 1 from customers group by ssn", true),
        ("select count(id) from customers group by ssn", false),
        ("select count(*) filter (where id = 7) from customers group by ssn", false),
        ("select count(nullif(id, 7)) from customers group by ssn", false),
        ("select count(ssn) filter (where id = 7), count(*) from customers group by ssn", true),
        ("select count(*) from customers group by rollup (ssn, id)", true),
        // What fails for some values and not for others.
        ("select 'x' ~ replace(ssn, '1', '(') from customers", false),
        ("select ssn ~ '^1' from customers", true),
        ("select ssn ~ '(1).*\\1' from customers", false),
        ("select ssn ~ name from customers", false),
        ("select ssn like '1%' from customers", true),
        ("select ssn like '1\\' from customers", false),
        ("select ssn like '1\\\\' from customers", true),
        ("select 'x' like ssn from customers", false),
        ("select ssn similar to '1%' from customers", false),
        ("select '[1,2]'::jsonb #- string_to_array(ssn, ',') from customers", false),
        ("select ssn::text[] from customers", false),
        ("select inet(ssn) from customers", false),
        ("select xmlparse(content ssn) from customers", false),
        ("select xmlpi(name x, ssn) from customers", false),
        ("select xmlserialize(content xmlelement(name a, ssn) as varchar(11)) from customers", false),
        ("select xmlserialize(content xmlelement(name a, ssn) as text) from customers", true),
        ("select ntile(strpos(ssn, '1')) over (partition by id) from customers", false),
        ("select percentile_disc((select strpos(ssn, '1') from customers)) within group (order by id) from accounts", false),
        ("select ssn @@ 'a' from customers", false),
        ("select json_object(ssn value 1) from customers", false),
        // What is not run for NULL, and NULL is what the client made.
        ("select substr(substring(ssn from '^1'), 1, -1) from customers", false),
        ("select split_part(nullif(ssn, '1'), ',', 0) from customers", false),
        ("select regexp_replace(nullif(ssn, '1'), '(', '') from customers", false),
        ("select nullif(ssn, '1') ~ '(' from customers", false),
        ("select (string_to_array(ssn, '1'))[1 / (id - 1)] from customers", false),
        // What is not looked at once the answer is known.
        ("select (ssn, 1) = ('1', 1 / (id - 1)) from customers", false),
        ("select (ssn, 1) = ('1', 1) from customers", true),
        ("select ssn in ('1', (1 / (id - 1))::text) from customers", false),
        ("select ssn in ('1', '2', name) from customers", true),
        ("select ssn between '1' and (1 / (id - 1))::text from customers", false),
        ("select ssn between '1' and '2' from customers", true),
        ("select row(ssn, 1) is distinct from row('1', 1 / (id - 1)) from customers", false),
        ("select row(nullif(ssn, '1'), 1 / (id - 1)) is null from customers", false),
        ("select ssn < any (select (1 / (2 - g))::text from generate_series(1, 2) g) from customers", false),
        ("select '1' in (select ssn from customers)", false),
        // What is too large to be.
        ("select sum(x) from (select length(ssn) x from customers union all select repeat('9', 131072)::numeric) q", false),
        ("select replace(ssn, '1', repeat('x', 400000000)) from customers", false),
        ("select y || y from (select x || x y from (select replace(ssn, '1', '') x from customers) q) q", false),
        ("select string_agg(replace(ssn, '1', ''), '') from customers, generate_series(1, 10)", false),
        ("select string_to_array(ssn, '1') || '{{a,b}}' from customers", false),
        ("select a || '{{a,b}}' from (select string_to_array(ssn, ',') a from customers) q", false),
        (
            "with recursive t(id, s) as (select id, ssn from customers union all select id, s from t) cycle s set c using path select count(*) from t",
            false,
        ),
        ("select count(*) from customers c join generate_series(1, 200) g on g <= c.id group by c.ssn", false),
        ("select c.ssn, count(*) from customers c, lateral generate_series(1, c.id) g group by c.ssn limit 1", false),
        ("select sum(x) from (select coalesce(length(ssn), '9e131071') x from customers) q", false),
        ("select sum(case when id = 1 then length(ssn) else '9e131071' end) from customers", false),
        ("select sum(x) from (select lag(length(ssn), 1, 2147483648) over () x from customers) q", false),
        // What a change of the table evaluates for its rows, and what a conflict is found by.
        ("alter table customers add constraint ck check (ssn not like '1%')", false),
        ("alter table customers add constraint ck check (ssn not like '1%') not valid", true),
        ("alter table customers add constraint ck check (name <> '')", true),
        ("alter table customers add column zz int generated always as (1 / (ascii(ssn) - 49)) stored", false),
        ("alter table customers add column zz int default 1 check (zz > 0)", true),
        ("create index on customers ((1 / (ascii(ssn) - 49)))", false),
        ("create index on customers (id) where ssn like '1%'", false),
        ("create index on customers (ssn)", true),
        ("create index on customers (lower(name))", true),
        ("alter table customers add foreign key (ssn) references notes(body)", false),
        ("insert into customers(id, ssn) values (99, 'x') on conflict (ssn) do update set name = 'hit' returning id", false),
        ("insert into customers(id, ssn) values (99, 'x') on conflict do nothing", false),
        ("insert into customers(id, ssn) values (99, 'x') on conflict (id) do nothing", true),
        ("insert into accounts(id) values (99) on conflict do nothing", true),
        ("alter table customers alter column name drop expression", false),
        ("alter table only customers drop column name", false),
        ("alter table customers drop column name", true),
        ("select ssn, count(*) from customers group by ssn having bool_or(id = 7)", false),
        ("select 1 from customers group by ssn having bool_or(id = 1) and count(*) > 1", false),
        ("select ssn, count(*) from customers group by ssn having count(*) > 1 and count(ssn) < 5", true),
        ("select ssn ~ any (array['^1', '(']) from customers", false),
        ("select ssn like any (array['1%', '\\']) from customers", false),
        ("select ssn = any (array['1', '2']) from customers", true),
        // What people write.
        ("select coalesce(json_agg(d), '[]'::json) from (select json_build_object('id', id, 'ssn', ssn) as d from customers) t", true),
        ("select array_to_json(array_agg(row_to_json(t))) from (select id, name, ssn from customers) t", true),
        ("select coalesce(jsonb_agg(d), '[]') from (select jsonb_build_object('id', id, 'ssn', ssn) as d from customers) t", true),
        ("select array_agg(lower(ssn)), ssn in ('1'::text, '2'::varchar) from customers", true),
        ("select sum(case when id = 1 then length(ssn) else 0 end), sum(coalesce(length(ssn), 0)) from customers", true),
        ("select upper(left(name, 1)) || lower(substr(name, 2)) || ' ' || coalesce(ssn, '') || id from customers", true),
        ("select coalesce(ssn, '') || ' / ' || coalesce(upper(ssn), name) from customers", true),
        ("select '***-**-' || right(ssn, 4), left(ssn, 3) || '…' from customers", true),
        ("select lower(trim(split_part(ssn, '-', 1))), length(replace(ssn, '-', '')) from customers", true),
        ("select concat(name, ' ', ssn), concat_ws(',', ssn, id::text), md5(ssn), ssn::text || '' from customers", true),
        ("select string_agg(name || ' ' || ssn, ', ' order by id), max(ssn), count(distinct ssn) from customers", true),
        ("select json_agg(row_to_json(c)), jsonb_agg(jsonb_build_object('ssn', ssn, 'up', upper(ssn))) from customers c", true),
        ("select array_to_string(array_agg(ssn), ','), (array_agg(ssn))[1], array[ssn, ssn || 'x'] from customers", true),
        ("select ssn = '1', ssn is null, ssn is not null, ssn <> name, not (ssn = '1') from customers", true),
        ("select lag(ssn) over (order by id), first_value(upper(ssn)) over (order by id) from customers", true),
        ("select regexp_replace(ssn, '[0-9]', '#', 'g'), substring(ssn from '^[0-9]+'), substring(ssn from 2 for 3) from customers", true),
        ("select greatest(ssn, 'a'), nullif(ssn, ''), coalesce(nullif(ssn, ''), 'none') from customers", true),
        ("select distinct ssn from customers", true),
        ("select distinct ssn, id from customers", false),
        ("select distinct * from customers", false),
        ("select id from customers group by ssn, id", false),
        ("select ssn, max(id) from customers group by ssn", false),
        ("select id from customers group by cube (ssn, id)", false),
        ("select distinct on (ssn) id from customers", false),
        ("select distinct on (id) ssn from customers", true),
        ("select id from (select distinct ssn, id from customers) q", false),
        ("insert into accounts(id) select length(ssn) from f_customers()", false),
        ("insert into accounts(id) values (length(f_lie()))", false),
        ("update accounts set owner_id = length(f_lie())", false),
        ("select id from f_customers()", true),
        ("select id from f_customers() where ssn like '1%'", false),
        ("select id from accounts where f_lie() like '1%'", false),
        ("select id from accounts order by f_lie()", false),
        ("select id from accounts limit length(f_lie())", false),
        ("select 1 / (length(f_lie()) - 11)", false),
        ("copy (select id from accounts where f_lie() like '1%') to stdout", false),
        ("explain select id from accounts where f_lie() like '1%'", false),
        ("select f_lie()", true),
        ("select array[string_to_array(ssn, '1'), array['a', 'b']] from customers", false),
        ("select array_agg(string_to_array(ssn, '1')) from customers", false),
        ("select array(select string_to_array(ssn, '1') from customers)", false),
        ("select array[array['a']] || string_to_array(ssn, '1') from customers", false),
        ("select array[ssn, name], array_agg(ssn), array(select ssn from customers) from customers group by ssn, name", true),
        ("alter table customers rename column ssn to remark", false),
        ("alter table customers rename to people", false),
        ("alter table customers set schema scratch", false),
        ("alter schema public rename to private", false),
        ("alter table vip no inherit customers", false),
        ("alter table customers alter column name type text using ssn", false),
        ("alter table accounts rename to books", true),
        ("cluster customers using customers_pkey", false),
        ("select information_schema._pg_expandarray(string_to_array(ssn, '1')) from customers", false),
        ("select ssn from customers intersect select '1'", false),
        ("insert into accounts(id) select length(ssn) from customers", false),
        ("select 1 from customers a join customers b using (ssn)", false),
        ("copy customers(id, name) to stdout", true),
        ("copy customers to stdout", true),
        ("copy (select ssn from customers) to stdout", true),
        ("copy customers to stdout (encoding 'SJIS')", false),
        ("copy customers to stdout (null '123-45-6789')", false),
        ("copy customers to stdout (format csv, null '123-45-6789', encoding 'LATIN1', header, force_quote *)", true),
        ("copy (select * from json_populate_recordset(null::customers, '[]')) to stdout", false),
    ];
    on_a_big_stack(|| {
        let (policy, catalog) = (Policy::parse(POLICY).unwrap(), catalog());
        for (sql, allowed) in table {
            let judgement = one(sql, &policy, &catalog, &SessionState::default());
            assert_eq!(judgement.verdict == Verdict::Allow, allowed, "{sql}: {:?}", judgement.verdict);
        }
    });
}

/// Who vouches for a function names what it reads so that the gateway counts it, masked columns included.
#[test]
fn a_trusted_function_returns_what_it_reads() {
    on_a_big_stack(|| {
        let catalog = catalog();
        for (clear, allowed) in [("", false), ("clear = true\n", true)] {
            let trusted = "[[trusted_functions]]\nname = \"public.f_customers\"\nreads = [\"public.customers\"]\n";
            let policy = Policy::parse(&format!("{POLICY}{trusted}{clear}")).unwrap();
            let verdict = |sql: &str| one(sql, &policy, &catalog, &SessionState::default()).verdict == Verdict::Allow;
            assert_eq!(verdict("select id from f_customers() where ssn like '1%'"), allowed, "{clear}");
            assert!(verdict("select id from f_customers()"));
        }
    });
}

#[test]
fn what_fails_or_branches_on_a_protected_column_is_refused() {
    on_a_big_stack(|| {
        let (policy, catalog) = (Policy::parse(POLICY).unwrap(), catalog());
        let state = SessionState::new(&nobody(), "bank", &[]);
        for (sql, code) in [
            ("select case when ssn like '1%' then pg_sleep(1) end from customers", Some("42501")),
            ("select case ssn when '1' then 1 else 2 end from customers", Some("42501")),
            ("select 1 / (length(ssn) - 11) from customers", Some("42501")),
            ("select 'x' || id + 1 from accounts", None),
            ("select case when id = 1 then ssn end from customers", None),
            ("select ssn || ' ' || name from customers", None),
            ("select id from customers where ssn is not null", None),
            ("select case when ssn is null then 1 else 0 end from customers", None),
            ("select id from customers where nullif(ssn, 'x') is null", Some("42501")),
            ("select id from customers where (customers).ssn is null", None),
            ("select id from customers where customers is null", Some("42501")),
            ("select json_build_object('id', id, 'tags', array[ssn, name]) from customers", None),
            ("select replace(ssn, '-', '') || 'x' from customers", None),
            ("select substring(ssn from 8 for 4) || '-xx', '***-' || substr(ssn, 8) from customers", None),
            ("select substr(ssn, 8) || (1 / (id - 1))::text from customers", Some("42501")),
            ("select format('%s <%s>', name, ssn) from customers", None),
            ("select format('%s %I', name, ssn), format(name, ssn) from customers", Some("42501")),
            ("select upper(q) from (select (c).ssn as q from (select c from customers c) x) y", None),
        ] {
            let judgement = one(sql, &policy, &catalog, &state);
            let found = if let Verdict::Deny(denial) = &judgement.verdict { Some(denial.code.as_str()) } else { None };
            assert_eq!(found, code, "{sql}");
        }
    });
}
