"""Heads in their plain form, each read by one pattern and passed on by few edits of its bytes.

Decides only whether a head is plain: None means that h11 and the rules of `core` judge it, never
that it is wrong. What is accepted here, they accept too, with the same fields, framing and host;
what is forwarded means the same as what `balancer.core.fields` writes. For strangers' requests
only: what a trusted proxy says of its client is not read here.

Each line is accepted by one alternative of its pattern at most, and every repetition is of single
characters and never given back, so a pattern reads each byte a bounded number of times.
"""

import re
from collections.abc import Collection, Iterable
from itertools import groupby
from typing import NamedTuple, TypeAlias

from balancer.core.field_names import (
    CLAIM_PREFIX,
    CLAIMS,
    OBEYED,
    PSEUDONYM,
    REWRITTEN_DOWN,
    REWRITTEN_UP,
)
from balancer.core.framing import BODILESS, LENGTH_DIGITS_MAX
from balancer.core.message import IDEMPOTENT
from balancer.core.request_rules import HOST_NAME, SENT_ONCE
from balancer.wire.h11_heads import FIELDS_MAX

Data: TypeAlias = bytes | bytearray


class PlainRequest(NamedTuple):
    """A request with at most a Content-Length body, from HTTP/1.1, in origin form.

    `size` is how many bytes the head took, `length` how many of a body follow; `kept` what of the
    head goes to the backend, for `forwarded_request`.
    """

    method: str
    target: str
    host: str
    keep_alive: bool
    idempotent: bool
    length: int
    size: int
    kept: bytes


class PlainResponse(NamedTuple):
    """A final answer whose body is in chunks or `length` bytes long.

    `size` is how many bytes the head took; `dated` whether it has a Date; `kept` what of the head
    goes to the client, for `forwarded_response`.
    """

    status: int
    keep_alive: bool
    dated: bool
    chunked: bool
    length: int
    size: int
    kept: bytes


# ---- grammar -------------------------------------------------------------------------------------


def _any_of(names: Iterable[bytes]) -> bytes:
    """One of these field names in any case; by first letters, so that most lines fail at once."""
    by_letter = groupby(sorted(names), key=lambda name: name[:1])
    return b"|".join(
        b"[%b%b](?i:%b)"
        % (letter.upper(), letter, b"|".join(re.escape(name[1:]) for name in group))
        for letter, group in by_letter
    )


# RFC 9110 5.6.2, in the two parts of balancer.core.fields: names of the first alone go up.
_SAFE = rb"0-9A-Za-z-"
_TCHAR = rb"!#$%&'*+.^_`|~" + _SAFE
# RFC 9110 5.5, with at most one blank before the value and none behind it.
_VALUE = rb"\x20?+(?![\t\x20])[\t\x20-\x7e\x80-\xff]*+(?<![\t\x20])"
_ODD_NAME = rb"[%b]*+[!#$%%&'*+.^_`|~][%b]*+" % (_SAFE, _TCHAR)
# RFC 9112 3.2.1, with whole escapes in the path; a fragment is none.
_TARGET = rb'/[!"$&->@-~]*+(?:%[0-9A-Fa-f]{2}[!"$&->@-~]*+)*+(?:\?[!"$-~]*+)?'
# As in balancer.core.request_rules; the last few ports and IPv6 are left to it.
_PORT = rb"(?:[1-5]?[0-9]{1,4}|6[0-4][0-9]{3})?"
_HOST = rb"%b(?::%b)?" % (HOST_NAME.encode("ascii"), _PORT)
_LENGTH = rb"0|[1-9][0-9]{0,%d}" % (LENGTH_DIGITS_MAX - 1)
# More options than one of these may name fields that must go.
_CONNECTION = rb"[Cc](?i:onnection):\x20?+(?i:(close)|keep-alive)"
# A field of that name must go if Connection says so, and this is the only such name here.
_NAMED_BY_OPTION = frozenset({b"close"})


def _first(group: int) -> bytes:
    """Matches as long as a group, numbered since it stands further on, has not been set."""
    return rb"(?(%d)(?!))" % group


def _head(start: bytes, special: bytes, name: bytes, *lines: bytes) -> re.Pattern[bytes]:
    """A start line, then fields: of a `name` that is not special, or one of `lines`."""
    plain = rb"(?!(?:%b):)%b:%b" % (special, name, _VALUE)
    return re.compile(
        rb"%b(?:\r\n(?:%b)){0,%d}\r\n\r\n" % (start, b"|".join((plain, *lines)), FIELDS_MAX)
    )


# A line of such a name, in a head that is known to be plain.
_DROPPED_LINE = rb"\r\n(?:%b):[^\r]*+"
_LINE_END = len(b"\r\n")
_END = 2 * _LINE_END


def _kept(
    data: Data,
    head: re.Match[bytes],
    connection: bytes | None,
    dropped: bytes | None,
    unwanted: re.Pattern[bytes],
) -> bytes:
    """The head up to its last line end, without what must go; `unwanted` finds all of that."""
    end = head.end() - _END
    if dropped is not None:
        return unwanted.sub(b"", data[:end])
    if connection is not None:
        return bytes(data[: head.start(4) - _LINE_END] + data[head.end(4) : end])
    return bytes(data[:end])


# ---- requests ------------------------------------------------------------------------------------

_METHODS = {
    method.encode("ascii"): method
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
}
# These ask for something of us, so they are not merely dropped.
_JUDGED_UP = frozenset({b"transfer-encoding", b"expect", b"te", b"upgrade", b"max-forwards"})
_READ_UP = frozenset({b"host", b"content-length", b"connection"})
_CLAIM = rb"(?i:%b)[%b]*+" % (CLAIM_PREFIX, _SAFE)
_NEVER_COPIED = {
    name for name in REWRITTEN_UP | CLAIMS | OBEYED if not name.startswith(CLAIM_PREFIX)
}
_CUT_UP = rb"%b|%b|%b" % (_any_of(_NEVER_COPIED - _JUDGED_UP - _READ_UP), _CLAIM, _ODD_NAME)
_REQUEST = _head(
    rb"(%b) (%b) HTTP/1\.1" % (b"|".join(_METHODS), _TARGET),
    rb"%b|%b"
    % (_any_of(_NEVER_COPIED | _JUDGED_UP | _NAMED_BY_OPTION | SENT_ONCE | {b"via"}), _CLAIM),
    rb"[%b]++" % _SAFE,
    rb"[Hh](?i:ost):\x20?+%b(%b)" % (_first(3), _HOST),
    rb"%b(%b)" % (_first(4), _CONNECTION),
    rb"[Cc](?i:ontent-length):\x20?+%b(%b)" % (_first(6), _LENGTH),
    *(
        rb"%b(%b:)%b" % (_first(group), _any_of([name]), _VALUE)
        for group, name in enumerate(sorted(SENT_ONCE), start=7)
    ),
    # One that may name us could be a loop.
    rb"[Vv](?i:ia):(?![^\r]*%b)%b" % (PSEUDONYM, _VALUE),
    rb"((?:%b):)%b" % (_CUT_UP, _VALUE),
)
_NOT_UP = re.compile(_DROPPED_LINE % (rb"[Cc](?i:onnection)|" + _CUT_UP))


def plain_request(data: Data, limit: int, allowed: Collection[bytes] = ()) -> PlainRequest | None:
    """The request whose head `data` begins with, of at most `limit` bytes.

    None where it is longer, not plain, or not all there; and where it has fields that are dropped,
    if any of those are `allowed`.
    """
    head = _REQUEST.match(data, 0, limit)
    if head is None:
        return None
    method_sent, target, host, connection, close, length, _, _, _, dropped = head.groups()
    if host is None or (dropped is not None and allowed):
        return None
    method = _METHODS[method_sent]
    return PlainRequest(
        method,
        target.decode("ascii"),
        host.decode("ascii"),
        close is None,
        method in IDEMPOTENT,
        0 if length is None else int(length),
        head.end(),
        _kept(data, head, connection, dropped, _NOT_UP) + b"\r\nX-Forwarded-Host: " + host,
    )


def forwarding_lines(
    client: bytes, scheme: bytes, pseudonym: bytes, certificate: tuple[bytes, ...] = ()
) -> bytes:
    """What is said of every request of one connection: who its client is, and by what it came."""
    more = b"".join(b"\r\n" + line for line in certificate)
    return (
        b"%b\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Real-IP: %b\r\nVia: 1.1 %b"
        b"\r\nX-Request-ID: " % (more, client, scheme, client, pseudonym)
    )


def forwarded_request(plain: PlainRequest, lines: bytes, request_id: bytes) -> bytes:
    """The head that goes to the backend, end of head included; `lines` of `forwarding_lines`."""
    return b"".join((plain.kept, lines, request_id, b"\r\n\r\n"))


# ---- answers -------------------------------------------------------------------------------------

_STATUSES = {b"%d" % status: status for status in range(200, 600)}
_READ_DOWN = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_CUT_DOWN = _any_of(REWRITTEN_DOWN - _READ_DOWN)
_RESPONSE = _head(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) [\t\x20-\x7e\x80-\xff]*+",
    _any_of(REWRITTEN_DOWN | _NAMED_BY_OPTION | {b"date"}),
    rb"[%b]++" % _TCHAR,
    rb"([Dd])(?i:ate):%b" % _VALUE,
    rb"[Cc](?i:ontent-length):\x20?+%b(%b)" % (_first(3), _LENGTH),
    rb"%b(%b)" % (_first(4), _CONNECTION),
    rb"[Tt](?i:ransfer-encoding):\x20?+%b(chunked)" % _first(6),
    rb"((?:%b):)%b" % (_CUT_DOWN, _VALUE),
)
_NOT_DOWN = re.compile(_DROPPED_LINE % (rb"[Cc](?i:onnection)|" + _CUT_DOWN))


def plain_response(data: Data, method: str, limit: int) -> PlainResponse | None:
    """The answer to a `method` request whose head, of at most `limit` bytes, `data` begins with.

    None where it is longer, not plain, not all there, or its body would end with the connection.
    """
    head = _RESPONSE.match(data, 0, limit)
    if head is None:
        return None
    status_sent, dated, length, connection, close, chunked, dropped = head.groups()
    status = _STATUSES[status_sent]
    bodiless = status in BODILESS
    if bodiless or method == "HEAD":
        if chunked is not None or (bodiless and length is not None):
            return None
    elif (length is None) is (chunked is None):
        return None
    return PlainResponse(
        status,
        close is None,
        dated is not None,
        chunked is not None,
        0 if length is None or method == "HEAD" else int(length),
        head.end(),
        _kept(data, head, connection, dropped, _NOT_DOWN),
    )


def forwarded_response(
    plain: PlainResponse,
    request_id: bytes,
    *,
    connection: bytes | None = None,
    panic: bool = False,
    date: bytes | None = None,
    hsts: bytes = b"",
) -> bytes:
    """The head that goes to an HTTP/1.1 client; arguments as of `fields.response_bytes`."""
    more = b""
    if date is not None:
        more = b"\r\nDate: " + date
    if connection is not None:
        more += b"\r\nConnection: " + connection
    if hsts and b"\r\nstrict-transport-security:" not in plain.kept.lower():
        more += b"\r\nStrict-Transport-Security: " + hsts
    if panic:
        more += b"\r\nX-Balancer-Panic: 1"
    return b"".join((plain.kept, _MADE_DOWN, request_id, more, b"\r\n\r\n"))


_MADE_DOWN = b"\r\nVia: 1.1 %b\r\nX-Request-ID: " % PSEUDONYM
