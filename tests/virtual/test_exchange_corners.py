"""Corners of an exchange in which an answer was once lost, cut, late or blamed on the wrong side.

Each test tells what happened there before.
"""

import socket
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from balancer.core.pace import Pace
from balancer.proxy import attempt
from balancer.rehearsal.links import Fault
from balancer.wire import pacing
from balancer.wire.network import Network, Sock
from balancer.wire.pacing import Paced
from balancer.wire.streams import receive, send
from balancer.wire.waiting import Interrupted, Timekeeper, Waiter
from tests.support.edge_client import EdgeClient, fetch
from tests.support.raw_backend import head_of, raw
from tests.support.scene import ADDRESSES, scene
from tests.support.scripted_http import Line
from tests.support.virtual_backend import answers, garbage, in_turn, resets_after, response

pytestmark = pytest.mark.usefixtures("either_way")

FAST = 'timeouts = { connect = "1s", response = "3s", idle = "5s" }'
IMPATIENT = 'client = { body_timeout = "7s", header_timeout = "4s", idle_timeout = "30s" }'


class Busy:
    """A socket that is always ready."""

    def __init__(self) -> None:
        self.reads = 0

    def recv(self, _size: int) -> bytes:
        self.reads += 1
        return b"x"

    def send(self, data: bytes) -> int:
        return len(data)


def busy_waiter() -> Waiter:
    return Waiter(Timekeeper(cast(Network, None)))


# ---- uploads


async def test_no_byte_that_was_read_is_lost_to_a_cancellation() -> None:
    """A checkpoint between recv() and return lost them, and the repeat had a hole."""
    busy, waiter, got = Busy(), busy_waiter(), 0
    paced = Paced(cast(Network, None), cast(Sock, busy), Pace(1, 1.0))
    with trio.CancelScope() as scope:
        for turn in range(100):
            if turn == 14:
                scope.cancel()
            await paced.receive(waiter)
            got += 1
    assert got == busy.reads


@pytest.mark.parametrize("seed", range(12))
async def test_a_repeated_chunked_upload_is_whole(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The same, end to end: small segments, and an attempt that breaks while they come."""
    monkeypatch.setattr(pacing, "READ_BYTES_MAX", 5)
    body = bytes((i * 7 + i // 251) % 256 for i in range(4_000))
    pieces = [body[i : i + 20] for i in range(0, len(body), 20)]
    data = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"

    async def resets(line: Line) -> None:
        await head_of(line)
        for _ in range(seed * 2 + 1):
            await line.more()
        line.reset()

    async with scene({"a": answers(200), "b": answers(200)}, pool=FAST, seed=seed) as play:
        await raw(play, "a", resets)
        for _ in range(2):
            client = await play.client()
            await client.send(
                b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data
            )
            assert (await client.answer()).status == 200
        assert [_payload(request.body) for request in play.backends["b"].requests] == [body, body]


def _payload(chunks: bytes) -> bytes:
    payload = b""
    while True:
        line, _, chunks = chunks.partition(b"\r\n")
        size = int(line, 16)
        if not size:
            return payload
        payload, chunks = payload + chunks[:size], chunks[size + 2 :]


@pytest.mark.parametrize("how", ["client stops", "client half-closes", "backend does not read"])
async def test_an_early_answer_is_whole_whatever_becomes_of_the_upload(
    autojump_clock: MockClock, how: str
) -> None:
    """The fate of the upload cut an answer that was already on its way."""

    async def early(line: Line) -> None:
        await head_of(line)
        await line.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 20\r\n\r\n")
        for _ in range(20):
            await trio.sleep(1)
            await line.send(b"x")
            if how != "backend does not read":
                with trio.move_on_after(0):
                    await line.more()
        await trio.sleep_forever()

    async def pump(client: EdgeClient) -> None:
        try:
            await client.send(b"u" * (10_000_000 if how == "backend does not read" else 1000))
            await trio.sleep(2)
            if how == "client half-closes":
                client.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    async with scene({"a": answers(200)}, pool=FAST, top=IMPATIENT) as play:
        await raw(play, "a", early)
        client = await play.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump, client)
            answer = await client.answer()
            nursery.cancel_scope.cancel()
        await play.settled()
        assert (answer.status, answer.complete) == (413, True)
        assert play.backend_status("a")["failures"] == 0


# ---- interim answers


async def test_a_break_after_100_continue_is_answered(autojump_clock: MockClock) -> None:
    """An interim answer counted as the answer, and the client got nothing after it."""

    async def dies(line: Line) -> None:
        await head_of(line)
        await line.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await line.more()
        line.reset()

    async with scene({"a": answers(200), "b": answers(200)}, pool=FAST) as play:
        await raw(play, "a", dies)
        await raw(play, "b", dies)
        client = await play.client()
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
        assert (await client.answer()).status == 100
        await client.send(b"hello")
        assert (await client.answer()).status == 502


async def test_a_get_is_repeated_after_early_hints(autojump_clock: MockClock) -> None:
    async def dies(line: Line) -> None:
        await head_of(line)
        await line.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        await trio.sleep(0.5)
        line.reset()

    async with scene({"a": answers(200), "b": answers(200)}, pool=FAST) as play:
        await raw(play, "a", dies)
        for _ in range(2):
            client = await play.client()
            answer = await client.get()
            while answer.status == 103:
                answer = await client.answer()
            assert answer.status == 200


async def test_a_backend_that_never_says_100_is_late_not_its_client(
    autojump_clock: MockClock,
) -> None:
    """The client, which rightly waited, was told 408 after a minute."""

    async def mute(line: Line) -> None:
        await head_of(line)
        await trio.sleep_forever()

    async with scene({"a": answers(200), "b": answers(200)}, pool=FAST) as play:
        await raw(play, "a", mute)
        await raw(play, "b", mute)
        client = await play.client()
        began = trio.current_time()
        await client.send(
            b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
        assert (await client.answer()).status == 504
        assert trio.current_time() - began == pytest.approx(6)
        assert [attempt.split(" ", 1)[1] for attempt in play.attempts()] == [
            "neither asked for the body nor answered in time"
        ] * 2


async def test_clients_that_wait_for_100_for_ever_take_no_backend_out(
    autojump_clock: MockClock,
) -> None:
    """One that never says 100 is not ill: who asks it for that five times must not have it ejected."""

    async def mute(line: Line) -> None:
        await head_of(line)
        await trio.sleep_forever()

    async with scene({"a": answers(200), "b": answers(200)}, pool=FAST) as play:
        await raw(play, "a", mute)
        await raw(play, "b", mute)
        for _ in range(6):
            client = await play.client()
            await client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            )
            assert (await client.answer()).status == 504
        for name in "ab":
            assert play.backend_status(name)["failures"] == 0
            assert not play.backend_status(name)["ejected"]


async def test_a_client_that_does_not_wait_for_100_has_its_own_time(
    autojump_clock: MockClock,
) -> None:
    """Slow bytes behind an Expect must not look like a slow backend."""
    async with scene({"a": answers(200)}, pool=FAST, top=IMPATIENT) as play:
        client = await play.client()
        await client.send(
            b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
        for byte in b"hello":
            await client.send(bytes([byte]))
            await trio.sleep(2)
        answer = await client.answer()
        while answer.status == 100:
            answer = await client.answer()
        assert answer.status == 200


# ---- timeouts


async def test_a_head_that_trickles_is_late(autojump_clock: MockClock) -> None:
    """Every byte of it renewed the time that a backend has for the whole."""

    async def trickle(line: Line) -> None:
        await head_of(line)
        for byte in b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 60:
            await line.send(bytes([byte]))
            await trio.sleep(2)

    async with scene({"a": answers(200), "b": answers(200)}, pool=FAST) as play:
        await raw(play, "a", trickle)
        for _ in range(2):
            began = trio.current_time()
            assert (await fetch(play.network)).status == 200
            assert trio.current_time() - began <= 3.1


async def test_an_interruption_reaches_who_never_has_to_wait() -> None:
    waiter, busy = busy_waiter(), cast(Sock, Busy())
    waiter.interrupt(Interrupted("stop"))

    async def copy() -> None:
        for _ in range(1000):
            await receive(busy, waiter, 1e9)
            await send(busy, waiter, b"x", 1.0)

    with pytest.raises(Interrupted):
        await copy()


async def test_the_second_address_of_a_name_is_reached(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}, pool=FAST) as play:
        play.network.name("web.test", ["10.0.0.9", "10.0.0.1"])
        play.network.host("10.0.0.9").cable.fault = Fault.HANGS
        await play.stage.instance.desk.add("web", "web.test:80", None)
        await play.stage.instance.desk.remove("web", ADDRESSES["a"], force=True)
        await trio.sleep(1)
        assert (await fetch(play.network)).status == 200


# ---- the ends of answers, and breaks


async def test_a_stray_empty_line_is_no_request(autojump_clock: MockClock) -> None:
    """It was answered 408 in the end, and a client could take that for its next answer."""
    async with scene({"a": answers(200)}, top=IMPATIENT) as play:
        client = await play.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\n")
        assert (await client.answer()).status == 200
        await trio.sleep(5)
        with pytest.raises(BlockingIOError):
            client.sock.recv(1000)
        began = trio.current_time()
        play.stage.instance.stop(now=False)
        assert await client.at_end()
        assert trio.current_time() - began < 2


async def test_a_hidden_failure_leaves_no_reset_behind(autojump_clock: MockClock) -> None:
    """The next backend's good answer was destroyed when the connection closed."""
    bad = garbage(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n")
    body = b"y" * 100_000
    async with scene({"a": bad, "b": answers(200, body)}, pool=FAST) as play:
        for _ in range(2):
            client = await play.client()
            await client.send(b"GET / HTTP/1.0\r\n\r\n")
            await trio.sleep(10)
            answer = await client.answer()
            assert (answer.status, answer.body, answer.complete) == (200, body, True)


async def test_a_crash_in_a_body_is_a_visible_break(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from balancer.proxy import answer_body as module

    reads = 0

    async def breaks(sock: Sock, waiter: Waiter, deadline: float) -> bytes:
        nonlocal reads
        reads += 1
        if reads > 2:
            raise RuntimeError("a bug")
        return await receive(sock, waiter, deadline)

    async def slow(line: Line) -> None:
        await head_of(line)
        await line.send(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(9):
            await line.send(b"x")
            await trio.sleep(1)

    monkeypatch.setattr(module, "receive", breaks)
    async with scene({"a": answers(200)}) as play:
        await raw(play, "a", slow)
        client = await play.client()
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert not (await client.answer()).complete
        await play.settled()
        assert play.at_rest()
        assert play.attempts() == ["a internal error"]
        assert play.stage.access[-1].fault == "internal error"


async def test_a_crash_before_an_answer_is_told_and_harms_no_other_connection(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its access line had status 0 and said that the attempt was cancelled."""

    def breaks(*_: object) -> None:
        raise RuntimeError("a bug")

    async with scene({"a": answers(200)}) as play:
        other = await play.client()
        assert (await other.get()).status == 200
        with monkeypatch.context() as patch:
            patch.setattr(attempt, "pass_answer", breaks)
            # What asks for more than a plain exchange is served by the general flow.
            answer = await fetch(play.network, "/", "TE: trailers")
        assert answer.status == 500
        assert "proxy_internal_error" in (answer.header("proxy-status") or "")
        record = play.stage.access[-1]
        assert (record.status, record.fault) == (500, "internal error")
        assert play.attempts() == ["a internal error"]
        assert (await other.get()).status == 200
        assert play.backend_status("a")["failures"] == 0


async def test_a_stream_of_small_chunks_with_extensions_has_no_end_before_its_end(
    autojump_clock: MockClock,
) -> None:
    """Signed chunks of a long stream added up to a limit that was meant for abuse."""

    async def stream(line: Line) -> None:
        await head_of(line)
        await line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(2500):
            await line.send(b"3e8;sig=1234\r\n" + b"x" * 1000 + b"\r\n")
        await line.send(b"0\r\n\r\n")
        await line.more()

    async with scene({"a": answers(200)}, pool=FAST) as play:
        await raw(play, "a", stream)
        assert (await fetch(play.network)).complete


async def test_a_408_that_crosses_our_request_is_the_connections(
    autojump_clock: MockClock,
) -> None:
    async def tired(line: Line) -> None:
        await head_of(line)
        await line.send(response(200, b"1"))
        await head_of(line)
        late = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        await line.send(late)

    async with scene({"a": answers(200)}, pool=FAST) as play:
        await raw(play, "a", tired)
        client = await play.client()
        assert [(await client.get()).status for _ in range(2)] == [200, 200]


async def test_three_broken_backends_of_four_are_hidden(autojump_clock: MockClock) -> None:
    once = in_turn(answers(200), resets_after(0))
    scripts = {"a": once, "b": resets_after(0), "c": resets_after(0), "d": answers(200)}
    async with scene(scripts, pool='policy = "weighted-round-robin"') as play:
        assert [(await fetch(play.network)).status for _ in range(8)] == [200] * 8


async def test_an_answer_without_a_body_tells_no_length(autojump_clock: MockClock) -> None:
    empty = garbage(b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", close=False)
    async with scene({"a": empty}) as play:
        client = await play.client()
        await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer("HEAD")).header("content-length") is None


async def test_a_tiny_chunk_costs_no_other_connection_its_turn(autojump_clock: MockClock) -> None:
    """64 KiB of one-byte chunks were taken in one go, 80 ms in which nobody else was served."""
    body = b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with scene({"a": garbage(head + body, close=False)}) as play:
        answer = await fetch(play.network)
        assert (answer.complete, len(answer.body)) == (True, 10_000)
