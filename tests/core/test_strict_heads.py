"""What the strict reader of heads takes and what it leaves, and that it agrees with h11 on real ones."""

import time

import pytest

from balancer.wire.h11_heads import FIELDS_MAX
from balancer.wire.strict_heads import (
    forwarded_request,
    forwarded_response,
    forwarding_lines,
    plain_request,
    plain_response,
)
from tests.support.head_readings import LIMIT, answer_is_plain, request_is_plain
from tests.support.recorded_heads import ANSWERS, REQUESTS, Recorded


def sender(head: object) -> str:
    return head.sender if isinstance(head, Recorded) else str(head)


@pytest.mark.parametrize("head", REQUESTS, ids=sender)
def test_requests_as_real_programs_send_them(head: Recorded) -> None:
    assert request_is_plain(head.raw) is head.plain


@pytest.mark.parametrize("head", ANSWERS, ids=sender)
def test_answers_as_real_programs_send_them(head: Recorded) -> None:
    assert answer_is_plain(head.raw, "GET") is head.plain
    answer_is_plain(head.raw, "HEAD")


# ---- requests ------------------------------------------------------------------------------------


def test_a_request_is_forwarded_by_edits() -> None:
    raw = b"PUT /a?b HTTP/1.1\r\nhOST:x:80\r\nConnection: Close\r\nContent-Length: 3\r\nA:b\r\n\r\nabc"
    plain = plain_request(raw, LIMIT)
    assert plain is not None
    assert (plain.method, plain.target, plain.host) == ("PUT", "/a?b", "x:80")
    assert (plain.keep_alive, plain.idempotent) == (False, True)
    assert (plain.length, plain.size) == (3, len(raw) - 3)
    assert forwarded_request(
        plain, forwarding_lines(b"192.0.2.1", b"http", b"balancer"), b"id"
    ) == (
        b"PUT /a?b HTTP/1.1\r\nhOST:x:80\r\nContent-Length: 3\r\nA:b\r\n"
        b"X-Forwarded-Host: x:80\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"
        b"X-Real-IP: 192.0.2.1\r\nVia: 1.1 balancer\r\nX-Request-ID: id\r\n\r\n"
    )


@pytest.mark.parametrize(
    "lines",
    [
        b"X-Forwarded-For: 1\r\n", b"x-forwarded-for:1\r\nX-FORWARDED-FOR: 2\r\n", b"Forwarded: a\r\n",
        b"X-Forwarded-Proto: a\r\nX-Forwarded-Host: b\r\n", b"X-Real-IP: a\r\nX-Request-ID: a\r\n",
        b"Proxy: a\r\nProxy-Connection: a\r\n", b"X-Original-URL: /\r\nX-Rewrite-URL: /\r\n",
        b"!#$%&'*+.^`|~0: :\r\n", b"A.b: 1\r\n", b"HTTP2-Settings: a\r\n",
        b"A_B: 1\r\n", b"_: \xe4\r\n", b"Content_Length: 5\r\n", b"Host_: a\r\n", b"Keep-Alive: 5\r\n",
        b"Connection: close\r\nKeep-Alive: 5\r\n", b"Keep-Alive:\r\nConnection: keep-alive\r\nVia: a\r\n",
        b"Connection: keep-alive\r\n", b"connection:KEEP-ALIVE\r\n", b"CONNECTION: CLOSE\r\n",
    ],
)  # fmt: skip
def test_lines_that_go(lines: bytes) -> None:
    for raw in (b"Host: a\r\n" + lines, lines + b"Host: a\r\n", b"Host: a\r\nA: b\r\n" + lines):
        assert request_is_plain(b"GET / HTTP/1.1\r\n" + raw + b"\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"Hosts: a", b"Hos: a", b"X-Host: b", b"Proxy-Authorization: a", b"X-Forward: 1",
        b"X-Forwarding: a", b"Content-Lengths: 5", b"Connections: a", b"Keep-Alives: 1", b"Via: 1.0 a",
        b"Upgrade-Insecure-Requests: 1", b"User-Agent: a", b"TEs: a", b"Closed: a", b"A:", b"A:b",
        b"A: b\tc  d", b"A: \xe4", b"0-9: :", b"Origin: a", b"Content-Type: a", b"authorization:a", b"Origins: a\r\nOrigin: b",
    ],
)  # fmt: skip
def test_lines_that_stay(line: bytes) -> None:
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % line
    assert request_is_plain(raw)
    plain = plain_request(raw, LIMIT)
    assert plain is not None
    assert b"\r\n" + line + b"\r\n" in forwarded_request(plain, b"", b"")


@pytest.mark.parametrize(
    "line",
    [
        b"X-Forwarded-Port: 1", b"x-FORWARDED-a:", b"X-Forwarded-: a", b"Forwarded: a", b"True-Client-IP: a",
        b"X-Original-URL: /a", b"Proxy: a", b"A_b: c", b"A.b: c", b"X-Forwarded-A_b: c", b"Keep-Alive: a",
    ],
)  # fmt: skip
def test_a_line_that_nobody_may_send_goes_alone(line: bytes) -> None:
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\nB: c\r\n\r\n" % line
    assert request_is_plain(raw)
    plain = plain_request(raw, LIMIT)
    assert plain is not None
    assert forwarded_request(plain, b"", b"") == (
        b"GET / HTTP/1.1\r\nHost: a\r\nB: c\r\nX-Forwarded-Host: a\r\n\r\n"
    )
    assert plain_request(raw, LIMIT, frozenset({b"a_b"})) is None


def test_where_some_may_pass_only_heads_that_lack_all_of_them_are_plain() -> None:
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: c\r\n\r\n"
    assert plain_request(raw, LIMIT, frozenset({b"a_b"})) == plain_request(raw, LIMIT)


@pytest.mark.parametrize(
    "line",
    [
        b"Transfer-Encoding: chunked", b"TE: trailers", b"Expect: 100-continue", b"Upgrade: websocket",
        b"Max-Forwards: 0", b"Close: a", b"Via: 1.1 balancer", b"via:1.0 a, 1.1 balancer-1a2b3c4d (b)", b"Host: a", b"host:a", b"Content-Length: +1",
        b"Content-Length: 01", b"Content-Length: -0", b"Content-Length: 1, 1", b"Content-Length:",
        b"Content-Length: 0x1", b"Content-Length: 1 ", b"Content-Length:  1", b"Content-Length: \xb2",
        b"Content-Length: 1_0", b"Content-Length: " + b"1" * 19, b"Content-Length: 1\r\nA: b\r\nContent-Length: 1",
        b"Content-Length: 1\r\nContent-Length: 1", b"Connection: close\r\nConnection: close",
        b"Connection: close\r\nA: b\r\nConnection: keep-alive", b"Connection:", b"Connection: close, x",
        b"Connection: host", b"Connection: closed", b"Connection: keep-alive, close", b"Connection: x",
        b"A : b", b" A: b", b"A: b\r\n c", b"A: b\r\n\tc", b"A: b\nC: d", b"A: b\rC: d", b"A: \0",
        b"A: \x0b", b"A: \x7f", b"A: \x1b", b"A:  b", b"A: b ", b"A: b\t", b"A:\tb", b"A: ", b": b",
        b"Origin: a\r\nORIGIN: a", b"Content-Type: a\r\nB: c\r\nContent-type:b",
        b"Authorization: a\r\nOrigin: b\r\nauthorization: c", b"A", b"A\xe4: b", b"A(: b", b"A: b\r", b"A: b\n", b"\r", b"A_: \0",
    ],
)  # fmt: skip
def test_lines_that_are_left_to_h11(line: bytes) -> None:
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % line
    assert plain_request(raw, LIMIT) is None
    assert plain_request(raw.replace(b"Host: a\r\n", b"Host: a\r\nB: c\r\n"), LIMIT) is None
    assert plain_request(b"GET / HTTP/1.1\r\n%b\r\nHost: a\r\n\r\n" % line, LIMIT) is None


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.0", b"GET / HTTP/1.2", b"GET / HTTP/2.0", b"GET / http/1.1", b"GET /", b"get / HTTP/1.1",
        b"CONNECT / HTTP/1.1", b"TRACE / HTTP/1.1", b"BREW / HTTP/1.1", b"GET  / HTTP/1.1", b" GET / HTTP/1.1",
        b"GET /  HTTP/1.1", b"GET / HTTP/1.1 ", b"GET\t/ HTTP/1.1", b"GET * HTTP/1.1", b"OPTIONS * HTTP/1.1",
        b"GET a HTTP/1.1", b"GET http://a/ HTTP/1.1", b"GET /#a HTTP/1.1", b"GET /\xe4 HTTP/1.1",
        b"GET /\0 HTTP/1.1", b"GET /\x7f HTTP/1.1", b"GET /a b HTTP/1.1", b"\r\nGET / HTTP/1.1", b"GETS / HTTP/1.1", b"GET /% HTTP/1.1", b"GET /%2 HTTP/1.1", b"GET /a%zz?b HTTP/1.1", b"GET /%20%u002e HTTP/1.1",
        b"\nGET / HTTP/1.1", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\n", b"GET HTTP/1.1",
    ],
)  # fmt: skip
def test_request_lines_that_are_left_to_h11(start: bytes) -> None:
    assert plain_request(start + b"\r\nHost: a\r\n\r\n", LIMIT) is None


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        (b"a", True), (b"A.b-c_d~e", True), (b"a:80", True), (b"a:", True), (b"[::1]:8080", False), (b"a.", True), (b".", False),
        (b"a..b", False), (b".a", False), (b"a,b", False), (b"a;b", False), (b"a%2eb", False), (b"a!b", False),
        (b"127.0.0.1:59999", True), (b"a:64999", True), (b"a:0080", True), (b"a:00080", False), (b"a:65000", False),
        (b"a:65536", False), (b"a:99999", False), (b"a:123456", False), (b"a:-1", False), (b"", False),
        (b"a b", False), (b"a/b", False), (b"a@b", False), (b"a, b", False), (b"::1", False), (b"[::1", False),
        (b"\xe4", False), (b":80", False), (b"a:80:80", False), (b"[g]", False), (b"a\\b", False),
    ],
)  # fmt: skip
def test_hosts(host: bytes, plain: bool) -> None:
    assert request_is_plain(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host) is plain


def test_a_head_that_is_not_all_there_is_none() -> None:
    whole = REQUESTS[0].raw
    assert all(plain_request(whole[:length], LIMIT) is None for length in range(len(whole)))
    assert plain_request(whole.replace(b"\r\n", b"\n"), LIMIT) is None


def test_the_number_of_fields_is_bounded() -> None:
    def head(count: int) -> bytes:
        return b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: 1\r\n" * (count - 1) + b"\r\n"

    assert plain_request(head(FIELDS_MAX), LIMIT) is not None
    assert plain_request(head(FIELDS_MAX + 1), LIMIT) is None


# ---- answers -------------------------------------------------------------------------------------


def test_an_answer_is_forwarded_by_edits() -> None:
    raw = (
        b"HTTP/1.1 404 Not Here\r\nConnection: close\r\nKeep-Alive: 5\r\nContent-Length: 3\r\n"
        b"Server:a\r\nX-Request-Id: b\r\n\r\nabc"
    )
    plain = plain_response(raw, "GET", LIMIT)
    assert plain is not None
    assert (plain.status, plain.keep_alive, plain.dated) == (404, False, False)
    assert (plain.chunked, plain.length, plain.size) == (False, 3, len(raw) - 3)
    sent = forwarded_response(plain, b"id", connection=b"close", panic=True, date=b"now")
    assert sent == (
        b"HTTP/1.1 404 Not Here\r\nContent-Length: 3\r\nServer:a\r\n"
        b"Via: 1.1 balancer\r\nX-Request-ID: id\r\nDate: now\r\nConnection: close\r\n"
        b"X-Balancer-Panic: 1\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("lines", "asked", "plain"),
    [
        (b"200 OK\r\nContent-Length: 5", "GET", True),
        (b"200 OK\r\nContent-Length: 5", "HEAD", True),
        (b"200 OK\r\nA_b: c\r\nContent-Length: 0", "GET", True),
        (b"200 OK", "GET", False),
        (b"200 OK", "HEAD", True),
        (b"200 OK\r\nTransfer-Encoding: chunked", "GET", True),
        (b"200 OK\r\nTransfer-Encoding: chunked", "HEAD", False),
        (b"200 OK\r\nTransfer-Encoding: Chunked", "GET", False),
        (b"200 OK\r\nTransfer-Encoding: gzip, chunked", "GET", False),
        (b"200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "GET", False),
        (b"200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", "GET", False),
        (b"200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", "HEAD", False),
        (b"200 OK\r\nContent-Length: 5\r\nA: b\r\nContent-Length: 5", "GET", False),
        (b"200 OK\r\nContent-Length: 5\r\nClose: b\r\nConnection: close", "GET", False),
        (b"204 No Content", "GET", True),
        (b"204 No Content\r\nContent-Length: 0", "GET", False),
        (b"204 No Content\r\nTransfer-Encoding: chunked", "GET", False),
        (b"304 Not Modified", "GET", True),
        (b"304 Not Modified\r\nContent-Length: 5", "GET", False),
        (b"100 Continue", "GET", False),
        (b"101 Switching Protocols\r\nUpgrade: a\r\nConnection: upgrade", "GET", False),
        (b"200 OK\r\nUpgrade: h2c\r\nContent-Length: 5", "GET", True),
        (b"200 OK\r\nContent-Length: 5\r\nConnection: x", "GET", False),
        (b"200 OK\r\nContent-Length: 5\r\nConnection: close\r\nConnection: close", "GET", False),
        (b"200\r\nContent-Length: 5", "GET", False),
        (b"200 \r\nContent-Length: 5", "GET", True),
        (b"200 \xe4\tb\r\nContent-Length: 5", "GET", True),
        (b"200 a\x1bb\r\nContent-Length: 5", "GET", False),
        (b"200 a\nb\r\nContent-Length: 5", "GET", False),
        (b"600 a\r\nContent-Length: 5", "GET", False),
        (b"200 OK\r\nContent-Length: 05", "GET", False),
        (b"200 OK\r\nContent-Length: 5\r\nA: b\r\n c", "GET", False),
        (b"200 OK\r\nContent-Length: 5\r\nA : b", "GET", False),
        (b"200 OK\r\nContent-Length: 5\r\nA: b\nC: d", "GET", False),
        (b"200 OK\r\nContent-Length: 5\r\nA: \0", "GET", False),
    ],
)
def test_answers(lines: bytes, asked: str, plain: bool) -> None:
    assert answer_is_plain(b"HTTP/1.1 " + lines + b"\r\n\r\n", asked) is plain
    assert not answer_is_plain(b"HTTP/1.0 " + lines + b"\r\n\r\n", asked)


# ---- time ----------------------------------------------------------------------------------------

FILL = 64_000
HOSTILE = {
    "a long value": b"A: " + b"b" * FILL,
    "a long value that ends in a blank": b"A: " + b"b" * FILL + b" ",
    "blanks": b"A:" + b" " * FILL,
    "blanks and tabs in turn": b"A: b" + b" \t" * (FILL // 2),
    "a long name": b"a" * FILL + b": b",
    "a name without its colon": b"a" * FILL,
    "a name of underscores": b"_" * FILL + b": b",
    "a name of underscores without its colon": b"a_" * (FILL // 2),
    "many short lines": b"A:\r\n" * (FILL // 4) + b"B: c",
    "many lines, the last one bad": b"A: b\r\n" * 120 + b"A" * FILL,
    "lines that nearly have a special name": b"X-Forwarded-Fo: b\r\n" * 120 + b"\0",
    "lines that go": b"X-Forwarded-For: b\r\n" * 120 + b"\0",
    "lines that go, and long ones": (b"A_: " + b"b" * (FILL // 120) + b"\r\n") * 120 + b"\0",
    "a long host": b"Host: " + b"a" * FILL,
    "a long length": b"Content-Length: " + b"1" * FILL,
    "line ends": b"\r\n" * (FILL // 2),
    "carriage returns": b"\r" * FILL,
    "colons": b":" * FILL,
}


@pytest.mark.parametrize("lines", HOSTILE.values(), ids=HOSTILE)
def test_no_head_takes_long(lines: bytes) -> None:
    """Under a millisecond each; what is quadratic would take seconds for these.

    Some other work may come between, once or twice.
    """

    def spent() -> float:
        began = time.process_time()
        for before in (b"GET / HTTP/1.1\r\n", b"GET /" + b"a" * FILL + b" HTTP/1.1\r\nHost: a\r\n"):
            plain_request(before + lines + b"\r\n\r\n", 2 * LIMIT)
            plain_request(before + lines, 2 * LIMIT)
        for before in (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 " + b"a" * FILL + b"\r\n"):
            plain_response(before + lines + b"\r\n\r\n", "GET", 2 * LIMIT)
            plain_response(before + lines, "GET", 2 * LIMIT)
        return time.process_time() - began

    assert min(spent() for _ in range(5)) < 0.1
