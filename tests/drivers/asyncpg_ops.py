"""asyncpg: what its users do. Everything goes in binary, by named statements and portals."""

import asyncio
import datetime
import decimal
import io
import os
import ssl
import uuid

import asyncpg

from ops import only, plain, report

OPS = {}


def op(function):
    OPS[function.__name__] = function
    return function


async def connect(**kwargs):
    return await asyncpg.connect(**kwargs)


def why(error):
    if isinstance(error, asyncpg.PostgresError):
        fields = ["severity", "severity_en", "sqlstate", "message", "detail", "hint", "position", "internal_position", "context", "schema_name", "table_name", "column_name", "data_type_name",
                  "constraint_name"]
        return {"type": type(error).__name__, **{name: getattr(error, name, None) for name in fields}}
    return {"type": type(error).__name__, "text": str(error)}


async def attempt(awaitable):
    try:
        result = await awaitable
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncio.TimeoutError, ValueError, OSError, AttributeError) as error:
        return why(error)
    return rows(result)


def rows(result):
    if isinstance(result, asyncpg.Record):
        return dict(result)
    if isinstance(result, list):
        return [rows(entry) for entry in result]
    return result


@op
async def types(c):
    return rows(await c.fetch("select * from typed"))


@op
async def parameters(c):
    values = [("boolean", True), ("int2", -3), ("int8", 1 << 50), ("float8", 1e100), ("numeric", decimal.Decimal("12345678901234567890.123")), ("text", "ü€😀"), ("bytea", b"\0\xff"), ("date", datetime.date(1, 1, 1)),
              ("time", datetime.time(1, 2, 3)), ("timestamp", datetime.datetime(2020, 1, 1)), ("timestamptz", datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)), ("interval", datetime.timedelta(days=1)),
              ("uuid", uuid.UUID(int=9)), ("jsonb", '{"a": 1}'), ("int4[]", [1, None]), ("text[]", ["a"]), ("int4range", asyncpg.Range(1, 5)), ("point", asyncpg.Point(1, 2)), ("shop.mood", "ok"), ("shop.pair", (1, "x")), ("text", None)]
    return [await attempt(c.fetchval(f"select $1::{kind}", value)) for kind, value in values] + [await attempt(c.fetchval("select $1::int4", "not a number")), await attempt(c.fetchval("select $1::int4"))]


@op
async def prepared_statements(c):
    statement = await c.prepare("select id, name from shop.customers where id > $1 order by id limit $2")
    seen = [[str(p) for p in statement.get_parameters()], [(a.name, a.type.name) for a in statement.get_attributes()], statement.get_statusmsg()]
    seen += [rows(await statement.fetch(3, 2)), await statement.fetchval(5, 1), rows(await statement.fetchrow(7, 1)), statement.get_statusmsg(), await attempt(statement.fetch("x", 1))]
    plan = await (await c.prepare("select 1")).explain()
    return seen + [plan, await attempt(c.prepare("selec")), await attempt(c.prepare("select nope")), await attempt(c.fetch("select 1; select 2"))]


@op
async def statements_of_a_name(c):
    one = await c.prepare("select 1 as one", name="mine")
    seen = [await one.fetchval(), (await attempt(c.prepare("select 2", name="mine")))["sqlstate"]]
    return seen + [await attempt(c.execute("execute mine")), await attempt(c.execute("deallocate mine")), await attempt(one.fetchval()), await attempt((await c.prepare("select 3", name="mine")).fetchval())]


@op
async def names_at_the_server(c):
    one = await c.prepare("select 1 as one", name="mine")
    seen = [rows(await c.fetch("select name, statement from pg_prepared_statements where name = 'mine'")), await attempt(c.execute("execute mine"))]
    async with c.transaction():
        cursor = await c.cursor("select id from shop.orders where id > $1 order by id", 10)
        return seen + [await one.fetchval(), rows(await cursor.fetch(3)), await attempt(cursor.forward(5))]


@op
async def statement_cache(c):
    for n in range(150):
        await c.fetchval(f"select {n} + $1", 1)
    return await c.fetchval("select count(*) from pg_prepared_statements") > 90


@op
async def schema_changes(c):
    await c.execute("create table changing (a integer); insert into changing values (1)")
    seen = [rows(await c.fetch("select * from changing"))]
    await c.execute("alter table changing add column b text default 'new'")
    seen.append(await attempt(c.fetch("select * from changing")))
    statement = await c.prepare("select * from changing")
    await c.execute("alter table changing alter column a type bigint")
    seen.append(await attempt(statement.fetch()))
    async def inside():
        async with c.transaction():
            await c.fetch("select * from changing")
            await c.execute("alter table changing add column c integer")
            return await attempt(c.fetch("select * from changing"))
    seen.append(await attempt(inside()))
    return seen + [await attempt(c.execute("drop table changing"))]


@op
async def cursors(c):
    async with c.transaction():
        seen = [sum([r["id"] async for r in c.cursor("select id from shop.orders order by id", prefetch=37)])]
        cursor = await c.cursor("select id from shop.orders where id > $1 order by id", 10)
        seen += [rows(await cursor.fetch(3)), rows(await cursor.fetchrow()), rows(await cursor.fetch(2)), len(await cursor.fetch(5000)), rows(await cursor.fetch(1))]
        statement = await c.prepare("select generate_series(1, $1)")
        seen.append([r[0] async for r in statement.cursor(5)])
        seen.append(rows(await c.fetch("select count(*) from pg_cursors")))
    return seen + [await attempt(c.cursor("select 1"))]


@op
async def cursor_fails_half_way(c):
    async def run():
        async with c.transaction():
            async for _ in c.cursor("select 100 / (50 - n) from generate_series(1, 100) as n", prefetch=10):
                pass
    return [await attempt(run()), c.is_in_transaction(), await c.fetchval("select 1")]


@op
async def transactions(c):
    seen = []
    async with c.transaction():
        await c.execute("insert into scratch values (1, 'kept')")
        try:
            async with c.transaction():
                await c.execute("insert into scratch values ($1, $2)", 2, "gone")
                await c.fetch("select 1/0")
        except asyncpg.PostgresError as error:
            seen.append(why(error))
        seen.append(c.is_in_transaction())
    async with c.transaction(isolation="serializable", readonly=True, deferrable=True):
        seen.append(await c.fetchval("select current_setting('transaction_isolation')"))
        seen.append(await attempt(c.execute("insert into scratch values (3, 'no')")))
    return seen + [c.is_in_transaction(), rows(await c.fetch("select * from scratch order by id"))]


@op
async def scripts(c):
    return [await attempt(c.execute("insert into scratch values (11, 'a'); insert into scratch values (12, 'b')")), await attempt(c.execute("insert into scratch values (13, 'a'); select 1/0; select 2")), await attempt(c.execute("")),
            await attempt(c.execute("begin; select 1")), c.is_in_transaction(), await attempt(c.execute("commit")), rows(await c.fetch("select * from scratch order by id"))]


@op
async def executemany(c):
    seen = [await attempt(c.executemany("insert into scratch values ($1, $2)", [(n, str(n)) for n in range(100, 600)])), await attempt(c.executemany("insert into scratch values ($1, $2)", [(700, "x"), (100, "again"), (701, "y")]))]
    if hasattr(c, "fetchmany"):
        seen.append(await attempt(c.fetchmany("insert into scratch values ($1, $2) returning id", [(800, "x"), (801, "y")])))
    return seen + [await c.fetchval("select count(*) from scratch")]


@op
async def copies(c):
    seen = [await c.copy_records_to_table("scratch", records=[(n, None if n % 3 == 0 else f"r{n}") for n in range(1000, 4000)])]
    out = io.BytesIO()
    seen += [await c.copy_from_query("select id, note from scratch where id < $1 order by id", 1010, output=out, format="csv", header=True), out.getvalue()]
    out = io.BytesIO()
    seen += [await c.copy_from_table("customers", schema_name="shop", columns=["id", "name"], output=out, format="binary"), out.getvalue()]
    seen.append(await c.copy_to_table("scratch", source=io.BytesIO(b"5000,five\n5001,\n"), format="csv"))
    seen.append(await attempt(c.copy_to_table("scratch", source=io.BytesIO(b"x,five\n"), format="csv")))
    seen.append(await attempt(c.copy_records_to_table("scratch", records=[(6000, "a"), (6000, "b")])))
    seen.append(await attempt(c.copy_from_query("select 1/0", output=io.BytesIO())))

    async def failing():
        yield b"7000\tx\n"
        raise ValueError("changed my mind")
    seen.append(await attempt(c.copy_to_table("scratch", source=failing())))
    seen += [await c.copy_records_to_table("audited", schema_name="shop", records=[(1, "loud"), (2, None)]), rows(await c.fetch("select * from shop.audited order by id"))]
    return seen + [c.is_in_transaction(), rows(await c.fetch("select count(*), sum(id) from scratch"))]


@op
async def introspection(c):
    import json
    await c.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    await c.set_type_codec("mood", schema="shop", encoder=str, decoder=lambda s: s.upper(), format="text")
    seen = [await c.fetchval("select '{\"a\": [1]}'::jsonb"), await c.fetchval("select 'ok'::shop.mood"), await c.fetchval("select array['ok', 'sad']::shop.mood[]"), await c.fetchval("select row(1, 'x')::shop.pair"), await c.fetchval("select array[row(1, 'x')::shop.pair]")]
    await c.reset_type_codec("mood", schema="shop")
    await c.execute("create type shop.fresh as (a shop.pair, b shop.mood[]); create domain shop.names as text[]")
    seen += [rows(await c.fetchval("select row(row(1, 'y'), array['sad'])::shop.fresh")), await c.fetchval("select array['n']::shop.names"), await c.fetchval("select int4multirange(int4range(1, 3))")]
    await c.reload_schema_state()
    return seen + [await attempt(c.execute("drop type shop.fresh; drop domain shop.names")), await c.fetchval("select 5::shop.positive")]


@op
async def listeners(c):
    other = await connect()
    heard = asyncio.Queue()
    await c.add_listener("news", lambda connection, pid, channel, payload: heard.put_nowait((channel, payload)))
    await other.execute("notify news, 'one'")
    await other.execute("select pg_notify($1, $2)", "news", "two")
    await c.execute("notify news, 'three'")
    seen = [await asyncio.wait_for(heard.get(), 20) for _ in range(3)]
    await c.reset_query() if hasattr(c, "reset_query") else None
    await other.close()
    return sorted(seen)


@op
async def notices(c):
    seen = []
    c.add_log_listener(lambda connection, message: seen.append(why(message)))
    await c.execute("do $$ begin raise notice 'n'; raise warning 'w' using hint = 'h'; end $$")
    await c.execute("drop table if exists nowhere")
    await attempt(c.fetch("select shop.complain($1)", "quiet"))
    await asyncio.sleep(0)
    return seen


@op
async def errors(c):
    texts = ["selec 1", "select nope from shop.customers", "select 1/0", "insert into shop.customers values (1, 'x')", "insert into shop.orders values (5000, 5000)", "select shop.complain('loud')", "select shop.deep(0)", "select '-1'::shop.positive", "vacuum; select 1"]
    return [[await attempt(c.fetch(text)), await attempt(c.execute(text)), c.is_in_transaction()] for text in texts]


@op
async def timeouts_and_cancel(c):
    seen = [await attempt(c.fetch("select pg_sleep(60)", timeout=0.3)), await c.fetchval("select 1")]
    task = asyncio.ensure_future(c.fetch("select pg_sleep(60)"))
    await asyncio.sleep(0.3)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        seen.append("cancelled")
    return seen + [await c.fetchval("select 2"), await attempt(c.execute("set statement_timeout to 50; select pg_sleep(60)"))]


@op
async def large(c):
    text = "0123456789" * 600_000
    return [await c.fetchval("select md5($1)", text), len(await c.fetchval("select repeat('x', 20000000)")), len(await c.fetch("select n, n::text from generate_series(1, 40000) as n")), await c.fetchval("select sum(x) from unnest($1::int8[]) as x", list(range(200_000)))]


@op
async def many_parameters(c):
    numbers = range(1, 32768)
    return [await c.fetchval("select " + " + ".join(f"${n}::int8" for n in numbers[:1600]), *list(range(1600)))]


@op
async def pool(_):
    async with asyncpg.create_pool(min_size=2, max_size=3) as p:
        async def one(n):
            async with p.acquire() as c:
                return await c.fetchval("select $1::int4", n)
        seen = await asyncio.gather(*[one(n) for n in range(12)])
        async with p.acquire() as c:
            await c.execute("set timezone to 'Asia/Tokyo'; listen x")
        async with p.acquire() as c:
            seen.append(await c.fetchval("show timezone"))
        return seen


@op
async def terminated(c):
    other = await connect()
    await other.execute("select pg_terminate_backend($1)", await c.fetchval("select pg_backend_pid()"))
    await other.close()
    # What asyncpg makes of a FATAL error in the midst of its own next message differs from time to time.
    while not c.is_closed():
        await asyncio.sleep(0.01)
    return [type((await attempt(c.fetch("select 1")))).__name__, c.is_closed()]


async def main():
    for name in only(OPS):
        connection = await connect()
        try:
            out = plain(await asyncio.wait_for(OPS[name](connection), 60))
        except BaseException as error:
            out = {"failed": f"{type(error).__name__}: {error}"}
        connection.terminate()
        report(name, out)


asyncio.run(main())
