"""Our own replies: whole messages, in the form that was asked for, without foreign bytes in heads."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.message import RequestHead, ResponseHead
from balancer.core.replies import MISDIRECTED, REASONS, Reply, moved_to_https, reply_bytes
from balancer.wire.h11_heads import parse_response_head


def request(accept: bytes | None = None, *, method: str = "GET", minor: int = 1) -> RequestHead:
    fields = () if accept is None else ((b"Accept", accept),)
    return RequestHead(method=method, target="/", minor=minor, fields=fields)


def said(
    reply: Reply, to: RequestHead | None = None, *, close: bool = False
) -> tuple[ResponseHead, bytes]:
    """The head as a client reads it, and the body."""
    out = reply_bytes(reply, request=to, request_id=b"id1", close=close, date=b"now")
    head, end, body = out.partition(b"\r\n\r\n")
    return parse_response_head(head + end), body


def test_a_reply_to_the_byte() -> None:
    reply = Reply(
        status=503,
        sentence="no backend is available; try again later",
        proxy_error="destination_unavailable",
        retry_after_s=5,
    )
    assert reply_bytes(reply, request=request(), request_id=b"id1", close=True, date=b"now") == (
        b"HTTP/1.1 503 Service Unavailable\r\n"
        b"Content-Type: text/plain\r\n"
        b"Content-Length: 82\r\n"
        b"Cache-Control: no-store\r\n"
        b"Date: now\r\n"
        b"X-Request-ID: id1\r\n"
        b"Proxy-Status: balancer; error=destination_unavailable;"
        b' details="no backend is available; try again later"\r\n'
        b"Retry-After: 5\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b"503 Service Unavailable: no backend is available; try again later\n"
        b"request id: id1\n"
    )


@pytest.mark.parametrize(("status", "tells"), [(200, True), (405, True), (400, False)])
def test_which_methods_there_are_is_told_where_somebody_asks(status: int, tells: bool) -> None:
    """RFC 9110 9.3.7 and 15.5.6."""
    head, _ = said(Reply(status=status, sentence="why"), request(method="OPTIONS"))
    assert bool(head.values(b"allow")) is tells


def test_where_nothing_went_wrong_nothing_is_told_to_have() -> None:
    head, _ = said(Reply(status=200, sentence="why", proxy_error=None))
    assert head.values(b"proxy-status") == []


@pytest.mark.parametrize("status", sorted(REASONS))
@pytest.mark.parametrize("accept", [None, b"application/json"])
def test_every_status_has_a_reason_and_its_true_length(status: int, accept: bytes | None) -> None:
    head, body = said(Reply(status=status, sentence="why"), request(accept))
    assert (head.status, head.reason.decode()) == (status, REASONS[status])
    assert head.values(b"content-length") == [b"%d" % len(body)]
    assert b"why" in body


@pytest.mark.parametrize(
    ("accept", "json_wanted"),
    [
        (None, False),
        (b"", False),
        (b"*/*", False),
        (b"application/json", True),
        (b"Application/JSON;q=0.9, */*", True),
        (b"application/problem+json", True),
        (b"image/png, application/json", True),
        (b"text/html, application/json", False),
        (b"application/json, text/html", True),
        (b"text/plain", False),
        (b"application/jsonx", False),
    ],
)
def test_the_form_follows_accept(accept: bytes | None, json_wanted: bool) -> None:
    head, body = said(Reply(status=404, sentence="no route"), request(accept))
    if json_wanted:
        assert head.values(b"content-type") == [b"application/problem+json"]
        assert json.loads(body) == {
            "status": 404,
            "title": "Not Found",
            "detail": "no route",
            "request_id": "id1",
        }
    else:
        assert head.values(b"content-type") == [b"text/plain"]
        assert body == b"404 Not Found: no route\nrequest id: id1\n"


def test_head_gets_the_head_alone() -> None:
    head, body = said(Reply(status=404, sentence="no route"), request(method="HEAD"))
    assert body == b""
    assert head.values(b"content-length") == [
        b"%d" % len(b"404 Not Found: no route\nrequest id: id1\n")
    ]


def test_what_was_no_request_is_answered_in_text() -> None:
    assert said(Reply(status=400, sentence="what?"))[1].startswith(b"400 Bad Request: what?")


@pytest.mark.parametrize(
    ("minor", "close", "option"),
    [(1, True, [b"close"]), (0, True, [b"close"]), (1, False, []), (0, False, [b"keep-alive"])],
)
def test_what_becomes_of_the_connection_is_told_as_the_client_needs_it(
    minor: int, close: bool, option: list[bytes]
) -> None:
    head, _ = said(Reply(status=404, sentence="x"), request(minor=minor), close=close)
    assert head.values(b"connection") == option


def test_optional_fields_come_only_with_their_reason() -> None:
    plain, _ = said(Reply(status=404, sentence="x"), request())
    assert plain.values(b"proxy-status") == [b'balancer; error=http_request_error; details="x"']
    for name in (b"retry-after", b"allow", b"connection"):
        assert plain.values(name) == []
    assert said(Reply(status=405, sentence="x"), request())[0].values(b"allow")


@pytest.mark.parametrize(("status", "told"), [(503, [b"5"]), (502, []), (504, []), (400, [])])
def test_only_a_503_says_when_to_come_again(status: int, told: list[bytes]) -> None:
    head, _ = said(Reply(status=status, sentence="x", retry_after_s=5), request())
    assert head.values(b"retry-after") == told


def test_no_reply_tells_our_version() -> None:
    assert said(Reply(status=500, sentence="x"), request())[0].values(b"server") == []


@given(st.text(), st.sampled_from([None, b"application/json"]))
def test_no_sentence_breaks_out_of_its_place(sentence: str, accept: bytes | None) -> None:
    """Sentences may quote what a client or a backend sent."""
    reply = Reply(status=502, sentence=sentence, proxy_error="http_protocol_error")
    head, body = said(reply, request(accept))
    assert head.values(b"content-length") == [b"%d" % len(body)]
    (status,) = head.values(b"proxy-status")
    start = b'balancer; error=http_protocol_error; details="'
    assert status.startswith(start)
    assert status.endswith(b'"')
    inside = status[len(start) : -1].replace(b"\\\\", b"").replace(b'\\"', b"")
    assert b'"' not in inside
    assert b"\\" not in inside
    if accept is not None:
        assert json.loads(body)["detail"] == sentence


@pytest.mark.parametrize(
    ("authority", "port", "target", "location"),
    [
        ("a.test:8080", 443, "/x?y=%20", b"https://a.test/x?y=%20"),
        ("a.test", 8443, "/", b"https://a.test:8443/"),
        ("[::1]:80", 443, "/", b"https://[::1]/"),
        ("a.test", 443, "*", b"https://a.test"),
    ],
)
def test_a_request_is_sent_to_https(
    authority: str, port: int, target: str, location: bytes
) -> None:
    """RFC 9110 15.4.9: 308 keeps the method, so the body comes again."""
    head, _ = said(moved_to_https(authority, port, target))
    assert (head.status, head.values(b"location")) == (308, [location])
    assert not head.values(b"proxy-status")


def test_our_own_answers_tell_browsers_of_https_too() -> None:
    out = reply_bytes(
        MISDIRECTED, request=request(), request_id=b"i", close=False, date=b"now", hsts=b"max-age=1"
    )
    assert out.startswith(b"HTTP/1.1 421 Misdirected Request\r\n")
    assert b"\r\nStrict-Transport-Security: max-age=1\r\n" in out
