"""What the Python drivers share: operations run in turn, each prints one line of JSON with what came of it."""

import datetime
import decimal
import json
import sys


def plain(value):
    """Anything as JSON, without object addresses."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        return {"bytes": data.hex() if len(data) < 400 else f"{len(data)} bytes, {hash_of(data)}"}
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(entry) for entry in value]
    if isinstance(value, (decimal.Decimal, datetime.date, datetime.time, datetime.timedelta)):
        return str(value)
    return repr(value)


def hash_of(data):
    import hashlib

    return hashlib.sha256(data).hexdigest()[:16]


def report(name, out):
    print(json.dumps({"op": name, "out": plain(out)}, sort_keys=True), flush=True)


def only(names):
    """The operations asked for on the command line, or all."""
    wanted = sys.argv[1:]
    return [name for name in names if not wanted or name in wanted]
