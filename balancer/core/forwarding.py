"""Who asks, and what the backend is told of it.

A stranger's claims are replaced; what a trusted proxy says is kept and continued. Which fields those
are, and what else passes, is decided in `balancer.core.fields`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from balancer.core.field_names import CERTIFICATE
from balancer.core.message import RequestHead

# An address, in brackets or not, and a port, which some proxies add.
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?\Z")
_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}\Z")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:@/+=-]{1,128}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """What we know of the way a request came.

    `peer` has sent it, and is a trusted proxy or not; `client` has asked for it. `certificate`: the
    lines that tell of the client's, where clients are asked for one.
    """

    peer: bytes
    client: bytes
    trusted: bool
    scheme: bytes
    host: bytes
    request_id: bytes
    certificate: tuple[bytes, ...] = ()


def client_of(head: RequestHead, peer: str, trusts: Callable[[str], bool]) -> str:
    """Who asks: the last in X-Forwarded-For who is no trusted proxy, where trusted ones wrote it.

    Each proxy wrote down whom it heard, so the list is read from its end, as far as those who wrote
    it are trusted. X-Real-IP counts where a trusted proxy sends nothing else.
    """
    if not trusts(peer):
        return peer
    chain = [
        member
        for value in head.values(b"x-forwarded-for")
        for part in value.split(b",")
        if (member := part.strip(b" \t"))
    ]
    client = peer
    for member in reversed(chain or head.values(b"x-real-ip")[:1]):
        address = _address_in(member)
        if address is None:
            break
        client = address
        if not trusts(client):
            break
    return client


def _address_in(member: bytes) -> str | None:
    """The address that a proxy wrote, in one spelling; None for anything else."""
    text = member.decode("latin-1")
    found = _BRACKETED.match(text) or _WITH_PORT.match(text)
    try:
        address = ip_address(found[1] if found else text.replace("%", " "))  # a zone is of its host
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or address)
    return str(address)


def request_id_of(head: RequestHead, *, trusted: bool, made: bytes) -> bytes:
    """The request's id: a trusted proxy's if it is valid, else the one `made` here."""
    sent = head.values(b"x-request-id")
    return sent[0] if trusted and len(sent) == 1 and _REQUEST_ID.match(sent[0]) else made


def forwarding_fields(sent: Mapping[bytes, list[bytes]], hop: Hop) -> list[bytes]:
    """The lines that tell the backend of the client; `sent` is what the request said of it."""
    said = sent if hop.trusted else {}
    chain = b", ".join([*filter(None, said.get(b"x-forwarded-for", [])), hop.peer])
    out = [
        b"X-Forwarded-For: " + chain,
        b"X-Forwarded-Proto: " + said.get(b"x-forwarded-proto", [hop.scheme])[0],
        b"X-Forwarded-Host: " + said.get(b"x-forwarded-host", [hop.host])[0],
        b"X-Real-IP: " + hop.client,
        b"X-Request-ID: " + hop.request_id,
    ]
    out += hop.certificate or [
        b"%b: %b" % (name.title(), said[name][0]) for name in sorted(CERTIFICATE & said.keys())
    ]
    if before := said.get(b"forwarded"):
        ours = b"for=%b;proto=%b" % (_named(hop.peer), hop.scheme)
        out.append(b"Forwarded: " + b", ".join([*before, ours]))
    return out


def _named(peer: bytes) -> bytes:
    """RFC 7239 6: an address as Forwarded has it; `unknown` for who has none."""
    if b":" in peer:
        return b'"[%b]"' % peer
    return peer if peer[:1].isdigit() else b"unknown"
