"""Workers whose supervisor is gone: they serve on, mind their backends, and do not stay for ever."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from balancer.worker.messages import Drain
from tests.support.crew_scene import client_of, process, states, worker
from tests.support.edge_client import fetch
from tests.support.scene import ADDRESSES, Scene, scene
from tests.support.virtual_backend import answers, by_target, resets_after, trickles

A, B = ADDRESSES["a"], ADDRESSES["b"]
TOP = 'workers = 2\norphan_timeout = "60s"\nshutdown_timeout = "5s"\n'
PASSIVE = "[pools.web.passive]\nconsecutive_failures = 2\nbase_ejection = '5s'\n"
HOUR_LONG = trickles(b"x" * 3600, piece=1, every_s=1.0)


def abandon(play: Scene) -> None:
    """As if the supervisor was killed: its ends of the channels are closed, and nobody listens."""
    play.stage.crew.unattended = True
    for slot in play.stage.instance.fleet.workers.slots:
        if slot.channel is not None:
            slot.channel.close()


@asynccontextmanager
async def orphaned(*, top: str = TOP) -> AsyncIterator[Scene]:
    scripts = {
        "a": by_target({"/fail": resets_after(0), "/long": HOUR_LONG}, answers(200, b"a")),
        "b": by_target({"/long": HOUR_LONG}, answers(200, b"b")),
    }
    async with scene(scripts, top=top, pool=PASSIVE) as play:
        await play.settled()
        abandon(play)
        yield play
        play.stage.crew.unattended = False


async def test_they_serve_on(autojump_clock: MockClock) -> None:
    async with orphaned() as play:
        for _ in range(50):
            assert (await fetch(play.network)).status == 200
            await trio.sleep(1)


async def test_they_accept_for_one_that_dies_though_nobody_tells_them(
    autojump_clock: MockClock,
) -> None:
    async with orphaned() as play:
        await play.settled()
        play.stage.instance.fleet.workers._ending.set()  # nobody follows it
        process(play, 0).kill()
        for _ in range(20):
            with trio.fail_after(0.1):
                assert (await fetch(play.network)).status == 200


async def test_they_leave_a_backend_out_on_their_own_for_the_time_of_a_first_ejection(
    autojump_clock: MockClock,
) -> None:
    async with orphaned() as play:
        client = await client_of(play, 0)
        pool = worker(play, 0).service.pools["web"]
        began = trio.current_time()
        while len(pool.snapshot.candidates) == 2:
            await client.send(b"POST /fail HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            await client.answer()
        assert [view.id.address for view in pool.snapshot.candidates] == [B]
        assert {(await client.get()).body for _ in range(6)} == {b"b"}
        await trio.sleep(began + 5 + 1.1 - trio.current_time())
        assert len(pool.snapshot.candidates) == 2


async def test_who_comes_back_to_a_supervisor_is_told_everything_anew(
    autojump_clock: MockClock,
) -> None:
    async with orphaned() as play:
        kept = await client_of(play, 0)
        await trio.sleep(29)
        assert states(play) == ["starting", "starting"], "nobody knows how they are"
        play.stage.crew.unattended = False
        await trio.sleep(0.2)
        assert states(play) == ["serving", "serving"]
        assert [worker(play, slot).sockets._slots for slot in (0, 1)] == [{0}, {1}]
        assert (await play.stage.instance.desk.drain("web", A)).laggards == ()
        assert {(await kept.get()).body for _ in range(4)} == {b"b"}
        await trio.sleep(120)
        assert (await fetch(play.network)).status == 200, "the times alone do not add up"


async def test_they_drain_and_end_when_nobody_comes(autojump_clock: MockClock) -> None:
    async with orphaned() as play:
        client = await client_of(play, 0)
        await client.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        ended: list[float] = []

        async def note(slot: int) -> None:
            await process(play, slot).wait()
            ended.append(round(trio.current_time()))

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, 0)
            nursery.start_soon(note, 1)
            await trio.sleep(59)
            assert not ended
            play.stage.instance.fleet.workers._ending.set()  # nobody is to follow them
        assert ended[0] - began == pytest.approx(61, abs=1), "it ran nothing"
        assert ended[1] - began == pytest.approx(66, abs=1), "it let an exchange run for 5 s"
        play.stage.crew.unattended = False


async def test_a_drain_without_limit_ends_in_time_where_the_supervisor_is_gone(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": HOUR_LONG}, top=TOP) as play:
        client = await client_of(play, 0)
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(1)
        draining = process(play, 0)
        play.stage.instance.fleet.workers.slots[0].say(Drain(None))
        await trio.sleep(1)
        abandon(play)
        began = trio.current_time()
        await draining.wait()
        assert trio.current_time() - began == pytest.approx(66, abs=1)
        play.stage.crew.unattended = False


async def test_who_comes_up_when_nobody_is_there_any_more_ends(autojump_clock: MockClock) -> None:
    async with scene({"a": answers()}, top=TOP) as play:
        play.stage.crew.unattended = True
        process(play, 0).kill()
        await trio.sleep(0.01)
        fresh = process(play, 0)
        assert fresh.link.worker is None
        with trio.fail_after(0.1):
            await fresh.wait()
        play.stage.crew.unattended = False


async def test_who_was_never_to_accept_ends_with_its_supervisor(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would accept at the sockets that it holds, while the kernel goes on queueing there."""
    top = 'workers = 1\n[[listeners]]\nbind = "unix:/run/shared.sock"\n'
    async with scene({"a": answers()}, top=top) as play:
        workers = play.stage.instance.fleet.workers
        monkeypatch.setattr(workers, "accepting", False)
        process(play, 0).kill()
        await trio.sleep(0.5)
        fresh = process(play, 0)
        await play.settled()
        assert len(worker(play, 0).sockets.held) == 2
        assert not worker(play, 0).sockets._accepting, "nor at a socket that all workers share"
        abandon(play)
        with trio.fail_after(1):
            await fresh.wait()
        monkeypatch.setattr(workers, "accepting", True)
        play.stage.crew.unattended = False
