"""Targets and hosts: one reading, or none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.message import BadMessage, Fields, RequestHead
from balancer.core.request_rules import canonical, ends_here

A = (b"Host", b"a")


def head(
    target: str = "/", *fields: tuple[bytes, bytes], method: str = "GET", minor: int = 1
) -> RequestHead:
    return RequestHead(method=method, target=target, minor=minor, fields=fields)


def refused(request: RequestHead) -> BadMessage:
    with pytest.raises(BadMessage) as caught:
        canonical(request)
    return caught.value


@pytest.mark.parametrize("target", ["/", "/a?b=c", "//x", "/%2e%2e", "/http://b/", "/*"])
def test_origin_form_stays_as_it_is(target: str) -> None:
    request = head(target, A)
    assert canonical(request) == (request, "a")


@pytest.mark.parametrize(
    ("target", "origin", "host"),
    [
        ("http://a", "/", "a"),
        ("http://a/", "/", "a"),
        ("HTTP://A/x?y", "/x?y", "A"),
        ("http://a?x", "/?x", "a"),
        ("http://a:80/x", "/x", "a:80"),
        ("http://a//b", "//b", "a"),
    ],
)
def test_absolute_form_gives_its_authority_to_host(target: str, origin: str, host: str) -> None:
    changed, found = canonical(head(target, A))
    assert (changed.target, found) == (origin, host)


def test_absolute_form_needs_no_host() -> None:
    """HTTP/1.0 has none; h11 asks HTTP/1.1 for one before we are asked."""
    assert canonical(head("http://b:81/x", minor=0))[1] == "b:81"


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("a", "a:81"), ("a:80", "a:8"), ("a", "")])
def test_two_different_hosts_are_refused(one: str, other: str) -> None:
    found = refused(head(f"http://{one}/", (b"Host", other.encode())))
    assert (found.status, found.sentence) == (400, "Host and the host of the request target differ")


@pytest.mark.parametrize("sent", [b"a", b"A", b"a:", b"a:80"])
def test_the_default_port_is_no_difference(sent: bytes) -> None:
    assert canonical(head("http://a:80/", (b"Host", sent)))[1] == "a:80"


@pytest.mark.parametrize("target", ["*", "http://a"])
def test_options_may_ask_about_everything(target: str) -> None:
    """RFC 9112 3.2.4: an absolute form without path and query becomes an asterisk."""
    assert canonical(head(target, A, method="OPTIONS"))[0].target == "*"


def test_options_of_a_path_is_about_that_path() -> None:
    assert canonical(head("http://a/", A, method="OPTIONS"))[0].target == "/"
    assert canonical(head("http://a?x", A, method="OPTIONS"))[0].target == "/?x"


@pytest.mark.parametrize(
    ("method", "sent", "last"),
    [
        ("OPTIONS", b"0", True),
        ("OPTIONS", b"000", True),
        ("OPTIONS", b"1", False),
        ("OPTIONS", b"010", False),
        ("GET", b"0", False),
        ("GET", b"x", False),
    ],
)
def test_options_that_may_go_no_further_ends_here(method: str, sent: bytes, last: bool) -> None:
    """RFC 9110 7.6.2."""
    request, _ = canonical(head("/", A, (b"Max-Forwards", sent), method=method))
    assert ends_here(request) is last
    assert not ends_here(head("/", A, method=method))


@pytest.mark.parametrize(
    "sent", [(b"x",), (b"",), (b"-1",), (b"1, 0",), (b"9" * 10,), (b"1", b"1")]
)
def test_options_that_may_go_nobody_knows_how_far_is_refused(sent: tuple[bytes, ...]) -> None:
    forwards = [(b"Max-Forwards", value) for value in sent]
    assert refused(head("/", A, *forwards, method="OPTIONS")).status == 400


@pytest.mark.parametrize("name", [b"expect", b"Max-Forwards"])
def test_what_is_asked_of_every_recipient_is_no_option_of_a_connection(name: bytes) -> None:
    assert refused(head("/", A, (b"Connection", name))).status == 400


@pytest.mark.parametrize(
    "target", ["a", "*", "a:443", "ftp://a/", "://a", "?x", "javascript:x", "/a#b", "http://a/#b"]
)
def test_other_targets_are_refused(target: str) -> None:
    assert refused(head(target, A)).status == 400


def test_an_https_target_is_refused_on_a_plain_connection() -> None:
    assert "TLS" in refused(head("https://a/", A)).sentence


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_tunnels_and_echoes_are_not_served(method: str) -> None:
    assert refused(head("a:443", A, method=method)).status == 405


@pytest.mark.parametrize(
    "host",
    [
        "a",
        "A.b-c.example",
        "a.",
        "127.0.0.1",
        "a:1",
        "a:",
        "a:65535",
        "[::1]",
        "[::1]:80",
        "a_b",
        "[2001:db8::a:192.0.2.1]",
        "xn--tst-qla.example:0080",
    ],
)
def test_hosts_that_pass(host: str) -> None:
    assert canonical(head("/", (b"host", host.encode())))[1] == host


@pytest.mark.parametrize(
    "host",
    [
        b"", b" ", b"a b", b"a/b", b"a\\b", b"user@a", b"a:65536", b"a:x", b"a:80:80",
        b"a:+80", b"a:\xb2", b"::1", b"[::1", b"[x]", b"[::1]x", b"a\xe4", b"a\x00", b"a?b", b"a#b",
        b".", b"..", b".a", b"a..b", b"a..", b"a,b", b"a, b", b"a;b", b"a=b", b"a%2eb", b"a*b", b'a"b', b"a!b",
        b"[::1::2]", b"[1.2.3.4]", b"[]", b"[::1%25a]", b"[v1.a]", b":80", b"a:\xd9\xa5", b"a\n",
    ],
)  # fmt: skip
def test_hosts_that_do_not(host: bytes) -> None:
    assert refused(head("/", (b"Host", host))).status == 400


@pytest.mark.parametrize(
    "method", ["get", "Get", "GeT", "trace", "Connect", "", "1GET", "G.T", "G\xcb"]
)
def test_a_method_is_a_word_of_capital_letters(method: str) -> None:
    """Somebody behind us may take `trace` for TRACE."""
    assert refused(head("/", A, method=method)).status == 400


@pytest.mark.parametrize("method", ["BREW", "M-SEARCH", "VERSION-CONTROL", "X_1"])
def test_methods_that_nobody_here_knows_pass(method: str) -> None:
    assert canonical(head("/", A, method=method))[0].method == method


@pytest.mark.parametrize(
    "path", ["/%", "/%2", "/%zz", "/a%u002e", "/%25%", "/%2%20", "/%+2", "http://a/%g0"]
)
def test_an_escape_in_a_path_is_whole(path: str) -> None:
    """Some read %u002e as a dot, and others do not."""
    assert refused(head(path, A)).status == 400
    assert refused(head(path + "?a=%20", A)).status == 400


@pytest.mark.parametrize("target", ["/%2e%2E/%00%ff", "/?100%", "/a%20b?%u002e&%", "/%25?"])
def test_whole_escapes_and_queries_pass_as_they_are(target: str) -> None:
    assert canonical(head(target, A))[0].target == target


@pytest.mark.parametrize("name", [b"Authorization", b"content-type", b"Origin"])
@pytest.mark.parametrize("values", [(b"a", b"b"), (b"a", b"a")])
def test_who_asks_is_said_once(name: bytes, values: tuple[bytes, bytes]) -> None:
    fields = [(name, values[0]), (b"Accept", b"x"), (name.upper(), values[1])]
    assert "more than once" in refused(head("/", A, *fields)).sentence
    assert canonical(head("/", A, *fields[:2]))[1] == "a"


@pytest.mark.parametrize(
    "options",
    [
        b"Host",
        b"close, content-length",
        b"Authorization",
        b"x-a,COOKIE",
        b"X-Forwarded-For",
        b"via",
    ],
)
def test_connection_cannot_take_away_what_is_for_everybody(options: bytes) -> None:
    assert "every recipient" in refused(head("/", A, (b"Connection", options))).sentence
    assert refused(head("/", A, (b"connection", b"close"), (b"Connection", options))).status == 400


@pytest.mark.parametrize(
    "options",
    [
        b"close",
        b"X-Mine",
        b"keep-alive, TE",
        b"Upgrade, HTTP2-Settings",
        b"Transfer-Encoding",
        b", ,",
    ],
)
def test_connection_may_name_what_is_of_this_hop(options: bytes) -> None:
    assert canonical(head("/", A, (b"Connection", options)))[1] == "a"


@pytest.mark.parametrize("target", ["http:///x", "http://u@a/x", "http://a:99999/", "http://a b/"])
def test_the_authority_of_a_target_is_held_to_the_same(target: str) -> None:
    assert refused(head(target, minor=0)).status == 400


@pytest.mark.parametrize(
    ("fields", "minor", "passes"),
    [((), 1, False), ((), 0, True), ((A, A), 1, False), ((A, A), 0, False), ((A,), 0, True)],
)
def test_how_many_hosts_there_must_be(fields: Fields, minor: int, passes: bool) -> None:
    request = head("/", *fields, minor=minor)
    if passes:
        assert canonical(request)[1] == ("a" if fields else None)
    else:
        assert refused(request).status == 400


@given(st.text(st.characters(max_codepoint=255), max_size=20), st.binary(max_size=20))
def test_a_request_is_made_canonical_or_refused(target: str, host: bytes) -> None:
    request = head(target, (b"Host", host))
    try:
        changed, _ = canonical(request)
    except BadMessage:
        assert refused(request).status in (400, 405, 501)
    else:
        assert changed.target.startswith("/")
        assert canonical(changed)[0] == changed


@pytest.mark.parametrize("sent", [b"a", b"A:443", b"a:"])
def test_over_tls_absolute_targets_are_of_https(sent: bytes) -> None:
    """RFC 9112 3.3: the scheme is that of the connection."""
    request = head("https://a:443/x", (b"Host", sent))
    assert canonical(request, secure=True)[0].target == "/x"
    assert refused(request).sentence == "an https target came without TLS"
    with pytest.raises(BadMessage, match="an http target came over TLS"):
        canonical(head("http://a/x", A), secure=True)


def test_over_tls_port_80_is_another_host() -> None:
    with pytest.raises(BadMessage, match="differ"):
        canonical(head("https://a/", (b"Host", b"a:80")), secure=True)
