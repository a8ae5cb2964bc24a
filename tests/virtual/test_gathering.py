"""Requests that come in pieces: served as if at once, without a task, and never waited for too long."""

import pytest
import trio
from trio.testing import MockClock

from balancer.proxy import gathering
from balancer.proxy.client_connection import ClientConnection
from balancer.proxy.gathering import BODY_S
from balancer.wire.streams import cut
from tests.support.edge_client import EdgeClient
from tests.support.raw_backend import RawScript, head_of, raw
from tests.support.scene import Scene, scene
from tests.support.scripted_http import Line, field_of
from tests.support.virtual_backend import answers, response, silent

GET = b"GET /it HTTP/1.1\r\nHost: a.test\r\nCookie: a=b\r\n\r\n"
HEAD = b"POST /it HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6\r\n\r\n"
CHUNKED = b"POST /it HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[ClientConnection]:
    """Whoever has left the lane for a task of its own."""
    walked: list[ClientConnection] = []
    walk = ClientConnection.walk

    async def noted(self: ClientConnection) -> bool:
        walked.append(self)
        return await walk(self)

    monkeypatch.setattr(ClientConnection, "walk", noted)
    return walked


def echoes(seen: list[float]) -> RawScript:
    """Answers POST with its body; `seen`: when each request's head had come."""

    async def script(line: Line) -> None:
        while head := await head_of(line):
            seen.append(trio.current_time())
            size = int(field_of(head, "content-length") or 0)
            while len(line.buffer) < size:
                if not await line.more():
                    return
            body, line.buffer = line.buffer[:size], line.buffer[size:]
            await line.send(response(200, body))

    return script


async def with_a_rest(play: Scene) -> EdgeClient:
    """A client after its first request: the backend's connection is at rest."""
    client = await play.client()
    await client.send(GET)
    assert (await client.answer()).status == 200
    return client


async def dripped(client: EdgeClient, *pieces: bytes, every_s: float = 0.01) -> None:
    for piece in pieces[:-1]:
        await client.send(piece)
        await trio.sleep(every_s)
    await client.send(pieces[-1])


@pytest.mark.parametrize("at", range(1, len(GET)))
async def test_a_head_cut_anywhere_never_leaves_the_lane(
    autojump_clock: MockClock, walks: list[ClientConnection], at: int
) -> None:
    async with scene({"a": answers(200, b"hello")}) as play:
        client = await with_a_rest(play)
        del walks[:]
        await dripped(client, GET[:at], GET[at:])
        assert (await client.answer()).body == b"hello"
        await play.settled()
        assert not walks
        assert play.at_rest()


async def test_a_head_and_its_body_byte_by_byte_never_leave_the_lane(
    autojump_clock: MockClock, walks: list[ClientConnection]
) -> None:
    async with scene({"a": answers(200)}) as play:
        client = await with_a_rest(play)
        del walks[:]
        everything = HEAD + b"abcdef"
        await dripped(client, *(everything[at : at + 1] for at in range(len(everything))))
        assert (await client.answer()).status == 200
        assert not walks
        await play.settled()
        record = play.stage.access[-1]
        assert record.bytes_up == 6
        assert record.head_at - record.began == pytest.approx(0.01 * (len(HEAD) - 1))
        attempt = record.attempts[0]
        assert attempt.began - record.head_at == pytest.approx(0.06)


async def test_what_follows_in_the_last_piece_is_the_next_request(
    autojump_clock: MockClock, walks: list[ClientConnection]
) -> None:
    async with scene({"a": answers(200)}) as play:
        client = await with_a_rest(play)
        del walks[:]
        await dripped(client, HEAD[:20], HEAD[20:] + b"abc", b"def" + GET + GET[:9], GET[9:])
        for _ in range(3):
            assert (await client.answer()).status == 200
        await play.settled()
        assert [record.bytes_up for record in play.stage.access[-3:]] == [6, 0, 0]
        assert not walks


async def test_a_body_that_takes_longer_is_passed_on_as_it_comes(
    autojump_clock: MockClock,
) -> None:
    seen: list[float] = []
    async with scene({"a": silent()}) as play:
        await raw(play, "a", echoes(seen))
        client = await with_a_rest(play)
        began = trio.current_time()
        await dripped(client, HEAD + b"abc", b"def", every_s=1.0)
        assert (await client.answer()).body == b"abcdef"
        assert seen[-1] - began == pytest.approx(BODY_S)
        await play.settled()
        record = play.stage.access[-1]
        assert record.began == pytest.approx(began)
        assert record.ended - record.began == pytest.approx(1.0)
        assert play.at_rest()


async def test_a_body_that_is_more_than_little_is_not_waited_for(
    autojump_clock: MockClock,
) -> None:
    seen: list[float] = []
    size = 64 * 1024 + 1
    head = HEAD.replace(b"6\r", b"%d\r" % size)
    async with scene({"a": silent()}) as play:
        await raw(play, "a", echoes(seen))
        client = await with_a_rest(play)
        began = trio.current_time()
        await dripped(client, head, b"x" * size)
        assert len((await client.answer()).body) == size
        assert seen[-1] == pytest.approx(began)


async def test_a_head_has_its_time_from_its_first_byte_however_it_comes(
    autojump_clock: MockClock, walks: list[ClientConnection]
) -> None:
    async with scene({"a": answers(200)}, top='client = { header_timeout = "3s" }') as play:
        client = await with_a_rest(play)
        del walks[:]
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: _drip_for_ever(client))
            answer = await client.answer()
            nursery.cancel_scope.cancel()
        assert answer.status == 408
        assert trio.current_time() - began == pytest.approx(3)
        assert len(walks) == 1
        await play.settled()
        record = play.stage.access[-1]
        assert record.status == 408
        assert record.began == pytest.approx(began)


async def _drip_for_ever(client: EdgeClient) -> None:
    await client.send(b"GET / HTTP/1.1\r\nX-A: ")
    while True:
        await trio.sleep(0.25)
        await client.send(b"a")


async def test_an_unusual_request_in_pieces_is_served_with_its_own_times(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200)}) as play:
        client = await with_a_rest(play)
        await dripped(client, CHUNKED[:30], CHUNKED[30:] + b"0\r\n\r\n", every_s=0.5)
        assert (await client.answer()).status == 200
        await play.settled()
        record = play.stage.access[-1]
        assert record.head_at - record.began == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ((b"GET / HT", b"TP/9.9\r\n"), 505),
        ((b"GET /", b" HTTP/1.1\n"), 400),
        ((b"GET / HTTP/1.1\r\nX: ", b"a" * 70_000), 431),
        ((b"GET /" + b"a" * 40_000, b"a" * 40_000), 414),
        ((b"\r", b"\n" + GET), 200),
    ],
)
async def test_what_can_be_no_head_is_refused_as_soon_as_it_is_seen(
    autojump_clock: MockClock, pieces: tuple[bytes, ...], status: int
) -> None:
    async with scene({"a": answers(200)}) as play:
        client = await with_a_rest(play)
        await dripped(client, *pieces)
        assert (await client.answer()).status == status
        assert trio.current_time() < 1


@pytest.mark.parametrize("came", [GET[:20], HEAD, HEAD + b"abc"])
@pytest.mark.parametrize("how", ["end", "reset"])
async def test_who_leaves_in_the_middle_leaves_nothing_behind(
    autojump_clock: MockClock, came: bytes, how: str
) -> None:
    async with scene({"a": answers(200)}) as play:
        client = await with_a_rest(play)
        await client.send(came)
        await trio.sleep(0.01)
        if how == "reset":
            cut(client.sock)
        client.close()
        await trio.sleep(1)
        await play.settled()
        assert play.at_rest()
        assert play.backend_status("a")["failures"] == 0


async def test_a_crash_while_it_comes_is_told_and_answered(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("a bug")

    async with scene({"a": answers(200)}) as play:
        client = await with_a_rest(play)
        monkeypatch.setattr(gathering, "head_of", breaks)
        await client.send(GET[:20])
        assert (await client.answer()).status == 500
        await play.settled()
        monkeypatch.undo()
        assert play.at_rest()
