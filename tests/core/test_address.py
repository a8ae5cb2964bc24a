"""Addresses: one spelling for one place, and a helpful word about everything else."""

import ipaddress
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.address import (
    Address,
    AddressError,
    overlap,
    parse_address,
    why_no_socket_path,
)

# fmt: off
CANONICAL = [
    ("10.0.0.1:80",               "10.0.0.1:80",               Address("10.0.0.1", 80)),
    ("10.0.0.1:0080",             "10.0.0.1:80",               Address("10.0.0.1", 80)),
    ("[::1]:8080",                "[::1]:8080",                Address("::1", 8080)),
    ("[0:0:0::0:1]:8080",         "[::1]:8080",                Address("::1", 8080)),
    ("[2001:DB8::A]:1",           "[2001:db8::a]:1",           Address("2001:db8::a", 1)),
    ("[::ffff:a00:1]:80",         "[::ffff:10.0.0.1]:80",      Address("::ffff:10.0.0.1", 80)),
    ("[FE80::1%Eth0]:80",         "[fe80::1%Eth0]:80",         Address("fe80::1%Eth0", 80)),
    ("LOCALHOST:80",              "localhost:80",              Address("localhost", 80)),
    ("App_1.Example.com.:80",     "app_1.example.com.:80",     Address("app_1.example.com.", 80)),
    ("xn--bcher-kva.example:80",  "xn--bcher-kva.example:80",  Address("xn--bcher-kva.example", 80)),
    ("1st.example:65535",         "1st.example:65535",         Address("1st.example", 65535)),
    ("unix:/run/App/x.sock",      "unix:/run/App/x.sock",      Address("", 0, "/run/App/x.sock")),
]
REFUSED = [
    ("",                     "write host:port"),
    ("10.0.0.1",             "write 10.0.0.1:8080"),
    ("localhost",            "write localhost:8080"),
    (":8080",                "like 127.0.0.1:8080"),
    ("10.0.0.1:",            "the port must be a number"),
    ("10.0.0.1:0",           "from 1 to 65535"),
    ("10.0.0.1:65536",       "from 1 to 65535"),
    ("10.0.0.1:http",        "the port must be a number"),
    ("10.0.0.1:+80",         "the port must be a number"),
    ("10.0.0.1:٨٠",          "in ASCII"),
    ("10.0.0.256:80",        "not an IPv4 address"),
    ("10.0.0.01:80",         "not an IPv4 address"),
    ("127.1:80",             "not an IPv4 address"),
    ("0x7f000001:80",        "not an IPv4 address"),
    ("2130706433:80",        "not an IPv4 address"),
    ("::1:8080",             "in brackets"),
    ("[::1]",                "write [::1]:8080"),
    ("[::1",                 "closing bracket"),
    ("[::1]x:80",            "a port is missing"),
    ("29001",                "a host is missing; write 127.0.0.1:29001"),
    ("70000",                "a port is missing"),
    ("0",                    "a port is missing"),
    ("[10.0.0.1]:80",        "write 10.0.0.1:80"),
    ("[::g]:80",             "not an IPv6 address"),
    ("[1:2:3]:80",           "not an IPv6 address"),
    ("[fe80::1%]:80",        "not an IPv6 address"),
    ("[fe80::1%a b]:80",     "not an IPv6 address"),
    ("http://10.0.0.1:80/x", "like 10.0.0.1:80"),
    ("http://",              "without http://"),
    ("/run/x.sock",          "write unix:/run/x.sock"),
    ("unix:run/x.sock",      "the whole path"),
    ("unix:/run/",           "the whole path"),
    ("unix:",                "the whole path"),
    ("unix:/" + "x" * 320,   "at most 320 characters"),
    ("unix:/run/\nx",        "cannot be printed"),
    ("unix:/" + "x" * 107,   "at most 107 bytes"),
    ("bücher.example:80",    "its xn-- form"),
    ("a b:80",               "neither a host name"),
    ("a\nb:80",              "cannot be printed"),
    ("\x1b[31mx:80",         "cannot be printed"),
    ("\ud800:80",            "cannot be printed"),
    ("-a:80",                "neither a host name"),
    ("a-:80",                "neither a host name"),
    ("a..b:80",              "neither a host name"),
    ("a/b:80",               "neither a host name"),
    (".".join(["a" * 60] * 5) + ":80", "neither a host name"),
]
# fmt: on


@pytest.mark.parametrize(("text", "canonical", "address"), CANONICAL)
def test_an_address_has_one_spelling(text: str, canonical: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(parse_address(text)) == canonical


@pytest.mark.parametrize(("text", "advice"), REFUSED)
def test_what_is_no_address_is_refused_with_advice(text: str, advice: str) -> None:
    with pytest.raises(AddressError) as refused:
        parse_address(text)
    assert advice in str(refused.value)


def test_only_a_listener_may_leave_its_port_open() -> None:
    assert parse_address("127.0.0.1:0", any_port=True) == Address("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("text", "is_name"),
    [("localhost:80", True), ("10.0.0.1:80", False), ("[::1]:80", False), ("unix:/x", False)],
)
def test_only_host_names_need_resolving(text: str, is_name: bool) -> None:
    assert parse_address(text).is_name is is_name


LABELS = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=12)
HOSTS = (
    st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(lambda ip: f"[{ip.exploded}]")
    | st.lists(LABELS, min_size=1, max_size=4).map(".".join).filter(lambda h: h[-1].isalpha())
)


@given(HOSTS.filter(lambda host: "0x" not in host.lower()), st.integers(1, 65535))
def test_the_spelling_is_stable(host: str, port: int) -> None:
    address = parse_address(f"{host}:{port}")
    assert parse_address(str(address)) == address
    assert str(parse_address(str(address).upper())) == str(address)


@given(st.ip_addresses(v=6), st.integers(1, 65535))
def test_every_spelling_of_an_ipv6_address_is_the_same_address(
    ip: ipaddress.IPv6Address, port: int
) -> None:
    assert parse_address(f"[{ip.exploded}]:{port}") == parse_address(f"[{ip.compressed}]:{port}")


@given(st.text() | st.text("0123456789abcx.:[]%/-", max_size=20))
def test_nothing_but_an_address_error_is_raised(text: str) -> None:
    try:
        address = parse_address(text)
    except AddressError:
        return
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0:9900",
        "127.0.0.1:9900",
        "[::]:9900",
        ":9900",
        "localhost:1",
        "http://x",
        "tcp://x:1",
    ],
)
def test_a_tcp_address_is_no_place_for_the_admin_api(text: str) -> None:
    assert "no TCP address, only the path of a unix socket" in (why_no_socket_path(text) or "")


@pytest.mark.parametrize("text", ["unix:/run/x.sock", "unix:///run/x.sock", "unix:run/x.sock"])
def test_a_socket_path_is_written_without_unix(text: str) -> None:
    assert "write the path alone, '/run/x.sock'" in (why_no_socket_path(text) or "")


@pytest.mark.parametrize("text", ["/run/x.sock", "x.sock", "./a:1", "/run/a:1", "a:b", ""])
def test_a_path_is_a_place_for_the_admin_api(text: str) -> None:
    assert why_no_socket_path(text) is None


@pytest.mark.parametrize(
    ("one", "other", "overlaps"),
    [
        ("127.0.0.1:80", "0.0.0.0:80", True),
        ("[::1]:80", "[::]:80", True),
        ("127.0.0.1:80", "0.0.0.0:81", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("127.0.0.1:80", "[::]:80", False),
        ("localhost:80", "0.0.0.0:80", False),
        ("unix:/run/x.sock", "0.0.0.0:80", False),
    ],
)
def test_all_addresses_of_a_family_overlap_each_of_them(
    one: str, other: str, overlaps: bool
) -> None:
    places = parse_address(one), parse_address(other)
    assert overlap(*places) is overlap(*reversed(places)) is overlaps
