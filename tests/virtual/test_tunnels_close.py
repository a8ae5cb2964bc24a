"""WebSockets whose backend or worker leaves: closed with a close frame between two frames, spread."""

import pytest
import trio
from trio.testing import MockClock

from tests.support.crew_scene import client_of
from tests.support.edge_client import EdgeClient
from tests.support.scene import Scene, config_for, scene
from tests.support.tunnel_ends import KEY, ask, echoes, half_close, listens, read, rest, switch
from tests.support.virtual_backend import Line, Request

DRAINS = 'tunnels = { protocols = ["websocket", "echo"], drain_timeout = "20s" }'
A = "10.0.0.1:80"
GOING_AWAY = b"\x88\x02\x03\xe9"


def text(payload: bytes, mask: bytes = b"abcd") -> bytes:
    """A masked frame of less than 126 bytes."""
    masked = bytes(octet ^ mask[at % 4] for at, octet in enumerate(payload))
    return bytes([0x81, 0x80 | len(payload)]) + mask + masked


def code_of(frame: bytes) -> int:
    """The code of a masked close frame."""
    assert frame[:2] == b"\x88\x82"
    mask, masked = frame[2:6], frame[6:8]
    return int.from_bytes(bytes(octet ^ mask[at] for at, octet in enumerate(masked)))


def answered(code: int = 1001) -> bytes:
    """The client's own close frame."""
    payload = code.to_bytes(2)
    return b"\x88\x82abcd" + bytes(octet ^ b"ab"[at] for at, octet in enumerate(payload))


async def ask_of(play: Scene, slot: int) -> EdgeClient:
    """A WebSocket in that worker."""
    client = await client_of(play, slot)
    await client.send(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: %b\r\n\r\n" % KEY.encode()
    )
    assert (await client.answer()).status == 101
    return client


def outcomes(play: Scene) -> set[str]:
    return {record.attempts[-1].outcome for record in play.stage.access}


async def test_a_drain_closes_both_ends_after_its_time_with_1001(
    autojump_clock: MockClock,
) -> None:
    heard: list[bytes] = []
    async with scene({"a": listens(heard, answer=b"\x88\x02\x03\xe9")}, pool=DRAINS) as play:
        client, _ = await ask(play, "websocket")
        await play.stage.instance.desk.drain("web", A)
        began = trio.current_time()
        assert await read(client, 4) == GOING_AWAY
        assert 20 <= trio.current_time() - began <= 25
        await client.send(answered())
        assert await rest(client) == b""
        await play.settled()
        assert code_of(b"".join(heard)) == 1001
        assert outcomes(play) == {"websocket closed because its backend leaves"}
        assert trio.current_time() - began < 25.1, "the client's answer is enough"
        assert play.at_rest()


async def test_closing_is_spread_and_the_same_for_one_seed(autojump_clock: MockClock) -> None:
    async def times() -> list[float]:
        ended: list[float] = []

        async def follow(client: EdgeClient) -> None:
            assert await read(client, 4) == GOING_AWAY
            ended.append(round(trio.current_time() - began, 6))
            client.close()

        async with scene({"a": echoes("websocket")}, pool=DRAINS, seed=7) as play:
            clients = [(await ask(play, "websocket"))[0] for _ in range(40)]
            await play.stage.instance.desk.drain("web", A)
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(follow, client)
        return ended

    first = await times()
    assert min(first) >= 20
    assert max(first) <= 25
    assert max(first) - min(first) > 3
    most = max(sum(at <= when < at + 0.5 for when in first) for at in first)
    assert most <= 12, "not all at once"
    assert await times() == first


async def test_a_backend_that_is_ready_again_keeps_its_tunnels(autojump_clock: MockClock) -> None:
    async with scene({"a": echoes("websocket")}, pool=DRAINS) as play:
        client, _ = await ask(play, "websocket")
        await play.stage.instance.desk.drain("web", A)
        await trio.sleep(15)
        await play.stage.instance.desk.ready("web", A)
        await trio.sleep(100)
        await client.send(text(b"still"))
        assert await read(client, 11) == text(b"still")


async def test_frames_pass_until_the_time_has_come_and_are_never_broken(
    autojump_clock: MockClock,
) -> None:
    """The frame under way is let to its end; what comes behind it is not passed on any more."""
    heard: list[bytes] = []
    async with scene({"a": listens(heard)}, pool=DRAINS) as play:
        client, _ = await ask(play, "websocket")
        await play.stage.instance.desk.drain("web", A)
        await trio.sleep(10)
        await client.send(text(b"one"))
        await trio.sleep(9)
        frame = text(b"two")
        await client.send(frame[:4])
        assert await read(client, 4) == GOING_AWAY
        await trio.sleep(1)
        await client.send(frame[4:] + text(b"three"))
        await client.send(answered())
        await rest(client)
        await play.settled()
        got = b"".join(heard)
        assert got.startswith(text(b"one") + frame)
        assert code_of(got.removeprefix(text(b"one") + frame)) == 1001


async def test_a_frame_without_end_is_cut(autojump_clock: MockClock) -> None:
    heard: list[bytes] = []
    broke = []

    async def cut_short(line: Line, request: Request) -> bool:
        try:
            return await listens(heard)(line, request)
        except ConnectionResetError:
            broke.append(trio.current_time())
            raise

    async with scene({"a": cut_short}, pool=DRAINS) as play:
        client, _ = await ask(play, "websocket")
        await client.send(text(b"endless")[:5])
        await play.stage.instance.desk.drain("web", A)
        assert await read(client, 4) == GOING_AWAY
        await trio.sleep(3)
        assert b"".join(heard) == text(b"endless")[:5]
        assert len(broke) == 1
        assert play.at_rest()


async def test_peers_that_do_not_answer_are_not_waited_for_long(autojump_clock: MockClock) -> None:
    heard: list[bytes] = []
    async with scene({"a": listens(heard)}, pool=DRAINS) as play:
        client, _ = await ask(play, "websocket")
        await play.stage.instance.desk.drain("web", A)
        assert await read(client, 4) == GOING_AWAY
        began = trio.current_time()
        assert await rest(client) == b""
        assert trio.current_time() - began <= 2.1
        client.close()
        await play.settled()
        assert play.at_rest()


async def test_nothing_is_said_behind_a_close_frame_of_theirs(autojump_clock: MockClock) -> None:
    """The client has closed, the backend has not answered yet when the time comes."""
    heard: list[bytes] = []
    async with scene({"a": listens(heard)}, pool=DRAINS) as play:
        client, _ = await ask(play, "websocket")
        await play.stage.instance.desk.drain("web", A)
        await trio.sleep(19.5)
        await client.send(answered(1000))
        assert await read(client, 4) == GOING_AWAY
        await rest(client)
        await play.settled()
        assert b"".join(heard) == answered(1000)


async def test_a_side_that_has_ended_already_is_not_written_to(autojump_clock: MockClock) -> None:
    heard: list[bytes] = []

    async def stays(line: Line, request: Request) -> bool:
        await line.send(switch("websocket", request))
        while data := await line.receive():
            heard.append(data)
        await trio.sleep(1000)
        return False

    async with scene({"a": stays}, pool=DRAINS) as play:
        client, _ = await ask(play, "websocket")
        half_close(client)
        await play.stage.instance.desk.drain("web", A)
        assert await rest(client) == GOING_AWAY
        await trio.sleep(3)
        assert heard == []
        assert outcomes(play) == {"websocket closed because its backend leaves"}
        assert play.at_rest()


async def test_other_protocols_are_cut_as_nothing_is_known_of_them(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": echoes()}, pool=DRAINS) as play:
        client, _ = await ask(play)
        await play.stage.instance.desk.drain("web", A)
        began = trio.current_time()
        with pytest.raises(ConnectionResetError):
            await rest(client)
        assert 20 <= trio.current_time() - began <= 25
        await play.settled()
        assert outcomes(play) == {"echo closed because its backend leaves"}


async def test_an_idle_websocket_is_closed_with_a_frame_too(autojump_clock: MockClock) -> None:
    pool = 'tunnels = { idle_timeout = "30s" }'
    async with scene({"a": echoes("websocket")}, pool=pool) as play:
        client, _ = await ask(play, "websocket")
        assert await read(client, 4) == GOING_AWAY
        assert trio.current_time() == pytest.approx(30, abs=1)


async def test_maintenance_is_a_drain_to_tunnels_and_so_is_a_removal(
    autojump_clock: MockClock,
) -> None:
    for order in ("maintenance", "reload"):
        async with scene({"a": echoes("websocket"), "b": echoes("websocket")}, pool=DRAINS) as play:
            clients = [(await ask(play, "websocket"))[0] for _ in range(2)]
            if order == "maintenance":
                await play.stage.instance.desk.maintenance("web", A)
            else:
                play.stage.config = config_for("b", pool=DRAINS)
                await play.stage.instance.desk.reload()
            closed = 0
            for client in clients:
                with trio.move_on_after(30):
                    closed += await read(client, 4) == GOING_AWAY
            assert closed == 1, order


async def test_a_reload_of_other_things_and_a_pool_that_goes(autojump_clock: MockClock) -> None:
    more = '\n[pools.other]\nbackends = ["10.0.0.9:80"]\n'
    routes = '[[routes]]\nhost = "b.test"\npool = "other"\n[[routes]]\npool = "web"\n'
    async with scene({"a": echoes("websocket")}, pool=DRAINS + more + routes) as play:
        client, _ = await ask(play, "websocket")
        play.stage.config = config_for("a", pool=DRAINS)
        await play.stage.instance.desk.reload()
        await trio.sleep(100)
        assert play.stage.access == []
        gone = config_for("a", pool=DRAINS).replace("pools.web", "pools.renamed")
        play.stage.config = gone
        await play.stage.instance.desk.reload()
        began = trio.current_time()
        assert await read(client, 4) == GOING_AWAY
        assert trio.current_time() - began < 30
        await rest(client)
        await play.settled()
        assert outcomes(play) == {"websocket closed because its backend leaves"}


@pytest.mark.parametrize(("limit_s", "earliest"), [(10, 4), (2, 0.5)])
async def test_a_stop_closes_them_within_its_own_limit(
    autojump_clock: MockClock, limit_s: int, earliest: float
) -> None:
    ended: list[float] = []

    async def follow(client: EdgeClient) -> None:
        assert await read(client, 4) == GOING_AWAY
        ended.append(trio.current_time() - began)
        await client.send(answered())
        assert await rest(client) == b""

    async with scene({"a": echoes("websocket")}, top=f'shutdown_timeout = "{limit_s}s"') as play:
        clients = [(await ask(play, "websocket"))[0] for _ in range(20)]
        began = trio.current_time()
        play.stage.instance.stop(now=False)
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(follow, client)
        assert min(ended) >= earliest
        assert max(ended) < limit_s
        assert max(ended) - min(ended) > limit_s / 10
        await play.settled()
        assert outcomes(play) == {"websocket closed because its worker ends"}
        assert play.at_rest()


async def test_a_stop_at_once_still_says_1001(autojump_clock: MockClock) -> None:
    async with scene({"a": echoes("websocket")}) as play:
        client, _ = await ask(play, "websocket")
        play.stage.instance.stop(now=True)
        assert await rest(client) == GOING_AWAY
        await play.settled()
        assert play.at_rest()


async def test_a_tunnel_that_begins_in_a_drain_is_closed_with_the_others(
    autojump_clock: MockClock,
) -> None:
    async def late(line: Line, request: Request) -> bool:
        await trio.sleep(5)
        return await echoes("websocket")(line, request)

    async with scene({"a": late}, pool=DRAINS) as play:
        async with trio.open_nursery() as nursery:

            async def drain() -> None:
                await trio.sleep(2)
                await play.stage.instance.desk.drain("web", A)

            nursery.start_soon(drain)
            client, answer = await ask(play, "websocket")
        assert answer.status == 101
        assert await read(client, 4) == GOING_AWAY
        assert 25 <= trio.current_time() <= 31


async def test_a_worker_that_retires_closes_its_own_after_their_time(
    autojump_clock: MockClock,
) -> None:
    two, one = "workers = 2\n", "workers = 1\n"
    async with scene({"a": echoes("websocket")}, pool=DRAINS, top=two) as play:
        stays, goes = [await ask_of(play, slot) for slot in (0, 1)]
        play.stage.config = config_for("a", pool=DRAINS, top=one)
        await play.stage.instance.desk.reload()
        began = trio.current_time()
        assert await read(goes, 4) == GOING_AWAY
        assert 20 <= trio.current_time() - began <= 25.1
        goes.close()
        await trio.sleep(100)
        await stays.send(text(b"still"))
        assert await read(stays, 11) == text(b"still")
        assert outcomes(play) == {"websocket closed because its worker ends"}


async def test_a_stop_without_limit_lets_them_have_their_time(autojump_clock: MockClock) -> None:
    async with scene(
        {"a": echoes("websocket")}, pool=DRAINS, top='shutdown_timeout = "1s"'
    ) as play:
        client, _ = await ask(play, "websocket")
        began = trio.current_time()
        play.stage.instance.stop_without_limit()
        assert await read(client, 4) == GOING_AWAY
        assert 20 <= trio.current_time() - began <= 25.1


async def test_who_asks_for_less_time_gets_it(autojump_clock: MockClock) -> None:
    async with scene(
        {"a": echoes("websocket")}, pool=DRAINS, top='shutdown_timeout = "8s"'
    ) as play:
        client, _ = await ask(play, "websocket")
        play.stage.instance.stop_without_limit()
        await trio.sleep(5)
        began = trio.current_time()
        play.stage.instance.stop_sooner()
        assert await read(client, 4) == GOING_AWAY
        assert 3.3 <= trio.current_time() - began <= 6.1


async def test_a_client_that_reads_nothing_does_not_hold_it_up(autojump_clock: MockClock) -> None:
    async def floods(line: Line, request: Request) -> bool:
        await line.send(switch("websocket", request))
        await line.send((b"\x82\x7e\x40\x00" + bytes(16384)) * 10_000)
        return False

    async with scene({"a": floods}, pool=DRAINS) as play:
        await ask(play, "websocket")
        await play.stage.instance.desk.drain("web", A)
        await trio.sleep(28)
        assert outcomes(play) == {"websocket closed because its backend leaves"}
        assert play.at_rest()
