"""Our own replies: what happened, in the form that the client asked for, with what helps next."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from balancer.core.field_names import PSEUDONYM
from balancer.core.message import RequestHead
from balancer.core.server_names import host_of

HTTPS_PORT = 443

REASONS: Mapping[int, str] = {
    200: "OK",
    308: "Permanent Redirect",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    421: "Misdirected Request",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
    508: "Loop Detected",
}
# RFC 9110 9.3.7 and 15.5.6.
TELLS_METHODS = frozenset({200, 405})
ALLOWED = b"GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to say: `proxy_error` is an RFC 9209 2.3 error type, a client's own mistake by default.

    None: nothing went wrong.

    `retry_after_s` is told with 503 only.
    """

    status: int
    sentence: str
    proxy_error: str | None = "http_request_error"
    retry_after_s: int | None = None
    location: str | None = None


# RFC 9110 15.5.20: the client is to come by a connection of its own.
MISDIRECTED = Reply(
    status=421, sentence="this host is not served by the certificate of this connection"
)


# nginx has 497 for it, which it tells nobody but its log.
WITHOUT_TLS = Reply(
    status=400, sentence="this port speaks TLS, and the request came without it; use https"
)


def moved_to_https(authority: str, port: int, target: str) -> Reply:
    """RFC 9110 15.4.9: the same request, of any method, by https at that port."""
    place = host_of(authority) if port == HTTPS_PORT else f"{host_of(authority)}:{port}"
    path = "" if target == "*" else target
    return Reply(
        status=308,
        sentence="served by https alone",
        proxy_error=None,
        location=f"https://{place}{path}",
    )


def reply_bytes(
    reply: Reply,
    *,
    request: RequestHead | None,
    request_id: bytes,
    close: bool,
    date: bytes,
    hsts: bytes = b"",
) -> bytes:
    """A whole answer, head and body; no body after HEAD."""
    reason = REASONS[reply.status]
    as_json = request is not None and _prefers_json(request)
    if as_json:
        # RFC 9457 3: problem details.
        details = {
            "status": reply.status,
            "title": reason,
            "detail": reply.sentence,
            "request_id": request_id.decode("latin-1"),
        }
        body = json.dumps(details).encode() + b"\n"
    else:
        body = b"%d %s: %s\nrequest id: %s\n" % (
            reply.status,
            reason.encode(),
            reply.sentence.encode("ascii", "backslashreplace"),
            request_id,
        )
    out = [
        b"HTTP/1.1 %d %s" % (reply.status, reason.encode()),
        b"Content-Type: " + (b"application/problem+json" if as_json else b"text/plain"),
        b"Content-Length: %d" % len(body),
        b"Cache-Control: no-store",
        b"Date: " + date,
        b"X-Request-ID: " + request_id,
    ]
    if reply.proxy_error is not None:
        out.append(
            b'Proxy-Status: %s; error=%s; details="%s"'
            % (PSEUDONYM, reply.proxy_error.encode(), _quoted(reply.sentence))
        )
    if reply.retry_after_s is not None and reply.status == 503:
        out.append(b"Retry-After: %d" % reply.retry_after_s)
    if reply.location is not None:
        out.append(b"Location: " + reply.location.encode("ascii"))
    if hsts:
        out.append(b"Strict-Transport-Security: " + hsts)
    if reply.status in TELLS_METHODS:
        out.append(b"Allow: " + ALLOWED)
    if close:
        out.append(b"Connection: close")
    elif request is not None and request.minor == 0:
        out.append(b"Connection: keep-alive")
    head = b"\r\n".join(out) + b"\r\n\r\n"
    return head if request is not None and request.method == "HEAD" else head + body


def _quoted(text: str) -> bytes:
    """The inside of an RFC 9651 string: printable ASCII with quote and backslash escaped."""
    ascii_text = text.encode("ascii", "replace").replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return bytes(byte if 0x20 <= byte <= 0x7E else 0x3F for byte in ascii_text)


def _prefers_json(request: RequestHead) -> bool:
    """Whether Accept names JSON and does not name text or HTML before it."""
    for value in request.values(b"accept"):
        for member in value.lower().split(b","):
            kind = member.split(b";")[0].strip()
            if kind in (b"application/json", b"application/problem+json"):
                return True
            if kind.startswith(b"text/"):
                return False
    return False
