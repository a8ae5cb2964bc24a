"""The heads that go out: who is believed, what ends at this hop, and what is never lost."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.field_names import HOP_BY_HOP
from balancer.core.fields import (
    head_length_of,
    refuse_loop,
    request_bytes,
    response_bytes,
    trailer_bytes,
)
from balancer.core.forwarding import Hop
from balancer.core.framing import (
    CHUNKED,
    NO_BODY,
    UNTIL_CLOSE,
    BodyKind,
    Framing,
    expects_continue,
)
from balancer.core.message import BadMessage, Fields, RequestHead, ResponseHead
from balancer.wire.h11_heads import parse_request_head, parse_response_head

OURS_UP = {
    b"host", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip",
    b"x-request-id", b"via",
}  # fmt: skip


def head(*fields: tuple[bytes, bytes], method: str = "GET", minor: int = 1) -> RequestHead:
    return RequestHead(method=method, target="/x?y", minor=minor, fields=fields)


def hop(*, trusted: bool = False, host: bytes = b"a") -> Hop:
    return Hop(
        peer=b"9.9.9.9",
        client=b"1.1.1.1" if trusted else b"9.9.9.9",
        trusted=trusted,
        scheme=b"http",
        host=host,
        request_id=b"id1",
    )


def sent_up(
    request: RequestHead, framing: Framing = NO_BODY, *, trusted: bool = False
) -> list[tuple[bytes, bytes]]:
    """The fields that the backend gets, as it reads them, names in lower case."""
    parsed = parse_request_head(request_bytes(request, framing, hop(trusted=trusted)))
    return [(name.lower(), value) for name, value in parsed.fields]


def passed_up(*fields: tuple[bytes, bytes], trusted: bool = False) -> list[tuple[bytes, bytes]]:
    """The same without what we always add."""
    return [field for field in sent_up(head(*fields), trusted=trusted) if field[0] not in OURS_UP]


def sent_down(response: ResponseHead, framing: Framing = NO_BODY) -> list[tuple[bytes, bytes]]:
    out = response_bytes(
        response, framing, request_id=b"id1", connection=None, head_length=None, panic=False
    )
    return [(name.lower(), value) for name, value in parse_response_head(out).fields]


def answer(*fields: tuple[bytes, bytes], status: int = 200, minor: int = 1) -> ResponseHead:
    return ResponseHead(status=status, reason=b"Fine", minor=minor, fields=fields)


# ---- up: who is believed -------------------------------------------------------------------------


def test_a_plain_request_to_the_byte() -> None:
    request = head((b"Host", b"a"), (b"User-Agent", b"x"), method="POST")
    assert request_bytes(request, Framing(BodyKind.LENGTH, 3), hop()) == (
        b"POST /x?y HTTP/1.1\r\n"
        b"Host: a\r\n"
        b"User-Agent: x\r\n"
        b"X-Forwarded-For: 9.9.9.9\r\n"
        b"X-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Host: a\r\n"
        b"X-Real-IP: 9.9.9.9\r\n"
        b"X-Request-ID: id1\r\n"
        b"Via: 1.1 balancer\r\n"
        b"Content-Length: 3\r\n"
        b"\r\n"
    )


CLAIMS = (
    (b"X-Forwarded-For", b"1.1.1.1"),
    (b"x-forwarded-for", b"2.2.2.2, 3.3.3.3"),
    (b"X-Forwarded-Proto", b"https"),
    (b"X-Forwarded-Host", b"public"),
    (b"X-Real-IP", b"1.1.1.1"),
    (b"Forwarded", b"for=1.1.1.1"),
)


def test_a_strangers_claims_are_replaced() -> None:
    fields = sent_up(head(*CLAIMS))
    assert fields == [
        (b"host", b"a"),
        (b"x-forwarded-for", b"9.9.9.9"),
        (b"x-forwarded-proto", b"http"),
        (b"x-forwarded-host", b"a"),
        (b"x-real-ip", b"9.9.9.9"),
        (b"x-request-id", b"id1"),
        (b"via", b"1.1 balancer"),
    ]


def test_a_trusted_proxys_word_is_kept_and_continued() -> None:
    fields = sent_up(head(*CLAIMS), trusted=True)
    assert fields == [
        (b"host", b"a"),
        (b"x-forwarded-for", b"1.1.1.1, 2.2.2.2, 3.3.3.3, 9.9.9.9"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"public"),
        (b"x-real-ip", b"1.1.1.1"),
        (b"x-request-id", b"id1"),
        (b"forwarded", b"for=1.1.1.1, for=9.9.9.9;proto=http"),
        (b"via", b"1.1 balancer"),
    ]


def test_a_trusted_proxy_that_says_nothing_changes_nothing() -> None:
    said = [each for each in sent_up(head(), trusted=True) if each[0] != b"x-real-ip"]
    assert said == [each for each in sent_up(head()) if each[0] != b"x-real-ip"]


def test_an_empty_chain_is_no_link_of_the_chain() -> None:
    fields = dict(sent_up(head((b"X-Forwarded-For", b"")), trusted=True))
    assert fields[b"x-forwarded-for"] == b"9.9.9.9"


def test_via_tells_the_version_of_the_hop_and_goes_behind_what_was_there() -> None:
    fields = sent_up(head((b"Via", b"1.1 before"), minor=0))
    assert [value for name, value in fields if name == b"via"] == [b"1.1 before", b"1.0 balancer"]


# ---- up: what ends here --------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_fields_of_one_hop_end_here(name: bytes) -> None:
    assert passed_up((name.title(), b"x"), (b"Cookie", b"c")) == [(b"cookie", b"c")]


@pytest.mark.parametrize("value", [b"X-Mine", b"close, x-mine", b" ,x-MINE,"])
def test_a_field_that_connection_names_ends_here(value: bytes) -> None:
    fields = ((b"X-Mine", b"1"), (b"Connection", value), (b"X-Mine", b"2"), (b"Cookie", b"c"))
    assert passed_up(*fields) == [(b"cookie", b"c")]
    assert passed_up(*fields, trusted=True) == [(b"cookie", b"c")]


@pytest.mark.parametrize("framing", [NO_BODY, Framing(BodyKind.LENGTH, 0), CHUNKED])
def test_no_nomination_takes_the_framing_or_the_host_away(framing: Framing) -> None:
    greedy = (b"Connection", b"host, content-length, transfer-encoding, x-request-id")
    plain = sent_up(head((b"Host", b"a")), framing)
    assert sent_up(head(greedy, (b"Host", b"a")), framing) == plain


def test_no_nomination_hides_who_the_client_is() -> None:
    fields = sent_up(head((b"Connection", b"x-forwarded-for, x-real-ip, via")))
    assert fields == sent_up(head())


@pytest.mark.parametrize(
    "name",
    [
        b"Proxy",
        b"X-Original-URL",
        b"X-Rewrite-URL",
        b"X_Forwarded_For",
        b"Content_Length",
        b"a_b",
        b"X.Forwarded.For",
        b"X'Real'IP",
        b"~",
        b"!#$%&'*+.^`|",
        b"HTTP2-Settings",
    ],
)
def test_names_that_backends_take_for_something_else_are_dropped(name: bytes) -> None:
    assert passed_up((name, b"x"), trusted=True) == []


def test_end_to_end_fields_keep_order_spelling_and_bytes() -> None:
    fields = (
        (b"aCCept", b"*/*"),
        (b"Cookie", b"a=\xe4\xff; b"),
        (b"Accept", b""),
        (b"Trailer", b"X-Sum"),
        (b"Authorization", b"Basic eA=="),
    )
    lines = request_bytes(head(*fields), NO_BODY, hop()).split(b"\r\n")
    assert lines[2:7] == [name + b": " + value for name, value in fields]


@pytest.mark.parametrize(
    ("framing", "lines"),
    [
        (NO_BODY, []),
        (Framing(BodyKind.LENGTH, 0), [(b"content-length", b"0")]),
        (Framing(BodyKind.LENGTH, 17), [(b"content-length", b"17")]),
        (CHUNKED, [(b"transfer-encoding", b"chunked")]),
    ],
)
def test_the_framing_is_written_anew(framing: Framing, lines: Fields) -> None:
    sent = ((b"Content-Length", b"0017"), (b"Transfer-Encoding", b"Chunked,"))
    fields = sent_up(head(*sent), framing)
    assert [f for f in fields if f[0] in (b"content-length", b"transfer-encoding")] == list(lines)


def test_http_1_0_goes_up_as_1_1_with_the_host_that_was_found_for_it() -> None:
    out = request_bytes(head(minor=0), NO_BODY, hop(host=b"127.0.0.1:8080"))
    assert out.startswith(b"GET /x?y HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n")


@pytest.mark.parametrize(
    ("minor", "framing", "passes"),
    [
        (1, CHUNKED, True),
        (1, Framing(BodyKind.LENGTH, 1), True),
        (1, Framing(BodyKind.LENGTH, 0), False),
        (1, NO_BODY, False),
        (0, Framing(BodyKind.LENGTH, 1), False),
    ],
)
def test_an_expectation_passes_with_a_body_that_is_held_back(
    minor: int, framing: Framing, passes: bool
) -> None:
    """RFC 9110 10.1.1: HTTP/1.0 has none, and who sends no body waits for nothing."""
    request = head((b"Expect", b"100-Continue"), minor=minor)
    assert ((b"expect", b"100-continue") in sent_up(request, framing)) is passes
    assert expects_continue(request, framing) is passes


@pytest.mark.parametrize(
    "sent",
    [
        (b"200-ok",),
        (b"",),
        (b"100-continue, 100-continue",),
        (b"y 100-continue",),
        (b"100-continue;x=y",),
        (b"100-continue", b"100-continue"),
    ],
)
def test_nothing_else_can_be_expected(sent: tuple[bytes, ...]) -> None:
    """RFC 9110 10.1.1: 417 for an expectation that is not known."""
    fields = tuple((b"Expect", value) for value in sent)
    with pytest.raises(BadMessage) as refusal:
        expects_continue(head(*fields), CHUNKED)
    assert refusal.value.status == 417
    assert not expects_continue(head(*fields, minor=0), CHUNKED)


@pytest.mark.parametrize(
    ("sent", "minor", "passes"),
    [
        ((b"trailers",), 1, True),
        ((b"Trailers",), 1, True),
        ((b"gzip, trailers",), 1, True),
        ((b"gzip;q=0.5", b"trailers"), 1, True),
        ((b"trailers",), 0, False),
        ((b"gzip",), 1, False),
        ((b"x-trailers",), 1, False),
        ((b"",), 1, False),
    ],
)
def test_that_trailers_are_wanted_goes_on_for_the_next_hop(
    sent: tuple[bytes, ...], minor: int, passes: bool
) -> None:
    """RFC 9110 10.1.4: TE is of one hop, and its sender names it in Connection."""
    fields = sent_up(head(*((b"TE", value) for value in sent), minor=minor))
    wanted = [(b"te", b"trailers"), (b"connection", b"TE")]
    assert [each for each in fields if each[0] in (b"te", b"connection")] == wanted * passes


@pytest.mark.parametrize(
    ("via", "loops"),
    [
        ((b"1.1 balancer-1a2b3c4d",), True),
        ((b"1.0 other", b"1.1 else,1.1 balancer-1a2b3c4d,1.1 more"), True),
        ((b"1.1 balancer-1a2b3c4d (a comment)",), True),
        ((b"1.1 balancer-1a2b3c4e",), False),
        ((b"1.1 balancer",), False),
        ((b"1.1 xbalancer-1a2b3c4d",), False),
        ((b"1.1 balancer-1a2b3c4d5",), False),
        ((), False),
    ],
)
def test_a_request_that_has_been_here_is_a_loop(via: tuple[bytes, ...], loops: bool) -> None:
    """RFC 9110 7.6.3: Via is for that; another of us in a row is none."""
    request = head(*((b"Via", value) for value in via))
    if not loops:
        refuse_loop(request, b"balancer-1a2b3c4d")
        return
    with pytest.raises(BadMessage) as refusal:
        refuse_loop(request, b"balancer-1a2b3c4d")
    assert (refusal.value.status, refusal.value.proxy_error) == (508, "proxy_loop_detected")


@pytest.mark.parametrize(
    ("method", "sent", "passed"),
    [
        ("OPTIONS", b"3", b"2"),
        ("OPTIONS", b"1", b"0"),
        ("OPTIONS", b"0010", b"9"),
        ("GET", b"3", b"3"),
        ("GET", b"x", b"x"),
    ],
)
def test_max_forwards_is_counted_down_for_options(method: str, sent: bytes, passed: bytes) -> None:
    """RFC 9110 7.6.2: each intermediary updates it; of other methods it may be ignored."""
    fields = sent_up(head((b"Max-Forwards", sent), method=method))
    assert (b"max-forwards", passed) in fields


NAMES = st.sampled_from(
    [b"Connection", b"Host", b"Content-Length", b"Transfer-Encoding", b"X-Forwarded-For", b"TE",
     b"X-Real-IP", b"Forwarded", b"Via", b"X-Request-ID", b"Cookie", b"X-Mine", b"a_b",
     b"Upgrade", b"Keep-Alive", b"Max-Forwards"]
)  # fmt: skip
VALUES = st.one_of(
    NAMES,
    st.lists(NAMES, max_size=4).map(b", ".join),
    st.from_regex(rb"[!-~\x80-\xff]([ -~\x80-\xff]*[!-~])?", fullmatch=True),
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=12)


@given(FIELDS, st.sampled_from([NO_BODY, Framing(BodyKind.LENGTH, 7), CHUNKED]), st.booleans())
def test_what_goes_up_is_always_framed_once_and_from_one_host(
    fields: list[tuple[bytes, bytes]], framing: Framing, trusted: bool
) -> None:
    sent = sent_up(head(*fields), framing, trusted=trusted)
    names = [name for name, _ in sent]
    for once in (b"host", b"x-forwarded-for", b"x-real-ip", b"x-request-id"):
        assert names.count(once) == 1
    assert names.count(b"content-length") == (framing.kind is BodyKind.LENGTH)
    assert names.count(b"transfer-encoding") == (framing.kind is BodyKind.CHUNKED)
    assert not set(names) & (HOP_BY_HOP - {b"transfer-encoding", b"te", b"connection"})
    assert names.count(b"te") == names.count(b"connection") <= 1
    if not trusted:
        assert (b"x-forwarded-for", b"9.9.9.9") in sent


# ---- down ----------------------------------------------------------------------------------------


def test_a_plain_answer_to_the_byte() -> None:
    out = response_bytes(
        answer((b"Server", b"b"), (b"content-LENGTH", b"03")),
        Framing(BodyKind.LENGTH, 3),
        request_id=b"id1",
        connection=b"close",
        head_length=None,
        panic=True,
        date=b"now",
    )
    assert out == (
        b"HTTP/1.1 200 Fine\r\n"
        b"Server: b\r\n"
        b"Via: 1.1 balancer\r\n"
        b"Date: now\r\n"
        b"X-Request-ID: id1\r\n"
        b"Content-Length: 3\r\n"
        b"Connection: close\r\n"
        b"X-Balancer-Panic: 1\r\n"
        b"\r\n"
    )


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP - {b"transfer-encoding"}))
def test_fields_of_the_other_hop_end_here_too(name: bytes) -> None:
    fields = sent_down(answer((name, b"x"), (b"X-Request-ID", b"theirs")))
    assert fields == [(b"via", b"1.1 balancer"), (b"x-request-id", b"id1")]


def test_what_the_backends_connection_names_ends_here() -> None:
    fields = sent_down(answer((b"Connection", b"X-Mine"), (b"X-Mine", b"1"), (b"ETag", b'"e"')))
    assert [name for name, _ in fields] == [b"etag", b"via", b"x-request-id"]


@pytest.mark.parametrize(
    ("framing", "lines"),
    [
        (NO_BODY, []),
        (Framing(BodyKind.LENGTH, 0), [(b"content-length", b"0")]),
        (CHUNKED, [(b"transfer-encoding", b"chunked")]),
        (UNTIL_CLOSE, []),
    ],
)
def test_the_framing_towards_the_client_is_written_anew(framing: Framing, lines: Fields) -> None:
    fields = sent_down(
        answer((b"Content-Length", b"9"), (b"connection", b"content-length")), framing
    )
    assert [f for f in fields if f[0] in (b"content-length", b"transfer-encoding")] == list(lines)


@pytest.mark.parametrize("name", [b"Set-Cookie", b"Content-Type", b"Cache-Control"])
def test_a_backend_cannot_take_away_what_is_for_everybody(name: bytes) -> None:
    fields = sent_down(answer((b"Connection", b"close, " + name), (name, b"x")))
    assert (name.lower(), b"x") in fields


def test_cookies_pass_one_by_one() -> None:
    cookies = ((b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"))
    assert sent_down(answer(*cookies))[:2] == [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]


def test_via_tells_the_backends_version() -> None:
    assert (b"via", b"1.0 balancer") in sent_down(answer(minor=0))


@pytest.mark.parametrize("status", [100, 102, 103])
def test_an_interim_answer_says_nothing_of_the_final_one(status: int) -> None:
    out = response_bytes(
        answer((b"Link", b"</s.css>"), status=status),
        CHUNKED,
        request_id=b"id1",
        connection=b"close",
        head_length=b"3",
        panic=True,
        date=b"now",
    )
    assert out == b"HTTP/1.1 %d Fine\r\nLink: </s.css>\r\nVia: 1.1 balancer\r\n\r\n" % status


@pytest.mark.parametrize(
    ("method", "status", "length", "told"),
    [
        ("HEAD", 200, b"9", b"9"),
        ("GET", 304, b"009", b"9"),
        ("GET", 200, b"9", None),
        ("GET", 204, b"9", None),
        ("HEAD", 200, None, None),
        ("GET", 304, None, None),
    ],
)
def test_the_length_that_a_get_would_have(
    method: str, status: int, length: bytes | None, told: bytes | None
) -> None:
    fields = () if length is None else ((b"Content-Length", length),)
    assert head_length_of(answer(*fields, status=status), method) == told


def test_the_length_of_a_head_answer_is_told() -> None:
    out = response_bytes(
        answer(), NO_BODY, request_id=b"i", connection=None, head_length=b"9", panic=False
    )
    assert b"\r\nContent-Length: 9\r\n" in out


# ---- trailers ------------------------------------------------------------------------------------


def test_trailers_pass_in_their_order() -> None:
    fields = ((b"X-Sum", b"1"), (b"ETag", b'"e"'), (b"x-sum", b"2"))
    assert trailer_bytes(fields) == b'0\r\nX-Sum: 1\r\nETag: "e"\r\nx-sum: 2\r\n\r\n'
    assert trailer_bytes(()) == b"0\r\n\r\n"


@pytest.mark.parametrize(
    "name",
    [
        b"Content-Length", b"Transfer-Encoding", b"Host", b"Connection", b"Trailer", b"TE",
        b"Authorization", b"Cookie", b"Set-Cookie", b"Cache-Control", b"Content-Type",
        b"Content-Encoding", b"Content-Range", b"Range", b"Expect", b"Max-Forwards", b"Upgrade",
        b"X-Forwarded-For", b"X-Real-IP", b"X-Request-ID", b"Forwarded", b"Via", b"Proxy",
        b"Proxy-Authorization", b"WWW-Authenticate", b"X_Sum", b"X.Sum", b"X-Forwarded-Port", b"Proxy-X",
        b"X-HTTP-Method-Override", b"X-Original-URL", b"HTTP2-Settings",
    ],
)  # fmt: skip
def test_a_trailer_changes_no_framing_routing_or_identity(name: bytes) -> None:
    assert trailer_bytes(((name, b"x"), (b"ok", b"y"))) == b"0\r\nok: y\r\n\r\n"


CERTIFICATE_LINES = (b"X-Client-Cert-Verify: SUCCESS", b"X-Client-Cert-Subject: CN=alice")
FORGED = (
    (b"X-Client-Cert-Subject", b"CN=root"),
    (b"x-client-cert-verify", b"SUCCESS"),
    (b"Client-Cert", b":MIIC:"),
    (b"X_Client_Cert_Subject", b"CN=root"),
)


@pytest.mark.parametrize("trusted", [False, True])
def test_only_we_tell_of_certificates_where_clients_are_asked_for_one(trusted: bool) -> None:
    asked = replace(hop(trusted=trusted), certificate=CERTIFICATE_LINES)
    out = request_bytes(head(*FORGED), NO_BODY, asked)
    assert out.count(b"\r\nX-Client-Cert-") == 2
    assert all(line in out for line in CERTIFICATE_LINES)
    assert b"root" not in out


def test_a_stranger_cannot_tell_of_a_certificate() -> None:
    assert b"Cert" not in request_bytes(head(*FORGED), NO_BODY, hop())


def test_a_trusted_proxy_may_tell_of_the_certificate_that_it_has_seen() -> None:
    told = sent_up(head(*FORGED[:3]), trusted=True)
    assert (b"x-client-cert-subject", b"CN=root") in told
    assert (b"x-client-cert-verify", b"SUCCESS") in told


@pytest.mark.parametrize(
    ("own", "told"),
    [((), [b"max-age=9"]), (((b"Strict-Transport-Security", b"max-age=0"),), [b"max-age=0"])],
)
def test_browsers_are_told_of_https_once(own: Fields, told: list[bytes]) -> None:
    """RFC 6797 7.1: one such field."""
    response = ResponseHead(status=200, reason=b"OK", minor=1, fields=own)
    out = response_bytes(
        response, NO_BODY, request_id=b"i", connection=None, head_length=None, panic=False,
        hsts=b"max-age=9",
    )  # fmt: skip
    assert parse_response_head(out).values(b"strict-transport-security") == told
