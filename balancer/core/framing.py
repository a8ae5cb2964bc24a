"""Where a body ends (RFC 9112 6), and whether the connection can carry another message.

Stricter than the RFC demands of a recipient: whatever two readers could frame differently is
refused, never repaired.
"""

import re
from dataclasses import dataclass
from enum import Enum

from balancer.core.message import TOKEN, BadMessage, Fields, RequestHead, ResponseHead, tokens

# 2^63-1 has 19 digits; anything longer is an attack on somebody's integer.
LENGTH_DIGITS_MAX = 18
# RFC 9110 15.3.5 and 15.4.5: the final statuses whose answers end with their head.
BODILESS = frozenset({204, 304})
# A name, and any parameters of it (RFC 9112 7); chunked may not be applied twice.
_CODING = re.compile(rb"(?!chunked\b)%b(?:[\t ]*;[^,]*)?" % TOKEN)


class BodyKind(Enum):
    """How the end of a body is told."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


@dataclass(frozen=True, slots=True)
class Framing:
    """The kind and, for LENGTH, the number of bytes."""

    kind: BodyKind
    length: int = 0


NO_BODY = Framing(BodyKind.NONE)
CHUNKED = Framing(BodyKind.CHUNKED)
UNTIL_CLOSE = Framing(BodyKind.UNTIL_CLOSE)


def request_framing(head: RequestHead) -> Framing:
    """Frame a request's body; BadMessage 400 or 501 where it is not plain (RFC 9112 6.1, 6.3)."""
    lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    if lengths and codings:
        raise BadMessage(400, "Content-Length and Transfer-Encoding together may be read two ways")
    if codings and head.minor == 0:
        raise BadMessage(400, "Transfer-Encoding does not exist in HTTP/1.0")
    if codings:
        if not _is_chunked(codings):
            raise _coding_refused(codings)
        return CHUNKED
    return Framing(BodyKind.LENGTH, _length(lengths, 400)) if lengths else NO_BODY


def expects_continue(head: RequestHead, framing: Framing) -> bool:
    """Whether the client holds its body back until it is told to go on (RFC 9110 10.1.1).

    What HTTP/1.0 expects, or who sends no body, is to be ignored. BadMessage 417: nobody knows any
    other expectation, and some readers look for this one within it.
    """
    sent = head.values(b"expect")
    if not sent or head.minor == 0:
        return False
    if len(sent) > 1 or sent[0].lower() != b"100-continue":
        raise BadMessage(417, "nothing but 100-continue can be expected here")
    return framing.kind is BodyKind.CHUNKED or framing.length > 0


def response_framing(head: ResponseHead, method: str) -> Framing:
    """Frame the body of the answer to a `method` request; BadMessage 502 where it is not plain."""
    lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    if lengths and codings:
        raise BadMessage(502, "the answer has both Content-Length and Transfer-Encoding")
    length = _length(lengths, 502) if lengths else 0
    if head.interim and announces_body(head):
        raise BadMessage(502, "an interim answer announces a body")
    if method == "HEAD" or head.interim or head.status in BODILESS:
        return NO_BODY
    if lengths:
        return Framing(BodyKind.LENGTH, length)
    if not codings:
        return UNTIL_CLOSE
    if head.minor == 0:
        raise BadMessage(502, "the answer uses Transfer-Encoding in HTTP/1.0")
    if not _is_chunked(codings):
        raise BadMessage(502, "the answer has a transfer coding other than chunked")
    return CHUNKED


def announces_body(head: ResponseHead) -> bool:
    """Whether an answer says that a body follows where none may (RFC 9112 6.1, RFC 9110 8.6).

    Some send it, so what comes next on that connection belongs to nobody.
    """
    if not head.interim and head.status != 204:
        return False
    lengths = head.values(b"content-length")
    return bool(head.values(b"transfer-encoding")) or any(value.strip(b"0") for value in lengths)


def _length(values: list[bytes], bad: int) -> int:
    if len(values) > 1:
        raise BadMessage(bad, "Content-Length is given twice")
    if not values[0].isdigit() or len(values[0]) > LENGTH_DIGITS_MAX:
        raise BadMessage(bad, "Content-Length is not a plain number of bytes")
    return int(values[0])


def _is_chunked(codings: list[bytes]) -> bool:
    """Exactly that: no list, no second line, no parameter (RFC 9112 7 ignores the case)."""
    return len(codings) == 1 and codings[0].lower() == b"chunked"


def _coding_refused(codings: list[bytes]) -> BadMessage:
    """RFC 9112 6.1: 501 for a coding that is not known here; 6.3: 400 where the end cannot be told."""
    members = [member.strip(b" \t") for value in codings for member in value.lower().split(b",")]
    others = members[:-1]
    if members[-1] == b"chunked" and others and all(map(_CODING.fullmatch, others)):
        return BadMessage(501, "the only transfer coding understood here is chunked")
    return BadMessage(400, "Transfer-Encoding is not exactly: chunked")


def wants_keep_alive(minor: int, fields: Fields) -> bool:
    """Whether the sender lets the connection live on (RFC 9112 9.3)."""
    options = tokens([value for name, value in fields if name.lower() == b"connection"])
    if b"close" in options:
        return False
    return minor >= 1 or b"keep-alive" in options


def downstream_framing(framing: Framing, client_minor: int) -> Framing:
    """How the same body is framed towards the client.

    HTTP/1.0 knows no chunks, so it gets a body that ends with the connection; HTTP/1.1 gets chunks
    instead of a body that ends with the connection, so that an end and a break look different.
    """
    if framing.kind in (BodyKind.NONE, BodyKind.LENGTH):
        return framing
    return CHUNKED if client_minor >= 1 else UNTIL_CLOSE
