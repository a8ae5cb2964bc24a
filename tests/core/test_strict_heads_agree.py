"""Whatever the strict reader of heads takes, h11 and the core take for the same, and send the same."""

import random
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.head_readings import answer_is_plain, both_ways, request_is_plain
from tests.support.recorded_heads import ANSWERS, REQUESTS

NAMES = [
    b"Host", b"Content-Length", b"Connection", b"Transfer-Encoding", b"TE", b"Expect", b"Upgrade",
    b"Max-Forwards", b"Keep-Alive", b"Proxy-Connection", b"Proxy", b"Forwarded", b"X-Forwarded-For",
    b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Real-IP", b"X-Request-ID", b"X-Original-URL",
    b"X-Rewrite-URL", b"X_Forwarded_For", b"_", b"Close", b"Via", b"Date", b"Accept", b"A", b"Trailer",
    b"X-Forwarded", b"Hosts", b"Cookie", b"Set-Cookie", b"User-Agent", b"~!#$%&'*+.^`|",
]  # fmt: skip
VALUES = [
    b"a", b"", b"0", b"5", b"05", b"+5", b"5, 5", b"1" * 18, b"1" * 19, b"close", b"Close", b"keep-alive",
    b"Keep-Alive", b"close, te", b"upgrade", b"host", b"content-length", b"chunked", b"Chunked", b"gzip, chunked",
    b"trailers", b"100-continue", b"example.com:80", b"[::1]:80", b"a:65535", b"a:65536", b"a b",
    b"\xe4\xff", b"b\tc", b"Mon, 15 Apr 2024 12:00:00 GMT", b"\x85", b"\xa0", b'"a: b"',
]  # fmt: skip
STARTS = [
    b"GET / HTTP/1.1", b"GET / HTTP/1.1", b"GET / HTTP/1.1", b"POST /a?b=c%20d HTTP/1.1", b"HEAD /[x] HTTP/1.1",
    b"PUT /~a/../b//c HTTP/1.1", b"OPTIONS /a HTTP/1.1", b"DELETE /\\ HTTP/1.1", b"PATCH /%00 HTTP/1.1",
    b"GET / HTTP/1.0", b"GET http://a/ HTTP/1.1", b"OPTIONS * HTTP/1.1", b"CONNECT a:1 HTTP/1.1",
    b"TRACE / HTTP/1.1", b"BREW / HTTP/1.1", b"GET /#a HTTP/1.1", b"get / HTTP/1.1", b"GET  / HTTP/1.1",
]  # fmt: skip
STATUS_LINES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not  Found", b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 599 ", b"HTTP/1.1 200", b"HTTP/1.0 200 OK", b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 600 a", b"HTTP/1.1 503 \xe4\t!", b"HTTP/1.1 205 Reset",
]  # fmt: skip
# What a byte may be replaced with: the ends of the classes of the grammar, and what reads like a blank.
BYTES = [bytes([code]) for code in b'\0\t\n\v\f\r\x1b\x1f !"#/09:;@AZ[_`az|~\x7f\x80\x85\xa0\xff']
ODD_CASES: list[Callable[[bytes], bytes]] = [bytes.lower, bytes.upper, bytes.swapcase, bytes.title]


def head(start: bytes, lines: list[bytes]) -> bytes:
    return b"".join(line + b"\r\n" for line in (start, *lines, b""))


LINES = st.builds(
    lambda name, case, colon, value: case(name) + colon + value,
    st.sampled_from(NAMES),
    st.sampled_from([bytes, *ODD_CASES]),
    st.sampled_from([b": ", b": ", b": ", b":", b":\t", b":  ", b" : "]),
    st.one_of(st.sampled_from(VALUES), st.binary(max_size=8)),
)
FIELDS = st.lists(LINES, max_size=8).flatmap(
    lambda lines: st.permutations([b"Host: example.com", *lines])
)


@given(start=st.sampled_from(STARTS), lines=FIELDS)
def test_on_composed_requests(start: bytes, lines: list[bytes]) -> None:
    request_is_plain(head(start, lines))


@given(start=st.sampled_from(STATUS_LINES), lines=st.lists(LINES, max_size=8), asked=st.booleans())
def test_on_composed_answers(start: bytes, lines: list[bytes], asked: bool) -> None:
    answer_is_plain(head(start, [b"Content-Length: 5", *lines]), "HEAD" if asked else "GET")
    answer_is_plain(head(start, lines), "HEAD" if asked else "GET")


# ---- bent ones -----------------------------------------------------------------------------------


def bent(raw: bytes, rng: random.Random) -> bytes:
    """The head with one thing changed: a byte, or a line."""
    lines = raw.split(b"\r\n")
    if len(lines) < 4:
        return raw
    at = rng.randrange(len(raw))
    line = rng.randrange(1, len(lines) - 2)
    name, _, value = lines[line].partition(b": ")
    kind = rng.randrange(10)
    if kind == 0:
        return raw[:at] + raw[at + 1 :]
    if kind == 1:
        return raw[:at] + rng.choice(BYTES) + raw[at:]
    if kind == 2:
        return raw[:at] + rng.choice(BYTES) + raw[at + 1 :]
    if kind == 3:
        lines[line] = rng.choice(ODD_CASES)(name) + b": " + value
    elif kind == 4:
        lines[line] = name + b": " + rng.choice(VALUES)
    elif kind == 5:
        lines[line] = rng.choice(NAMES) + b": " + value
    elif kind == 6:
        lines.insert(rng.randrange(1, len(lines) - 1), lines[line])
    elif kind == 7:
        del lines[line]
    else:
        added = rng.choice(NAMES) + rng.choice([b": ", b":"]) + rng.choice(VALUES)
        lines.insert(rng.randrange(1, len(lines) - 1), added)
    return b"\r\n".join(lines)


RNG = st.integers(0, 2**32).map(random.Random)


@pytest.mark.parametrize("number", range(1, 4))
@given(rng=RNG)
def test_on_bent_requests(number: int, rng: random.Random) -> None:
    for recorded in rng.sample(REQUESTS, 10):
        raw = recorded.raw
        for _ in range(number):
            raw = bent(raw, rng)
        request_is_plain(raw)


@pytest.mark.parametrize("number", range(1, 4))
@given(rng=RNG)
def test_on_bent_answers(number: int, rng: random.Random) -> None:
    for recorded in rng.sample(ANSWERS, 10):
        raw = recorded.raw
        for _ in range(number):
            raw = bent(raw, rng)
        answer_is_plain(raw, rng.choice(["GET", "GET", "HEAD"]))


def test_one_wrong_byte_at_every_place_of_a_small_head() -> None:
    request = (
        b"PUT /a HTTP/1.1\r\nHost: b\r\nC: d\r\nConnection: close\r\nContent-Length: 7\r\n\r\n"
    )
    answer = b"HTTP/1.1 200 O\r\nC: d\r\nDate: e\r\nKeep-Alive: f\r\nContent-Length: 7\r\n\r\n"
    for at in range(len(request)):
        for byte in BYTES:
            request_is_plain(request[:at] + byte + request[at + 1 :])
    for at in range(len(answer)):
        for byte in BYTES:
            answer_is_plain(answer[:at] + byte + answer[at + 1 :], "GET")


def test_bending_leaves_enough_that_is_plain() -> None:
    """Otherwise the properties above would hold of nothing."""
    rng = random.Random(1)
    plain = sum(request_is_plain(bent(rng.choice(REQUESTS).raw, rng)) for _ in range(400))
    assert 100 < plain < 350
    plain = sum(answer_is_plain(bent(rng.choice(ANSWERS).raw, rng), "GET") for _ in range(400))
    assert 100 < plain < 350


def test_the_recorded_heads_are_many_and_different() -> None:
    assert len({re.sub(rb"\d", b"", recorded.raw) for recorded in REQUESTS}) >= 60
    assert len({recorded.raw for recorded in ANSWERS}) >= 30


ESCAPES = st.from_regex(
    rb"(?:[!$-$&->@-~\"]|%[0-9A-Fa-f]{2}){0,40}(?:\?[!\"$-~]{0,20})?", fullmatch=True
)


@given(ESCAPES)
def test_every_octet_of_a_target_goes_on_as_it_came(rest: bytes) -> None:
    """RFC 9110 4.2.3: who decodes, encodes or joins it decides for the origin what is the same."""
    raw = head(b"GET /%b HTTP/1.1" % rest, [b"Host: a"])
    assert request_is_plain(raw)
    for sent in both_ways(raw):
        assert sent.startswith(b"GET /%b HTTP/1.1\r\n" % rest)
