"""PROXY headers: what each says, where it ends, and what is none (proxy-protocol.txt, version 2.x)."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.wire import proxy_protocol
from balancer.wire.proxy_protocol import (
    V1_BYTES_MAX,
    V2_BYTES_MAX,
    BadHeader,
    Ends,
    Introduction,
    Own,
    Unnamed,
    Version,
    header,
    introduction,
    own_header,
)

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
FOUR = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 51000, 443)
SIX = IPv6Address("2001:db8::1").packed + IPv6Address("::2").packed + struct.pack("!HH", 1, 65535)
OF_FOUR = Ends("192.0.2.1", 51000, "198.51.100.2", 443)
OF_SIX = Ends("2001:db8::1", 1, "::2", 65535)
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def second(command: int, family: int, block: bytes, length: int | None = None) -> bytes:
    """A header of version 2, made here from the text of the specification."""
    size = len(block) if length is None else length
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", size) + block


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


# ---- what is said --------------------------------------------------------------------------------

GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 51000 443\r\n", OF_FOUR),
    (b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", Ends("255.255.255.255", 65535, "0.0.0.0", 0)),
    (b"PROXY TCP6 2001:DB8::1 ::2 1 65535\r\n", OF_SIX),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 51000 443\r\n", OF_FOUR),
    (b"PROXY UNKNOWN\r\n", Own()),
    (b"PROXY UNKNOWN ffff:f...f:ffff anything at all\r\n", Own()),
    (second(0x21, 0x11, FOUR), OF_FOUR),
    (second(0x21, 0x12, FOUR), OF_FOUR),
    (second(0x21, 0x21, SIX), OF_SIX),
    (second(0x21, 0x22, SIX), OF_SIX),
    (second(0x21, 0x31, bytes(216)), Unnamed()),
    (second(0x21, 0x32, b"/run/a.sock".ljust(108, b"\0") * 2), Unnamed()),
    (second(0x21, 0x00, b""), Own()),
    (second(0x21, 0x00, b"whatever this is"), Own()),
    (second(0x20, 0x00, b""), Own()),
    (second(0x20, 0x11, FOUR), Own()),
    (second(0x20, 0x77, b"\1\2\3"), Own()),
    (second(0x21, 0x11, FOUR + tlv(0x02, b"a.test") + tlv(0x04, b"")), OF_FOUR),
    (second(0x21, 0x21, SIX + tlv(0x20, bytes(300))), OF_SIX),
    (second(0x21, 0x31, bytes(216) + tlv(0xEA, b"vpce-1")), Unnamed()),
    (second(0x21, 0x11, FOUR + tlv(0x04, bytes(V2_BYTES_MAX - 31))), OF_FOUR),
]  # fmt: skip


@pytest.mark.parametrize(("data", "of"), GOOD, ids=lambda value: repr(value)[:60])
def test_a_header_is_understood_and_ends_where_it_ends(data: bytes, of: object) -> None:
    """Sections 2.1 and 2.2."""
    for behind in (b"", CLIENT_HELLO, b"GET / HTTP/1.1\r\n\r\n", b"\r\n", data, b"\0\0\0"):
        assert introduction(data + behind) == Introduction(of, len(data))  # type: ignore[arg-type]


@pytest.mark.parametrize(("data", "of"), GOOD, ids=lambda value: repr(value)[:60])
def test_a_beginning_of_a_header_waits_for_the_rest(data: bytes, of: object) -> None:
    assert [size for size in range(1, len(data)) if introduction(data[:size]) is not None] == []


def test_the_longest_line_of_version_1_fits() -> None:
    """Section 2.1: the worst case is 107 bytes."""
    line = b"PROXY UNKNOWN " + b"f" * (V1_BYTES_MAX - 16) + b"\r\n"
    assert len(line) == V1_BYTES_MAX
    assert introduction(line) == Introduction(Own(), V1_BYTES_MAX)
    long = line[:-2] + b"f\r\n"
    with pytest.raises(BadHeader, match="107"):
        introduction(long)
    with pytest.raises(BadHeader, match="107"):
        introduction(long[:-1])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"G", "does not begin"),
        (b"GET / HTTP/1.1\r\n", "does not begin"),
        (CLIENT_HELLO, "does not begin"),
        (b"PROXX", "does not begin"),
        (b"proxy TCP4 ", "does not begin"),
        (b"\r\n\r\n\0\r\nQUIX", "does not begin"),
        (b"\r\nGET", "does not begin"),
        (b"PROXY\r\n", "does not begin"),
        (b"PROXY \n", "is not"),
        (b"PROXY \r\n", "is not"),
        (b"PROXY UNKNOWN\n", "is not"),
        (b"PROXY UNKNOWN\r\r\n", "is not"),
        (b"PROXY UNKNOWNX\r\n", "is not"),
        (b"PROXY TCP5 192.0.2.1 198.51.100.2 51000 443\r\n", "is not"),
        (b"PROXY  TCP4 192.0.2.1 198.51.100.2 51000 443\r\n", "is not"),
        (b"PROXY TCP4 192.0.2.1  198.51.100.2 51000 443\r\n", "is not"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 51000 443 \r\n", "is not"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 51000\r\n", "is not"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 51000 443", None),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 051000 443\r\n", "is not"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n", "is not"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 \xb2 443\r\n", "is not"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 99999 443\r\n", "port above"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n", "port above"),
        (b"PROXY TCP4 192.0.2.01 198.51.100.2 51000 443\r\n", "no TCP4 address"),
        (b"PROXY TCP4 192.0.2.256 198.51.100.2 51000 443\r\n", "no TCP4 address"),
        (b"PROXY TCP4 192.0.2 198.51.100.2 51000 443\r\n", "no TCP4 address"),
        (b"PROXY TCP4 2001:db8::1 ::2 51000 443\r\n", "no TCP4 address"),
        (b"PROXY TCP6 192.0.2.1 198.51.100.2 51000 443\r\n", "no TCP6 address"),
        (b"PROXY TCP6 ::1::2 ::2 51000 443\r\n", "no TCP6 address"),
        (b"PROXY TCP6 fe80::1%eth0 ::2 51000 443\r\n", "is not"),
        (SIGNATURE + b"\x11", "neither"),
        (SIGNATURE + b"\x31", "neither"),
        (SIGNATURE + b"\x22", "neither"),
        (second(0x21, 0x11, FOUR[:-1]), "too short"),
        (second(0x21, 0x21, FOUR), "too short"),
        (second(0x21, 0x31, bytes(215)), "too short"),
        (second(0x21, 0x01, FOUR), "family 0x01"),
        (second(0x21, 0x13, FOUR), "family 0x13"),
        (second(0x21, 0x41, bytes(216)), "family 0x41"),
        (second(0x21, 0x11, FOUR + b"\x04"), "extension"),
        (second(0x21, 0x11, FOUR + b"\x04\x00"), "extension"),
        (second(0x21, 0x11, FOUR + b"\x04\x00\x01"), "extension"),
        (second(0x21, 0x11, FOUR + tlv(0x04, b"ab")[:-1]), "extension"),
        (second(0x21, 0x11, FOUR, V2_BYTES_MAX - 15), "4096"),
        (second(0x21, 0x11, b"", 65535), "4096"),
    ],
)  # fmt: skip
def test_what_is_no_header_is_refused(data: bytes, says: str | None) -> None:
    if says is None:
        assert introduction(data) is None
        return
    with pytest.raises(BadHeader, match=says):
        introduction(data)


def test_a_checksum_is_held_to() -> None:
    """Section 2.2.4: CRC32C over the header, its own four bytes as zeros.

    The sum was computed apart from this program, bit by bit from the polynomial 0x1EDC6F41.
    """
    whole = second(0x21, 0x11, FOUR + tlv(0x03, bytes(4)) + tlv(0x02, b"a.test"))
    right = whole.replace(tlv(0x03, bytes(4)), tlv(0x03, _crc32c(whole)))
    assert introduction(right) == Introduction(OF_FOUR, len(right))
    with pytest.raises(BadHeader, match="checksum"):
        introduction(right.replace(b"a.test", b"b.test"))
    with pytest.raises(BadHeader, match="checksum"):
        introduction(second(0x21, 0x11, FOUR + tlv(0x03, b"abc")))


def test_only_one_checksum_is_calculated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred that are all right, which can be made, would hold up everybody for a second."""
    calculated: list[int] = []

    def sum_of(_: bytes, at: int) -> bytes:
        calculated.append(at)
        return bytes(4)

    monkeypatch.setattr(proxy_protocol, "_sum_of", sum_of)
    with pytest.raises(BadHeader, match="checksum"):
        introduction(second(0x21, 0x11, FOUR + 500 * tlv(0x03, bytes(4))))
    assert len(calculated) == 1


def _crc32c(data: bytes) -> bytes:
    """Not reflected, as the polynomial is written: the bits of each byte and of the sum turned."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= int(f"{byte:08b}"[::-1], 2) << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x1EDC6F41 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return int(f"{crc ^ 0xFFFFFFFF:032b}"[::-1], 2).to_bytes(4, "big")


def test_the_sum_of_the_test_is_the_one_of_rfc_3720() -> None:
    """Appendix B.4: 32 bytes of zeros have 0x8a9136aa."""
    assert _crc32c(bytes(32)) == (0x8A9136AA).to_bytes(4, "big")


# ---- properties ----------------------------------------------------------------------------------

HOSTS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)
PORTS = st.integers(0, 65535)
VERSIONS: st.SearchStrategy[Version] = st.sampled_from(["v1", "v2"])


def plain(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


@given(HOSTS, PORTS, PORTS, VERSIONS, st.binary(max_size=20))
def test_what_is_written_is_read_as_the_same(
    hosts: tuple[IPv4Address | IPv6Address, ...], one: int, two: int, version: Version, after: bytes
) -> None:
    ends = Ends(str(hosts[0]), one, str(hosts[1]), two)
    data = header(version, ends)
    assert len(data) <= (V1_BYTES_MAX if version == "v1" else 52)
    found = introduction(data + after)
    assert found is not None
    assert found.size == len(data)
    assert found.of == Ends(plain(hosts[0]), one, plain(hosts[1]), two)


STARTS = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\0\x0c"])


@given(STARTS, st.binary(max_size=300), st.integers(0, 300))
def test_no_bytes_break_it_and_more_of_them_never_change_what_was_said(
    start: bytes, rest: bytes, cut: int
) -> None:
    """What is found early, or refused early, is found or refused of the whole."""
    data = start + rest
    early = outcome(data[: cut or 1])
    whole = outcome(data)
    if early is not None and data:
        assert whole == early


def outcome(data: bytes) -> object:
    try:
        return introduction(data) if data else None
    except BadHeader:
        return "refused"


@given(st.sampled_from([data for data, _ in GOOD]), st.integers(0, 400), st.integers(0, 255))
def test_a_changed_byte_never_moves_the_end_beyond_the_bounds(
    data: bytes, at: int, byte: int
) -> None:
    changed = bytearray(data)
    changed[at % len(data)] = byte
    found = outcome(bytes(changed))
    if isinstance(found, Introduction):
        assert 15 <= found.size <= len(data)


# ---- what is sent --------------------------------------------------------------------------------


def test_what_is_sent_to_the_byte() -> None:
    assert header("v1", OF_FOUR) == b"PROXY TCP4 192.0.2.1 198.51.100.2 51000 443\r\n"
    assert header("v1", OF_SIX) == b"PROXY TCP6 2001:db8::1 ::2 1 65535\r\n"
    assert header("v2", OF_FOUR) == second(0x21, 0x11, FOUR)
    assert header("v2", OF_SIX) == second(0x21, 0x21, SIX)


def test_two_kinds_of_address_are_told_as_one() -> None:
    mixed = Ends("192.0.2.1", 1, "::2", 2)
    for version in ("v1", "v2"):
        said = introduction(header(version, mixed))
        assert said is not None
        assert said.of == mixed


def test_a_zone_is_left_at_home() -> None:
    assert (
        header("v1", Ends("fe80::1%eth0", 1, "fe80::2", 2)) == b"PROXY TCP6 fe80::1 fe80::2 1 2\r\n"
    )


def test_a_client_without_an_address_is_unknown() -> None:
    """Section 2.2: UNSPEC for what is neither IPv4, IPv6 nor told."""
    assert header("v1", None) == b"PROXY UNKNOWN\r\n"
    assert header("v2", None) == second(0x21, 0x00, b"")


def test_our_own_connections_say_that_they_are_our_own() -> None:
    """Section 2.2: health checks of the sender use LOCAL; version 1 has UNKNOWN for it."""
    assert own_header("v1") == b"PROXY UNKNOWN\r\n"
    assert own_header("v2") == second(0x20, 0x00, b"")
