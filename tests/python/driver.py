"""psycopg 3 through the gateway: what a user's program does, printed as JSON for the test to judge.

The connection string is the only argument; the token stands in PGPASSWORD.
"""

import json
import sys

import psycopg
from psycopg.rows import dict_row

seen = {}
with psycopg.connect(sys.argv[1], autocommit=True, row_factory=dict_row) as connection:
    for name, binary in (("text", False), ("binary", True)):
        cursor = connection.cursor(binary=binary)
        seen[name] = cursor.execute("select ssn, email from customers where id = %s", (9,)).fetchone()
    # psycopg prepares by itself from the fifth time on.
    for _ in range(8):
        row = connection.execute("select sum(id)::bigint as sum from ledger where id between %s and %s", (1, 1000)).fetchone()
    seen["sum"] = row["sum"]
    try:
        connection.execute("truncate table accounts")
    except psycopg.Error as error:
        seen["denied"] = error.sqlstate
    # A pipeline whose middle is refused: what comes after is skipped, the session lives on.
    try:
        with connection.pipeline():
            connection.execute("select 1")
            connection.execute("truncate table accounts")
            connection.execute("select 2")
    except psycopg.Error as error:
        seen["pipeline"] = error.sqlstate
    with connection.transaction():
        seen["after"] = connection.execute("select 1 as one").fetchone()["one"]
print(json.dumps(seen))
