-- Beyond fixture.sql: what the attacks of attacks.rs use. Made by the superuser; `svc` attacks.
create extension if not exists plpgsql;
create function wipe_text(t text) returns text language plpgsql volatile as $f$ begin delete from accounts; return t; end $f$;
create function wipe_bool(t text) returns boolean language plpgsql volatile as $f$ begin delete from accounts; return true; end $f$;
create function wipe_lie(t text) returns boolean language plpgsql immutable as $f$ begin perform wipe_text(t); return true; end $f$;
create function wipe_trigger() returns trigger language plpgsql as $f$ begin delete from accounts; return new; end $f$;
-- a cast that is written, one that comes by itself, one that only JSON looks for
create type scratch.written as (a text);
create function scratch.to_written(t text) returns scratch.written language plpgsql as $f$ begin delete from accounts; return row(t)::scratch.written; end $f$;
create cast (text as scratch.written) with function scratch.to_written(text);
create type scratch.jsonish as (a text);
create function scratch.to_json_text(j scratch.jsonish) returns json language plpgsql as $f$ begin delete from accounts; return '1'; end $f$;
create cast (scratch.jsonish as json) with function scratch.to_json_text(scratch.jsonish);
create table with_jsonish(id int, j scratch.jsonish);
insert into with_jsonish values (1, row('x'));
create type scratch.texty as (a text);
create function scratch.from_texty(j scratch.texty) returns text language plpgsql as $f$ begin delete from accounts; return '1'; end $f$;
create cast (scratch.texty as text) with function scratch.from_texty(scratch.texty);
create table with_texty(id int, j scratch.texty);
insert into with_texty values (1, row('x'));
create type scratch.implicit as (a text);
create function scratch.to_implicit(t text) returns scratch.implicit language sql as $f$ select row(t)::scratch.implicit $f$;
create cast (text as scratch.implicit) with function scratch.to_implicit(text) as implicit;
create function public.ascii(i scratch.implicit) returns int language plpgsql as $f$ begin delete from accounts; return 1; end $f$;
-- an overload for a type inside a type
create type scratch.inner_t as (a text);
create type scratch.outer_t as (f scratch.inner_t, l scratch.inner_t[]);
create function public.lower(i scratch.inner_t) returns text language plpgsql as $f$ begin delete from accounts; return 'x'; end $f$;
create table with_nested(id int, c scratch.outer_t);
insert into with_nested values (1, row(row('x')::scratch.inner_t, array[row('y')::scratch.inner_t])::scratch.outer_t);
-- domains
create domain scratch.checked as text check (wipe_bool(value));
create domain scratch.sequenced as text check (nextval('acct_seq') > 0 or value is null);
create table with_checked(id int, c scratch.checked, l scratch.checked[]);
create table with_sequenced(id int, c scratch.sequenced);
create function public.cosh(d scratch.checked) returns int language sql as $f$ select 1 $f$;
-- row security, with functions of users and of the server
create table rls_user(id int, body text); insert into rls_user values (1, 'x');
alter table rls_user enable row level security;
create policy p on rls_user using (wipe_bool(body));
create table rls_builtin(id int, body text); insert into rls_builtin values (1, 'x');
alter table rls_builtin enable row level security;
create policy p on rls_builtin using (nextval('acct_seq') > 0);
create table rls_notify(id int, body text); insert into rls_notify values (1, 'x');
alter table rls_notify enable row level security;
create policy p on rls_notify using (pg_notify('x', body) is not null);
create table rls_reads(id int, body text); insert into rls_reads values (1, 'x');
alter table rls_reads enable row level security;
create policy p on rls_reads using (exists (select from customers where ssn like '1%'));
create view v_rls as select * from rls_builtin;
create view v_rls_invoker with (security_invoker) as select * from rls_builtin;
-- defaults, checks, generated columns, expression indexes
create table with_default(id int, b text default wipe_text('x'));
create table with_lo_default(id int, b oid default lo_create(0));
create table with_config_default(id int, b text default set_config('role', 'dba_role', false));
create table with_check(id int, b text check (wipe_lie(b)));
create table with_generated(id int, b text, g boolean generated always as (wipe_lie(b)) stored);
create table with_index(id int, b text);
insert into with_index values (1, 'x');
create index on with_index ((wipe_lie(b)));
create materialized view mv_wipe as select 1 as a where false or wipe_bool('x') with no data;
create table with_trigger(id int, b text);
create trigger t before insert on with_trigger for each row execute function wipe_trigger();
create table parent_key(id int primary key); insert into parent_key values (1);
create table child_key(id int references parent_key on delete cascade); insert into child_key values (1);
create trigger t after delete on child_key for each row execute function wipe_trigger();
create table rule_target(id int);
create rule r as on insert to rule_target do also delete from accounts;
create view v_instead as select 1 as id;
create function instead_trigger() returns trigger language plpgsql as $f$ begin delete from accounts; return new; end $f$;
create trigger t instead of insert on v_instead for each row execute function instead_trigger();
create view v_nextval as select nextval('acct_seq') as n;
create view v_lock as select * from accounts for update;
create view v_checked as select 'x'::scratch.checked as c;
-- a partition whose own trigger runs
create table parted(id int, b text) partition by list (id);
create table parted_1 partition of parted for values in (1);
create trigger t before insert on parted_1 for each row execute function wipe_trigger();
create table parted_expr(id int, b text) partition by list ((abs(id)));
-- names in other schemas
create table evil.accounts(id int, owner_id int, balance numeric);
create view evil.notes as select wipe_text('x') as body, 1 as id;
create function evil.lower(t text) returns text language plpgsql as $f$ begin delete from accounts; return t; end $f$;
create function evil.json_value(a json, b text) returns text language plpgsql as $f$ begin delete from accounts; return b; end $f$;
create function evil.json_exists(a json, b text) returns text language plpgsql as $f$ begin delete from accounts; return b; end $f$;
create function evil.json_array(a int, b int) returns text language plpgsql as $f$ begin delete from accounts; return 'x'; end $f$;
create function evil.add(a int, b int) returns int language plpgsql as $f$ begin delete from public.accounts; return a; end $f$;
create operator evil.+ (leftarg = int, rightarg = int, function = evil.add);
create function evil.wipe_left(a text, b text) returns boolean language plpgsql as $f$ begin delete from public.accounts; return true; end $f$;
create operator evil.=== (leftarg = text, rightarg = text, function = evil.wipe_left);
create type evil.int4 as (a text);
create function wipe_agg(s text, v text) returns text language plpgsql as $f$ begin delete from accounts; return v; end $f$;
create aggregate agg_wipe(text) (sfunc = wipe_agg, stype = text);
create procedure evil_commit() language plpgsql as $f$ begin delete from accounts; commit; end $f$;
-- operands and arguments that only a literal becomes
create type scratch.mood as enum ('happy');
create function int_mood(a int, m scratch.mood) returns boolean language plpgsql as $f$ begin delete from accounts; return true; end $f$;
create operator public.==> (leftarg = int, rightarg = scratch.mood, function = int_mood);
create function mood_only(m scratch.mood) returns boolean language plpgsql as $f$ begin delete from accounts; return true; end $f$;
create operator public.!!! (rightarg = scratch.mood, function = mood_only);
create function public.abs(a int, m scratch.mood) returns int language plpgsql as $f$ begin delete from accounts; return a; end $f$;
-- operator classes: for a range, an index, a partition key
create function int_compare(a int, b int) returns int language plpgsql immutable as $f$ begin perform wipe_text('x'); return case when a < b then -1 when a > b then 1 else 0 end; end $f$;
create operator class int_order for type int using btree as operator 1 <, operator 2 <=, operator 3 =, operator 4 >=, operator 5 >, function 1 int_compare(int, int);
create type scratch.int_range as range (subtype = int, subtype_opclass = int_order);
create table with_class(id int);
insert into with_class select generate_series(1, 1000);
create index on with_class (id int_order);
create function int_hash(a int, seed bigint) returns bigint language plpgsql immutable as $f$ begin perform wipe_text('x'); return 0; end $f$;
create operator class int_hashed for type int using hash as operator 1 =, function 2 int_hash(int, bigint);
create table parted_hash(id int) partition by hash (id int_hashed);
create table parted_hash_0 partition of parted_hash for values with (modulus 2, remainder 0);
create table parted_hash_1 partition of parted_hash for values with (modulus 2, remainder 1);
create type scratch.checked_range as range (subtype = scratch.checked);
create table with_outer_text(id int, c scratch.outer_t, t text);
create type scratch.checked_row as (a scratch.checked);
create table with_checked_row(id int, r scratch.checked_row);
-- what planning folds
create function folded(i int) returns int language plpgsql immutable as $f$ begin perform wipe_text('x'); return i; end $f$;
create table with_folded(id int, b text);
create index on with_folded ((id + folded(1)));
create table with_folded_check(id int check (folded(1) = 1));
-- what is behind foreign tables
create extension file_fdw;
create extension postgres_fdw;
create extension dblink;
create server files foreign data wrapper file_fdw;
create foreign table f_program(a text) server files options (program 'echo x');
create server loop foreign data wrapper postgres_fdw;
create foreign table f_customers_elsewhere(ssn text) server loop options (schema_name 'public', table_name 'customers');
create table parted_foreign(a text) partition by list (a);
create foreign table parted_foreign_1 partition of parted_foreign default server files options (program 'echo x');
create view v_foreign as select * from f_program;
-- a cascade into a table with a rule, one with a trigger of its partition
create table parent_rule(id int primary key); insert into parent_rule values (1);
create table child_rule(id int references parent_rule on delete cascade); insert into child_rule values (1);
create rule r as on delete to child_rule do also delete from accounts;
-- an overload of what the server has, but is not known to be harmless
create function public.array_in(a text) returns int language sql as $f$ select 1 $f$;
-- a statistics object that calls
create table with_statistics(id int, b text);
create statistics s_wipe on (wipe_lie(b)), id from with_statistics;
grant all on all tables in schema public, evil, scratch to svc;
grant all on all sequences in schema public to svc;
grant usage, create on schema public, evil, scratch to svc;
insert into accounts select g, 1 + g % 3, 100 * g from generate_series(1, 10) g on conflict do nothing;
-- What runs though no statement names it: defaults of domains, conditions of triggers, what compares the values of a range.
create domain scratch.filled as text default wipe_text('x');
create domain scratch.filled_by_server as oid default lo_create(0);
create table with_filled(id int, f scratch.filled);
create table with_filled_by_server(id int, f scratch.filled_by_server);
create view v_filled as select id from with_filled;
create table with_condition(id int, b text);
create trigger t before update on with_condition for each row when (wipe_bool(new.b)) execute function suppress_redundant_updates_trigger();
create table with_server_condition(id int, b text);
create trigger t before update on with_server_condition for each row when (nextval('acct_seq') > 0 and old.b is distinct from new.b) execute function suppress_redundant_updates_trigger();
create table with_harmless_condition(id int, b text);
create trigger t before update on with_harmless_condition for each row when (old.* is distinct from new.*) execute function suppress_redundant_updates_trigger();
create table with_span(id int, s scratch.int_range);
create table with_span_check(id int, b text check (b::scratch.int_range is not null));
-- The server's own view, made anew over something of users.
create or replace view information_schema.information_schema_catalog_name as select cast(wipe_text(current_database()) as information_schema.sql_identifier) as catalog_name;
-- An operator that calls nothing of users itself, in a class that does.
create operator scratch.<<< (leftarg = int, rightarg = int, function = int4lt);
create operator class int_sort for type int using btree as operator 1 scratch.<<<, operator 3 pg_catalog.=, function 1 int_compare(int, int);
-- Names that the grammar of later versions takes for its own words.
create schema ahead; grant usage on schema ahead to svc;
create domain ahead.json as text check (wipe_bool(value));
create function ahead.json_object(t text) returns text language plpgsql as $f$ begin delete from accounts; return t; end $f$;
create table su(id int, system_user text);
