//! What a statement can ask of a protected value without showing it: by NULL, by the order of rows, by how many there are, by failing.

/// One of two databases; `FIRST` is what protected values begin with. They end with what their mask shows.
pub(crate) const TWIN: &str = r#"
create schema hr;
create table hr.people (id int primary key, name text, ssn text);
insert into hr.people select n, 'Person ' || n, format('%s-45-%s', FIRST, 1000 + n * 7919 % 8999) from generate_series(1, 9) n;
create table hr.notes (id int primary key, body text);
insert into hr.notes values (1, 'one'), (2, 'two');
create view hr.directory as select id, ssn as tax_reference, upper(ssn) as loud, nullif(substr(ssn, 1, 1), '1') as odd from hr.people;
create materialized view hr.kept as select id, ssn as k from hr.people;
create function hr.one(int) returns text language sql stable as 'select ssn from hr.people where id = $1';
create function hr.all_of() returns setof hr.people language sql stable as 'select * from hr.people';
create function hr.of_note(hr.notes) returns text language sql stable as 'select ssn from hr.people where id = $1.id';
create function hr.like_one(int, text) returns boolean language sql stable as 'select ssn like $2 from hr.people where id = $1';
create operator hr.~~~ (leftarg = int, rightarg = text, function = hr.like_one);
grant usage on schema hr to public;
grant all on all tables in schema hr to public;
"#;

pub(crate) const ORACLES: &[&str] = &[
    "select nullif(substr(ssn, 1, 1), '1') from hr.people",
    "select nullif(ssn, '137-45-8919') from hr.people",
    "select nullif(length(ssn), 11), nullif(ssn, '') is null from hr.people",
    "select coalesce(nullif(substr(ssn, 1, 1), '1'), 'x') from hr.people",
    "select substring(ssn from '^1'), regexp_substr_ok from (select ssn, (regexp_match(ssn, '^1'))[1] as regexp_substr_ok from hr.people) q",
    "select '{\"137-45-8919\":1}'::jsonb -> ssn from hr.people",
    "select id, '{\"1\":1}'::jsonb -> substr(ssn, 1, 1) from hr.people",
    "select jsonb_build_object('137-45-8919', 1) ->> ssn from hr.people",
    "select (string_to_array(ssn, '1'))[3] from hr.people",
    "select array_position(array['1', '9'], substr(ssn, 1, 1)) from hr.people",
    "select substring(p::text from '^.1,.Person 1.,1') from hr.people p",
    "select nullif(row_to_json(p) ->> 'ssn', '137-45-8919') from hr.people p",
    "select nullif(tax_reference, '137-45-8919'), loud, odd from hr.directory",
    "select odd from hr.directory",
    "select nullif(k, '137-45-8919') from hr.kept",
    "select max(nullif(substr(ssn, 1, 1), '1')) from hr.people group by id",
    "select count(nullif(substr(ssn, 1, 1), '1')) from hr.people",
    "select id, count(nullif(substr(ssn, 1, 1), '1')) from hr.people group by id",
    "select string_agg(nullif(substr(ssn, 1, 1), '1'), '') from hr.people",
    "select first_value(nullif(substr(ssn, 1, 1), '1')) over (order by id) from hr.people",
    "select 'x' = any(array_agg(ssn)) from hr.people",
    "select (select nullif(substr(ssn, 1, 1), '1') from hr.people where id = 1)",
    "with q as (select nullif(substr(ssn, 1, 1), '1') as a from hr.people) select a from q",
    "select q.a from hr.people p, lateral (select nullif(substr(p.ssn, 1, 1), '1') as a) q",
    "select case when id = 1 then nullif(substr(ssn, 1, 1), '1') end from hr.people",
    "select distinct on (ssn) id from hr.people",
    "select distinct ssn, id from hr.people",
    "select distinct * from hr.people",
    "select id from hr.people group by ssn, id",
    "select id from hr.people group by cube (ssn, id)",
    "select max(id) from hr.people group by ssn",
    "select array_agg(id) from hr.people group by ssn",
    "select mode() within group (order by id) from hr.people group by ssn",
    "select array(select id from hr.people group by ssn, id)",
    "select string_agg(id::text, ',') from (select id, ssn from hr.people group by ssn, id) q",
    "select ssn, count(*) from hr.people group by ssn",
    "select count(*) filter (where id = 7) from hr.people group by ssn",
    "select 'x' ~ regexp_replace(ssn, '^1.*', '(') from hr.people where id = 1",
    "select 'x' like replace(ssn, '137-45-8919', '\\') from hr.people where id = 1",
    "select ssn like '1%\\' from hr.people",
    "select ssn like '13\\' from hr.people",
    "select (regexp_replace(ssn, '^1.*', '{}'))::text[] from hr.people where id = 1",
    "select inet(regexp_replace(ssn, '^1.*', '1.1.1.1')) from hr.people where id = 1",
    "select '[1,2]'::jsonb #- string_to_array(regexp_replace(ssn, '^1.*', '1'), ',') from hr.people where id = 1",
    "select substr(nullif(ssn, '137-45-8919'), 1, -1) from hr.people where id = 1",
    "select substr(substring(ssn from '^1'), 1, -1) from hr.people where id = 1",
    "select split_part(substring(ssn from '^1'), ',', 0) from hr.people where id = 1",
    "select substring(ssn from '^1') ~ '(' from hr.people where id = 1",
    "select (string_to_array(substring(ssn from '^1'), '-'))[1 / (id - 1)] from hr.people where id = 1",
    "select (left(ssn, 1), 1) = ('1', 1 / (id - 1)) from hr.people where id = 1",
    "select left(ssn, 1) in ('1', (1 / (id - 1))::text) from hr.people where id = 1",
    "select ssn between '5' and (1 / (id - 1))::text from hr.people where id = 1",
    "select row(ssn, 1) is distinct from row('137-45-8919', 1 / (id - 1)) from hr.people where id = 1",
    "select row(substring(ssn from '^1'), 1 / (id - 1)) is null from hr.people where id = 1",
    "select ssn < any (select '5' || (1 / (2 - g))::text from generate_series(1, 2) g) from hr.people where id = 1",
    "select sum(x) from (select ascii(ssn) x from hr.people where id = 1 union all select repeat('9', 131072)::numeric - 53) q",
    "select sum(x) from (select ascii(ssn) x from hr.people where id = 1 union all select 9223372036854775807 - 53) q",
    "select xmlparse(content regexp_replace(ssn, '^1', '<')) from hr.people where id = 1",
    "select xmlpi(name x, regexp_replace(ssn, '^1', '?>')) from hr.people where id = 1",
    "select a || '{{a,b}}' from (select string_to_array(regexp_replace(ssn, '^1.*', '1,2'), ',') a from hr.people where id = 1) q",
    "select ntile(strpos(ssn, '1')) over (partition by id) from hr.people",
    "select regexp_replace(ssn, '^1', '') @@ 'a' from hr.people where id = 1",
    "select count(*) from hr.people p join generate_series(1, 200) g on g <= p.id group by p.ssn",
    "select p.ssn, count(*) from hr.people p, lateral generate_series(1, p.id) g group by p.ssn limit 1",
    "with recursive t(id, k, s) as (select id, 1, ssn from hr.people where id = 1 union all select id, k + 1, regexp_replace(s, '^1', 'q') from t where k < 9) cycle s set c using path select count(*) from t",
    "select count(nullif(id, 7)) from hr.people group by ssn",
    "select rank('2') within group (order by ssn) from hr.people where id = 1",
    "select dense_rank(true) within group (order by ssn like '1%') from hr.people where id = 1",
    "select percent_rank('2') within group (order by ssn) from hr.people",
    "select information_schema._pg_expandarray(string_to_array(ssn, '1')) from hr.people",
    "select hr.one(1)",
    "select n.of_note from hr.notes n",
    "select (n).of_note from hr.notes n",
    "select id from hr.notes where hr.one(1) like '1%'",
    "select id from hr.notes n where n.of_note like '1%'",
    "select id from hr.notes where 1 operator(hr.~~~) '1%'",
    "select 1 operator(hr.~~~) '1%'",
    "select id from hr.people order by hr.one(id)",
    "select id from hr.all_of() where ssn like '1%'",
    "select id from hr.all_of() order by ssn",
    "select id from hr.notes limit length(hr.one(1)) - 10",
    "select 1 / (ascii(hr.one(1)) - 49)",
    "select count(*) from hr.notes where exists (select from hr.all_of() q where q.ssn like '1%')",
    "select row_number() over (order by id), ssn from hr.people",
    "select count(*), count(ssn), count(distinct ssn) from hr.people",
];
