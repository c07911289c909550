"""Sequences of messages that no driver sends: random but the same each time, legal and illegal, cut anywhere; and some written out.

Each sequence has a number, which is all its making depends on; what the server answers to it, message for message, is one line of JSON.
`sequences.py` plays the first 100 and those written out, `sequences.py 1000 5000` those from 1000 on. Python's own library is all it needs.
"""

import base64
import hashlib
import hmac
import os
import random
import socket
import ssl
import struct
import sys

from ops import report

TEXTS = """
select 1|select 1/0|select $1::int|select n from generate_series(1,5) n|begin|commit|rollback|savepoint a|rollback to a|release a||;|
insert into seq values (1)|insert into seq values (2) returning *|select count(*) from seq|select 1 from nowhere|selec|copy seq to stdout|
copy seq from stdin|copy (select 7) to stdout (format csv)|declare c cursor with hold for select n from generate_series(1,9) n|
declare d cursor for select n from generate_series(1,9) n|fetch 2 from c|fetch 2 from d|fetch 1 from p|close c|close d|
prepare s1 as select 42|execute s1|execute s2|deallocate s1|deallocate s2|deallocate all|set work_mem to 70000|show work_mem|reset work_mem|
notify ch, $$x$$|listen ch|unlisten *|do $$ begin raise notice $n$hi$n$; end $$|truncate seq|set transaction read only|begin read only|
set local statement_timeout to 0|create temp table if not exists tt(a int)|drop table if exists tt|select * from tt|discard plans|
values (1,2),(3,4)|start transaction isolation level serializable|select set_config($$work_mem$$,$$80000$$,false)|
insert into seq select 3 from generate_series(1,3) returning a|set client_encoding to unicode|set client_encoding to 'UNICODE'|reset client_encoding
""".replace("\n", "").split("|")
SEVERAL = """
select 1; select 2|insert into seq values (5); select 1/0|begin; insert into seq values (6); commit; select 1/0|select 1; selec|select 1;;select 2|
copy seq from stdin; select 3|select 1; copy seq to stdout; select 2|begin; select 1/0; commit|insert into seq values (8); begin; select 1|
rollback; select 1; begin|select 1; prepare s1 as select 1; execute s1|savepoint x; select 1|
begin; savepoint x; select 1/0; rollback to x; select 5
""".replace("\n", "").split("|")
STATEMENTS = ["", "", "s1", "s2"]
PORTALS = ["", "", "p", "q", "c"]
END = b"the end"


def message(tag, body=b""):
    return tag + struct.pack("!i", len(body) + 4) + body


def text(words):
    return words.encode() + b"\0"


def bind(chance):
    values = chance.choice([[], [], [], [b"7"], [b"x"], [None]])
    formats = chance.choice([[], [], [0], [1]])
    body = text(chance.choice(PORTALS)) + text(chance.choice(STATEMENTS)) + struct.pack("!hh", 0, len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return message(b"B", body + struct.pack(f"!h{len(formats)}h", len(formats), *formats))


def object_of(chance):
    return chance.choice([b"S" + text(chance.choice(STATEMENTS)), b"P" + text(chance.choice(PORTALS))])


def any_message(chance):
    kinds = {"Q": 16, "P": 18, "B": 18, "D": 8, "E": 18, "C": 5, "H": 3, "S": 9, "copy": 5}
    kind = chance.choices(list(kinds), list(kinds.values()))[0]
    if kind == "Q":
        return message(b"Q", text(chance.choice(TEXTS + SEVERAL)))
    if kind == "P":
        texts = TEXTS + SEVERAL if chance.random() < 0.1 else TEXTS
        return message(b"P", text(chance.choice(STATEMENTS)) + text(chance.choice(texts)) + struct.pack("!h", 0))
    if kind == "B":
        return bind(chance)
    if kind == "E":
        return message(b"E", text(chance.choice(PORTALS)) + struct.pack("!i", chance.choice([0, 0, 0, 1, 2, 100])))
    if kind in "DC":
        return message(kind.encode(), object_of(chance))
    if kind in "HS":
        return message(kind.encode())
    # Data that the server refuses come with their end: whether it, or the next message, is what ends the copy is not the gateway's to know.
    refused = message(b"d", b"x\n") + message(b"c")
    return chance.choice([message(b"d", b"11\n"), refused, message(b"c"), message(b"f", text("no"))])


def execute(portal, rows=0):
    return message(b"E", text(portal) + struct.pack("!i", rows))


def describe(portal):
    return message(b"D", b"P" + text(portal))


def run(sql):
    return message(b"Q", text(sql))


def named(portal, sql):
    return message(b"P", text("") + text(sql) + struct.pack("!h", 0)) + message(b"B", text(portal) + text("") + struct.pack("!hhh", 0, 0, 0))


SYNC, CLOSE_C = message(b"S"), message(b"C", b"P" + text("c"))
C = "declare c cursor for select n, n::text from generate_series(1,5) n"
# A cursor that SQL declared is a portal to the protocol, and the other way round.
WRITTEN = {
    "cursor_executed": [run("begin"), run(C), execute("c"), SYNC, execute("c"), SYNC],
    "cursor_executed_by_pieces": [run("begin"), run(C), execute("c", 2), SYNC, execute("c", 2), execute("c", 2), SYNC, run("fetch 1 from c")],
    "cursor_described": [run("begin"), run(C), describe("c"), execute("c", 1), describe("c"), SYNC],
    "cursor_and_fetch": [run("begin"), run(C), run("fetch 2 from c"), execute("c", 1), SYNC, run("move 1 in c"), execute("c"), SYNC],
    "cursor_closed": [run("begin"), run(C), CLOSE_C, execute("c"), SYNC, run("rollback"), execute("c"), SYNC],
    "cursor_closed_by_sql": [run("begin"), run(C), run("close c"), execute("c", 1), SYNC, run("select 1")],
    "cursor_closed_and_fetched": [run("begin"), run(C), CLOSE_C, SYNC, run("fetch 1 from c")],
    "cursor_gone_with_its_transaction": [run("begin"), run(C), run("commit"), execute("c"), SYNC],
    "cursor_held": [run(C.replace("cursor", "cursor with hold")), execute("c", 2), SYNC, run("begin"), run("select 1/0"), execute("c"), SYNC],
    "cursor_binary": [run("begin"), run(C.replace("cursor", "binary cursor")), describe("c"), execute("c", 2), SYNC, run("fetch 1 from c")],
    "cursor_scrolled": [run("begin"), run(C.replace("cursor", "scroll cursor")), execute("c"), SYNC, run("fetch backward 2 from c"), execute("c"), SYNC],
    "cursor_declared_in_the_pipeline": [run("begin"), named("", C), execute(""), describe("c"), execute("c", 1), execute("c"), CLOSE_C, SYNC],
    "cursor_after_an_error": [run("begin"), run(C), named("", "select 1/0"), execute(""), execute("c"), SYNC, execute("c"), SYNC],
    "cursor_fails": [run("begin"), run("declare c cursor for select 1/(3-n) from generate_series(1,5) n"), execute("c", 1), execute("c"), SYNC],
    "cursor_twice": [run("begin"), run(C), run("close c"), run("declare c cursor for values ('x')"), describe("c"), execute("c"), SYNC],
    "cursor_of_code": [
        run("create or replace function opens() returns refcursor language plpgsql as $$ declare c refcursor := 'c'; begin open c for values (7); return c; end $$"),
        run("begin"), run("select opens()"), describe("c"), execute("c", 1), SYNC, run("fetch 1 from c"),
    ],
    "cursor_and_bind": [run("begin"), run(C), named("c", "select 1"), SYNC, run("rollback"), execute("c"), SYNC],
    "portal_and_declare": [run("begin"), named("c", "select 7"), SYNC, run(C), run("rollback"), run("begin"), named("c", "select 8"), run(C), SYNC],
    "portal_fetched": [run("begin"), named("p", "values (1),(2),(3),(4)"), SYNC, run("fetch 1 from p"), execute("p", 1), SYNC, run("fetch all from p")],
    "portal_moved": [run("begin"), named("p", "values (1),(2),(3),(4)"), execute("p", 1), SYNC, run("move 2 in p"), execute("p"), SYNC],
    "portal_closed_by_sql": [run("begin"), named("p", "values (1),(2)"), SYNC, run("close p"), execute("p"), SYNC],
    "portal_closed_by_sql_and_declared": [run("begin"), named("c", "values (1),(2)"), SYNC, run("close c"), run(C), execute("c", 1), SYNC],
    "portals_that_no_name_can_be": [execute("c" * 64), SYNC, execute("_cp1"), SYNC, execute('a"b'), SYNC],
}


class Connection:
    def __init__(self):
        plain = socket.create_connection(("localhost", int(os.environ["PGPORT"])), timeout=120)
        plain.sendall(struct.pack("!ii", 8, 80877103))
        assert plain.recv(1) == b"S"
        trust = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
        self.io = trust.wrap_socket(plain, server_hostname="localhost")
        self.read, self.over = b"", False
        pairs = [("user", os.environ["PGUSER"]), ("database", os.environ["PGDATABASE"])]
        body = struct.pack("!i", 196608) + b"".join(text(word) for pair in pairs for word in pair) + b"\0"
        self.io.sendall(struct.pack("!i", len(body) + 4) + body)
        tag = b""
        while tag != b"Z":
            tag, body = self.next()
            assert tag not in (b"", b"E"), body
            method = struct.unpack("!i", body[:4])[0] if tag == b"R" else 0
            if method == 3:
                self.io.sendall(message(b"p", text(os.environ["PGPASSWORD"])))
            elif method == 10:
                self.scram(os.environ["PGPASSWORD"].encode())

    def scram(self, password):
        first = "n=,r=once"
        self.io.sendall(message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first) + 3) + b"n,," + first.encode()))
        said = self.next()[1][4:].decode()
        given = dict(pair.split("=", 1) for pair in said.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode(given["s"]), int(given["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        last = "c=biws,r=" + given["r"]
        signed = hmac.digest(hashlib.sha256(key).digest(), f"{first},{said},{last}".encode(), "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signed))).decode()
        self.io.sendall(message(b"p", f"{last},p={proof}".encode()))
        assert self.next()[0] == b"R"

    def next(self):
        while not self.over:
            if len(self.read) >= 5:
                end = 1 + struct.unpack("!i", self.read[1:5])[0]
                if len(self.read) >= end:
                    tag, body, self.read = self.read[:1], self.read[5:end], self.read[end:]
                    return tag, body
            try:
                more = self.io.recv(65536)
            except (ConnectionError, ssl.SSLError):
                more = b""
            self.over = not more
            self.read += more
        return b"", b""

    def run(self, sql):
        self.io.sendall(message(b"Q", text(sql)))
        while self.next()[0] not in (b"Z", b""):
            pass


def shown(tag, body):
    """A message without what differs between any two servers: object ids, process ids, places in the server's source."""
    if tag in (b"E", b"N"):
        fields = {chr(field[0]): field[1:].decode() for field in body.split(b"\0") if field}
        return tag.decode() + " " + " ".join(f"{letter}={fields[letter]}" for letter in sorted(fields) if letter not in "FLR")
    if tag == b"A":
        return f"A {body[4:]}"
    if tag == b"T":
        columns, at = [], 2
        for _ in range(struct.unpack("!h", body[:2])[0]):
            end = body.index(b"\0", at)
            columns.append(f"{body[at:end].decode()}:{struct.unpack('!i', body[end + 1 : end + 5])[0] > 0}:{body[end + 5 : end + 19].hex()}")
            at = end + 19
        return "T " + " ".join(columns)
    return f"{tag.decode()} {body}"


def random_messages(number):
    chance = random.Random(number)
    data = b"".join(any_message(chance) for _ in range(chance.randint(1, 24)))
    cuts = [chance.randint(1, 40) for _ in range(chance.choice([0, 0, 3, 10]))]
    # Whatever state that leaves: out of a copy, out of the error, out of the transaction, and a last word.
    data += message(b"c") + message(b"S") * 2 + message(b"c") + message(b"Q", text("rollback")) + message(b"c") + message(b"S")
    return cuts, data


def play(connection, cuts, data):
    data += message(b"Q", text(f"select '{END.decode()}'"))
    try:
        for cut in cuts:
            connection.io.sendall(data[:cut])
            data = data[cut:]
        connection.io.sendall(data)
    except (ConnectionError, ssl.SSLError):
        pass
    out = []
    while True:
        tag, body = connection.next()
        if tag == b"":
            break
        out.append(shown(tag, body))
        if tag == b"D" and END in body:
            return out
    # A message that must not come within a copy ends the session; the server says so in two errors, the gateway in one.
    broken = next((at for at, said in enumerate(out) if "C=08P01" in said), None)
    return (out if broken is None else out[:broken] + ["08P01"]) + ["the connection ended"]


def main():
    first, count = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (0, 100)
    connection = Connection()
    connection.run("drop table if exists seq; create table seq (a int)")
    for number in range(first, first + count):
        connection = Connection()
        connection.run("truncate seq")
        report(f"sequence_{number}", play(connection, *random_messages(number)))
        connection.io.close()
    for name, messages in WRITTEN.items():
        connection = Connection()
        report(name, play(connection, [], b"".join(messages) + run("rollback")))
        connection.io.close()


main()
