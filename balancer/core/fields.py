"""The heads that go out: what is passed on, dropped, replaced and added, in one canonical form.

Fields of one hop end here, both ways (RFC 9110 7.6.1). What a stranger says about where a request
came from is replaced; what a trusted proxy says is kept and continued.
"""

from balancer.core.field_names import (
    FOR_ALL_RECIPIENTS,
    PSEUDONYM,
    REWRITTEN_DOWN,
    REWRITTEN_UP,
    FieldRules,
    may_trail,
)
from balancer.core.forwarding import Hop, forwarding_fields
from balancer.core.framing import BodyKind, Framing, expects_continue
from balancer.core.message import BadMessage, Fields, RequestHead, ResponseHead, tokens

_AS_IT_IS = FieldRules()


def refuse_loop(head: RequestHead, pseudonym: bytes) -> None:
    """BadMessage 508 where the request has been here before (RFC 9110 7.6.3, RFC 9209 2.3)."""
    for value in head.values(b"via"):
        if pseudonym in value.replace(b",", b" ").split():
            raise BadMessage(508, "the request has come back to us", "proxy_loop_detected")


def request_bytes(
    head: RequestHead, framing: Framing, hop: Hop, rules: FieldRules = _AS_IT_IS
) -> bytes:
    """The head that goes to the backend, end of head included."""
    ends_here = _ends_here(head.fields)
    sent: dict[bytes, list[bytes]] = {}
    out = [b"%s %s HTTP/1.1" % (head.method.encode("ascii"), head.target.encode("ascii"))]
    out.append(b"Host: " + hop.host)
    for name, value in head.fields:
        lower = name.lower()
        if lower in REWRITTEN_UP or (lower == b"forwarded" and hop.trusted):
            sent.setdefault(lower, []).append(value)
        elif lower not in ends_here and rules.passes(name, trusted=hop.trusted):
            out.append(name + b": " + value)
    if expects_continue(head, framing):
        out.append(b"Expect: 100-continue")
    out.extend(
        b"Max-Forwards: " + _one_less(value, head.method) for value in sent.get(b"max-forwards", ())
    )
    # RFC 9110 10.1.4: trailers pass both ways here, so whoever wants them may say so.
    if head.minor >= 1 and b"trailers" in tokens(sent.get(b"te", [])):
        out.append(b"TE: trailers\r\nConnection: TE")
    out.extend(forwarding_fields(sent, hop))
    out.append(b"Via: 1.%d %s" % (head.minor, rules.pseudonym))
    out.extend(_framing_lines(framing))
    return b"\r\n".join(out) + b"\r\n\r\n"


def _one_less(value: bytes, method: str) -> bytes:
    """RFC 9110 7.6.2: every intermediary of an OPTIONS takes one away; others leave it alone."""
    return b"%d" % (int(value) - 1) if method == "OPTIONS" else value


def response_bytes(
    head: ResponseHead,
    framing: Framing,
    *,
    request_id: bytes,
    connection: bytes | None,
    head_length: bytes | None,
    panic: bool,
    date: bytes | None = None,
    hsts: bytes = b"",
) -> bytes:
    """The head that goes to the client, end of head included.

    `connection` is the option to send, if any; `head_length` the Content-Length of an answer that
    has no body of its own (HEAD, 304); `date` when it came, where it does not say so itself; `hsts` what browsers
    are told of https, where the backend does not tell them.
    """
    ends_here = _ends_here(head.fields)
    out = [b"HTTP/1.1 %d %s" % (head.status, head.reason)]
    for name, value in head.fields:
        lower = name.lower()
        if lower not in REWRITTEN_DOWN and lower not in ends_here:
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
        if hsts and not head.values(b"strict-transport-security"):
            out.append(b"Strict-Transport-Security: " + hsts)
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
    out.extend(name + b": " + value for name, value in trailers if may_trail(name))
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
