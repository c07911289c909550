\echo === describe_tables
\dt shop.*
\d shop.customers
\d+ shop.orders
\dv+ shop.rich
\d shop.rich
\di shop.*
\echo === describe_other
\df shop.*
\dT+ shop.*
\dD shop.*
\dn
\dp shop.customers
\ds
\l template*
\du
\sf shop.deep
\sv shop.rich
\dconfig work_mem
\db
\dx
\dC int4
\dy
\des
\dRp
\echo === formats
\x on
select * from shop.customers where id = 1;
\x off
\a
select * from shop.customers where id < 3;
\a
\pset format csv
select * from typed;
\pset format aligned
\pset null '(null)'
select * from typed;
\echo === several_statements
select 1 as a\; select 2 as b\; select 3 as c;
insert into scratch values (1, 'a')\; select 1/0\; select 3;
begin\; insert into scratch values (2, 'b')\; commit\; select 1/0;
select * from scratch order by id;
;
\;
\echo === errors_verbose
\set VERBOSITY verbose
selec 1;
select nope from shop.customers;
insert into shop.customers values (1, 'x');
select shop.complain('loud');
select shop.deep(0);
\errverbose
\set VERBOSITY sqlstate
select 1/0;
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE :LAST_ERROR_MESSAGE :ROW_COUNT :ERROR
select 1;
\echo :SQLSTATE :ROW_COUNT :ERROR
\echo === on_error_rollback
\set ON_ERROR_ROLLBACK on
begin;
insert into scratch values (11, 'kept');
insert into scratch values (11, 'again');
select 1/0;
insert into scratch values (12, 'kept');
commit;
\set ON_ERROR_ROLLBACK off
select * from scratch where id > 10 order by id;
\echo === autocommit_off
\set AUTOCOMMIT off
insert into scratch values (21, 'x');
select 1/0;
select 1;
rollback;
insert into scratch values (22, 'x');
commit;
\set AUTOCOMMIT on
select * from scratch where id > 20 order by id;
\echo === gdesc
select 1 as a, 'x'::text as b, null as c, * from shop.customers \gdesc
insert into scratch values (31, 'x') \gdesc
select nope \gdesc
select 1; select 2 \gdesc
\gdesc
\echo === gset_gexec_crosstab
select 7 as seven, 'x' as ex \gset
\echo :seven :ex
select 'select ' || n from generate_series(1, 3) as n \gexec
select mood::text, (id % 2)::text as odd, count(*)::text from shop.customers group by 1, 2 order by 1, 2 \crosstabview
select 1 as one \gx
\echo === fetch_count
\set FETCH_COUNT 50
select id from shop.orders where id < 160 order by id;
select 100 / (60 - n) from generate_series(1, 100) as n;
\set FETCH_COUNT 0
\echo === copy_text
\copy shop.customers to 'customers.txt'
\copy (select * from shop.customers order by id limit 3) to stdout
\copy (select * from shop.customers order by id limit 3) to stdout csv header
create table copied (like shop.customers);
\copy copied from 'customers.txt'
select count(*), sum(balance) from copied;
\copy copied from 'customers.txt' where id < 5
\copy copied (id, name) from stdin csv
2000,"with ""quotes"", and comma"
2001,plain
\.
select * from copied where id >= 2000 order by id;
\echo === copy_binary
\copy shop.customers to 'customers.bin' (format binary)
truncate copied;
\copy copied from 'customers.bin' (format binary)
select count(*), sum(balance) from copied;
\copy copied from 'customers.txt' (format binary)
\echo === copy_fails
copy scratch from stdin;
41	good
x	bad
\.
select count(*) from scratch where id = 41;
\copy scratch from 'no-such-file'
\copy nowhere from 'customers.txt'
copy (select 1/0) to stdout;
begin;
copy scratch from stdin;
x	bad
\.
select 1;
rollback;
copy scratch from stdin (format nonsense);
\.
\echo === copy_in_several_statements
select 1\; copy scratch from stdin\; copy (select 2) to stdout\; select 3;
51	x
\.
\echo === timing_and_watch
\set ECHO_HIDDEN on
\dt nowhere
\set ECHO_HIDDEN off
\echo === prepared
prepare p(integer) as select name from shop.customers where id = $1;
execute p(5);
select name, statement, parameter_types::text, from_sql from pg_prepared_statements;
deallocate p;
execute p(5);
\echo === notices
do $$ begin raise notice 'n'; raise warning 'w' using detail = 'd', hint = 'h'; end $$;
drop table if exists nowhere;
set client_min_messages to debug1;
do $$ begin raise debug 'debug'; end $$;
reset client_min_messages;
\echo === notify
listen news;
notify news, 'payload';
unlisten *;
\echo === variables
\echo :USER :DBNAME :ENCODING :SERVER_VERSION_NUM
\conninfo
\encoding
\echo === reconnect
\c
select current_database(), current_user, session_user;
\c - - - -
select pg_backend_pid() > 0;
\echo === roles
create role compat_reader;
grant usage on schema shop to compat_reader;
set role compat_reader;
select * from shop.customers;
select current_user, session_user;
reset role;
set session authorization compat_reader;
select current_user, session_user;
create table shop.no (a integer);
reset session authorization;
drop owned by compat_reader;
drop role compat_reader;
\echo === explain
explain (costs off) select * from shop.orders where customer = 3;
explain (analyze, costs off, timing off, summary off) select count(*) from shop.customers;
\echo === temporary_objects
create temporary table t (a integer);
insert into t values (1);
select * from t;
create function pg_temp.f() returns integer language sql as 'select 5';
select pg_temp.f();
discard temp;
select * from t;
\echo === merge_and_returning
merge into scratch s using (values (1, 'merged'), (61, 'new')) as v (id, note) on s.id = v.id when matched then update set note = v.note when not matched then insert values (v.id, v.note);
update scratch set note = note || '!' where id = 61 returning *;
delete from scratch where id = 61 returning id;
insert into scratch values (62, 'x') on conflict (id) do update set note = 'y' returning *;
with gone as (delete from scratch where id = 62 returning *) select * from gone;
select * from scratch for update;
\echo === large_objects_by_function
select lo_create(4711);
select lo_put(4711, 0, '\x0102');
select lo_get(4711);
select lo_unlink(4711);
\echo === end
