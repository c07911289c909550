"""Reads a table of every type, all of it masked, by psycopg (text and binary) and asyncpg. Prints a line for each; a driver's own error is its status."""
import asyncio, datetime, os, ssl, sys
import asyncpg, psycopg

QUERY = "select * from shapes order by id"


def seen(name, rows):
    assert len(rows) == 3, f"{name}: {len(rows)} rows"
    assert all(value is None for value in rows[2][1:]), f"{name}: a NULL is no NULL any more"
    print(f"{name}: {len(rows)} rows of {len(rows[0])} columns")
    print(repr(rows), file=sys.stderr)


def by_psycopg():
    conninfo = f"host=localhost port={os.environ['PGPORT']} dbname={os.environ['PGDATABASE']} sslmode=verify-full"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for binary in (False, True):
            for prepare in (False, True):
                with connection.cursor(binary=binary) as cursor:
                    cursor.execute(QUERY, prepare=prepare)
                    seen(f"psycopg {'binary' if binary else 'text'}{' prepared' if prepare else ''}", cursor.fetchall())
        with connection.cursor() as cursor, cursor.copy("copy shapes to stdout (format binary)") as copy:
            print(f"psycopg copy: {sum(1 for _ in copy.rows())} rows")


def styles():
    """Dates in every style that psycopg reads: it takes the style from what the server reported, and nothing else for a date."""
    conninfo = f"host=localhost port={os.environ['PGPORT']} dbname={os.environ['PGDATABASE']} sslmode=verify-full"
    with psycopg.connect(conninfo, autocommit=True) as connection, connection.cursor() as cursor:
        for style in ("ISO, DMY", "SQL, MDY", "SQL, DMY", "German, DMY", "Postgres, MDY", "Postgres, DMY"):
            cursor.execute(f"set datestyle = '{style}'")
            cursor.execute("select d_year, c_date, c_ts, c_interval, c_money from shapes where id < 3")
            for row in cursor.fetchall():
                day, moment = datetime.date, datetime.datetime
                assert row == (day(1961, 1, 1), day(2000, 1, 1), moment(2000, 1, 1), datetime.timedelta(), "$0.00"), f"{style}: {row}"
        print("psycopg dates: *** in six styles")


async def by_asyncpg():
    context = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
    connection = await asyncpg.connect(
        host="localhost", port=int(os.environ["PGPORT"]), database=os.environ["PGDATABASE"], user=os.environ["PGUSER"], password=os.environ["PGPASSWORD"], ssl=context
    )
    seen("asyncpg", [tuple(row) for row in await connection.fetch(QUERY)])
    async with connection.transaction():
        seen("asyncpg cursor", [tuple(row) async for row in connection.cursor(QUERY, prefetch=1)])
    await connection.close()


by_psycopg()
styles()
asyncio.run(by_asyncpg())
