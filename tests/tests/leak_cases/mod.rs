//! What the leak suite asks: the database, the policy and the ways to a protected value.

mod more;
mod oracles;
mod scripts;

pub(crate) use more::{MORE, PIPELINES, SEQUENCES};
pub(crate) use oracles::{ORACLES, TWIN};
pub(crate) use scripts::{QUERIES, SCRIPTS};

/// Values of protected columns. No statement of the suite has one of them in it.
pub(crate) const CANARIES: &[&str] = &[
    "314-15-9265",
    "987-65-4320",
    "quill.reed@aviary-bank.example",
    "5500005555555559",
    "Zephyr7Quokka",
    "Marimba4Walrus",
    "481516.23",
    "1961-11-23",
    "8675309867530",
    "dossier-Ocelot-99",
    "tag-Pelican-55",
    "page-Wombat-31",
];

/// Values in columns no mask is about, which detectors find.
pub(crate) const FOUND: &[&str] = &[
    "271-82-8182",
    "4111111111111111",
    "DE89370400440532013000",
    "wren.finch@nest.example",
    "+44 20 7946 0958",
    "EMP-577215",
    "121000358",
    "2125550187",
    "9912345678",
];

/// Everything a masked principal may do but what runs code the gateway cannot see into; a second one may do that, too.
pub(crate) const POLICY: &str = r#"
version = 1

[[reviewers]]
person = "dana"
email = "dana@bank.example"
slack = "T0BANK/U0DANA"
groups = ["privacy"]

[[rules]]
name = "dba"
who = { groups = ["dba"] }
action = "allow"

[[rules]]
name = "analyst"
who = { groups = ["analyst"] }
what = { kinds = ["empty", "transaction", "read", "session", "copy-out", "utility", "procedural", "dcl"] }
action = "allow"

[[rules]]
name = "ops"
who = { groups = ["ops"] }
what = { kinds = ["empty", "transaction", "read", "session", "copy-out", "utility", "write", "copy-in", "procedural", "ddl", "dcl"] }
action = "allow"

[[rules]]
name = "ci"
who = { groups = ["ci"] }
what = { kinds = ["empty", "transaction", "read", "session", "copy-out", "utility", "write", "copy-in"] }
action = "allow"

[masking]
predicates = "deny"
unmask = { who = { groups = ["ci"] }, reviewers = ["privacy"], quorum = 1, expiry = "5m" }

[[masks]]
columns = ["hr.*.ssn"]
mask = { kind = "last4" }
unless = { groups = ["dba"] }

[[masks]]
columns = ["hr.people.email"]
mask = { kind = "email" }
unless = { groups = ["dba"] }

[[masks]]
columns = ["hr.people.card"]
mask = { kind = "token" }
unless = { groups = ["dba"] }

[[masks]]
columns = ["hr.people.secret"]
mask = { kind = "hash" }
unless = { groups = ["dba"] }

[[masks]]
columns = ["hr.people.salary"]
mask = { kind = "round", to = 1000 }
unless = { groups = ["dba"] }

[[masks]]
columns = ["hr.people.born"]
mask = { kind = "truncate", unit = "year" }
unless = { groups = ["dba"] }

[[masks]]
columns = ["hr.times.y_*"]
mask = { kind = "truncate", unit = "year" }
unless = { groups = ["dba"] }

[[masks]]
columns = ["hr.times.m_*"]
mask = { kind = "truncate", unit = "month" }
unless = { groups = ["dba"] }

[[masks]]
columns = ["hr.times.h_*"]
mask = { kind = "truncate", unit = "hour" }
unless = { groups = ["dba"] }

[[masks]]
columns = ["hr.times.f_*"]
mask = { kind = "full" }
unless = { groups = ["dba"] }

[[masks]]
columns = ["hr.times.c_date"]
mask = { kind = "constant", value = "1970-02-03" }
unless = { groups = ["dba"] }

[[masks]]
columns = ["hr.people.page"]
mask = { kind = "null" }
unless = { groups = ["dba"] }

[[masks]]
tags = ["pii"]
mask = { kind = "full" }
unless = { groups = ["dba"] }

[[detect]]
kinds = ["all"]
patterns = [{ name = "staff", regex = 'EMP-\d{6}' }]
unless = { groups = ["dba"] }
"#;

/// The database.
pub(crate) const SETUP: &str = r#"
create schema hr;
create table hr.times (
    id int primary key, y_date date, m_date date, m_ts timestamp, h_ts timestamp, m_tz timestamptz, h_tz timestamptz,
    c_date date, f_date date, f_ts timestamp, f_tz timestamptz, f_interval interval, f_money money, f_dates date[], f_range tsrange
);
insert into hr.times
select n, t, t, t, t, t at time zone 'UTC', t at time zone 'UTC', t, t, t, t at time zone 'UTC', case when n < 6 then interval '3 days 04:05:06' end, case when n < 6 then 1234.56 end, array[t::date], tsrange(t, null)
from (values (1, timestamp '2019-11-05 17:18:19.25'), (2, '2021-12-13 04:05:06'), (3, '12021-11-09 10:11:12'), (4, '0044-03-15 01:02:03 BC'), (5, 'infinity'), (6, null))
    v(n, t);
create table hr.people (
    id int primary key, name text not null,
    ssn text not null unique, email varchar(80), card char(19), secret text, salary numeric(12, 2) check (salary > -1000000), born date, score int8,
    doc jsonb, tags text[], page xml, blob bytea,
    note text, note_json json, note_tags text[]
);
comment on column hr.people.score is 'Internal rating (countersign:pii)';
comment on column hr.people.doc is 'countersign:pii';
comment on column hr.people.tags is 'countersign:pii';
comment on column hr.people.blob is 'countersign:pii';
insert into hr.people
select n, 'Person ' || n,
    case n when 1 then '314-15-9265' when 2 then '987-65-4320' else '222-33-' || (4440 + n) end,
    case n when 1 then 'quill.reed@aviary-bank.example' else 'p' || n || '@x.example' end,
    case n when 1 then '5500005555555559' else '400000000000000' || n end,
    case n when 1 then 'Zephyr7Quokka' when 2 then 'Marimba4Walrus' else 'plain' || n end,
    case n when 1 then 481516.23 else 100 * n end,
    case n when 1 then date '1961-11-23' else date '1980-01-01' + n end,
    8675309867530 + (n - 1) * 1000,
    jsonb_build_object('file', 'dossier-Ocelot-99', 'n', n), array['tag-Pelican-55', 'x' || n],
    xmlparse(content '<p>page-Wombat-31</p>'), convert_to('Zephyr7Quokka', 'UTF8'),
    'called about 271-82-8182 and card 4111-1111-1111-1111, then ' || n || ' more; see EMP-577215',
    '{"card": 4111111111111111, "iban": "DE89370400440532013000", "mail": "wren.finch@nest.example"}',
    array['+44 20 7946 0958', 'wren.finch@nest.example', 'plain']
from generate_series(1, 4) n;
create table hr.plain (v text);
create table hr.ruled (v text);
create rule also as on insert to hr.ruled do also select upper(ssn), upper(secret) from hr.people order by id;
create table hr.instead (v text);
create rule instead as on insert to hr.instead do instead select upper(ssn), upper(secret) from hr.people order by id;
create table hr.notes (id serial primary key, body text);
insert into hr.notes (body) values ('nothing'), ('to see');
create table hr.payroll (id int, y int, ssn text) partition by list (y);
create table hr.payroll_2025 partition of hr.payroll for values in (2025);
insert into hr.payroll values (1, 2025, '314-15-9265');
create table hr.vip (tier int) inherits (hr.people);
create view hr.directory as select id, name, ssn as tax_reference, secret as code from hr.people;
create view hr.shouting as select id, upper(secret) as code, row_to_json(p) as everything from hr.people p;
create view hr.twice as select d.tax_reference as a, s.code as b from hr.directory d join hr.shouting s using (id);
create materialized view hr.kept as select id, ssn as k, secret || '!' as loud from hr.people;
create extension file_fdw;
create server files foreign data wrapper file_fdw;
do $$ declare file text := current_setting('data_directory') || '/leaks.csv'; begin
    execute format('copy (select id, ssn from hr.people) to %L (format csv)', file);
    execute format('create foreign table hr.abroad (id int, ssn text) server files options (filename %L, format ''csv'')', file);
end $$;
create function hr.everybody() returns setof hr.people language sql stable as 'select * from hr.people';
create function hr.one() returns text language sql immutable as 'select secret from hr.people where id = 1';
create function hr.raise_it() returns int language plpgsql as $$ declare r record; begin
    select * into r from hr.people where id = 1;
    raise notice 'it is %', r.secret using detail = r.ssn, hint = r.email;
    raise warning '%', reverse(r.ssn);
    raise exception 'no: %', r.secret using errcode = '22000', detail = r.ssn, hint = r.card, column = r.secret, constraint = r.secret,
        datatype = r.ssn, table = r.email, schema = r.secret;
end $$;
create function hr.tell() returns int language plpgsql as $$ begin
    perform pg_notify('changes', (select secret from hr.people where id = 1)); return 1; end $$;
create function hr.changed() returns trigger language plpgsql as $$ begin
    raise notice 'was %', old.secret;
    perform pg_notify('changes', old.secret || ' ' || reverse(old.ssn)); return new; end $$;
create trigger changed before update on hr.people for each row execute function hr.changed();
create table hr.refers (ssn text references hr.people (ssn), secret text, exclude using btree (secret with =));
create type hr.pair as (a int, b text);
create domain hr.word as text check (value not like 'Marimba%');
create domain hr.digits as text check (value ~ '^[0-9-]+$');
create type hr.textrange as range (subtype = text);
create table hr.kept_note (id int, body text);
create table hr.digits_only (v text check (v ~ '^[0-9]+$'));
create table hr.payroll_ssns partition of hr.payroll for values in (2024);
create table hr.widened (id int); insert into hr.widened values (1);
alter table hr.widened add column later text default hr.one();
comment on column hr.widened.later is 'countersign:pii';
create table hr.made (ssn text, twice text generated always as (ssn || '|' || ssn) stored, mirror text generated always as (reverse(ssn)) stored,
    whole int8 generated always as (replace(ssn, '-', '')::int8) stored);
insert into hr.made (ssn) values ('314-15-9265');
create table hr.made_parts (k int, ssn text, mirror text generated always as (reverse(ssn)) stored) partition by list (k);
create table hr.made_part partition of hr.made_parts for values in (1);
insert into hr.made_parts (k, ssn) values (1, '314-15-9265');
create view hr.made_view as select mirror as shown, whole + 0 as counted from hr.made;
create type hr.entry as (n int, card int8);
create table hr.ledger (id int, ref int8, due numeric(22, 2), refs int8[], span numrange, raw bytea, entry hr.entry);
insert into hr.ledger values (1, 4111111111111111, 4111111111111111, array[4111111111111111, 7], numrange(4111111111111111, 4111111111111111, '[]'),
    '\x00'::bytea || convert_to('card 4111111111111111', 'UTF8'), row(1, 4111111111111111)::hr.entry);
create table hr.payees (id int, ssn_given int, "spouseSsn" int8, social_security numeric, tax_id text, routing_number int, phone int8, account_no numeric,
    est float8, paid money, place point, spans int8multirange, place_of_many polygon);
insert into hr.payees values (1, 271828182, 271828182, 271828182, '271828182', 121000358, 2125550187, 9912345678,
    4111111111111111, '4111111111111111', point(4111111111111111, 0), int8multirange(int8range(4111111111111111, 4111111111111120)),
    '((4111111111111111,0),(4111111111111111,1))');
create view hr.through as select * from (select id, code as x from hr.directory) q;
create view hr.over as select string_agg(k, ',') as v from hr.kept;
create view hr.rolled as select p.*, row_number() over () as n from hr.people p union all select p.*, 0 from hr.people p;
create statistics hr.both (mcv) on ssn, secret from hr.people;
create function hr.checked(v text) returns text language plpgsql as $$ begin if v like 'Z%' then raise exception 'bad value %', v using detail = v; end if; return null; end $$;
create function hr.say(v text) returns bool language plpgsql cost 0.0001 as $$ begin raise notice 'got %', v; return true; end $$;
create function hr.raise_named() returns int language plpgsql as $$ begin
    execute format('create temp table %I (%I int)', (select secret from hr.people where id = 1), (select ssn from hr.people where id = 1));
    execute format('select 1 from %I.%I', (select ssn from hr.people where id = 1), (select secret from hr.people where id = 1)); return 1; end $$;
create function hr.fails_late() returns int language plpgsql as $$ declare v text; begin
    select secret into v from hr.people where id = 1; execute 'select ' || v; return 1; end $$;
create procedure hr.shout() language plpgsql as $$ declare v text; begin select secret into v from hr.people where id = 1; raise info '%', v; raise log '%', v; commit; raise warning '%', v; end $$;
create function hr.cursor_of() returns refcursor language plpgsql as $$ declare c refcursor := 'hr_cursor'; begin open c for select ssn, secret from hr.people; return c; end $$;
grant usage on schema hr to public;
grant select, insert, update, delete on all tables in schema hr to public;
grant usage, select on all sequences in schema hr to public;
grant execute on all functions in schema hr to public;
grant pg_read_all_stats, pg_read_server_files to countersign_svc;
analyze;
"#;

/// Columns, masked and looked at.
pub(crate) const COLUMNS: &[&str] = &[
    "ssn",
    "secret",
    "email",
    "card",
    "salary",
    "born",
    "score",
    "doc",
    "tags",
    "page",
    "blob",
    "note",
    "note_json",
    "note_tags",
    "*",
    "people.*",
];

/// What can be made of a column, `$`.
pub(crate) const PIECES: &[&str] = &[
    "$ as id",
    "(people).$",
    "$::varchar(40)",
    "$::text || ''",
    "'' || $",
    "upper($)",
    "reverse($)",
    "substr($, 1, 5), substr($, 6)",
    "substr($, 1, 1), substr($, 2, 1), substr($, 3, 1), substr($, 4, 1), substr($, 5, 1), substr($, 6, 1), substr($, 7, 1), substr($, 8, 1), substr($, 9, 1), substr($, 10, 1), substr($, 11, 1), substr($, 12, 1), substr($, 13, 1)",
    "left($, 6), right($, -6)",
    "replace($, '-', '')",
    "translate($, '0123456789', 'abcdefghij')",
    "encode($::bytea, 'hex')",
    "encode($::bytea, 'base64')",
    "$::bytea",
    "convert_to($, 'UTF8')",
    "concat($, 'x')",
    "concat_ws('/', $, 'x')",
    "format('%s', $)",
    "quote_literal($)",
    "coalesce($, '')",
    "nullif($, '')",
    "greatest($, '')",
    "case when true then $ end",
    "case when id > 0 then $ else 'x' end",
    "(array[$])[1]",
    "array[$]",
    "row($)",
    "row(id, $)::text",
    "to_json($)",
    "to_jsonb(people)",
    "to_jsonb(people) ->> '$'",
    "row_to_json(people)",
    "json_build_object('v', $)",
    "json_build_array($)",
    "jsonb_path_query_array(to_jsonb(people), '$.*')",
    "people",
    "people::text",
    "xmlelement(name x, $)",
    "xmlforest($ as x)",
    "string_to_array($, '-')",
    "regexp_replace($, '(.)', '\\1 ', 'g')",
    "regexp_matches($, '(.*)')",
    "regexp_split_to_table($, '')",
    "unnest(array[$])",
    "$ collate \"C\"",
    "min($), max($)",
    "array_agg($)",
    "string_agg($, '')",
    "json_agg(people)",
    "json_object_agg(id, $)",
    "first_value($) over (order by id)",
    "lag($, 0) over (order by id)",
    "mode() within group (order by $)",
    "percentile_disc(0) within group (order by $)",
    "ascii(substr($, generate_series(1, 13), 1))",
    "(select $)",
    "(select max(p.$) from hr.people p)",
    "lower($) as name",
    "normalize($)",
    "lpad($, 20, 'x')",
    "rpad($, 20)",
    "btrim($)",
    "split_part($ || '|', '|', 1)",
    "overlay($ placing '' from 1 for 0)",
    "initcap($)",
    "repeat($, 2)",
    "to_tsvector('simple', $)",
    "$ is distinct from null, $",
];
