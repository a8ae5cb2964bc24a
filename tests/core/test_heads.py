"""Heads: strict to the byte, and of one mind with h11 and httptools about what passes."""

import h11
import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from balancer.core.framing import BodyKind, request_framing
from balancer.core.message import BadMessage, Fields
from balancer.core.request_rules import canonical
from balancer.wire.h11_heads import (
    FIELDS_MAX,
    parse_request_head,
    parse_response_head,
    parse_trailer_line,
)


def refused(raw: bytes) -> int:
    with pytest.raises(BadMessage) as caught:
        parse_request_head(raw)
    return caught.value.status


def test_a_request_keeps_order_and_spelling() -> None:
    head = parse_request_head(b"PATCH /a?b HTTP/1.1\r\nhOST: x\r\nA:\t 1 \t\r\nb:\r\nA:2\r\n\r\n")
    assert (head.method, head.target, head.minor) == ("PATCH", "/a?b", 1)
    assert head.fields == ((b"hOST", b"x"), (b"A", b"1"), (b"b", b""), (b"A", b"2"))


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\n", b"GET  / HTTP/1.1\r\n", b"GET /  HTTP/1.1\r\n", b" GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1 \r\n", b"GET\t/ HTTP/1.1\r\n", b"GET / http/1.1\r\n", b"GET / HTTP/1.1\r\r\n",
        b"GET / HTTP/11\r\n", b"GET / HTTP/1.10\r\n", b"GET /\r\n", b"GET  HTTP/1.1\r\n",
        b"G\xc3T / HTTP/1.1\r\n", b"G(T / HTTP/1.1\r\n", b"GET /\xc3 HTTP/1.1\r\n", b"\r\n",
        b"GET /\x7f HTTP/1.1\r\n", b"GET /a b HTTP/1.1\r\n", b"GET /\x00 HTTP/1.1\r\n", b"",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
)  # fmt: skip
def test_request_lines_that_are_none(line: bytes) -> None:
    assert refused(line + b"Host: a\r\n\r\n") == 400


@pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"3.0"])
def test_other_versions_are_named_as_such(version: bytes) -> None:
    assert refused(b"GET / HTTP/" + version + b"\r\nHost: a\r\n\r\n") == 505


@pytest.mark.parametrize(
    "lines",
    [
        b"A : 1\r\n", b" A: 1\r\n", b"A: 1\r\n folded\r\n", b"A: 1\r\n\tfolded\r\n", b"A: 1\n",
        b"A: 1\rB: 2\r\n", b"A: \x00\r\n", b"A: \x0b\r\n", b"A: \x1b[31m\r\n", b"A: \x7f\r\n", b"A\r\n",
        b": 1\r\n", b"A(: 1\r\n", b"\xe4: 1\r\n", b"A: 1\r\r\n", b"A: 1\n\n", b"Content-Length: 1, 1\r\n",
        b"Content-Length: 1\r\nContent-Length: 1\r\n", b"Content-Length: 1\r\ncontent-length:1\r\n",
        b"Content-Length: +1\r\n", b"Content-Length:\r\n", b"Content-Length: 1\x0b\r\n", b"Host: b\r\n",
        b"Content-Length: " + b"1" * 21 + b"\r\n",
    ],
)  # fmt: skip
def test_field_lines_that_are_none(lines: bytes) -> None:
    assert refused(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n") == 400
    with pytest.raises(BadMessage) as caught:
        parse_response_head(b"HTTP/1.1 200 OK\r\n" + lines.replace(b"Host: b", b"\0") + b"\r\n")
    assert caught.value.status == 502


def test_http_1_1_needs_a_host_and_1_0_does_not() -> None:
    assert refused(b"GET / HTTP/1.1\r\n\r\n") == 400
    assert parse_request_head(b"GET / HTTP/1.0\r\n\r\n").minor == 0


@pytest.mark.parametrize(
    ("coding", "status"),
    [
        (b"gzip, chunked", 501),
        (b"gzip\r\nTransfer-Encoding: chunked", 501),
        (b"gzip", 400),
        (b"chunked\r\nTransfer-Encoding: x", 400),
        (b"chunked\r\nContent-Length: 5", 400),
    ],
)
def test_other_transfer_codings_are_refused_before_h11_sees_them(
    coding: bytes, status: int
) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: " + coding + b"\r\n\r\n"
    assert refused(head) == status


def test_the_number_of_fields_is_bounded() -> None:
    def head(count: int) -> bytes:
        return b"GET / HTTP/1.1\r\n" + b"Host: a\r\n" + b"A: 1\r\n" * (count - 1) + b"\r\n"

    assert len(parse_request_head(head(FIELDS_MAX)).fields) == FIELDS_MAX
    assert refused(head(FIELDS_MAX + 1)) == 431


def test_a_head_without_its_end_or_with_more_behind_it_is_refused() -> None:
    assert refused(b"GET / HTTP/1.1\r\nHost: a\r\n") == 400
    assert refused(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nx") == 400


# ---- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "status", "reason", "minor"),
    [
        (b"HTTP/1.1 200 OK", 200, b"OK", 1),
        (b"HTTP/1.0 404 Not Found", 404, b"Not Found", 0),
        (b"HTTP/1.1 204 ", 204, b"", 1),
        (b"HTTP/1.1 204", 204, b"", 1),
        (b"HTTP/1.1 299 \xe4", 299, b"\xe4", 1),
        (b"HTTP/1.1 100 Continue", 100, b"Continue", 1),
        (b"HTTP/1.1 103 Early Hints", 103, b"Early Hints", 1),
        (b"HTTP/1.1 101 Switching Protocols", 101, b"Switching Protocols", 1),
    ],
)
def test_status_lines(line: bytes, status: int, reason: bytes, minor: int) -> None:
    head = parse_response_head(line + b"\r\nServer: a\r\n\r\n")
    assert (head.status, head.reason, head.minor) == (status, reason, minor)
    assert head.fields == ((b"Server", b"a"),)
    assert head.switches is (status == 101)


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1  200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 099 x",
        b"HTTP/1.1 600 x", b"HTTP/2 200", b"HTTP/1.2 200 OK", b"http/1.1 200 OK", b"200 OK",
        b"HTTP/1.1 200 a\x1bb", b"HTTP/1.1 200 a\rb", b" HTTP/1.1 200 OK", b"HTTP/1.1 2OO OK", b"",
    ],
)  # fmt: skip
def test_status_lines_that_are_none(line: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        parse_response_head(line + b"\r\n\r\n")
    assert caught.value.status == 502


def test_an_answer_in_an_unknown_coding_is_the_backends_fault() -> None:
    with pytest.raises(BadMessage) as caught:
        parse_response_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n")
    assert caught.value.status == 502


# ---- trailers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"A: 1", (b"A", b"1")),
        (b"A:1", (b"A", b"1")),
        (b"A: \t 1 2 \t", (b"A", b"1 2")),
        (b"A:", (b"A", b"")),
        (b"A:   ", (b"A", b"")),
        (b"a: b: c", (b"a", b"b: c")),
    ],
)
def test_trailer_lines(line: bytes, field: tuple[bytes, bytes]) -> None:
    assert parse_trailer_line(line) == field


@pytest.mark.parametrize(
    "line", [b"", b"A", b"A : 1", b" A: 1", b"A: \x00", b"A: \r", b": 1", b"A: 1\n", b"\xe4: 1"]
)
def test_trailer_lines_that_are_none(line: bytes) -> None:
    with pytest.raises(BadMessage):
        parse_trailer_line(line)


@pytest.mark.timeout(5)
def test_a_line_of_blanks_takes_no_time() -> None:
    """A pattern with blanks on both sides of the value would need hours for this line."""
    for line in (
        b"A:" + b" " * 16_000 + b"\x01",
        b"A:" + b" \t" * 8_000 + b"b" + b" " * 9 + b"\x01",
    ):
        with pytest.raises(BadMessage):
            parse_trailer_line(line)
        with pytest.raises(BadMessage):
            parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")


# ---- against other readers -----------------------------------------------------------------------


def h11_reads(raw: bytes) -> h11.Request | None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None


class _Told:
    """What httptools tells of a request."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


def httptools_reads(raw: bytes) -> tuple[str, str, str, Fields]:
    told = _Told()
    parser = httptools.HttpRequestParser(told)
    parser.feed_data(raw)
    assert told.complete
    method, version = parser.get_method().decode(), parser.get_http_version()
    return method, told.url.decode(), version, tuple(told.fields)


TOKEN = "!#$%&'*+.^_`|~-09AZaz"
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
TEXT = "\t " + VISIBLE + "".join(map(chr, range(0x80, 0x100)))


def bytes_of(alphabet: str, least: int, most: int) -> st.SearchStrategy[bytes]:
    return st.text(alphabet, min_size=least, max_size=most).map(lambda text: text.encode("latin-1"))


METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"OPTIONS", b"DELETE"])
TARGETS = bytes_of(VISIBLE, 0, 20).map(lambda rest: b"/" + rest)
NAMES = st.one_of(
    bytes_of(TOKEN, 1, 12),
    st.sampled_from([b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"TE"]),
)
VALUES = st.one_of(
    bytes_of(TEXT, 0, 20),
    st.sampled_from([b"1", b"7 ", b"chunked", b"Chunked", b"close", b"gzip", b"1, 1", b"", b"\t"]),
)
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from([b":", b": ", b":\t "]), VALUES), max_size=8)
HEADS = st.builds(
    lambda method, target, version, fields: (
        b"%s %s HTTP/%s\r\nHost: a\r\n" % (method, target, version)
        + b"".join(name + colon + value + b"\r\n" for name, colon, value in fields)
        + b"\r\n"
    ),
    METHODS,
    TARGETS,
    st.sampled_from([b"1.1", b"1.0"]),
    FIELDS,
)
# What smuggles: a byte too many, too few, or another one.
SPANNERS = st.sampled_from(
    [b"", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\0", b"\x0b", b":", b"\x7f", b"\xa0", b"\x85", b","]
)


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """A head in which one byte is replaced, or something put in."""
    raw = draw(HEADS)
    at = draw(st.integers(0, len(raw)))
    return raw[:at] + draw(SPANNERS) + raw[at + draw(st.integers(0, 1)) :]


@given(st.one_of(HEADS, bent()))
def test_what_passes_here_means_the_same_to_h11_and_to_the_letter(raw: bytes) -> None:
    try:
        head = parse_request_head(raw)
    except BadMessage:
        return
    event = h11_reads(raw)
    assert event is not None
    assert head.method.encode() == event.method
    assert head.target.encode() == event.target
    assert head.fields == tuple(event.headers.raw_items())
    line, *lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert line == b"%s %s HTTP/1.%d" % (event.method, event.target, head.minor)
    as_sent = [(name, value.strip(b" \t")) for name, _, value in (x.partition(b":") for x in lines)]
    # h11 writes a transfer coding in lower case; nothing else is touched.
    assert [(n, v.lower() if n.lower() == b"transfer-encoding" else v) for n, v in as_sent] == list(
        head.fields
    )


@given(st.one_of(HEADS, bent()))
@example(b"POST :/ HTTP/1.1\r\nHost: a\r\n\r\n")
def test_what_is_framed_here_means_the_same_to_httptools(raw: bytes) -> None:
    """A request with an accepted framing is read by llhttp with the same fields."""
    try:
        head = parse_request_head(raw)
        framing = request_framing(head)
    except BadMessage:
        return
    if head.method not in ("GET", "POST", "PUT", "OPTIONS", "DELETE"):
        return  # llhttp knows methods by name
    if framing.kind is BodyKind.LENGTH and framing.length > 10**15:
        return
    if b"\r\nupgrade" in raw.lower() or b"\r\nproxy-connection" in raw.lower():
        return
    try:
        method, target, version, fields = httptools_reads(raw)
    except httptools.HttpParserInvalidURLError:
        with pytest.raises(BadMessage):
            canonical(head)
        return
    assert (method, target, version) == (head.method, head.target, f"1.{head.minor}")
    assert [name.lower() for name, _ in fields] == [name.lower() for name, _ in head.fields]
    for (name, theirs), (_, ours) in zip(fields, head.fields, strict=True):
        if name.lower() != b"transfer-encoding":
            assert theirs.strip(b" \t") == ours


@given(HEADS)
def test_the_unusual_but_plain_is_not_refused(raw: bytes) -> None:
    """Only framing, Host and connection fields can make a head of plain lines unacceptable."""
    lower = raw.lower()
    if lower.count(b"\r\nhost:") > 1 or b"\r\ncontent-length:" in lower:
        return
    if b"\r\ntransfer-encoding:" in lower:
        return
    parse_request_head(raw)


@given(
    st.integers(100, 599),
    bytes_of(TEXT, 0, 20),
    FIELDS,
    st.one_of(st.none(), st.tuples(st.integers(0, 200), SPANNERS)),
)
def test_an_answer_that_passes_means_the_same_to_h11(
    status: int,
    reason: bytes,
    fields: list[tuple[bytes, bytes, bytes]],
    spanner: tuple[int, bytes] | None,
) -> None:
    lines = b"".join(name + colon + value + b"\r\n" for name, colon, value in fields)
    raw = b"HTTP/1.1 %d %s\r\n%s\r\n" % (status, reason, lines)
    if spanner is not None:
        raw = raw[: spanner[0]] + spanner[1] + raw[spanner[0] :]
    try:
        head = parse_response_head(raw)
    except BadMessage:
        return
    connection = h11.Connection(h11.CLIENT)
    offer = [("Host", "a"), ("Upgrade", "x"), ("Connection", "upgrade")]
    connection.send(h11.Request(method="GET", target="/", headers=offer))
    connection.send(h11.EndOfMessage())
    connection.receive_data(raw)
    event = connection.next_event()
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    assert (event.status_code, bytes(event.reason)) == (head.status, head.reason)
    assert tuple(event.headers.raw_items()) == head.fields
