"""psycopg 3: what its users do. The server's messages of each operation, as libpq traces them, are part of what is compared."""

import re
import select
import signal
import tempfile
import threading
import time

import psycopg
from psycopg import sql
from psycopg.pq import Format, Trace, TransactionStatus
from psycopg.rows import dict_row

from ops import only, plain, report

OPS = {}


def op(function):
    OPS[function.__name__] = function
    return function


def why(error):
    """Everything of an error that a program can see."""
    diag = error.diag
    names = [name for name in dir(diag) if not name.startswith("_") and name not in ("internal_query",) and isinstance(getattr(diag, name), str)]
    fields = {name: getattr(diag, name) for name in names}
    return {"type": type(error).__name__, "text": str(error).split("\n")[0], **fields}


def attempt(call, *args, **kwargs):
    try:
        result = call(*args, **kwargs)
    except psycopg.Error as error:
        return why(error)
    if isinstance(result, psycopg.Cursor):
        return rows(result)
    return result


def rows(cursor):
    seen = []
    while True:
        columns = None
        if cursor.description:
            columns = [(c.name, c.type_code if c.type_code < 16384 else "own", c.internal_size, c.precision, c.scale) for c in cursor.description]
        seen.append({"status": cursor.statusmessage, "columns": columns, "rows": cursor.fetchall() if columns else None})
        if not cursor.nextset():
            return seen


def state(connection):
    return TransactionStatus(connection.info.transaction_status).name


def connect(**kwargs):
    return psycopg.connect("", **{"autocommit": True, **kwargs})


# --- results


@op
def parameters(c):
    names = ["server_version", "server_encoding", "client_encoding", "DateStyle", "TimeZone", "IntervalStyle", "integer_datetimes",
             "standard_conforming_strings", "session_authorization", "is_superuser", "default_transaction_read_only", "in_hot_standby", "search_path"]
    return {name: c.info.parameter_status(name) for name in names}


@op
def types_in_text(c):
    return rows(c.execute("select * from typed"))


@op
def types_in_binary(c):
    return rows(c.execute("select * from typed", binary=True))


@op
def mixed_formats(c):
    raw = c.pgconn.exec_params(b"select $1::int4 as a, $2::text as b, $3::bytea as c", [b"\x00\x00\x00\x07", b"seven", b"\x00\x01"],
                               param_formats=[Format.BINARY, Format.TEXT, Format.BINARY], result_format=Format.BINARY)
    return [raw.status, raw.get_value(0, 0), raw.get_value(0, 1), raw.get_value(0, 2), raw.fformat(1), raw.ftype(2)]


@op
def parameters_of_each_type(c):
    import datetime as d
    import decimal
    import uuid
    from psycopg.types.json import Jsonb
    from psycopg.types.range import Range
    values = [True, -5, 70000, 1 << 40, 1.5, decimal.Decimal("1e-30"), "ü€😀", b"\x00\xff", d.date(1999, 12, 31), d.time(1, 2, 3), d.datetime(2020, 1, 2, 3, 4, 5, 6),
              d.datetime(2020, 1, 2, tzinfo=d.timezone.utc), d.timedelta(days=3, seconds=4), uuid.UUID(int=7), Jsonb({"k": [1]}), [1, 2, 3], ["a", None], Range(1, 9), None]
    seen = []
    for value in values:
        for mark in ("%t", "%b"):
            cast = "::text" if value is None else ""
            seen.append(attempt(c.execute, f"select {mark}{cast} as it, pg_typeof({mark}{cast})::text", (value, value), binary=mark == "%b"))
    return seen


@op
def empty_queries(c):
    return [attempt(c.execute, text) for text in ("", ";", "  -- nothing\n", ";;select 1;;", "/* only */ ;")] + [c.pgconn.exec_(b"").status, state(c)]


@op
def many_columns(c):
    return rows(c.execute(sql.SQL("select ") + sql.SQL(", ").join(sql.Literal(n) for n in range(1600))))[0]["rows"][0][-1]


@op
def zero_columns(c):
    return [rows(c.execute("select")), rows(c.execute("select from generate_series(1, 3)"))]


@op
def large_parameter(c):
    text = "0123456789abcdef" * 500_000
    return rows(c.execute("select length(%s::text), md5(%s::text)", (text, text)))


@op
def large_statement(c):
    return rows(c.execute("select length('" + "y" * 900_000 + "')"))


@op
def large_value(c):
    return len(c.execute("select repeat('z', 30000000)").fetchone()[0])


@op
def large_result(c):
    total, count = 0, 0
    for n, text in c.execute("select n, repeat('r', n % 200) from generate_series(1, 60000) as n"):
        total, count = total + len(text), count + 1
    return [total, count]


@op
def streaming(c):
    cursor = c.cursor()
    return sum(n for n, in cursor.stream("select n from generate_series(1, 5000) as n"))


@op
def streaming_fails_half_way(c):
    seen = 0

    def walk():
        nonlocal seen
        for _ in c.cursor().stream("select 100 / (50 - n) from generate_series(1, 100) as n"):
            seen += 1
    return [attempt(walk), seen, state(c)]


@op
def several_statements(c):
    return [attempt(c.execute, "select 1 as a; select 'two' as b, 2; insert into scratch values (901, 'x') returning id; delete from scratch where id = 901"), state(c)]


@op
def several_statements_fail_half_way(c):
    first = attempt(c.execute, "insert into scratch values (1, 'a'); insert into scratch values (2, 'b'); select 1/0; insert into scratch values (3, 'c')")
    return [first, state(c), rows(c.execute("select * from scratch order by id"))]


@op
def implicit_block_then_commit(c):
    first = attempt(c.execute, "insert into scratch values (11, 'a'); begin; insert into scratch values (12, 'b'); commit; insert into scratch values (13, 'c'); select 1/0")
    second = attempt(c.execute, "begin; insert into scratch values (14, 'a'); select nope")
    inside = state(c)
    third = attempt(c.execute, "select 1; rollback; select 2")
    fourth = attempt(c.execute, "rollback; select 2")
    return [first, second, inside, third, fourth, state(c), rows(c.execute("select * from scratch where id between 10 and 20 order by id"))]


@op
def statements_that_must_stand_alone(c):
    return [attempt(c.execute, "vacuum scratch; select 1"), attempt(c.execute, "select 1; create database nope"), attempt(c.execute, "vacuum scratch"), state(c)]


# --- errors


@op
def errors(c):
    texts = ["selec 1", "select nope from shop.customers", "select * from nowhere", "select 1/0", "insert into shop.customers values (1, 'x')",
             "insert into shop.customers values (500, null)", "insert into shop.customers values (500, 'x', 'furious')", "update shop.customers set balance = -1",
             "insert into shop.orders values (5000, 5000)", "select 'x'::integer", "select shop.complain('loud')", "select shop.deep(0)", "select no_such_function(1)",
             "select '-7'::shop.positive", "create table scratch (id integer)", "drop table shop.customers", "select 1 from shop.customers group by name having id > 1",
             "select 'unterminated", "select $1", "call shop.nowhere()", "select array[1, 'x']", "select * from shop.customers c, shop.orders c", "set nonsense to 1", "fetch all from nowhere",
             "execute nowhere", "deallocate nowhere", "savepoint outside", "release nowhere", "commit and chain", "do $$ begin raise warning 'w %', 1; end $$", "select e'\\u0000'",
             "prepare p1 as select $1::integer", "execute p1('x')", "execute p1(1, 2)", "deallocate p1", "select \"ünïcode\" from scratch", "lock table scratch"]
    return [[text, attempt(c.execute, text), state(c)] for text in texts]


@op
def errors_with_parameters(c):
    texts = [("select %s::integer", ("x",)), ("select 1 / %s", (0,)), ("insert into scratch values (%s, %s)", (None, "x")), ("selec %s", (1,)), ("select nope, %s", (1,)), ("select %s", ("a\x01b",))]
    return [[attempt(c.execute, text, args), state(c)] for text, args in texts]


@op
def errors_in_a_transaction(c):
    c.execute("begin")
    first = attempt(c.execute, "select 1/0")
    seen = [first, state(c), attempt(c.execute, "select 1"), attempt(c.execute, "select %s", (1,)), attempt(c.execute, "selec 1"), attempt(c.execute, ""), attempt(c.execute, "prepare x as select 1")]
    return seen + [attempt(c.execute, "commit"), state(c)]


@op
def notices(c):
    seen = []
    c.add_notice_handler(lambda diag: seen.append([diag.severity, diag.sqlstate, diag.message_primary, diag.message_detail, diag.message_hint, diag.context]))
    c.execute("do $$ begin raise notice 'n'; raise warning 'w'; raise info 'i'; raise log 'l'; raise debug 'd'; end $$")
    c.execute("drop table if exists nowhere")
    c.execute("set client_min_messages to debug1")
    c.execute("do $$ begin raise debug 'now'; end $$")
    c.execute("begin; begin; commit; commit")
    attempt(c.execute, "select shop.complain('quiet')")
    return seen


# --- transactions


@op
def transactions(c):
    seen = []
    with c.transaction():
        c.execute("insert into scratch values (31, 'kept')")
        seen.append(state(c))
        try:
            with c.transaction():
                c.execute("insert into scratch values (32, 'gone')")
                c.execute("select 1/0")
        except psycopg.Error as error:
            seen.append(error.sqlstate)
        with c.transaction("named"):
            c.execute("insert into scratch values (33, 'kept')")
        try:
            with c.transaction(force_rollback=True):
                c.execute("insert into scratch values (34, 'gone')")
        except psycopg.Error as error:
            seen.append(error.sqlstate)
    return [seen, state(c), rows(c.execute("select * from scratch where id between 30 and 40 order by id"))]


@op
def modes_of_transactions(c):
    c.autocommit = False
    c.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    c.read_only = True
    c.deferrable = True
    seen = [rows(c.execute("select current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('transaction_deferrable')"))]
    seen += [attempt(c.execute, "insert into scratch values (40, 'no')"), state(c)]
    c.rollback()
    return seen + [state(c)]


@op
def deferred_constraints(c):
    c.execute("begin; set constraints all deferred")
    c.execute("insert into shop.orders values (6000, 6000)")
    seen = [state(c), attempt(c.execute, "commit"), state(c)]
    c.execute("begin; set constraints all deferred")
    c.execute("insert into shop.orders values (%s, %s)", (6001, 6001))
    return seen + [attempt(c.execute, "set constraints all immediate"), state(c), attempt(c.execute, "rollback")]


@op
def serialization_failure(c):
    other = connect()
    for one in (c, other):
        one.execute("begin isolation level serializable")
        one.execute("select count(*) from scratch")
    seen = [attempt(c.execute, "insert into scratch values (51, 'a')"), attempt(other.execute, "insert into scratch values (52, 'b')"), attempt(c.execute, "commit"), attempt(other.execute, "commit"), state(other)]
    other.close()
    return seen


@op
def two_phase(c):
    other = connect(autocommit=False)
    xids = [other.xid(1, "compat", "branch"), other.xid(1, "compat", "undone")]
    seen = []
    for n, xid in enumerate(xids):
        other.tpc_begin(xid)
        other.execute("insert into scratch values (%s, 'two-phase')", (61 + n,))
        other.tpc_prepare()
        seen.append(state(other))
        other.close()
        other = connect(autocommit=False)
    # Not on the connection whose messages are compared: times are as long as their digits.
    seen.append(sorted(str(x.bqual) for x in other.tpc_recover() if x.gtrid == "compat"))
    other.close()
    c.autocommit = False
    c.tpc_commit(xids[0])
    c.tpc_rollback(xids[1])
    c.autocommit = True
    return seen + [state(c), rows(c.execute("select id, note from scratch where note = 'two-phase'")), attempt(c.execute, "rollback prepared 'nowhere'")]


@op
def commit_inside_a_procedure(c):
    return [attempt(c.execute, "call shop.chunks(3)"), attempt(c.execute, "begin; call shop.chunks(2)"), state(c), attempt(c.execute, "rollback"), rows(c.execute("select count(*) from scratch where note = 'chunk'"))]


@op
def statement_timeout(c):
    c.execute("set statement_timeout to 60")
    return [attempt(c.execute, "select pg_sleep(20)"), attempt(c.execute, "select pg_sleep(%s)", (20,)), state(c), attempt(c.execute, "reset statement_timeout")]


@op
def lock_timeout(c):
    other = connect()
    other.execute("begin; lock table scratch")
    seen = [attempt(c.execute, "set lock_timeout to 50"), attempt(c.execute, "select * from scratch"), attempt(c.execute, "begin; select 1; lock table scratch nowait"), state(c)]
    other.close()
    return seen


# --- cursors


@op
def server_side_cursors(c):
    with c.transaction():
        with c.cursor("plain") as cursor:
            cursor.itersize = 7
            cursor.execute("select id from shop.customers order by id")
            seen = [sum(n for n, in cursor), cursor.statusmessage]
        with c.cursor("scrolling", scrollable=True) as cursor:
            cursor.execute("select id, name from shop.customers order by id", binary=True)
            seen += [cursor.fetchmany(3), cursor.scroll(10), cursor.fetchone(), cursor.scroll(0, mode="absolute"), cursor.fetchone(), attempt(cursor.scroll, 5000), cursor.fetchall()]
    with c.cursor("holding", withhold=True) as cursor:
        cursor.execute("select generate_series(1, 5)")
        seen += [cursor.fetchall()]
    return seen


@op
def cursors_in_sql(c):
    texts = ["begin", "declare k cursor for select id from shop.customers order by id", "fetch 3 from k", "move 5 in k", "fetch backward 2 from k", "select name, statement, is_holdable, is_binary, is_scrollable from pg_cursors",
             "close k", "fetch k", "rollback", "begin", "select shop.refresh()", "fetch all from shop_cursor", "update shop.customers set balance = 1 where current of shop_cursor", "rollback",
             "begin", "declare b binary cursor for select 1::int4", "fetch all from b", "commit"]
    return [[text, attempt(c.execute, text), state(c)] for text in texts]


@op
def portals_by_protocol(c):
    """Describe and run by libpq's own calls."""
    g = c.pgconn
    seen = []
    for result in (g.prepare(b"s1", b"select $1::int4 + 1 as sum, $2::text", None), g.describe_prepared(b"s1"), g.exec_prepared(b"s1", [b"41", None]), g.prepare(b"s1", b"select 2", None),
                   g.describe_prepared(b"nowhere"), g.exec_prepared(b"nowhere", None), g.describe_portal(b"nowhere"), g.prepare(b"s2", b"selec", None), g.prepare(b"s3", b"insert into scratch values ($1, $2)", [23, 0]),
                   g.describe_prepared(b"s3"), g.exec_prepared(b"s3", [b"71", b"x"]), g.exec_prepared(b"s3", [b"71", b"x"]), g.exec_params(b"select $1", [b"untyped"]), g.exec_params(b"select 1; select 2", None),
                   g.exec_(b"begin"), g.exec_(b"declare d cursor for select 1 as one"), g.describe_portal(b"d"), g.exec_(b"commit"),
                   g.exec_(b"deallocate s1"), g.exec_prepared(b"s1", [b"1", None])):
        shape = [result.nparams] + [result.param_type(n) for n in range(result.nparams)] + [(result.fname(n), result.ftype(n)) for n in range(result.nfields)]
        values = [[result.get_value(r, n) for n in range(result.nfields)] for r in range(result.ntuples)]
        seen.append([result.status, shape, values, result.command_status, result.error_message])
    return seen


# --- prepared statements


@op
def prepared_by_threshold(c):
    for n in range(8):
        c.execute("select name from shop.customers where id = %s", (n + 1,))
    c.execute("select %s + 1", (1,), prepare=True)
    return rows(c.execute("select statement, parameter_types::text, from_sql from pg_prepared_statements where statement !~ 'pg_prepared' order by statement", prepare=False))


@op
def names_at_the_server(c):
    g = c.pgconn
    g.prepare(b"mine", b"select $1::int4 + 1", None)
    seen = [rows(c.execute("select name from pg_prepared_statements where name = 'mine'"))]
    for result in (g.exec_prepared(b"mine", [b"1", b"2"]), g.exec_(b"execute mine(3)"), g.exec_(b"prepare own as select 'by sql'"), g.exec_prepared(b"own", None)):
        seen.append([result.status, result.error_message])
    return seen


@op
def prepared_and_the_schema_changes(c):
    c.execute("create table changing (a integer, b text); insert into changing values (1, 'one')")
    for _ in range(7):
        c.execute("select * from changing where a = %s", (1,))
    c.execute("alter table changing add column c date default '2020-02-02'")
    seen = [attempt(c.execute, "select * from changing where a = %s", (1,)), state(c), attempt(c.execute, "select * from changing where a = %s", (1,), prepare=False)]
    c.execute("deallocate all")
    return seen + [attempt(c.execute, "select * from changing where a = %s", (1,), prepare=True), attempt(c.execute, "drop table changing")]


@op
def prepared_in_sql(c):
    texts = ["prepare q(integer) as select name from shop.customers where id = $1", "execute q(3)", "select name, from_sql from pg_prepared_statements", "prepare q as select 1", "discard plans", "execute q(4)", "explain (costs off) execute q(4)",
             "create table taken as execute q(5)", "select * from taken", "drop table taken", "deallocate prepare q", "execute q(3)", "prepare ins as insert into scratch values ($1, $2) returning *", "execute ins(81, 'via sql')", "discard all", "execute ins(82, 'x')"]
    return [[text, attempt(c.execute, text)] for text in texts]


# --- pipelines


@op
def pipeline(c):
    with c.pipeline():
        one = c.execute("select 1 as a")
        two = c.execute("insert into scratch values (%s, %s) returning id", (101, "p"))
        three = c.execute("select count(*) from shop.orders")
    return [one.fetchall(), two.fetchall(), three.fetchall(), state(c)]


@op
def pipeline_fails_in_the_middle(c):
    def run():
        with c.pipeline() as p:
            cursors.append(c.execute("insert into scratch values (111, 'before')"))
            cursors.append(c.execute("select 1/0"))
            cursors.append(c.execute("insert into scratch values (112, 'skipped')"))
            p.sync()
            cursors.append(c.execute("insert into scratch values (113, 'after')"))
    cursors = []
    return [attempt(run), state(c), rows(c.execute("select * from scratch where id between 110 and 120 order by id"))]


@op
def pipeline_by_libpq(c):
    """Several Syncs, an error in a segment, Flush, and what each result says."""
    g = c.pgconn
    g.enter_pipeline_mode()
    for text in (b"select 1", b"insert into scratch values (121, 'a')"):
        g.send_query_params(text, None)
    g.pipeline_sync()
    g.send_prepare(b"pp", b"select $1::int4")
    g.send_query_prepared(b"pp", [b"5"])
    g.send_query_params(b"select 1/0", None)
    g.send_query_prepared(b"pp", [b"6"])
    g.send_prepare(b"lost", b"select 1")
    g.pipeline_sync()
    g.pipeline_sync()
    g.send_query_prepared(b"pp", [b"7"])
    g.send_describe_prepared(b"pp")
    g.send_query_prepared(b"lost", None)
    g.pipeline_sync()
    g.send_query_params(b"begin", None)
    g.send_query_params(b"insert into scratch values (122, 'b')", None)
    g.send_query_params(b"select nope", None)
    g.pipeline_sync()
    g.send_query_params(b"rollback", None)
    g.send_query_params(b"select 'flushed'", None)
    g.send_flush_request()
    g.flush()
    seen, syncs = [], 0
    while syncs < 6:
        while g.is_busy():
            select.select([g.socket], [], [], 5)
            g.consume_input()
        result = g.get_result()
        if result is None:
            g.flush()
            continue
        seen.append([result.status, result.command_status, [result.get_value(r, 0) for r in range(result.ntuples)], result.error_message])
        if result.status == psycopg.pq.ExecStatus.PIPELINE_SYNC:
            syncs += 1
            seen.append(g.transaction_status)
        elif seen[-1][2] == [b"flushed"]:
            g.pipeline_sync()
            g.flush()
    g.exit_pipeline_mode()
    return [seen, rows(c.execute("select * from scratch where id between 120 and 130 order by id"))]


@op
def executemany(c):
    cursor = c.cursor()
    cursor.executemany("insert into scratch values (%s, %s)", [(n, f"m{n}") for n in range(200, 400)])
    seen = [cursor.rowcount]
    seen.append(attempt(cursor.executemany, "insert into scratch values (%s, %s)", [(n, "again") for n in (400, 401, 300, 402)]))
    cursor.executemany("insert into scratch values (%s, %s) returning id", [(500, "r"), (501, "r")], returning=True)
    seen += [rows(cursor), state(c), rows(c.execute("select count(*), max(id) from scratch where id between 200 and 600"))]
    return seen


# --- COPY


@op
def copy_to_the_client(c):
    seen = []
    for options in ("", "(format csv, header)", "(format binary)"):
        with c.cursor().copy(f"copy (select * from shop.customers order by id) to stdout {options}") as copy:
            seen.append(b"".join(copy))
    with c.cursor().copy("copy (select id, mood::text, balance from shop.customers where id < 4) to stdout (format binary)") as copy:
        copy.set_types(["int4", "text", "numeric"])
        seen.append(list(copy.rows()))
    return seen


@op
def copy_from_the_client(c):
    cursor = c.cursor()
    with cursor.copy("copy scratch from stdin") as copy:
        for n in range(1000, 3000):
            copy.write_row((n, f"copied {n}\t\\"))
    seen = [cursor.statusmessage]
    with cursor.copy("copy scratch from stdin (format binary)") as copy:
        copy.set_types(["int4", "text"])
        for n in range(3000, 3100):
            copy.write_row((n, None if n % 2 else "binary"))
    seen.append(cursor.statusmessage)
    with cursor.copy("copy scratch (note, id) from stdin (format csv, header)") as copy:
        copy.write("note,id\n\"a, b\",4000\n" + "x" * 300_000 + ",4001\n")
    seen += [cursor.statusmessage, rows(c.execute("select count(*), sum(id), max(length(note)) from scratch where id between 1000 and 5000"))]
    return seen


@op
def copy_fails(c):
    def bad_row():
        with c.cursor().copy("copy scratch from stdin") as copy:
            copy.write("7000\tgood\nnot a number\tbad\n")

    def many_bad_rows():
        with c.cursor().copy("copy scratch from stdin") as copy:
            for n in range(200_000):
                copy.write(f"x{n}\tbad\n")

    def own_failure():
        with c.cursor().copy("copy scratch from stdin") as copy:
            copy.write("7001\tgood\n")
            raise ValueError("changed my mind")

    def duplicate():
        with c.cursor().copy("copy scratch from stdin") as copy:
            copy.write("7002\tone\n7002\ttwo\n")

    def out():
        with c.cursor().copy("copy (select 100 / (50 - n) from generate_series(1, 100) as n) to stdout") as copy:
            return b"".join(copy)

    def abandoned():
        with c.cursor().copy("copy (select repeat('x', 1000) from generate_series(1, 20000)) to stdout") as copy:
            next(iter(copy))
            raise ValueError("enough")
    seen = []
    for call in (bad_row, many_bad_rows, own_failure, duplicate, out, abandoned):
        try:
            seen.append(attempt(call))
        except ValueError as error:
            seen.append(str(error))
        seen.append(state(c))
    c.execute("begin")
    seen += [attempt(bad_row), state(c), attempt(c.execute, "commit"), attempt(lambda: c.cursor().copy("copy nowhere from stdin").__enter__()), rows(c.execute("select count(*) from scratch where id >= 7000"))]
    return seen


@op
def copy_with_other_statements(c):
    """By libpq: COPY in a text of several statements."""
    g = c.pgconn
    seen = []
    g.send_query(b"select 1; copy scratch from stdin; select 2; copy (select 3) to stdout; select 4")
    while True:
        result = g.get_result()
        if result is None:
            break
        seen.append([result.status, result.command_status, result.error_message])
        if result.status == psycopg.pq.ExecStatus.COPY_IN:
            g.put_copy_data(b"8000\tx\n")
            g.put_copy_end()
        elif result.status == psycopg.pq.ExecStatus.COPY_OUT:
            while g.get_copy_data(0)[0] > 0:
                pass
    return [seen, state(c)]


# --- from other connections


@op
def notifications(c):
    other = connect()
    c.execute("listen news")
    seen = []
    other.execute("notify news, 'first'")
    other.execute("select pg_notify('news', 'second'), pg_notify('other', 'not for us')")
    other.execute("begin; notify news, 'third'; commit; begin; notify news, 'never'; rollback")
    for note in c.notifies(timeout=10, stop_after=3):
        seen.append([note.channel, note.payload])
    c.execute("notify news, 'own'")
    for note in c.notifies(timeout=10, stop_after=1):
        seen.append([note.channel, note.payload, note.pid == c.info.backend_pid or "another pid"])
    c.execute("unlisten *")
    other.execute("notify news, 'too late'")
    seen.append(list(c.notifies(timeout=0.1)))
    other.close()
    return seen


@op
def cancel_a_statement(c):
    def soon():
        time.sleep(0.3)
        c.cancel_safe()
    seen = []
    for text, args in (("select pg_sleep(60)", None), ("select pg_sleep(%s)", (60,)), ("select count(*) from generate_series(1, 10000000000)", None)):
        thread = threading.Thread(target=soon)
        thread.start()
        seen += [attempt(c.execute, text, args), state(c)]
        thread.join()
    return seen


@op
def cancel_during_copy(c):
    def soon():
        time.sleep(0.3)
        c.cancel_safe()

    def out():
        with c.cursor().copy("copy (select pg_sleep(0.01) from generate_series(1, 100000)) to stdout") as copy:
            for _ in copy:
                pass
    thread = threading.Thread(target=soon)
    thread.start()
    seen = [attempt(out), state(c)]
    thread.join()
    return seen + [rows(c.execute("select 1"))]


@op
def terminated(c):
    other = connect()
    pid = rows(c.execute("select pg_backend_pid()"))[0]["rows"][0][0]
    other.execute("select pg_terminate_backend(%s)", (pid,))
    seen = [attempt(c.execute, "select 1"), c.closed, c.broken]
    other.close()
    again = connect()
    seen.append(attempt(again.execute, "select pg_terminate_backend(pg_backend_pid())"))
    return seen + [again.broken]


@op
def no_such_database(_):
    return attempt(lambda: psycopg.connect("", dbname="nowhere")) and "refused"


@op
def settings(c):
    texts = ["show timezone", "set timezone to 'Asia/Tokyo'", "select '2020-01-01 00:00+00'::timestamptz::text", "set datestyle to 'German'", "select date '2020-03-04'::text", "set local timezone to 'UTC'", "begin", "set local timezone to 'UTC'", "show timezone",
             "rollback", "show timezone", "set session characteristics as transaction isolation level serializable", "show transaction_isolation", "reset all", "show timezone", "set search_path to shop, public", "select count(*) from customers", "show search_path",
             "set bytea_output to 'escape'", "select '\\x00ff'::bytea::text", "set intervalstyle to 'iso_8601'", "select interval '1 day 2 hours'::text", "set my.setting to 'own'", "select current_setting('my.setting')", "set role none", "set standard_conforming_strings to on",
             "set client_encoding to 'UTF8'", "show server_version_num", "set extra_float_digits to 0", "select 0.1::float4 + 0.2::float4", "select set_config('timezone', 'UTC', false)", "show timezone", "set xmloption to document", "discard all", "show timezone"]
    return [[text, attempt(c.execute, text), c.info.parameter_status("TimeZone"), c.info.parameter_status("DateStyle")] for text in texts]


@op
def row_factories(c):
    cursor = c.cursor(row_factory=dict_row)
    return cursor.execute("select id, name as id2, balance from shop.customers where id in (1, 2) order by 1").fetchall()


# --- what is not the same, by design


@op
def own_application_name(_):
    with connect(application_name="my program") as c:
        return rows(c.execute("show application_name"))


@op
def other_client_encoding(c):
    return [attempt(c.execute, "set client_encoding to 'latin1'"), attempt(c.execute, "select 1")]


# The gateway answers for a name the server does not know; it cannot say in which line of the server's source.
PLACE = re.compile(r' F "SSSS" L "SSSS" R "SSSS"')


def received(path):
    """The server's messages as libpq traced them. Process ids and lengths that follow from them are not compared."""
    seen = []
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("B\t"):
                parts = line.rstrip("\n").split("\t")
                if parts[2] in ("NotificationResponse",):
                    parts = parts[2:3]
                elif parts[2] == "DataRow" or parts[2] == "CopyData":
                    parts = parts[1:3]
                seen.append(PLACE.sub("", "\t".join(parts)))
    return seen


class TooLong(Exception):
    pass


def too_long(*_):
    raise TooLong("it does not end")


signal.signal(signal.SIGALRM, too_long)

LOUD = {"large_value", "large_result", "large_parameter", "large_statement", "many_columns", "copy_to_the_client", "streaming", "cancel_during_copy", "copy_fails", "terminated", "notifications"}

for name in only(OPS):
    trace = tempfile.NamedTemporaryFile()
    connection = connect()
    if name not in LOUD:
        connection.pgconn.trace(trace.fileno())
        connection.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS | Trace.REGRESS_MODE)
    try:
        signal.alarm(60)
        out = plain(OPS[name](connection))
        signal.alarm(0)
    except Exception as error:
        out = {"failed": f"{type(error).__name__}: {error}"}
    connection.close()
    report(name, {"seen": out, "wire": received(trace.name)})
