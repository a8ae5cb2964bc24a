"""Inputs out of others: with one thing changed, in the places where readers disagree.

A message that is bent at random is refused at once, nearly always. What is bent here is a line, a
name, a value, or a byte for one that some reader takes for another.
"""

import random
from collections.abc import Sequence

from tests.core.test_strict_heads_agree import BYTES, NAMES, STARTS, STATUS_LINES, VALUES

# Words with a meaning of their own in one of the targets.
WORDS = [
    *NAMES, *VALUES, *STARTS, *STATUS_LINES, b"0\r\n\r\n", b"\r\n", b"\r\n\r\n", b"1\r\na\r\n", b"0\r\n",
    b";a=b", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"hello",
    b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b" 65535", b"192.0.2.1", b"::1", b"\x21\x11\0\x0c",
    b"\x20\0\0\0", b"\x03\0\x04", b"[[listeners]]\n", b"[pools.web]\n", b' = "', b"{", b"}", b"[", b"]", b"'", b'"', b"#", b"\\u0000",
    b"1e400", b"nan", b"true", b"1979-05-27", b"-1", b"${X}",
]  # fmt: skip


def bent(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """`data` with one thing changed; something of one of the `others` may come into it."""
    lines = data.split(b"\r\n")
    at, line = rng.randrange(len(data) + 1), rng.randrange(len(lines))
    name, colon, value = lines[line].partition(b":")
    match rng.randrange(10):
        case 0:
            return data[:at] + data[at + 1 :]
        case 1:
            return data[:at] + rng.choice(BYTES) + data[at:]
        case 2:
            return data[:at] + rng.choice(BYTES) + data[at + 1 :]
        case 3:
            return data[:at] + rng.choice(WORDS) + data[at:]
        case 4:
            lines[line] = rng.choice(NAMES) + colon + value
        case 5:
            lines[line] = name + colon + b" " + rng.choice(VALUES)
        case 6:
            lines.insert(rng.randrange(len(lines) + 1), lines[line])
        case 7:
            del lines[line]
        case 8:
            other = rng.choice(others)
            return data[:at] + other[rng.randrange(len(other) + 1) :]
        case _:
            lines.insert(line, rng.choice(NAMES) + b": " + rng.choice(VALUES))
    return b"\r\n".join(lines)
