"""Holds the strict reader of heads against h11 with the rules of the core, and what both forward."""

import httptools

from balancer.core.field_names import PSEUDONYM
from balancer.core.fields import head_length_of, request_bytes, response_bytes
from balancer.core.forwarding import Hop
from balancer.core.framing import (
    BodyKind,
    downstream_framing,
    request_framing,
    response_framing,
    wants_keep_alive,
)
from balancer.core.message import IDEMPOTENT
from balancer.core.request_rules import canonical
from balancer.wire.h11_heads import parse_request_head, parse_response_head
from balancer.wire.strict_heads import (
    forwarded_request,
    forwarded_response,
    forwarding_lines,
    plain_request,
    plain_response,
)

LIMIT = 64 * 1024
CLIENT, REQUEST_ID, DATE = b"203.0.113.7", b"0123456789abcdef", b"Mon, 15 Apr 2024 12:00:00 GMT"
Lines = tuple[bytes, list[tuple[bytes, bytes]]]


def lines_of(raw: bytes) -> Lines:
    """The start line, and the fields without case of names, order and blanks around values."""
    assert raw.endswith(b"\r\n\r\n")
    start, *lines = raw[:-4].split(b"\r\n")
    fields = [line.split(b":", 1) for line in lines]
    return start, sorted((name.lower(), value.strip(b" \t")) for name, value in fields)


class _Told:
    """What httptools, which is llhttp, tells of a message."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


def fields_by_llhttp(raw: bytes) -> list[tuple[bytes, bytes]]:
    told = _Told()
    httptools.HttpRequestParser(told).feed_data(raw)
    assert told.complete
    return sorted(told.fields)


def both_ways(raw: bytes) -> tuple[bytes, bytes]:
    """What goes to the backend for a plain head: by the short way, and by the other one."""
    plain = plain_request(raw, LIMIT)
    assert plain is not None
    head, _ = canonical(parse_request_head(raw))
    hop = Hop(
        peer=CLIENT,
        client=CLIENT,
        trusted=False,
        scheme=b"http",
        host=plain.host.encode("ascii"),
        request_id=REQUEST_ID,
    )
    ours = forwarded_request(plain, forwarding_lines(CLIENT, b"http", PSEUDONYM), REQUEST_ID)
    return ours, request_bytes(head, request_framing(head), hop)


def request_is_plain(data: bytes) -> bool:
    """Whether the strict reader takes it; if so, h11 and the core must take it for the same."""
    plain = plain_request(data, LIMIT)
    if plain is None:
        return False
    raw = data[: plain.size]
    head, host = canonical(parse_request_head(raw))
    framing = request_framing(head)
    assert head.minor == 1
    assert not head.values(b"expect")
    assert framing.kind in (BodyKind.NONE, BodyKind.LENGTH)
    assert (plain.method, plain.target, plain.host) == (head.method, head.target, host)
    assert plain.length == framing.length
    assert plain.keep_alive is wants_keep_alive(head.minor, head.fields)
    assert plain.idempotent is (head.method in IDEMPOTENT)

    ours, theirs = both_ways(raw)
    assert lines_of(ours) == lines_of(theirs)
    backends = parse_request_head(ours)
    assert request_framing(backends) == framing
    assert fields_by_llhttp(ours) == lines_of(ours)[1]

    assert plain_request(bytearray(data), LIMIT) == plain
    assert plain_request(raw + b"\r\nGET /2 HTTP/1.1\r\n", LIMIT) == plain
    assert plain_request(data, plain.size) == plain
    assert plain_request(data, plain.size - 1) is None
    return True


def answer_is_plain(data: bytes, method: str) -> bool:
    """Whether the strict reader takes it; if so, h11 and the core must take it for the same."""
    plain = plain_response(data, method, LIMIT)
    if plain is None:
        return False
    head = parse_response_head(data[: plain.size])
    framing = response_framing(head, method)
    assert head.minor == 1
    assert not head.interim
    assert plain.status == head.status
    assert framing.kind is not BodyKind.UNTIL_CLOSE
    assert plain.chunked is (framing.kind is BodyKind.CHUNKED)
    assert plain.length == framing.length
    assert plain.keep_alive is wants_keep_alive(head.minor, head.fields)
    assert plain.dated is bool(head.values(b"date"))

    date = None if plain.dated else DATE
    for connection in (None, b"close"):
        for panic in (False, True):
            ours = forwarded_response(
                plain, REQUEST_ID, connection=connection, panic=panic, date=date
            )
            theirs = response_bytes(
                head,
                downstream_framing(framing, 1),
                request_id=REQUEST_ID,
                connection=connection,
                head_length=head_length_of(head, method),
                panic=panic,
                date=date,
            )
            assert lines_of(ours) == lines_of(theirs)
            assert response_framing(parse_response_head(ours), method) == framing

    assert plain_response(bytearray(data), method, LIMIT) == plain
    assert plain_response(data[: plain.size] + b"\r\nHTTP/1.1 ", method, LIMIT) == plain
    assert plain_response(data, method, plain.size) == plain
    assert plain_response(data, method, plain.size - 1) is None
    return True
