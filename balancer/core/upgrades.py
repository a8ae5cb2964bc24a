"""Switching to another protocol (RFC 9110 7.8): what is asked for, and which answer means yes.

Whatever is not exactly one protocol that the pool allows, from a request without a body, is no
upgrade: its fields are dropped, and it is answered as the ordinary request that it is besides.
"""

import base64
import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from balancer.core.framing import BodyKind, Framing
from balancer.core.message import RequestHead, ResponseHead, tokens

WEBSOCKET = "websocket"
# HTTP in another form would carry requests past every rule here, and TLS hides what is in it.
NEVER = frozenset({"h2c", "h2", "h3", "http", "tls"})
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


@dataclass(frozen=True, slots=True)
class Offer:
    """What a client asks to switch to, in lower case; of a WebSocket also how its yes must read."""

    protocol: str
    accept: bytes | None = None


def may_be_tunnelled(protocol: str) -> bool:
    """Whether any configuration may allow it; `protocol` with or without a version."""
    return protocol.partition("/")[0].lower() not in NEVER


def offer_of(head: RequestHead, framing: Framing, allowed: Collection[str]) -> Offer | None:
    """What is to be asked of the backend; None: nothing, it is an ordinary request."""
    if b"upgrade" not in tokens(head.values(b"connection")) or head.minor < 1:
        return None
    offered = tokens(head.values(b"upgrade"))
    if len(offered) != 1 or framing.kind is BodyKind.CHUNKED or framing.length:
        return None
    protocol = offered[0].decode("latin-1")
    if protocol not in allowed:
        return None
    if protocol != WEBSOCKET:
        return Offer(protocol)
    keys = head.values(b"sec-websocket-key")
    return Offer(protocol, _accept_of(keys[0])) if len(keys) == 1 else None


def with_upgrade(head: bytes, protocol: str, *lines: bytes) -> bytes:
    """A head that has no Connection field, with the two that switch, and more `lines`, at its end."""
    name = protocol.encode("latin-1")
    return b"\r\n".join([head[:-4], b"Connection: Upgrade", b"Upgrade: " + name, *lines, b"", b""])


def flaw_of(head: ResponseHead, offer: Offer | None) -> str | None:
    """What is wrong with an answer 101; None: from here on it is the other protocol.

    A WebSocket's yes is held to the key: who merely has a backend say 101 gets no tunnel to it.
    """
    if offer is None:
        return "it switched protocols though nobody asked"
    if head.minor < 1 or b"upgrade" not in tokens(head.values(b"connection")):
        return "it switched protocols in a way that HTTP/1.1 does not know"
    if head.values(b"content-length") or head.values(b"transfer-encoding"):
        return "it switched protocols and announced a body"
    if tokens(head.values(b"upgrade")) != [offer.protocol.encode("latin-1")]:
        return f"it switched to another protocol than {offer.protocol}"
    if offer.accept is not None and head.values(b"sec-websocket-accept") != [offer.accept]:
        return "its Sec-WebSocket-Accept does not answer the key"
    return None


def _accept_of(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID, usedforsecurity=False).digest())
