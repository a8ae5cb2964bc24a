"""What counts as asking for another protocol, and as the answer that allows it."""

import pytest

from balancer.core.framing import CHUNKED, NO_BODY, BodyKind, Framing
from balancer.core.message import Fields, RequestHead, ResponseHead
from balancer.core.upgrades import Offer, flaw_of, may_be_tunnelled, offer_of, with_upgrade

ALLOWED = ("websocket", "echo/2")
# RFC 6455 1.3.
KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
UP = (b"Connection", b"Upgrade")


def request(*fields: tuple[bytes, bytes], minor: int = 1) -> RequestHead:
    return RequestHead(method="GET", target="/", minor=minor, fields=((b"Host", b"a"), *fields))


def answer(*fields: tuple[bytes, bytes], minor: int = 1) -> ResponseHead:
    return ResponseHead(status=101, reason=b"x", minor=minor, fields=fields)


@pytest.mark.parametrize(
    "fields",
    [
        (UP, (b"Upgrade", b"echo/2")),
        ((b"connection", b"keep-alive, UPGRADE"), (b"upgrade", b"Echo/2")),
        ((b"Connection", b"keep-alive"), UP, (b"Upgrade", b" echo/2 ,")),
    ],
)
def test_one_protocol_that_is_allowed_is_asked_for_in_one_spelling(fields: Fields) -> None:
    assert offer_of(request(*fields), NO_BODY, ALLOWED) == Offer("echo/2")


def test_a_websocket_is_asked_for_with_its_key() -> None:
    head = request(UP, (b"Upgrade", b"WebSocket"), (b"Sec-WebSocket-Key", KEY))
    assert offer_of(head, NO_BODY, ALLOWED) == Offer("websocket", ACCEPT)
    assert offer_of(head, Framing(BodyKind.LENGTH, 0), ALLOWED) == Offer("websocket", ACCEPT)


@pytest.mark.parametrize(
    ("head", "framing"),
    [
        (request(UP), NO_BODY),
        (request((b"Upgrade", b"echo/2")), NO_BODY),
        (request((b"Connection", b"close"), (b"Upgrade", b"echo/2")), NO_BODY),
        (request(UP, (b"Upgrade", b"echo")), NO_BODY),
        (request(UP, (b"Upgrade", b"h2c")), NO_BODY),
        (request(UP, (b"Upgrade", b"echo/2, h2c")), NO_BODY),
        (request(UP, (b"Upgrade", b"echo/2"), (b"Upgrade", b"echo/2")), NO_BODY),
        (request(UP, (b"Upgrade", b"ech\xff/2")), NO_BODY),
        (request(UP, (b"Upgrade", b"echo/2"), minor=0), NO_BODY),
        (request(UP, (b"Upgrade", b"echo/2")), CHUNKED),
        (request(UP, (b"Upgrade", b"echo/2")), Framing(BodyKind.LENGTH, 1)),
        (request(UP, (b"Upgrade", b"websocket")), NO_BODY),
        (
            request(
                UP,
                (b"Upgrade", b"websocket"),
                (b"Sec-WebSocket-Key", KEY),
                (b"Sec-WebSocket-Key", KEY),
            ),
            NO_BODY,
        ),
    ],
)
def test_anything_else_is_an_ordinary_request(head: RequestHead, framing: Framing) -> None:
    assert offer_of(head, framing, ALLOWED) is None


def test_nothing_is_asked_for_where_nothing_is_allowed() -> None:
    assert offer_of(request(UP, (b"Upgrade", b"echo/2")), NO_BODY, ()) is None


@pytest.mark.parametrize("protocol", ["h2c", "H2C", "h2", "h3", "HTTP/2.0", "http", "TLS/1.2"])
def test_http_in_another_form_is_never_tunnelled(protocol: str) -> None:
    assert not may_be_tunnelled(protocol)


@pytest.mark.parametrize("protocol", ["websocket", "tcp", "SPDY/3.1", "h2cx"])
def test_other_protocols_may_be(protocol: str) -> None:
    assert may_be_tunnelled(protocol)


def test_the_two_fields_stand_at_the_end_of_the_head() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert with_upgrade(head, "websocket") == (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    assert with_upgrade(head, "x", b"A: b").endswith(b"\r\nUpgrade: x\r\nA: b\r\n\r\n")


YES = (UP, (b"Upgrade", b"echo/2"))
WEBSOCKET = (UP, (b"Upgrade", b"websocket"))


@pytest.mark.parametrize(
    ("head", "offer"),
    [
        (answer(*YES), Offer("echo/2")),
        (answer((b"connection", b"upgrade"), (b"upgrade", b"ECHO/2")), Offer("echo/2")),
        (answer(*WEBSOCKET, (b"Sec-WebSocket-Accept", ACCEPT)), Offer("websocket", ACCEPT)),
    ],
)
def test_a_yes_to_what_was_asked_is_right(head: ResponseHead, offer: Offer) -> None:
    assert flaw_of(head, offer) is None


@pytest.mark.parametrize(
    ("head", "offer", "flaw"),
    [
        (answer(*YES), None, "nobody asked"),
        (answer(*YES, minor=0), Offer("echo/2"), "does not know"),
        (answer(YES[1]), Offer("echo/2"), "does not know"),
        (answer(*YES, (b"Content-Length", b"0")), Offer("echo/2"), "announced a body"),
        (answer(*YES, (b"Transfer-Encoding", b"chunked")), Offer("echo/2"), "announced a body"),
        (answer(UP), Offer("echo/2"), "than echo/2"),
        (answer(UP, (b"Upgrade", b"echo/2, x")), Offer("echo/2"), "than echo/2"),
        (answer(*YES), Offer("websocket", ACCEPT), "than websocket"),
        (answer(*WEBSOCKET), Offer("websocket", ACCEPT), "answer the key"),
        (
            answer(*WEBSOCKET, (b"Sec-WebSocket-Accept", ACCEPT.lower())),
            Offer("websocket", ACCEPT),
            "answer the key",
        ),
    ],
)
def test_any_other_101_is_none(head: ResponseHead, offer: Offer | None, flaw: str) -> None:
    assert flaw in (flaw_of(head, offer) or "")
