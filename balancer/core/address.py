"""What an address is, and the one way in which it is written.

Identity hangs on it: two spellings of one place (`LOCALHOST:80`, `[0:0::1]:80`) must become one
address. Refuses what could mean two things, with a sentence that says what to write instead; it
never resolves a name.
"""

import ipaddress
import re
from typing import NamedTuple

from balancer.core.wording import shown

PORT_MAX = 65535
NAME_CHARS_MAX = 253  # RFC 1035 2.3.4, without the root label
ADDRESS_CHARS_MAX = 320  # a name, a port, and room for mistakes; beyond it no message quotes
UNIX_BYTES_MAX = 107  # sockaddr_un.sun_path of Linux, without its closing zero

_UNIX = "unix:"
_ALL = frozenset({"0.0.0.0", "::"})  # noqa: S104 - of each family
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# Underscores are no host names by RFC 952, but container networks are full of them.
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?")
# A name whose last label is a number would be read as an IPv4 address by some resolvers.
_NUMERIC_END = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)\.?")
_IPV6_CHARS = re.compile(r"[0-9A-Fa-f:.]+")
_ZONE = re.compile(r"[A-Za-z0-9_.-]+")
_PORT = re.compile(r"[0-9]{1,5}")
_HOST_AND_PORT = re.compile(r"[^/]*:[0-9]+")


class AddressError(ValueError):
    """Says what is wrong with an address and what would be right."""


class Address(NamedTuple):
    """Where a connection goes: a host and a port, or the path of a unix socket."""

    host: str
    port: int
    path: str | None = None

    @property
    def is_name(self) -> bool:
        """Whether the host must be resolved first."""
        return self.path is None and _as_ip(self.host) is None

    def __str__(self) -> str:
        if self.path is not None:
            return _UNIX + self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def overlap(one: Address, other: Address) -> bool:
    """Whether one of two places to listen at is all addresses of a family, the other among them."""
    ours, theirs = _as_ip(one.host), _as_ip(other.host)
    if ours is None or theirs is None or one.port != other.port:
        return False
    return (":" in ours) is (":" in theirs) and not _ALL.isdisjoint((ours, theirs))


def why_no_socket_path(text: str) -> str | None:
    """What is wrong with an address where the path of the admin socket is to stand; None: nothing.

    The admin API is on a unix socket alone: no other user and no web page can reach that.
    """
    if text.startswith(_UNIX):
        path = "/" + text.removeprefix(_UNIX).lstrip("/")
        return f"{shown(text)}: write the path alone, {shown(path)}"
    if _SCHEME.match(text) or _HOST_AND_PORT.fullmatch(text):
        return (
            f"{shown(text)}: the admin API has no TCP address, only the path of a unix socket,"
            " such as /run/balancer/admin.sock"
        )
    return None


def parse_address(text: str, *, any_port: bool = False) -> Address:
    """The address that `text` names, in its canonical form; AddressError says what is wrong.

    `any_port` allows port 0, which only a listener may have.
    """
    if len(text) > ADDRESS_CHARS_MAX:
        raise AddressError(f"{shown(text)}: an address has at most {ADDRESS_CHARS_MAX} characters")
    if text.startswith(_UNIX):
        return _unix(text)
    _refuse_what_is_no_address(text)
    host, port = _split(text)
    if not _is_port(port, lowest=0 if any_port else 1):
        raise AddressError(f"{shown(text)}: the port must be a number from 1 to {PORT_MAX}")
    return Address(_host(host, text), int(port))


def _unix(text: str) -> Address:
    path = text.removeprefix(_UNIX)
    if not path.startswith("/") or path.endswith("/"):
        raise AddressError(
            f"{shown(text)}: write the whole path of the socket, like unix:/run/app.sock"
        )
    if not path.isprintable():
        raise AddressError(f"{shown(text)}: the path has a character that cannot be printed")
    if len(path.encode()) > UNIX_BYTES_MAX:
        raise AddressError(f"{shown(text)}: a socket path has at most {UNIX_BYTES_MAX} bytes")
    return Address("", 0, path)


def _refuse_what_is_no_address(text: str) -> None:
    if not text.isprintable():
        raise AddressError(f"{shown(text)}: it has a character that cannot be printed")
    if not text:
        raise AddressError("an address is missing; write host:port, like 10.0.0.1:8080")
    if text.startswith("/"):
        raise AddressError(f"{shown(text)}: for a unix socket write unix:{text}")
    scheme = _SCHEME.match(text)
    if scheme is not None:
        rest = re.split(r"[/?#]", text[scheme.end() :])[0]
        raise AddressError(
            f"{shown(text)}: write host:port without {scheme[0]}, like {rest or 'a:80'}"
        )
    if not text.isascii():
        raise AddressError(f"{shown(text)}: write the name in ASCII (its xn-- form)")


def _split(text: str) -> tuple[str, str]:
    """Host without brackets, and port; only the port of what needs brackets may follow them."""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket:
            raise AddressError(f"{shown(text)}: the closing bracket is missing, like [::1]:8080")
        if not port.startswith(":"):
            raise AddressError(f"{shown(text)}: a port is missing; write [{host}]:8080")
        if ":" not in host:
            raise AddressError(f"{shown(text)}: brackets are for IPv6; write {host}{port}")
        return host, port[1:]
    host, colon, port = text.rpartition(":")
    if not colon and _is_port(text):
        raise AddressError(f"{shown(text)}: a host is missing; write 127.0.0.1:{text}")
    if not colon:
        raise AddressError(f"{shown(text)}: a port is missing; write {text}:8080")
    if ":" in host:
        raise AddressError(
            f"{shown(text)}: write IPv6 in brackets and with a port, like [::1]:8080"
        )
    return host, port


def _is_port(text: str, *, lowest: int = 1) -> bool:
    return bool(_PORT.fullmatch(text)) and lowest <= int(text) <= PORT_MAX


def _host(host: str, text: str) -> str:
    if not host:
        raise AddressError(
            f"{shown(text)}: a host is missing before the port, like 127.0.0.1{text}"
        )
    ip = _as_ip(host)
    if ip is not None:
        return ip
    lower = host.lower()
    if ":" in host:
        raise AddressError(f"{shown(text)}: {host} is not an IPv6 address")
    if _NUMERIC_END.fullmatch(lower):
        raise AddressError(f"{shown(text)}: {host} is not an IPv4 address (four numbers up to 255)")
    if not _NAME.fullmatch(lower) or len(lower.rstrip(".")) > NAME_CHARS_MAX:
        raise AddressError(f"{shown(text)}: {host} is neither a host name nor an IP address")
    return lower


def _as_ip(host: str) -> str | None:
    """The canonical form of an IP address, or None; the zone of a link-local one keeps its case."""
    plain, percent, zone = host.partition("%")
    try:
        if ":" not in host:
            return str(ipaddress.IPv4Address(host))
        if not _IPV6_CHARS.fullmatch(plain) or (percent and not _ZONE.fullmatch(zone)):
            return None
        ip = ipaddress.IPv6Address(plain)
    except ValueError:
        return None
    # Written alike by every Python: str() of a mapped address changed in 3.13.
    mapped = ip.ipv4_mapped
    return (f"::ffff:{mapped}" if mapped is not None else ip.compressed) + percent + zone
