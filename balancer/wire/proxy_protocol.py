"""The PROXY protocol, versions 1 and 2, read and written: who a connection is carried for.

Decides what a header says and where it ends, to the byte; what is no header is refused, never
guessed. Pure: bytes in, values out. Who may send one, and what becomes of it, is not decided here.
"""

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, NamedTuple, TypeAlias

Version: TypeAlias = Literal["v1", "v2"]

# The longest line that version 1 can need, its end included.
V1_BYTES_MAX = 107
# As nginx; certificates in extensions have been seen to need more than 1 KiB.
V2_BYTES_MAX = 4096
_V1_START = b"PROXY "
_ADDRESS = rb"([0-9A-Fa-f:.]{2,39})"
_PORT = rb"(0|[1-9][0-9]{0,4})"
_V1 = re.compile(
    rb"PROXY (?:(TCP4|TCP6) %b %b %b %b|UNKNOWN(?: [^\r\n]*)?)\r\n"
    % (_ADDRESS, _ADDRESS, _PORT, _PORT)
)
_PORT_MAX = 65535

_V2_START = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED = 0x00
_UNIX_BYTES = 216
_INET = struct.Struct("!4s4sHH")
_INET6 = struct.Struct("!16s16sHH")
_STREAM_4, _STREAM_6 = 0x11, 0x21
# The second of each pair is for datagrams: a proxy in front speaks QUIC with the client.
_FAMILIES = {_STREAM_4: _INET, 0x12: _INET, _STREAM_6: _INET6, 0x22: _INET6}
_UNIX_FAMILIES = frozenset({0x31, 0x32})
_FOUR = 4
_MAPPED = bytes(10) + b"\xff\xff"
_TLV_HEAD = struct.Struct("!BH")
_CRC32C_TYPE, _CRC32C_BYTES = 0x03, 4


class BadHeader(Exception):
    """What came is no header that we understand; the text says why."""


class Ends(NamedTuple):
    """The two ends of the connection that the client made."""

    client: str
    client_port: int
    local: str
    local_port: int


class Unnamed(NamedTuple):
    """The client's connection has no addresses that could be told: a unix socket."""


class Own(NamedTuple):
    """The sender speaks for itself, or does not know for whom: its own addresses count."""


class Introduction(NamedTuple):
    """What a header of `size` bytes says."""

    of: Ends | Unnamed | Own
    size: int


# ---- reading -------------------------------------------------------------------------------------


def introduction(data: bytes) -> Introduction | None:
    """What the header at the start of `data` says; None: all of `data` belongs to it, and more.

    Raises BadHeader as soon as it is clear that `data` begins with none.
    """
    if _V2_START.startswith(data[: len(_V2_START)]):
        return _version_2(data)
    if _V1_START.startswith(data[: len(_V1_START)]):
        return _version_1(data)
    raise BadHeader("it does not begin with a PROXY header")


def _version_1(data: bytes) -> Introduction | None:
    end = data.find(b"\n", 0, V1_BYTES_MAX) + 1
    if not end:
        if len(data) >= V1_BYTES_MAX:
            raise BadHeader(f"the PROXY line has more than {V1_BYTES_MAX} bytes")
        return None
    line = _V1.fullmatch(data, 0, end)
    if line is None:
        raise BadHeader("the PROXY line is not: PROXY TCP4 or TCP6, two addresses, two ports")
    kind, client, local, client_port, local_port = line.groups()
    if kind is None:
        return Introduction(Own(), end)
    version = IPv4Address if kind == b"TCP4" else IPv6Address
    try:
        hosts = [version(host.decode("ascii")) for host in (client, local)]
    except ValueError:
        raise BadHeader(
            f"the PROXY line has no {kind.decode()} address where one must be"
        ) from None
    ports = int(client_port), int(local_port)
    if max(ports) > _PORT_MAX:
        raise BadHeader(f"the PROXY line has a port above {_PORT_MAX}")
    ends = Ends(told_address(hosts[0]), ports[0], told_address(hosts[1]), ports[1])
    return Introduction(ends, end)


def _version_2(data: bytes) -> Introduction | None:
    if len(data) > len(_V2_START) and data[len(_V2_START)] not in (_LOCAL, _PROXY):
        raise BadHeader("the PROXY header is neither of version 2 nor LOCAL or PROXY")
    if len(data) < _V2_HEAD.size:
        return None
    _, command, family, length = _V2_HEAD.unpack_from(data)
    size = _V2_HEAD.size + length
    if size > V2_BYTES_MAX:
        raise BadHeader(f"the PROXY header has more than {V2_BYTES_MAX} bytes")
    if len(data) < size:
        return None
    if command == _LOCAL or family == _UNSPECIFIED:
        return Introduction(Own(), size)
    block = data[_V2_HEAD.size : size]
    if family in _UNIX_FAMILIES:
        _check_extensions(data[:size], _UNIX_BYTES)
        return Introduction(Unnamed(), size)
    addresses = _FAMILIES.get(family)
    if addresses is None:
        raise BadHeader(f"the PROXY header has the unknown address family {family:#04x}")
    _check_extensions(data[:size], addresses.size)
    client, local, client_port, local_port = addresses.unpack_from(block)
    ends = Ends(
        told_address(ip_address(client)), client_port, told_address(ip_address(local)), local_port
    )
    return Introduction(ends, size)


def _check_extensions(header: bytes, addresses: int) -> None:
    """Behind the addresses stand whole extensions, whose content is no concern of ours but a sum."""
    at = _V2_HEAD.size + addresses
    if at > len(header):
        raise BadHeader("the PROXY header is too short for its addresses")
    sums = 0
    while at < len(header):
        value = at + _TLV_HEAD.size
        kind, length = _TLV_HEAD.unpack_from(header, at) if value <= len(header) else (0, 0)
        at = value + length
        if at > len(header):
            raise BadHeader("an extension of the PROXY header is longer than the header")
        if kind == _CRC32C_TYPE:
            sums += 1
            # One costs 2 ms at the longest; there is room for 500.
            if sums > 1 or header[value:at] != _sum_of(header, value):
                raise BadHeader("the checksum of the PROXY header is wrong")


def _sum_of(header: bytes, at: int) -> bytes:
    """The CRC32C of a header whose own checksum, at that place, counts as zeros."""
    zeroed = header[:at] + bytes(_CRC32C_BYTES) + header[at + _CRC32C_BYTES :]
    crc = 0xFFFFFFFF
    for byte in zeroed:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return struct.pack("!I", crc ^ 0xFFFFFFFF)


def told_address(address: IPv4Address | IPv6Address) -> str:
    """An address as we write it: an IPv4 one is one, also where IPv6 carries it."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


# ---- writing -------------------------------------------------------------------------------------


def header(version: Version, ends: Ends | None) -> bytes:
    """The header of a connection that is carried for a client; None: one without addresses."""
    if ends is None:
        return b"PROXY UNKNOWN\r\n" if version == "v1" else _second(_PROXY, _UNSPECIFIED, b"")
    client, local = ip_address(ends.client).packed, ip_address(ends.local).packed
    if len(client) != len(local):  # one of them in its form for the other family (RFC 4291 2.5.5.2)
        client, local = (each if len(each) > _FOUR else _MAPPED + each for each in (client, local))
    four = len(client) == _FOUR
    if version == "v1":
        places = ip_address(client), ip_address(local), ends.client_port, ends.local_port
        return b"PROXY TCP%d %b\r\n" % (4 if four else 6, " ".join(map(str, places)).encode())
    block = (_INET if four else _INET6).pack(client, local, ends.client_port, ends.local_port)
    return _second(_PROXY, _STREAM_4 if four else _STREAM_6, block)


def own_header(version: Version) -> bytes:
    """The header of a connection that is our own affair, such as a probe."""
    return b"PROXY UNKNOWN\r\n" if version == "v1" else _second(_LOCAL, _UNSPECIFIED, b"")


def _second(command: int, family: int, block: bytes) -> bytes:
    return _V2_HEAD.pack(_V2_START, command, family, len(block)) + block
