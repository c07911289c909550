"""Logs in by OAUTHBEARER with PostgreSQL 18's own libpq: python oauth.py CONNINFO TOKEN. Prints what happened as JSON.

libpq asks a hook for the token, as a program does that has one already. <https://www.postgresql.org/docs/18/libpq-oauth.html>"""
import ctypes, glob, json, os, sys
import psycopg
from psycopg import pq

conninfo, token = sys.argv[1], sys.argv[2].encode()
assert pq.version() >= 180000, f"libpq is {pq.version()}"
import psycopg_binary

library = glob.glob(os.path.join(os.path.dirname(os.path.dirname(psycopg_binary.__file__)), "psycopg_binary.libs", "libpq-*"))[0]
libpq = ctypes.CDLL(library)


class Request(ctypes.Structure):
    _fields_ = [
        ("openid_configuration", ctypes.c_char_p),
        ("scope", ctypes.c_char_p),
        ("poll", ctypes.c_void_p),
        ("cleanup", ctypes.c_void_p),
        ("token", ctypes.c_char_p),
        ("user", ctypes.c_void_p),
    ]


BEARER_TOKEN = 1
asked = []


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Request))
def hook(kind, connection, request):
    if kind != BEARER_TOKEN:
        return 0
    asked.append([(text or b"").decode() for text in (request.contents.openid_configuration, request.contents.scope)])
    request.contents.token = token
    return 1


libpq.PQsetAuthDataHook(hook)
result = {"libpq": pq.version()}
try:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        result["one"] = connection.execute("select 1").fetchone()[0]
        result["used"] = connection.pgconn.used_password
except psycopg.OperationalError as error:
    result["error"] = str(error)
result["asked"] = asked
print(json.dumps(result))
