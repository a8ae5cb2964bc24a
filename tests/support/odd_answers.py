"""Answers of a backend that a client could take for two things, kind by kind.

Each kind is a strategy for `OddAnswer`: its bytes, to what, and whether a client may get it.
"""

from collections.abc import Mapping
from typing import NamedTuple

from hypothesis import strategies as st

from tests.support.attacks import (
    BAD_ENDS,
    BAD_SIZES,
    BLANKS,
    CONTROLS,
    NOT_A_LENGTH,
    NOT_CHUNKED,
    cased,
    field,
    honest,
    one_of,
    sized,
    trailing_lines,
    with_inserted,
)

LEFTOVER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
SERVER = [b"Server: x/1", b"Set-Cookie: a=b", b'ETag: "e"', b"Date: Mon, 15 Apr 2024 12:00:00 GMT"]
FIVE = b"Content-Length: 5"


class OddAnswer(NamedTuple):
    """`passes`: a client gets it, and nothing of what stands behind it."""

    start: bytes = b"HTTP/1.1 200 OK"
    lines: tuple[bytes, ...] = (FIVE,)
    body: bytes = b"hello"
    method: str = "GET"
    passes: bool = False


def beside(*fields: st.SearchStrategy[bytes]) -> st.SearchStrategy[OddAnswer]:
    return st.tuples(*fields).map(lambda found: OddAnswer(lines=(FIVE, *found)))


def only(*fields: st.SearchStrategy[bytes], body: bytes = b"hello") -> st.SearchStrategy[OddAnswer]:
    return st.tuples(*fields).map(lambda found: OddAnswer(lines=found, body=body))


def starting(start: st.SearchStrategy[bytes]) -> st.SearchStrategy[OddAnswer]:
    return start.map(lambda line: OddAnswer(start=line))


def in_chunks(body: st.SearchStrategy[bytes]) -> st.SearchStrategy[OddAnswer]:
    return body.map(lambda body: OddAnswer(lines=(b"Transfer-Encoding: chunked",), body=body))


def bodiless(start: bytes, lines: tuple[bytes, ...], method: str = "GET") -> OddAnswer:
    return OddAnswer(start=start, lines=lines, body=b"", method=method, passes=True)


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n"
PLAIN_START = st.just(b"HTTP/1.1 200 OK")
ODD_STATUS_LINES = one_of(
    *(b"HTTP/1.1 " + end for end in (b"99 x", b"099 x", b"600 x", b"999 x", b"1000 x", b"-200 x", b"2OO x", b"", b"OK 200")),
    *(version + b" 200 OK" for version in (b"HTTP/1.2", b"HTTP/2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"ICY", b"HTTP/1.1 ", b" HTTP/1.1")),
    b"200 OK", b"hello", b"\0", b"\r\nHTTP/1.1 200 OK", b"HTTP/1.1\t200 OK",
)  # fmt: skip

# What is refused or passed on clean, by the words of the operators' table.
ODD_ANSWERS: Mapping[str, st.SearchStrategy[OddAnswer]] = {
    "a status line that is none": starting(ODD_STATUS_LINES),
    "a control byte in the status line": starting(
        with_inserted(PLAIN_START, st.sampled_from(CONTROLS))
    ),
    "a bare line end in the status line": starting(
        with_inserted(PLAIN_START, one_of(b"\r", b"\n", b"\n\n"))
    ),
    "a bare line end": beside(with_inserted(honest, one_of(b"\r", b"\n", b"\r\r", b"\n\r"))),
    "a control byte": beside(with_inserted(honest, st.sampled_from(CONTROLS))),
    "a folded line": beside(
        st.builds(lambda line, blank: line + b"\r\n" + blank + b"c", honest, BLANKS)
    ),
    "a name that is none": beside(
        one_of(b"A : b", b"A\t: b", b": b", b"A", b"A(: b", b"\xe4: b", b"A b: c")
    ),
    "a length said twice": beside(field(b"Content-Length", b"5") | field(b"Content-Length", b"6")),
    "a length that is none": NOT_A_LENGTH.flatmap(
        lambda value: only(field(b"Content-Length", value))
    ),
    "a length beside chunks": beside(field(b"Transfer-Encoding", b"chunked")),
    "a coding that is not exactly chunked": NOT_CHUNKED.flatmap(
        lambda value: only(field(b"Transfer-Encoding", value), body=b"5\r\nhello\r\n0\r\n\r\n")
    ),
    "chunks in HTTP/1.0": only(field(b"Transfer-Encoding", b"chunked"), body=sized(b"5")).map(
        lambda answer: answer._replace(start=b"HTTP/1.0 200 OK")
    ),
    "a chunk size that is none": in_chunks(BAD_SIZES.map(sized)),
    "chunk data that does not end": in_chunks(
        BAD_ENDS.map(lambda end: b"5\r\nhello" + end + b"0\r\n\r\n")
    ),
    "trailers that frame or route": in_chunks(trailing_lines),
    "a flood of interim answers": st.integers(17, 30).map(
        lambda count: OddAnswer(start=(HINTS + b"\r\n") * count + b"HTTP/1.1 200 OK")
    ),
    "an interim answer with a body": one_of(
        b"Content-Length: 5", b"Transfer-Encoding: chunked", b"content-length:00009"
    ).map(lambda line: OddAnswer(start=HINTS + line + b"\r\n\r\nHTTP/1.1 200 OK")),
    "a switch that nobody asked for": one_of(b"h2c", b"websocket", b"x").map(
        lambda protocol: OddAnswer(
            start=b"HTTP/1.1 101 Switching Protocols",
            lines=(b"Connection: upgrade", b"Upgrade: " + protocol),
        )
    ),
    "more fields than anybody sends": st.integers(129, 200).map(
        lambda count: OddAnswer(lines=(FIVE, *[b"A: b"] * count))
    ),
    "an endless head": st.integers(65_536, 70_000).map(
        lambda size: OddAnswer(lines=(FIVE, b"A: " + b"b" * size))
    ),
    "bytes behind an answer": st.just(OddAnswer(passes=True)),
    "bytes behind an answer in chunks": st.just(
        OddAnswer(lines=(b"Transfer-Encoding: chunked",), body=sized(b"5"), passes=True)
    ),
    "bytes behind a head without a body": st.sampled_from(
        [
            bodiless(b"HTTP/1.1 204 No Content", ()),
            bodiless(b"HTTP/1.1 204 No Content", (b"Content-Length: 47",)),
            bodiless(b"HTTP/1.1 204 No Content", (b"Transfer-Encoding: chunked",)),
            bodiless(b"HTTP/1.1 304 Not Modified", (b"Content-Length: 47",)),
            bodiless(b"HTTP/1.1 304 Not Modified", ()),
            bodiless(b"HTTP/1.1 200 OK", (b"Content-Length: 47",), "HEAD"),
            bodiless(b"HTTP/1.1 200 OK", (b"Transfer-Encoding: chunked",), "HEAD"),
            bodiless(b"HTTP/1.1 200 OK", (), "HEAD"),
        ]
    ),
    "fields of the other hop": st.builds(
        lambda case, name: OddAnswer(
            lines=(FIVE, case(name) + b": evil", b"Connection: x-evil", b"X-Evil: evil"),
            passes=True,
        ),
        cased,
        one_of(b"Keep-Alive", b"Proxy-Connection", b"Upgrade", b"TE"),
    ),
}


@st.composite
def answer_of(draw: st.DrawFn, answer: OddAnswer) -> bytes:
    """The answer among usual lines, and another answer behind it."""
    names = {line.partition(b":")[0].strip().lower() for line in answer.lines}
    others = draw(st.lists(st.sampled_from(SERVER), unique=True, max_size=3))
    kept = [line for line in others if line.partition(b":")[0].lower() not in names]
    lines = draw(st.permutations([*answer.lines, *kept]))
    return b"\r\n".join([answer.start, *lines, b"", answer.body]) + LEFTOVER
