-- pgbench's tables beside fixture.sql.
create table pgbench_accounts(aid int not null primary key, bid int, abalance int, filler char(84));
create table pgbench_branches(bid int not null primary key, bbalance int, filler char(88));
create table pgbench_tellers(tid int not null primary key, bid int, tbalance int, filler char(84));
create table pgbench_history(tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
grant all on all tables in schema public to svc;
