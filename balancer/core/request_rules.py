"""What a request head must be beyond its grammar before anything is done with it.

Target form, Host and method: whatever an origin could read in another way than the route that was
chosen here is refused.
"""

import ipaddress
import re
from dataclasses import replace

from balancer.core.field_names import FOR_ALL_RECIPIENTS
from balancer.core.fields import nominated
from balancer.core.message import BadMessage, RequestHead

# RFC 9110 9.1: methods are case-sensitive, and all that there are have no other letters; nginx
# refuses the rest, too. Somebody behind us may take `trace` for TRACE.
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]*\Z")
TUNNELS = frozenset({"CONNECT", "TRACE"})
# RFC 3986 3.2.2 as far as an origin needs it: labels of a name or an IPv4 address, or an IPv6
# address; a port. Escapes and separators of lists are read in several ways, and name no host.
HOST_NAME = r"[A-Za-z0-9_~-]++(?:\.[A-Za-z0-9_~-]++)*+\.?+"
_HOST = re.compile(rf"(?:{HOST_NAME}|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{{1,5}})?)?\Z")
PORT_MAX = 65535
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)\Z", re.IGNORECASE | re.DOTALL)
_SECURE = re.compile(r"https:", re.IGNORECASE)
# RFC 3986 2.1. Decoders differ on what is not so, %u002e for one; in a query it is data.
_BAD_ESCAPE = re.compile(r"[^?%]*+(?:%[0-9A-Fa-f]{2}[^?%]*+)*+%")
# RFC 9110 7.6.2, as far as anybody counts.
_FORWARDS = re.compile(rb"[0-9]{1,9}\Z")
# Who asks, from where, and how its body is read. RFC 9110 has each sent once; of two, some believe
# the first and some the last.
SENT_ONCE = frozenset({b"authorization", b"content-type", b"origin"})


def canonical(head: RequestHead, *, secure: bool = False) -> tuple[RequestHead, str | None]:
    """The head in origin form, and its host; BadMessage says what is wrong.

    An absolute-form target gives up its authority to Host (RFC 9112 3.2.2); without it, HTTP/1.1
    needs exactly one valid Host (RFC 9112 3.2). `secure`: it came over TLS.
    """
    _check_method(head)
    if "#" in head.target:
        raise BadMessage(400, "a request target has no fragment")
    host = _host_field(head)
    head, host = _origin_form(head, host, secure=secure)
    if _BAD_ESCAPE.match(head.target):
        raise BadMessage(400, "a % in the path is not followed by two hexadecimal digits")
    if host is None and head.minor >= 1:
        raise BadMessage(400, "HTTP/1.1 needs exactly one Host")
    if host is not None:
        _check_host(host)
    _check_fields(head)
    return head, host


def _check_method(head: RequestHead) -> None:
    if _METHOD.match(head.method) is None:
        raise BadMessage(400, "a method is a word of capital letters")
    if head.method in TUNNELS:
        raise BadMessage(405, f"{head.method} is not served here")
    forwards = head.values(b"max-forwards") if head.method == "OPTIONS" else []
    if len(forwards) > 1 or not all(map(_FORWARDS.match, forwards)):
        raise BadMessage(400, "Max-Forwards is not one plain number")


def ends_here(head: RequestHead) -> bool:
    """Whether a canonical request may go no further, so that the answer is ours (RFC 9110 7.6.2)."""
    return head.method == "OPTIONS" and any(
        not int(value) for value in head.values(b"max-forwards")
    )


def _check_fields(head: RequestHead) -> None:
    names = [name.lower() for name, _ in head.fields]
    for name in SENT_ONCE.intersection(names):
        if names.count(name) > 1:
            raise BadMessage(400, f"{name.decode()} is given more than once")
    # RFC 9110 7.6.1: a field for all recipients is no connection option. Some take it away all the
    # same, and the request then means something else to whoever is behind them.
    if nominated(head.fields) & FOR_ALL_RECIPIENTS:
        raise BadMessage(400, "Connection names a field that is for every recipient")


def _origin_form(
    head: RequestHead, host: str | None, *, secure: bool
) -> tuple[RequestHead, str | None]:
    absolute = _ABSOLUTE.match(head.target)
    if absolute is None:
        if not (head.target.startswith("/") or (head.target == "*" and head.method == "OPTIONS")):
            raise BadMessage(400, "the request target must be a path that starts with /")
        return head, host
    authority, rest = absolute.groups()
    if secure is not bool(_SECURE.match(head.target)):
        wrong = "http target came over TLS" if secure else "https target came without TLS"
        raise BadMessage(400, f"an {wrong}")
    default = ":443" if secure else ":80"
    if host is not None and _plain(authority, default) != _plain(host, default):
        raise BadMessage(400, "Host and the host of the request target differ")
    if not rest.startswith("/"):
        # RFC 9112 3.2.4: without path and query it means the origin as a whole.
        rest = "*" if head.method == "OPTIONS" and not rest else "/" + rest
    return replace(head, target=rest), authority


def _plain(host: str, default_port: str) -> str:
    """RFC 9110 4.2.3: what means the same."""
    return host.lower().removesuffix(default_port).removesuffix(":")


def _host_field(head: RequestHead) -> str | None:
    hosts = head.values(b"host")
    if len(hosts) > 1:
        raise BadMessage(400, "Host is given more than once")
    return hosts[0].decode("latin-1") if hosts else None


def _check_host(host: str) -> None:
    match = _HOST.match(host)
    if match is None or int(match[2] or 0) > PORT_MAX or not _is_ip6(match[1]):
        raise BadMessage(400, "Host is not a host name or address with an optional port")


def _is_ip6(literal: str | None) -> bool:
    if literal is None:
        return True
    try:
        ipaddress.IPv6Address(literal)
    except ValueError:
        return False
    return True
