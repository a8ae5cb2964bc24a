"""Routes: hosts, whole segments, and no path that two readers could route in two ways."""

import ipaddress
import re
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from balancer.core.routes import AmbiguousPath, NoRoute, RouteTable, normal_host


class Rule(NamedTuple):
    path: str = "/"
    pool: str = "web"
    host: str | None = None


def table(*rules: Rule) -> RouteTable:
    return RouteTable(rules)


SITE = table(Rule("/api/admin", "admin"), Rule("/api", "api"), Rule("/", "web"))
HOSTS = table(
    Rule("/", "exact", "example.com"),
    Rule("/", "wild", "*.example.com"),
    Rule("/", "six", "[::1]"),
    Rule("/", "bare-six", "2001:db8::1"),
    Rule("/", "rest"),
)
ONLY_HOST = table(Rule("/", "exact", "example.com"))


# ---- prefixes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "pool"),
    [
        ("/", "web"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api/x", "api"),
        ("/apix", "web"),
        ("/API", "web"),
        ("/api/admin", "admin"),
        ("/api/administrator", "api"),
        ("/api.json", "web"),
        ("/x;v=1", "web"),
        ("/api/x;v=1", "api"),
        ("*", "web"),
        ("", "web"),
        ("/.well-known/x", "web"),
        ("/...", "web"),
        ("/api/..x", "api"),
    ],
)
def test_prefixes_match_whole_segments_and_the_first_route_wins(target: str, pool: str) -> None:
    assert SITE.match("example.com", target) == pool


def test_a_slash_at_the_end_of_a_route_makes_no_difference() -> None:
    routes = table(Rule("/api/", "api"))
    assert routes.match(None, "/api") == "api"
    assert routes.match(None, "/api/x") == "api"
    assert isinstance(routes.match(None, "/apix"), NoRoute)


def test_the_first_match_wins_even_over_a_longer_one() -> None:
    assert table(Rule("/", "first"), Rule("/api", "second")).match(None, "/api") == "first"


def test_no_routes_no_match() -> None:
    assert table().match("example.com", "/") == NoRoute("no route leads to '/'")


def test_no_route_says_what_was_looked_for() -> None:
    found = ONLY_HOST.match("other.example", "/x\x1b?secret")
    assert found == NoRoute(r"no route leads to '/x\x1b' at other.example")


PATHS = st.lists(
    st.sampled_from(["api", "admin", "x", "", ".", "..", "%2e%2E", "%2f", "\\", "..;a"]), max_size=6
).map(lambda parts: "/" + "/".join(parts))


@given(PATHS, st.text(st.sampled_from("/.%25ceapi\\?#&=;"), max_size=20))
@example("/", "/../api")
@example("/x", "a=/api/%2e%2e")
def test_query_and_fragment_never_influence_the_match(path: str, tail: str) -> None:
    bare = SITE.match("h", path)
    assert SITE.match("h", f"{path}?{tail}") == bare
    assert SITE.match("h", f"{path}#{tail}") == bare


# ---- paths with a second reading -----------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/%61pi",
        "/api%2fadmin",
        "/api%2Fadmin/x",
        "/x/../api",
        "/x/%2e%2e/api",
        "/x/.%2E/api",
        "/x%2f..%2fapi",
        "/api/..",
        "/api/%2e%2e/",
        "/api/../..",
        "/./api",
        "/%2e/api",
        "//api",
        "//api/admin",
        "/api//admin",
        "/x/..//api",
        "\\api",
        "/\\api",
        "/api\\admin",
        "/api%5cadmin",
        "/x\\..\\api",
        "/x/..\\api",
        "/x/%2e%2e%5capi",
        "/x/..;a=b/api",
        "/api;v=1",
        "/api;/x",
        "/api%3bv=1",
        "/;v=1/api",
        "/x;/../api",
        "/api/;x/admin",
        "/api/x//../../admin/../x/../..",
        "/x/y%2F../../api",
    ],
)
def test_a_path_that_another_reading_routes_elsewhere_is_ambiguous(target: str) -> None:
    assert isinstance(SITE.match("h", target), AmbiguousPath)


@pytest.mark.parametrize(
    ("target", "pool"),
    [
        ("/api/a%20b", "api"),
        ("/api/a%2fb", "api"),
        ("/api/x/../y", "api"),
        ("/api//x", "api"),
        ("/api/x\\y", "api"),
        ("/%2561pi", "web"),
        ("/api%252fadmin", "web"),
        ("/x/%252e%252e/api", "web"),
        ("/%zz/%", "web"),
        ("/..", "web"),
        ("/x/..", "web"),
        ("/%ff%fe", "web"),
        ("/%00", "web"),
    ],
)
def test_a_path_whose_readings_agree_is_routed(target: str, pool: str) -> None:
    """Escapes are undone once: `%2561` is `%61` to whoever serves it, not `a`."""
    assert SITE.match("h", target) == pool


def test_the_host_takes_part_in_what_is_ambiguous() -> None:
    """Where the other reading's route asks for another host, there is nothing to be confused with."""
    routes = table(Rule("/api", "api", "a.example"), Rule("/", "web"))
    assert isinstance(routes.match("a.example", "/x/../api"), AmbiguousPath)
    assert routes.match("b.example", "/x/../api") == "web"


def test_a_reading_that_no_route_takes_is_ambiguous_too() -> None:
    routes = table(Rule("/api", "api"))
    found = routes.match("h", "/api/..")
    assert found == AmbiguousPath(
        "the path may be read as '/api/..' (route /api to pool api) or as '/' (no route)"
    )
    assert isinstance(routes.match("h", "/x/../api"), AmbiguousPath)


def test_without_a_choice_nothing_is_ambiguous() -> None:
    assert table(Rule()).match(None, "//x/%2e%2e\\..;/%2f") == "web"


def test_a_very_long_path_is_not_read_in_every_way() -> None:
    """64 KiB of dots and escapes would cost a tenth of a second for each request."""
    assert isinstance(SITE.match("h", "/x" * 3000 + "/%2e"), AmbiguousPath)
    assert SITE.match("h", "/api/" + "%E4%BA%BA" * 3000) == "api"
    assert SITE.match("h", "/x" * 3000) == "web"


@pytest.mark.parametrize("target", ["/caf%C3%A9", "/caf%c3%a9/x"])
@pytest.mark.parametrize("path", ["/café", "/caf%C3%A9", "/caf%c3%a9/"])
def test_routes_beyond_ascii_match_their_escaped_form(path: str, target: str) -> None:
    assert table(Rule(path, "cafe"), Rule()).match(None, target) == "cafe"


def merge(path: str) -> str:
    return re.sub("/+", "/", path)


def resolve(path: str) -> str:
    """RFC 3986 5.2.4, written another way than in the module."""
    while True:
        shorter = re.sub(r"/\.(;[^/]*)?(/|\Z)", "/", path, count=1)
        if shorter == path:
            shorter = re.sub(
                r"(\A|/(?!\.\.?(;[^/]*)?/)[^/]*)/\.\.(;[^/]*)?(/|\Z)", "/", path, count=1
            )
        if shorter == path:
            return path
        path = shorter


def backslashes(path: str) -> str:
    return path.replace("\\", "/")


def decode(path: str) -> str:
    return re.sub("%([0-9a-fA-F]{2})", lambda m: chr(int(m[1], 16)), path)


def naive_pool(path: str) -> str:
    for prefix, pool in (("/api/admin", "admin"), ("/api", "api")):
        if path == prefix or path.startswith(prefix + "/"):
            return pool
    return "web"


@given(
    PATHS,
    st.lists(st.sampled_from([merge, resolve, backslashes]), max_size=4),
    st.booleans(),
    st.lists(st.sampled_from([merge, resolve, backslashes]), max_size=4),
)
def test_however_a_backend_reads_a_path_it_finds_what_the_route_was_chosen_for(
    path: str,
    before: list[Callable[[str], str]],
    decodes: bool,
    after: list[Callable[[str], str]],
) -> None:
    found = SITE.match("h", path)
    if isinstance(found, AmbiguousPath):
        return
    reading = path
    for step in [*before, *([decode] if decodes else []), *after]:
        reading = step(reading)
    assert found == naive_pool(reading)


@given(st.lists(st.sampled_from(["api", "admin", "x", "%20", "a.b", ".x", "..."]), max_size=5))
def test_plain_paths_are_never_ambiguous(segments: list[str]) -> None:
    assert SITE.match("h", "/" + "/".join(segments)) == naive_pool("/" + "/".join(segments))


@given(st.text(), st.none() | st.text() | st.binary())
def test_nothing_is_ever_raised(target: str, host: str | bytes | None) -> None:
    assert isinstance(SITE.match(host, target), str | NoRoute | AmbiguousPath)
    assert isinstance(HOSTS.match(host, target), str | NoRoute | AmbiguousPath)


# ---- hosts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "pool"),
    [
        ("example.com", "exact"),
        (b"example.com", "exact"),
        ("EXAMPLE.com", "exact"),
        ("example.com:8080", "exact"),
        ("example.com:", "exact"),
        ("example.com.", "exact"),
        ("example.com.:80", "exact"),
        ("www.example.com", "wild"),
        ("a.b.Example.com:1", "wild"),
        ("notexample.com", "rest"),
        ("example.com.evil", "rest"),
        (".example.com", "rest"),
        ("a..example.com", "rest"),
        ("example.com..", "rest"),
        ("example.com:http", "rest"),
        ("user@example.com", "rest"),
        ("example.com/", "rest"),
        ("example.com, other", "rest"),
        (" example.com", "rest"),
        ("example.com\n", "rest"),
        ("[::1]:8080", "six"),
        ("[0:0::1]", "six"),
        ("::1", "rest"),
        ("[2001:DB8:0::1]:1", "bare-six"),
        ("[::1", "rest"),
        ("[::g]", "rest"),
        ("[:::]", "rest"),
        ("[fe80::1%25eth0]", "rest"),
        ("*.example.com", "rest"),
        ("", "rest"),
        (None, "rest"),
        ("bücher.example.com", "rest"),
        (b"b\xfccher.example.com", "rest"),
        (b"\xff\x00", "rest"),
    ],
)
def test_hosts(host: str | bytes | None, pool: str) -> None:
    assert HOSTS.match(host, "/") == pool


@pytest.mark.parametrize("host", [None, "", b"\xff"])
def test_without_a_host_only_routes_that_ask_for_none_match(host: str | bytes | None) -> None:
    assert isinstance(ONLY_HOST.match(host, "/"), NoRoute)


@pytest.mark.parametrize("host", ["EXAMPLE.com", "example.com:8080", "example.com."])
def test_the_host_of_a_route_is_read_like_that_of_a_request(host: str) -> None:
    assert table(Rule(host=host)).match("example.com", "/") == "web"


def test_a_route_whose_host_is_junk_never_matches() -> None:
    assert isinstance(table(Rule(host="a b")).match("a b", "/"), NoRoute)


@given(st.ip_addresses(v=6))
def test_every_spelling_of_an_ipv6_host_is_the_same_host(ip: ipaddress.IPv6Address) -> None:
    assert normal_host(f"[{ip.exploded}]:80") == normal_host(f"[{ip}]")
