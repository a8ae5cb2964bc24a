"""Where a probe connects to, and how it gets there."""

from dataclasses import dataclass, field
from ipaddress import ip_address

import trio


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A host (name or literal address) and port, or the path of a unix socket.

    `greeting` is sent first, on every connection, as whoever listens there expects it.
    """

    host: str = "localhost"
    port: int = 80
    path: str | None = None
    greeting: bytes = b""
    family: int | None = field(init=False)
    """That of a literal address; None where it takes more than the kernel to connect."""

    def __post_init__(self) -> None:
        family = _family(self.host) if self.path is None else None
        object.__setattr__(self, "family", family)  # the way of a frozen dataclass

    @property
    def name(self) -> str:
        """What an operator would call it."""
        return self.path if self.path is not None else self.host


async def connect(place: Place) -> trio.socket.SocketType:
    """A connection to `place`, greeted; OSErrors are the kernel's or the resolver's, or one of several.

    A literal address needs neither a resolver nor a race between addresses, which together cost
    more than the connection itself.
    """
    sock = await _connected(place)
    try:
        unsent = place.greeting
        while unsent:
            unsent = unsent[await sock.send(unsent) :]
    except BaseException:
        sock.close()
        raise
    return sock


async def _connected(place: Place) -> trio.socket.SocketType:
    if place.path is not None:
        return (await trio.open_unix_socket(place.path)).socket
    if place.family is None:
        return (await trio.open_tcp_stream(place.host, place.port)).socket
    sock = trio.socket.socket(place.family, trio.socket.SOCK_STREAM)
    try:
        await sock.connect((place.host, place.port))
    except BaseException:
        sock.close()
        raise
    return sock


def _family(host: str) -> int | None:
    try:
        version = ip_address(host).version
    except ValueError:
        return None
    return int(trio.socket.AF_INET if version == 4 else trio.socket.AF_INET6)
