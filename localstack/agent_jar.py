"""Writes a Java agent that does nothing: LocalStack starts DynamoDB Local with `-javaagent:` and the file must be there.

The class is put together byte by byte (https://docs.oracle.com/javase/specs/jvms/se17/html/jvms-4.html), so that a Java runtime
without a compiler is enough: `public class Agent { public static void premain(String arguments) {} }`.
"""

import struct
import sys
import zipfile


def utf8(text):
    return b"\x01" + struct.pack(">H", len(text)) + text.encode()


def agent_class():
    pool = [
        utf8("Agent"),
        b"\x07" + struct.pack(">H", 1),  # 2: class Agent
        utf8("java/lang/Object"),
        b"\x07" + struct.pack(">H", 3),  # 4: class Object
        utf8("premain"),
        utf8("(Ljava/lang/String;)V"),
        utf8("Code"),
    ]
    code = struct.pack(">HHI", 0, 1, 1) + b"\xb1" + struct.pack(">HH", 0, 0)  # one local, no stack, `return`
    method = struct.pack(">HHHH", 0x0009, 5, 6, 1) + struct.pack(">HI", 7, len(code)) + code
    return (
        struct.pack(">IHH", 0xCAFEBABE, 0, 49)
        + struct.pack(">H", len(pool) + 1)
        + b"".join(pool)
        + struct.pack(">HHH", 0x0021, 2, 4)
        + struct.pack(">HH", 0, 0)
        + struct.pack(">H", 1)
        + method
        + struct.pack(">H", 0)
    )


with zipfile.ZipFile(sys.argv[1], "w") as jar:
    jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\nPremain-Class: Agent\r\n\r\n")
    jar.writestr("Agent.class", agent_class())
