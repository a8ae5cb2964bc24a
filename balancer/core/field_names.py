"""What becomes of a field by its name alone: passed on, written anew, believed of some, or dropped.

The lists and nothing else; heads are written in `balancer.core.fields`.
"""

import re
from dataclasses import dataclass
from zlib import crc32

PSEUDONYM = b"balancer"

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
# What the balancer says of a client's certificate.
CERTIFICATE = frozenset(
    {
        b"x-client-cert-fingerprint",
        b"x-client-cert-serial",
        b"x-client-cert-subject",
        b"x-client-cert-verify",
    }
)
# Written anew from the framing and the hop, so what came is never copied.
REWRITTEN_UP = (
    HOP_BY_HOP
    | CERTIFICATE
    | {
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
)
REWRITTEN_DOWN = HOP_BY_HOP | {b"content-length", b"x-request-id"}
# What only a proxy can know: who asks, by what address, scheme and certificate (RFC 9440). A stranger's are lies.
CLAIMS = frozenset(
    {
        b"cf-connecting-ip",
        b"client-cert",
        b"client-cert-chain",
        b"client-ip",
        b"fastly-client-ip",
        b"forwarded",
        b"forwarded-for",
        b"front-end-https",
        b"proxy-client-ip",
        b"true-client-ip",
        b"wl-proxy-client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-forwarded",
        b"x-originating-ip",
        b"x-remote-addr",
        b"x-remote-ip",
        b"x-scheme",
        b"x-url-scheme",
    }
)
CLAIM_PREFIX = b"x-forwarded-"
# No proxy needs to send these, and somebody behind us obeys them: another target or host than the
# one that was routed by (X-Original-URL), a variable of CGI (Proxy, which is httpoxy), files that
# the server sends (X-Sendfile-Type), a filter that is passed by (X-Middleware-Subrequest), and what
# belongs to an upgrade that is never passed on (HTTP2-Settings, RFC 7540 3.2.1).
OBEYED = frozenset(
    {
        b"http2-settings",
        b"proxy",
        b"x-accel-mapping",
        b"x-http-host-override",
        b"x-middleware-subrequest",
        b"x-original-host",
        b"x-original-url",
        b"x-rewrite-url",
        b"x-script-name",
        b"x-sendfile-type",
    }
)
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
        b"expect",
        b"forwarded",
        b"host",
        b"max-forwards",
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
_UNSAFE = re.compile(rb"[^0-9a-z-]")
# RFC 9110 6.5.1: a trailer may not change framing, routing, authentication or how content is read.
_NOT_IN_TRAILERS = (
    OBEYED
    | CLAIMS
    | REWRITTEN_UP
    | {
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"range",
        b"set-cookie",
        b"trailer",
        b"via",
        b"www-authenticate",
    }
)
_NOT_IN_TRAILERS_PREFIXES = (b"proxy-", CLAIM_PREFIX, b"x-http-", b"x-original-", b"x-rewrite-")
# Whoever adds trailers to the head would read another message: no sender means well by these.
REFUSED_IN_TRAILERS = frozenset({b"connection", b"content-length", b"host", b"transfer-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRules:
    """What one instance does with fields of requests.

    `pseudonym` is its own name in Via; `allowed`, in lower case, passes though it would be dropped.
    """

    pseudonym: bytes = PSEUDONYM
    allowed: frozenset[bytes] = frozenset()

    def passes(self, name: bytes, *, trusted: bool) -> bool:
        """Whether a field that is not written anew goes on to the backend."""
        lower = name.lower()
        if lower in self.allowed:
            return True
        if lower in OBEYED or not _SAFE_NAME.match(name):
            return False
        return trusted or not _is_claim(lower)


def pseudonym_of(instance: str) -> bytes:
    """Our name in Via, with a mark of this instance: two of us in a row are no loop."""
    return b"%b-%08x" % (PSEUDONYM, crc32(instance.encode()))


def read_as(name: str) -> str:
    """The name that it is for those who know no other characters than CGI does."""
    return _UNSAFE.sub(b"-", name.lower().encode("ascii")).decode("ascii")


def is_written_anew(name: str) -> bool:
    """Whether the balancer says itself what stands under this name, or under one that is read as it."""
    return read_as(name).encode("ascii") in REWRITTEN_UP


def passes_anyway(name: str) -> bool:
    return FieldRules().passes(name.encode("ascii"), trusted=False)


def may_trail(name: bytes) -> bool:
    """Whether a field may stand behind a body."""
    lower = name.lower()
    return (
        lower not in _NOT_IN_TRAILERS
        and not lower.startswith(_NOT_IN_TRAILERS_PREFIXES)
        and _SAFE_NAME.match(name) is not None
    )


def _is_claim(lower: bytes) -> bool:
    return lower in CLAIMS or lower.startswith(CLAIM_PREFIX)
