"""The edge without its sockets: what of a stream is passed on, by the functions that decide it.

Reads a whole connection at once, the plain way where it can be read so and the general way else, as
`balancer.proxy` does.
"""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar, cast

from balancer.core.client_limits import ClientLimits
from balancer.core.field_names import PSEUDONYM
from balancer.core.fields import head_length_of, request_bytes, response_bytes, trailer_bytes
from balancer.core.forwarding import Hop
from balancer.core.framing import (
    BodyKind,
    Framing,
    downstream_framing,
    request_framing,
    response_framing,
    wants_keep_alive,
)
from balancer.core.message import BadMessage, Fields
from balancer.core.request_rules import canonical
from balancer.proxy.request_body import RequestBody
from balancer.wire.chunks import ChunkReader, chunk
from balancer.wire.h11_heads import (
    check_request_line,
    check_status_line,
    parse_request_head,
    parse_response_head,
)
from balancer.wire.network import Sock
from balancer.wire.streams import HeadSoFar, PeerClosed, receive_head
from balancer.wire.strict_heads import (
    forwarded_request,
    forwarded_response,
    forwarding_lines,
    plain_request,
    plain_response,
)
from balancer.wire.waiting import Waiter

LIMIT = 64 * 1024
LIMITS = ClientLimits(header_s=1, idle_s=1, body_s=1, head_bytes_max=LIMIT)
INTERIM_MAX = 16
CLIENT, REQUEST_ID, DATE = b"203.0.113.7", b"0123456789abcdef", b"Mon, 15 Apr 2024 12:00:00 GMT"
T = TypeVar("T")


class Passed(NamedTuple):
    """One message: its bytes as they came, what is sent in their place, and its payload.

    `start`: method and target, or the status.
    """

    came: bytes
    sent: bytes
    start: tuple[bytes, ...]
    body: bytes
    closes: bool
    trailers: Fields


class _Ended:
    """A socket whose peer has said all, and a waiter who is never asked to wait."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        return b""

    async def breathe(self) -> None:
        pass


_ENDED = _Ended()
_SOCK, _WAITER = cast("Sock", _ENDED), cast("Waiter", _ENDED)


def _now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of what has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    raise AssertionError("it waits")


def _head(buffer: bytearray, too_large: int, check_start: Callable[[bytes], object]) -> bytes:
    head = HeadSoFar(buffer, limit=LIMIT, too_large=too_large, check_start=check_start)
    return _now(receive_head(_SOCK, _WAITER, buffer, head, lambda: 0.0))


# ---- requests


def requests_passed(stream: bytes) -> list[Passed]:
    """The requests of one connection that go to a backend, until one is refused or not whole."""
    return requests_judged(stream)[0]


def requests_judged(stream: bytes, *, plainly: bool = True) -> tuple[list[Passed], int | None]:
    """The same, and with what status the next one is refused, if so; `plainly`: by the short way."""
    passed: list[Passed] = []
    buffer = bytearray(stream)
    try:
        while buffer and not (passed and passed[-1].closes):
            passed.append(_next_request(buffer, plainly))
    except BadMessage as exc:
        return passed, exc.status
    except PeerClosed:
        pass
    return passed, None


def _next_request(buffer: bytearray, plainly: bool) -> Passed:
    plain = plain_request(bytes(buffer), LIMIT) if plainly else None
    if plain is not None:
        came = bytes(buffer)
        del buffer[: plain.size]
        framing = Framing(BodyKind.LENGTH, plain.length)
        head = forwarded_request(plain, forwarding_lines(CLIENT, b"http", PSEUDONYM), REQUEST_ID)
        start = plain.method.encode(), plain.target.encode()
        keep_alive = plain.keep_alive
    else:
        while buffer[:2] == b"\r\n":
            del buffer[:2]
        came = bytes(buffer)
        parsed, host = canonical(parse_request_head(_head(buffer, 431, check_request_line)))
        framing = request_framing(parsed)
        hop = Hop(
            peer=CLIENT,
            client=CLIENT,
            trusted=False,
            scheme=b"http",
            host=(host or "local").encode("latin-1"),
            request_id=REQUEST_ID,
        )
        head = request_bytes(parsed, framing, hop)
        start = parsed.method.encode(), parsed.target.encode()
        keep_alive = wants_keep_alive(parsed.minor, parsed.fields)
    body = RequestBody(buffer, framing, LIMITS)
    body.take_arrived()
    if not body.complete:
        raise PeerClosed
    payload = body.restart()
    sent = head + body.encoded(payload)
    if body.chunked:
        sent += trailer_bytes(body.trailers)
    taken = came[: len(came) - len(buffer)]
    return Passed(taken, sent, start, payload, not keep_alive, body.trailers)


# ---- answers


def answers_passed(stream: bytes, method: str, *, plainly: bool = True) -> list[Passed]:
    """The interim answers and the one that a client gets for a plain request; none: it gets a 502.

    The last one has no payload if it is cut, and then `came` is empty.
    """
    passed: list[Passed] = []
    buffer = bytearray(stream)
    try:
        for _ in range(INTERIM_MAX):
            passed.append(_next_answer(buffer, method, plainly))
            if len(passed[-1].start[0]) == 3 and passed[-1].start[0][:1] != b"1":
                return passed
    except (BadMessage, PeerClosed):
        pass
    return []


def _next_answer(buffer: bytearray, method: str, plainly: bool) -> Passed:
    came = bytes(buffer)
    raw = _head(buffer, 502, check_status_line)
    plain = plain_response(raw, method, LIMIT) if plainly else None
    if plain is not None:
        kind = BodyKind.CHUNKED if plain.chunked else BodyKind.LENGTH
        framing = down = Framing(kind, plain.length)
        head = forwarded_response(plain, REQUEST_ID, date=None if plain.dated else DATE)
        status, closes = plain.status, not plain.keep_alive
    else:
        parsed = parse_response_head(raw)
        if parsed.switches:
            raise BadMessage(502, "nobody asked")
        framing = response_framing(parsed, method)
        down = downstream_framing(framing, 1)
        head = response_bytes(
            parsed,
            down,
            request_id=REQUEST_ID,
            connection=None,
            head_length=head_length_of(parsed, method),
            panic=False,
            date=None if parsed.values(b"date") else DATE,
        )
        status, closes = parsed.status, not wants_keep_alive(parsed.minor, parsed.fields)
    payload, body, trailers = _answer_body(buffer, framing, down)
    closes = closes or framing.kind is BodyKind.UNTIL_CLOSE
    taken = came[: len(came) - len(buffer)]
    return Passed(taken, head + body, (b"%d" % status,), payload, closes, trailers)


def _answer_body(buffer: bytearray, framing: Framing, down: Framing) -> tuple[bytes, bytes, Fields]:
    """Payload, how it goes on, and its trailers."""
    if framing.kind is BodyKind.CHUNKED:
        reader, payload = ChunkReader(), b""
        while not reader.done:
            payload += reader.take(buffer)
            if reader.hungry and not reader.done:
                raise PeerClosed
        trailers = reader.trailers
        return payload, (chunk(payload) if payload else b"") + trailer_bytes(trailers), trailers
    size = len(buffer) if framing.kind is BodyKind.UNTIL_CLOSE else framing.length
    if len(buffer) < size:
        raise PeerClosed
    payload = bytes(buffer[:size])
    del buffer[:size]
    if down.kind is BodyKind.CHUNKED:
        return payload, (chunk(payload) if payload else b"") + trailer_bytes(()), ()
    return payload, payload, ()
