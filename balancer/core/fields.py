"""The heads that go out: what is passed on, dropped, replaced and added, in one canonical form.

Fields of one hop end here, both ways (RFC 9110 7.6.1). What a stranger says about where a request
came from is replaced; what a trusted proxy says is kept and continued.
"""

import re
from dataclasses import dataclass

from balancer.core.framing import BodyKind, Framing
from balancer.core.message import Fields, RequestHead, ResponseHead, tokens

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Written anew from the framing and the hop, so what came is never copied.
_REWRITTEN_UP = HOP_BY_HOP | {
    b"content-length",
    b"host",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-real-ip",
    b"x-request-id",
    b"expect",
    b"max-forwards",
}
# A stranger's claims, names that some frameworks route by or turn into CGI variables (httpoxy), and
# what belongs to an upgrade that is never passed on (RFC 7540 3.2.1).
_DROPPED_UP = frozenset({b"http2-settings", b"proxy", b"x-original-url", b"x-rewrite-url"})
_REWRITTEN_DOWN = HOP_BY_HOP | {b"content-length", b"x-request-id"}
# What never passes as it came, of a stranger's request and of an answer (beside odd names, up).
NEVER_COPIED_UP = _REWRITTEN_UP | _DROPPED_UP | {b"forwarded"}
NEVER_COPIED_DOWN = _REWRITTEN_DOWN
# No options of one connection (RFC 9110 7.6.1): who takes one of these away changes where a message
# ends, to whom it goes, who asks for it, or what it means.
FOR_ALL_RECIPIENTS = frozenset(
    {
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"forwarded",
        b"host",
        b"origin",
        b"range",
        b"set-cookie",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
        b"x-request-id",
    }
)
# CGI and what is like it write every other character as `_`, so that X.Real.IP becomes X-Real-IP.
_SAFE_NAME = re.compile(rb"[0-9A-Za-z-]+\Z")
# RFC 9110 6.5.1: a trailer may not change framing, routing, authentication or how content is read.
_NOT_IN_TRAILERS = (
    HOP_BY_HOP
    | _DROPPED_UP
    | _REWRITTEN_UP
    | {
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"forwarded",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"range",
        b"set-cookie",
        b"trailer",
        b"via",
        b"www-authenticate",
    }
)
_NOT_IN_TRAILERS_PREFIXES = (b"proxy-", b"x-forwarded-", b"x-http-", b"x-original-", b"x-rewrite-")
# Whoever adds trailers to the head would read another message: no sender means well by these.
REFUSED_IN_TRAILERS = frozenset({b"connection", b"content-length", b"host", b"transfer-encoding"})
_CONDITIONAL = frozenset({b"expect", b"max-forwards"})
_FORWARDS_DIGITS_MAX = 9
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:@/+=-]{1,128}\Z")
PSEUDONYM = b"balancer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """What we know of the way a request came: the direct peer, and whether it is a trusted proxy."""

    client: bytes
    trusted: bool
    scheme: bytes
    host: bytes
    request_id: bytes


def request_id_of(head: RequestHead, *, trusted: bool, made: bytes) -> bytes:
    """The request's id: a trusted proxy's if it is valid, else the one `made` here."""
    sent = head.values(b"x-request-id")
    return sent[0] if trusted and len(sent) == 1 and _REQUEST_ID.match(sent[0]) else made


def request_bytes(head: RequestHead, framing: Framing, hop: Hop) -> bytes:
    """The head that goes to the backend, end of head included."""
    ends_here = _ends_here(head.fields)
    kept: dict[bytes, list[bytes]] = {}
    out = [b"%s %s HTTP/1.1" % (head.method.encode("ascii"), head.target.encode("ascii"))]
    out.append(b"Host: " + hop.host)
    for name, value in head.fields:
        lower = name.lower()
        if lower in _REWRITTEN_UP or lower in ends_here:
            kept.setdefault(lower, []).append(value)
        elif (
            lower in _DROPPED_UP
            or _SAFE_NAME.match(name) is None
            or (lower == b"forwarded" and not hop.trusted)
        ):
            continue
        else:
            out.append(name + b": " + value)
    if not kept.keys().isdisjoint(_CONDITIONAL):
        out.extend(_conditional(kept, ends_here, head))
    out.extend(_forwarded(kept if hop.trusted else {}, hop))
    out.append(b"Via: 1.%d %s" % (head.minor, PSEUDONYM))
    out.extend(_framing_lines(framing))
    return b"\r\n".join(out) + b"\r\n\r\n"


def _conditional(
    sent: dict[bytes, list[bytes]], ends_here: frozenset[bytes], head: RequestHead
) -> list[bytes]:
    """The fields that go on as they are, changed, or not at all, as the request is."""
    out: list[bytes] = []
    # HTTP/1.0 has no interim answers, so an expectation of one must be ignored (RFC 9110 10.1.1).
    if head.minor >= 1 and b"expect" not in ends_here:
        out.extend(b"Expect: " + value for value in sent.get(b"expect", ()))
    if b"max-forwards" not in ends_here:
        forwards = sent.get(b"max-forwards", ())
        out.extend(b"Max-Forwards: " + _one_less(value, head.method) for value in forwards)
    return out


def _one_less(value: bytes, method: str) -> bytes:
    """RFC 9110 7.6.2: every intermediary of an OPTIONS takes one away; others leave it alone."""
    if method != "OPTIONS" or not value.isdigit() or len(value) > _FORWARDS_DIGITS_MAX:
        return value
    return b"%d" % max(int(value) - 1, 0)


def _forwarded(sent: dict[bytes, list[bytes]], hop: Hop) -> list[bytes]:
    """The fields that tell the backend of the client; `sent` is what a trusted proxy said."""
    chain = b", ".join([*filter(None, sent.get(b"x-forwarded-for", [])), hop.client])
    return [
        b"X-Forwarded-For: " + chain,
        b"X-Forwarded-Proto: " + sent.get(b"x-forwarded-proto", [hop.scheme])[0],
        b"X-Forwarded-Host: " + sent.get(b"x-forwarded-host", [hop.host])[0],
        b"X-Real-IP: " + sent.get(b"x-real-ip", [hop.client])[0],
        b"X-Request-ID: " + hop.request_id,
    ]


def response_bytes(
    head: ResponseHead,
    framing: Framing,
    *,
    request_id: bytes,
    connection: bytes | None,
    head_length: bytes | None,
    panic: bool,
    date: bytes | None = None,
) -> bytes:
    """The head that goes to the client, end of head included.

    `connection` is the option to send, if any; `head_length` the Content-Length of an answer that
    has no body of its own (HEAD, 304); `date` when it came, where it does not say so itself.
    """
    ends_here = _ends_here(head.fields)
    out = [b"HTTP/1.1 %d %s" % (head.status, head.reason)]
    for name, value in head.fields:
        lower = name.lower()
        if lower not in _REWRITTEN_DOWN and lower not in ends_here:
            out.append(name + b": " + value)
    out.append(b"Via: 1.%d %s" % (head.minor, PSEUDONYM))
    if not head.interim:
        if date is not None:
            out.append(b"Date: " + date)
        out.append(b"X-Request-ID: " + request_id)
        out.extend(_framing_lines(framing))
        if head_length is not None:
            out.append(b"Content-Length: " + head_length)
        if connection is not None:
            out.append(b"Connection: " + connection)
        if panic:
            out.append(b"X-Balancer-Panic: 1")
    return b"\r\n".join(out) + b"\r\n\r\n"


def head_length_of(head: ResponseHead, method: str) -> bytes | None:
    """The Content-Length that tells what a GET would have carried (RFC 9110 8.6)."""
    lengths = head.values(b"content-length")
    if not lengths or head.status == 204 or not (method == "HEAD" or head.status == 304):
        return None
    return b"%d" % int(lengths[0])


def trailer_bytes(trailers: Fields) -> bytes:
    """The end of a chunked body, with the trailers that may pass."""
    out = [b"0"]
    for name, value in trailers:
        lower = name.lower()
        if not (
            lower in _NOT_IN_TRAILERS
            or lower.startswith(_NOT_IN_TRAILERS_PREFIXES)
            or _SAFE_NAME.match(name) is None
        ):
            out.append(name + b": " + value)
    return b"\r\n".join(out) + b"\r\n\r\n"


def _framing_lines(framing: Framing) -> list[bytes]:
    if framing.kind is BodyKind.LENGTH:
        return [b"Content-Length: %d" % framing.length]
    if framing.kind is BodyKind.CHUNKED:
        return [b"Transfer-Encoding: chunked"]
    return []


def nominated(fields: Fields) -> frozenset[bytes]:
    """The options of Connection, in lower case: fields of those names are for this hop alone."""
    values = [value for name, value in fields if name.lower() == b"connection"]
    return frozenset(tokens(values)) if values else frozenset()


def _ends_here(fields: Fields) -> frozenset[bytes]:
    return nominated(fields) - FOR_ALL_RECIPIENTS
