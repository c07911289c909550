-- Beyond fixture.sql: extensions as applications use them, all in public.
create extension citext;
create extension pgcrypto;
create extension "uuid-ossp";
create extension pg_trgm;
create extension hstore;
create extension intarray;
create extension ltree;
create extension unaccent;
create extension cube;
create extension fuzzystrmatch;
create extension tablefunc;
create extension btree_gist;
create extension dblink;
create table members(id int primary key, email citext unique, name text, attrs hstore, tags int[], path ltree, joined timestamptz default now(),
    public_id uuid default gen_random_uuid(), during tstzrange);
insert into members(id, email, name) values (1, 'A@b.example', 'Ann');
create index on members using gin (name gin_trgm_ops);
grant select, insert, update on members to svc;
