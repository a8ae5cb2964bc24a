"""The plain exchange: the same as the general flow to whoever looks, and no trace where it ends early."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import pytest
import trio
from trio.testing import MockClock

from balancer.proxy import client_connection, exchange, plain_exchange
from balancer.proxy.arrival import Arrival
from balancer.proxy.client_connection import ClientConnection
from balancer.proxy.service import Service
from balancer.wire import h11_heads, waiting
from balancer.wire.network import Sock
from balancer.wire.streams import READ_BYTES_MAX, cut
from tests.support.edge_client import EdgeClient, NoAnswer, fetch
from tests.support.raw_backend import head_of, raw
from tests.support.scene import ADDRESSES, Scene, scene
from tests.support.scripted_http import Line, Request
from tests.support.virtual_backend import (
    Script,
    answers,
    answers_until_end,
    by_target,
    closes_after,
    garbage,
    in_turn,
    resets_after,
    response,
    silent,
    trickles,
)

FAST = 'timeouts = { connect = "1s", response = "3s", idle = "5s" }'
LARGE = bytes(range(256)) * 1200

# ---- nobody can tell the two apart -----------------------------------------------------------------


def asks(method: str = "GET", body: bytes = b"", *fields: str) -> bytes:
    length = (f"Content-Length: {len(body)}",) if body or method in ("POST", "PUT") else ()
    lines = [f"{method} /it?x=1 HTTP/1.1", "Host: a.test:80", *length, *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def interim() -> Script:
    async def script(line: Line, request: Request) -> bool:
        await line.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        await trio.sleep(0.5)
        await line.send(response(200, b"late"))
        return True

    return script


def says(*pieces: bytes, every_s: float = 0.5, keeps: bool = True) -> Script:
    """These bytes, with pauses between."""

    async def script(line: Line, request: Request) -> bool:
        for piece in pieces:
            await line.send(piece)
            await trio.sleep(every_s)
        return keeps

    return script


@dataclass(frozen=True)
class Talk:
    """What a backend does to the second request that it gets, and what the client sends."""

    script: Script
    request: bytes = asks()


OK = answers(
    200, b"hello", headers=(("X-Kind", "blue"), ("Set-Cookie", "a=b"), ("set-cookie", "c"))
)
TALKS = {
    "plain": Talk(OK),
    "head": Talk(answers(200, b"12345"), asks("HEAD")),
    "no content": Talk(answers(204)),
    "not modified": Talk(answers(304)),
    "empty": Talk(answers(200)),
    "post": Talk(OK, asks("POST", b"x" * 512)),
    "empty post": Talk(OK, asks("POST")),
    "large post": Talk(OK, asks("POST", LARGE)),
    "put": Talk(OK, asks("PUT", b"x" * 60_000)),
    "claims": Talk(OK, asks("GET", b"", "X-Forwarded-For: 6.6.6.6", "X_Y: 1", "Forwarded: for=x")),
    "own id": Talk(OK, asks("GET", b"", "X-Request-ID: mine", "Proxy: x", "Keep-Alive: 5")),
    "close": Talk(OK, asks("GET", b"", "Connection: close")),
    "keep-alive": Talk(OK, asks("GET", b"", "Connection: keep-alive")),
    "named by connection": Talk(OK, asks("GET", b"", "Connection: x-gone", "X-Gone: 1")),
    "te": Talk(OK, asks("GET", b"", "TE: trailers")),
    "expects": Talk(OK, asks("POST", b"abc", "Expect: 100-continue")),
    "empty lines": Talk(OK, b"\r\n\r\n" + asks()),
    "old": Talk(OK, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    "bad request": Talk(OK, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    "bad host": Talk(OK, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "chunked answer": Talk(answers(200, b"abc" * 100, chunked=True)),
    "answer until its end": Talk(answers_until_end(200, b"abc" * 100)),
    "answer that closes": Talk(answers(200, b"abc", close=True)),
    "says close": Talk(says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")),
    "http 1.0 answer": Talk(says(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", keeps=False)),
    "interim": Talk(interim()),
    "large": Talk(answers(200, LARGE)),
    "one read": Talk(answers(200, b"x" * 65536)),
    "in pieces": Talk(trickles(b"x" * 5000, piece=900, every_s=1)),
    "head in pieces": Talk(says(b"HTTP/1.1 200 OK\r\nCont", b"ent-Length: 2\r\n\r\n", b"ab")),
    "late": Talk(answers(200, b"x", after_s=2)),
    "never": Talk(silent()),
    "never, post": Talk(silent(), asks("POST", b"abc")),
    "reset": Talk(resets_after(0)),
    "reset, post": Talk(resets_after(0), asks("POST", b"abc")),
    "reset in the head": Talk(resets_after(20)),
    "reset in the body": Talk(resets_after(700)),
    "ends in the body": Talk(closes_after(700)),
    "stalls in the body": Talk(says(response(200, b"x" * 1000)[:-500], every_s=30)),
    "ends at once": Talk(closes_after(0)),
    "garbage": Talk(garbage(b"nonsense\r\n\r\n")),
    "two lengths": Talk(
        garbage(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc")
    ),
    "switches": Talk(garbage(b"HTTP/1.1 101 x\r\nUpgrade: x\r\n\r\n")),
    "time is over": Talk(
        garbage(b"HTTP/1.1 408 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    ),
    "more than asked": Talk(says(response(200, b"abc") + response(200, b"EVIL"))),
    "bad gateway": Talk(answers(502, b"oops")),
    "unavailable": Talk(answers(503, b"oops", headers=(("Retry-After", "7"),))),
    "not found": Talk(answers(404, b"no")),
}

REFUSED = {"bad request", "bad host"}


async def conversation(talk: Talk) -> list[object]:
    """Everything that anybody sees of three exchanges, the middle one being the talk."""
    seen: list[object] = []
    strange = in_turn(answers(200, b"first"), talk.script, answers(200, b"again"))
    other = answers(200, b"other")
    async with scene({"a": strange, "b": other}, pool=FAST) as play:
        await play.stage.instance.desk.weight("web", ADDRESSES["b"], 0)
        client = await play.client()
        seen.append(shown(await client.get("/first")))
        await play.stage.instance.desk.weight("web", ADDRESSES["b"], 1)
        await play.stage.instance.desk.weight("web", ADDRESSES["a"], 1000)
        seen.append(await answered(client, talk.request))
        seen.append(await answered(client, asks()))
        client.close()
        await trio.sleep(40)
        assert play.at_rest()
        used = [attempt.backend for record in play.stage.access for attempt in record.attempts]
        seen.append(used.count(ADDRESSES["a"]))
        for name, backend in play.backends.items():
            seen.append([(request.at, sorted_head(request.raw)) for request in backend.requests])
            status = play.backend_status(name)
            seen.append((backend.connections, status["requests"], status["failures"]))
        seen.append([asdict(record) for record in play.stage.access])
    return seen


async def answered(client: EdgeClient, request: bytes) -> object:
    method = request.lstrip().split(b" ")[0].decode()
    try:
        await client.send(request)
        answer = await client.answer(method)
        while answer.status < 200:
            answer = await client.answer(method)
    except (NoAnswer, OSError) as gone:
        return type(gone).__name__
    return (*shown(answer), trio.current_time())


def shown(answer: object) -> tuple[object, ...]:
    head, body = answer.head, answer.body  # type: ignore[attr-defined]
    return sorted_head(head + b"\r\n\r\n" + body), answer.complete  # type: ignore[attr-defined]


def sorted_head(message: bytes) -> tuple[object, ...]:
    """The start line, the field lines in any order, and the body."""
    head, _, body = message.partition(b"\r\n\r\n")
    start, *fields = head.split(b"\r\n")
    parted = (field.partition(b":") for field in fields)
    return start, sorted((name.lower(), value.strip()) for name, _, value in parted), body


@pytest.mark.parametrize("name", TALKS)
def test_nobody_can_tell_it_from_the_general_flow(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes at both ends, times, access records and what is held against the backends."""

    def run() -> list[object]:
        return trio.run(conversation, TALKS[name], clock=MockClock(autojump_threshold=0))

    plain = run()
    assert name in REFUSED or plain[3] != 1, "the backend of the talk was not asked"
    monkeypatch.setattr(plain_exchange, "plain_request", lambda *_: None)
    assert plain == run()


# ---- it is what serves -----------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [asks(), asks("POST", b"x" * 512), asks("HEAD")])
async def test_the_ordinary_needs_neither_the_general_flow_nor_h11(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, request_: bytes
) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError("the general flow was asked")

    async with scene({"a": answers(200, b"x" * 3000)}) as play:
        client = await play.client()
        assert (await client.get()).status == 200
        monkeypatch.setattr(exchange, "run_attempt", unwanted)
        monkeypatch.setattr(exchange, "go_on", unwanted)
        monkeypatch.setattr(h11_heads, "h11", None)
        for _ in range(3):
            await client.send(request_)
            answer = await client.answer(request_.split(b" ")[0].decode())
            assert answer.status == 200
            assert answer.complete
        assert play.backends["a"].connections == 1
        assert play.at_rest()


async def test_a_resting_connection_with_unasked_bytes_is_never_used(
    autojump_clock: MockClock,
) -> None:
    async def chatty(line: Line, request: Request) -> bool:
        await line.send(response(200, b"asked"))
        await trio.sleep(0.5)
        await line.send(response(200, b"EVIL"))
        return True

    async with scene({"a": in_turn(answers(200, b"first"), chatty, answers(200, b"last"))}) as play:
        client = await play.client()
        for wanted in (b"first", b"asked", b"last"):
            assert (await client.get()).body == wanted
            await trio.sleep(0.6)
        assert play.backends["a"].connections == 2


# ---- who may end it --------------------------------------------------------------------------------

Deed = Callable[[Scene, EdgeClient], Awaitable[object]]


async def ends_at_once(play: Scene, client: EdgeClient) -> None:
    play.stage.instance.stop(now=True)


async def leaves(play: Scene, client: EdgeClient) -> None:
    client.close()


@pytest.mark.parametrize("deed", [ends_at_once, leaves])
@pytest.mark.parametrize("after_s", [0.05, 0.4, 0.6, 1.1, 1.6, 2.5])
async def test_whatever_ends_it_leaves_nothing(
    autojump_clock: MockClock, deed: Deed, after_s: float
) -> None:
    """Before its head, in its head, in its body, at rest: counts, sockets and records are closed."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    slow = by_target({"/slow": says(head[:9], head[9:] + b"a", b"b")}, answers(200))
    async with scene({"a": slow}) as play:
        client = await play.client()
        await client.get("/")
        await client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(after_s)
        await deed(play, client)
        await trio.sleep(5)
        await play.settled()
        assert play.at_rest()
        assert play.backend_status("a")["failures"] == 0
        assert len(play.stage.access) == 2
        assert play.stage.access[-1].ended > 0
        assert play.stage.access[-1].attempts[-1].outcome != "running"


async def test_an_answer_that_stalls_is_its_backends_fault_however_busy_the_connection_was(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "TURNS_MAX", 1)  # as after many calls that did not block
    stalls = says(response(200, b"x" * 1000)[:-500], every_s=30)
    async with scene({"a": in_turn(answers(200), stalls)}, pool=FAST) as play:
        client = await play.client()
        await client.get()
        assert not (await client.get()).complete
        assert play.attempts() == ["a answer stalled"]
        assert play.backend_status("a")["failures"] == 1


async def test_the_operator_cuts_it_and_it_is_repeated_elsewhere(autojump_clock: MockClock) -> None:
    scripts = {"a": in_turn(answers(200, b"a"), silent()), "b": answers(200, b"b")}
    async with scene(scripts) as play:
        await play.stage.instance.desk.weight("web", ADDRESSES["b"], 0)
        client = await play.client()
        await client.get()
        await play.stage.instance.desk.weight("web", ADDRESSES["b"], 1)
        await play.stage.instance.desk.weight("web", ADDRESSES["a"], 9)
        await client.send(asks())
        await trio.sleep(1)
        running = await play.stage.instance.desk.running("web", ADDRESSES["a"])
        assert [row["path"] for row in running] == ["/it?x=1"]
        await play.stage.instance.desk.remove("web", ADDRESSES["a"], force=True)
        assert (await client.answer()).body == b"b"
        assert play.attempts() == ["a cut by the operator", "b status 200"]


async def test_a_client_that_is_gone_ends_it_within_a_second_or_two(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": in_turn(answers(200), silent())}) as play:
        client = await play.client()
        await client.get()
        await client.send(asks())
        await trio.sleep(0.1)
        gone = trio.current_time()
        cut(client.sock)
        client.close()
        await trio.sleep(3)
        assert play.attempts() == ["a client left"]
        assert play.stage.access[-1].ended - gone < 2.5
        assert play.stage.access[-1].status == 499
        assert play.backend_status("a")["failures"] == 0


async def test_pipelined_requests_are_each_answered_by_their_own(autojump_clock: MockClock) -> None:
    async def echo(line: Line, request: Request) -> bool:
        await trio.sleep(0.1)
        await line.send(response(200, request.target.encode() + request.body))
        return True

    async with scene({"a": echo}) as play:
        client = await play.client()
        await client.send(
            b"".join(
                b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n%03d" % (n, n)
                for n in range(50)
            )
        )
        for n in range(50):
            assert (await client.answer()).body == b"/%d%03d" % (n, n)


@pytest.mark.parametrize("field", ["", "TE: trailers\r\n"])
async def test_requests_behind_a_whole_read_are_served_at_once(
    autojump_clock: MockClock, field: str
) -> None:
    """What a read of full size left behind is announced by no edge."""
    slow = by_target({"/slow": answers(200, after_s=1)}, answers(200))
    size = 512
    padding = size - len(f"GET / HTTP/1.1\r\nHost: a\r\n{field}X: \r\n\r\n")
    request = f"GET / HTTP/1.1\r\nHost: a\r\n{field}X: {'x' * padding}\r\n\r\n".encode()
    count = READ_BYTES_MAX // size + 1
    async with scene({"a": slow}) as play:
        play.network.own_host.receive_buffer = 4 * READ_BYTES_MAX
        client = await play.client()
        await client.get("/slow")
        await client.send(f"GET /slow HTTP/1.1\r\nHost: a\r\n{field}\r\n".encode())
        await trio.sleep(0.5)
        await client.send(request * count)
        with trio.fail_after(5):
            for _ in range(1 + count):
                assert (await client.answer()).status == 200


async def test_a_request_whose_backend_refuses_is_hidden(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200, b"a"), "b": answers(200, b"b")}) as play:
        for _ in range(4):
            await fetch(play.network)
        play.backends["a"].kill()
        await trio.sleep(0.1)
        assert {(await fetch(play.network)).body for _ in range(6)} == {b"b"}


async def test_an_answer_that_breaks_off_after_its_first_piece_is_seen_to(
    autojump_clock: MockClock,
) -> None:
    async def breaks(line: Line) -> None:
        await head_of(line)
        await line.send(response(200, b"warm"))
        await head_of(line)
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        await trio.sleep(1)
        line.reset()

    async with scene({"a": answers(200)}) as play:
        await raw(play, "a", breaks)
        client = await play.client()
        assert (await client.get()).body == b"warm"
        part = await client.get()
        assert (part.body, part.complete) == (b"abc", False)
        assert play.attempts() == ["a answer broke off"]
        assert play.stage.access[-1].bytes_down == 3


@pytest.mark.parametrize("step", ["plain_request", "forwarded_request", "plain_response"])
async def test_a_crash_is_told_and_harms_no_other_connection(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("a bug")

    async with scene({"a": answers(200)}) as play:
        other = await play.client()
        assert (await other.get()).status == 200
        with monkeypatch.context() as patch:
            patch.setattr(plain_exchange, step, breaks)
            answer = await fetch(play.network)
        assert answer.status == 500
        assert "proxy_internal_error" in (answer.header("proxy-status") or "")
        assert (await other.get()).status == 200
        assert play.at_rest()
        assert play.backend_status("a")["failures"] == 0


async def test_a_crash_in_a_body_is_a_visible_break(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaking:
        """A socket on which the second send is a mistake of ours."""

        def __init__(self, sock: Sock) -> None:
            self._sock, self._sends = sock, 0

        def __getattr__(self, name: str) -> object:
            return getattr(self._sock, name)

        def send(self, data: bytes) -> int:
            self._sends += 1
            if self._sends == 3:
                raise RuntimeError("a bug")
            return self._sock.send(data)

    made = client_connection.ClientConnection.__init__

    def make(self: ClientConnection, service: Service, sock: Sock, arrival: Arrival) -> None:
        made(self, service, sock, arrival)
        self.sock = Breaking(sock)  # type: ignore[assignment]

    monkeypatch.setattr(client_connection.ClientConnection, "__init__", make)
    slow = trickles(b"x" * 3000, piece=800, every_s=0.1)
    async with scene({"a": in_turn(answers(200), slow)}) as play:
        client = await play.client()
        assert (await client.get()).status == 200
        assert not (await client.get()).complete
        await play.settled()
        assert play.at_rest()
        assert play.attempts() == ["a internal error"]
        assert play.stage.access[-1].fault == "internal error"
