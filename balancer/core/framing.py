"""Where a body ends (RFC 9112 6), and whether the connection can carry another message.

Stricter than the RFC demands of a recipient: whatever two readers could frame differently is
refused, never repaired.
"""

from dataclasses import dataclass
from enum import Enum

from balancer.core.message import BadMessage, Fields, RequestHead, ResponseHead, tokens

# 2^63-1 has 19 digits; anything longer is an attack on somebody's integer.
LENGTH_DIGITS_MAX = 18
# RFC 9110 15.3.5 and 15.4.5: the final statuses whose answers end with their head.
BODILESS = frozenset({204, 304})


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
    length, codings = _length_and_codings(head.fields, 400)
    if codings is None:
        return NO_BODY if length is None else Framing(BodyKind.LENGTH, length)
    if length is not None:
        raise BadMessage(400, "Content-Length and Transfer-Encoding together may be read two ways")
    if head.minor == 0:
        raise BadMessage(400, "Transfer-Encoding does not exist in HTTP/1.0")
    if codings != [b"chunked"]:
        raise BadMessage(501, "the only transfer coding understood here is chunked")
    return CHUNKED


def response_framing(head: ResponseHead, method: str) -> Framing:
    """Frame the body of the answer to a `method` request; BadMessage 502 where it is not plain."""
    length, codings = _length_and_codings(head.fields, 502)
    if length is not None and codings is not None:
        raise BadMessage(502, "the answer has both Content-Length and Transfer-Encoding")
    if method == "HEAD" or head.interim or head.status in BODILESS:
        return NO_BODY
    if codings is None:
        return UNTIL_CLOSE if length is None else Framing(BodyKind.LENGTH, length)
    if head.minor == 0:
        raise BadMessage(502, "the answer uses Transfer-Encoding in HTTP/1.0")
    if codings != [b"chunked"]:
        raise BadMessage(502, "the answer has a transfer coding other than chunked")
    return CHUNKED


def _length_and_codings(fields: Fields, status: int) -> tuple[int | None, list[bytes] | None]:
    length: int | None = None
    codings: list[bytes] | None = None
    for name, value in fields:
        lower = name.lower()
        if lower == b"content-length":
            if length is not None:
                raise BadMessage(status, "Content-Length is given twice")
            if not value.isdigit() or len(value) > LENGTH_DIGITS_MAX:
                raise BadMessage(status, "Content-Length is not a plain number of bytes")
            length = int(value)
        elif lower == b"transfer-encoding":
            codings = (codings or []) + (tokens([value]) or [b""])
    return length, codings


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
