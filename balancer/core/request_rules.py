"""What a request head must be beyond its grammar before anything is done with it.

Target form, Host and method: whatever an origin could read in another way than the route that was
chosen here is refused.
"""

import re
from dataclasses import replace

from balancer.core.message import BadMessage, RequestHead

# RFC 3986 3.2.2 as far as an origin needs it: a name or an IPv4 address, or an IP literal; a port.
_HOST = re.compile(r"(?:[A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5})?)?\Z")
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)\Z", re.IGNORECASE | re.DOTALL)
_SECURE = re.compile(r"https:", re.IGNORECASE)
PORT_MAX = 65535
TUNNELS = frozenset({"CONNECT", "TRACE"})


def canonical(head: RequestHead) -> tuple[RequestHead, str | None]:
    """The head in origin form, and its host; BadMessage says what is wrong.

    An absolute-form target gives up its authority to Host (RFC 9112 3.2.2); without it, HTTP/1.1
    needs exactly one valid Host (RFC 9112 3.2).
    """
    if head.method in TUNNELS:
        raise BadMessage(405, f"{head.method} is not served here")
    if head.method == "OPTIONS" and b"0" in head.values(b"max-forwards"):
        raise BadMessage(501, "Max-Forwards is used up, and only backends know their options")
    if "#" in head.target:
        raise BadMessage(400, "a request target has no fragment")
    host = _host_field(head)
    head, host = _origin_form(head, host)
    if host is None and head.minor >= 1:
        raise BadMessage(400, "HTTP/1.1 needs exactly one Host")
    if host is not None:
        _check_host(host)
    return head, host


def _origin_form(head: RequestHead, host: str | None) -> tuple[RequestHead, str | None]:
    absolute = _ABSOLUTE.match(head.target)
    if absolute is None:
        if not (head.target.startswith("/") or (head.target == "*" and head.method == "OPTIONS")):
            raise BadMessage(400, "the request target must be a path that starts with /")
        return head, host
    authority, rest = absolute.groups()
    if _SECURE.match(head.target):
        raise BadMessage(400, "an https target came over a connection that is not TLS")
    if host is not None and _without_default_port(authority) != _without_default_port(host):
        raise BadMessage(400, "Host and the host of the request target differ")
    if not rest.startswith("/"):
        # RFC 9112 3.2.4: without path and query it means the origin as a whole.
        rest = "*" if head.method == "OPTIONS" and not rest else "/" + rest
    return replace(head, target=rest), authority


def _without_default_port(host: str) -> str:
    """RFC 9110 4.2.3: these mean the same."""
    return host.lower().removesuffix(":80").removesuffix(":")


def _host_field(head: RequestHead) -> str | None:
    hosts = head.values(b"host")
    if len(hosts) > 1:
        raise BadMessage(400, "Host is given more than once")
    return hosts[0].decode("latin-1") if hosts else None


def _check_host(host: str) -> None:
    match = _HOST.match(host)
    if match is None or int(match[1] or 0) > PORT_MAX:
        raise BadMessage(400, "Host is not a host name or address with an optional port")
