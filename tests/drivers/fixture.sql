-- What every driver finds in its database, the same on both sides.
create schema shop;
create type shop.mood as enum ('sad', 'ok', 'happy');
create type shop.pair as (left_part integer, right_part text);
create domain shop.positive as integer check (value > 0);
create table shop.customers (id integer primary key, name text not null, mood shop.mood, email text unique, balance numeric(12, 2) check (balance >= 0));
insert into shop.customers select n, 'customer ' || n, (array['sad', 'ok', 'happy'])[1 + n % 3]::shop.mood, 'c' || n || '@example.com', n * 1.5 from generate_series(1, 100) as n;
create table shop.orders (id integer primary key, customer integer not null references shop.customers deferrable initially immediate, note text);
insert into shop.orders select n, 1 + n % 100, repeat('x', n % 50) from generate_series(1, 1000) as n;
create index orders_customer on shop.orders (customer);
create view shop.rich as select id, name from shop.customers where balance > 100;
create table scratch (id integer primary key, note text);
create table typed (
  b boolean, i2 smallint, i4 integer, i8 bigint, f4 real, f8 double precision, n numeric, t text, v varchar(20), c char(5), y bytea, d date, tm time,
  tz timetz, ts timestamp, tstz timestamptz, iv interval, u uuid, j json, jb jsonb, ip inet, net cidr, mac macaddr, pt point, ia integer[], ta text[],
  ir int4range, tsv tsvector, bits bit(8), vb bit varying(20), m money, o oid, mood shop.mood, pr shop.pair, dom shop.positive);
insert into typed values (
  true, -2, 40000, 9000000000, 1.5, -2.25, 123456789012345678901234567890.0123456789, 'text with ''quotes'' and ü€😀', 'varchar', 'abc', '\x00ff10', '2024-02-29', '23:59:59.999999',
  '12:00:00+05:30', '2001-02-03 04:05:06.789', '2001-02-03 04:05:06.789+02', '1 year 2 mons 3 days 04:05:06.7', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a": [1, 2]}', '{"b": {"c": null}}', '192.168.0.1/24', '10.0.0.0/8', '08:00:2b:01:02:03', '(1.5,-2)', '{1,NULL,3}', '{"a b","c\"d",NULL}',
  '[1,10)', 'fat:2 cat:1', B'10101010', B'101', '12.34', 4294967295, 'happy', row(7, 'seven, "eight"'), 42);
insert into typed default values;
create function shop.complain(what text) returns integer language plpgsql as $$
begin
  raise notice 'about to complain: %', what using detail = 'some detail', hint = 'some hint';
  raise exception 'complaint: %', what using errcode = 'P0042', detail = 'the detail', hint = 'the hint', column = 'c', constraint = 'k', datatype = 'd', table = 't', schema = 's';
end $$;
create function shop.deep(n integer) returns integer language plpgsql as $$ begin return 1 / n; end $$;
create procedure shop.chunks(n integer) language plpgsql as $$
begin for i in 1..n loop insert into scratch values (i, 'chunk'); commit; end loop; end $$;
create table shop.audited (id integer primary key, note text);
create function shop.audit() returns trigger language plpgsql as $$ begin new.note := upper(new.note); return new; end $$;
create trigger audit before insert on shop.audited for each row execute function shop.audit();
create function shop.refresh() returns refcursor language plpgsql as $$
declare c refcursor := 'shop_cursor'; begin open c for select id, name from shop.customers order by id limit 5; return c; end $$;
