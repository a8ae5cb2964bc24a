"""Socket addresses: what bind() and connect() take, and what getsockname() shows."""

import ipaddress
import socket
from functools import lru_cache
from typing import TypeAlias

from balancer.rehearsal.descriptor import Address

Endpoint: TypeAlias = tuple[str, int]
"""An IP address in its shortest form, and a port."""


@lru_cache(maxsize=4096)
def canonical(ip: str) -> str:
    """The shortest form of an IP address; ValueError when it is none."""
    return ipaddress.ip_address(ip.partition("%")[0]).compressed


def is_ip(text: str) -> bool:
    try:
        canonical(text)
    except ValueError:
        return False
    return True


def family_of(ip: str) -> int:
    return int(socket.AF_INET6 if ":" in ip else socket.AF_INET)


def wildcard(family: int) -> str:
    return "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 -- a comparison, not a bind


def parsed(address: Address, family: int) -> Endpoint:
    """The endpoint of a Python socket address; names are refused, as resolving is not ours here."""
    if isinstance(address, str) or not 0 <= address[1] <= 65535:
        raise OverflowError(f"{address!r} is not a host and a port between 0 and 65535")
    ip = address[0] or wildcard(family)
    if not is_ip(ip):
        raise socket.gaierror(socket.EAI_NONAME, f"{ip!r} is no IP address: resolve() it first")
    if family_of(ip) != family:
        raise socket.gaierror(socket.EAI_ADDRFAMILY, "Address family for hostname not supported")
    return canonical(ip), address[1]


def mapped(endpoint: Endpoint | None, family: int) -> Endpoint | None:
    """An IPv4 endpoint as a socket of `family` sees it."""
    if endpoint is not None and family == socket.AF_INET6 and ":" not in endpoint[0]:
        return canonical(f"::ffff:{endpoint[0]}"), endpoint[1]
    return endpoint


def shown(endpoint: Endpoint, family: int) -> Address:
    """The endpoint as Python's socket module shows it."""
    ip, port = endpoint
    if family == socket.AF_INET6:
        dotted = ipaddress.ip_address(ip).ipv4_mapped if ip.startswith("::ffff:") else None  # type: ignore[union-attr]
        return (f"::ffff:{dotted}" if dotted is not None else ip, port, 0, 0)
    return (ip, port)
