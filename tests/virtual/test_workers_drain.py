"""The end of all workers, or of some: in slices, in time, and without a connection lost."""

import pytest
import trio
from trio.testing import MockClock

from balancer.rehearsal.virtual_crew import VirtualProcess
from balancer.supervisor.instance import NoWorker
from balancer.worker import sockets
from balancer.worker.link import Link
from tests.support.crew_scene import TWO, client_of, process, states, worker
from tests.support.edge_client import EdgeClient, fetch
from tests.support.scene import Scene, config_for, scene
from tests.support.virtual_backend import answers, by_target, trickles

SLOW = trickles(b"x" * 5, piece=1, every_s=1.0)
SCRIPT = by_target({"/slow": SLOW}, answers(200, b"a"))
HEALTH = '[pools.web.health]\npath = "/health"\ninterval = "1s"\n'


# ---- all of them


async def test_thousands_of_idle_connections_are_not_closed_in_one_instant(
    autojump_clock: MockClock,
) -> None:
    count = 5000
    async with scene({"a": answers()}, top=TWO + 'shutdown_timeout = "10s"') as play:
        ended: list[float] = []

        async def rest() -> None:
            client = await play.client()
            assert await client.at_end()
            ended.append(trio.current_time())

        async with trio.open_nursery() as resting:
            for _ in range(count):
                resting.start_soon(rest)
            await trio.sleep(1)
            began = trio.current_time()
            play.stage.instance.stop(now=False)
        assert max(ended) - began < 10
        assert max(ended) - min(ended) > 0.9, "spread over a second"
        most = max(sum(at <= when < at + 0.02 for when in ended) for at in set(ended))
        assert most <= count / 10, "a slice of each worker at once, or two"


async def test_what_runs_in_any_worker_may_finish(autojump_clock: MockClock) -> None:
    async with scene({"a": SCRIPT}, top=TWO + 'shutdown_timeout = "10s"') as play:
        clients = [await client_of(play, slot) for slot in (0, 1)]
        for client in clients:
            await client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(1)
        play.stage.instance.stop(now=False)
        for client in clients:
            assert (await client.answer()).complete


async def test_who_waits_in_a_queue_is_taken_in_by_the_last(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody_accepts(*_: object) -> None:
        await trio.sleep_forever()

    async with scene({"a": answers()}, top=TWO) as play:
        monkeypatch.setattr(sockets, "accept_connections", nobody_accepts)
        for slot in (0, 1):
            worker(play, slot).sockets.accept_for(())
            worker(play, slot).sockets.accept_for({slot})
        await play.settled()
        waiting = [await play.client() for _ in range(40)]
        await trio.sleep(1)
        assert worker(play, 0).service.connections == 0
        play.stage.instance.stop(now=False)
        for client in waiting:
            with trio.fail_after(1):
                assert (await client.get()).status == 200


async def test_a_worker_that_comes_up_meanwhile_is_told_to_end(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop without limit would wait for it for ever."""
    async with scene({"a": SCRIPT}, top=TWO) as play:
        client = await client_of(play, 1)
        await client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        run = Link.run

        async def late(link: Link) -> None:
            await trio.sleep(1)
            await run(link)

        monkeypatch.setattr(Link, "run", late)
        process(play, 0).kill()
        await trio.sleep(0.1)
        play.stage.instance.stop_without_limit()
        began = trio.current_time()
        assert (await client.answer()).complete
        assert trio.current_time() - began < 6
    assert trio.current_time() - began < 8


async def test_a_worker_out_of_touch_is_waited_for_and_told(autojump_clock: MockClock) -> None:
    async with scene({"a": SCRIPT}, top=TWO) as play:
        client = await client_of(play, 0)
        await client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(0.5)
        process(play, 0).hang_up()
        play.stage.instance.stop_without_limit()
        assert (await client.answer()).complete, "it was not killed for that"
        client.close()
        ended = trio.current_time()
    assert trio.current_time() - ended < 2, "it was told"


async def test_without_a_worker_there_is_no_instance_and_none_is_left_behind(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_: Link) -> None:
        await trio.sleep_forever()

    killed: list[VirtualProcess] = []
    kill = VirtualProcess.kill

    def noted(process: VirtualProcess) -> None:
        killed.append(process)
        kill(process)

    monkeypatch.setattr(Link, "run", hang)
    monkeypatch.setattr(VirtualProcess, "kill", noted)
    with pytest.RaisesGroup(NoWorker, flatten_subgroups=True):
        with trio.fail_after(60):
            async with scene({"a": answers()}, top=TWO):
                raise AssertionError("nobody serves")
    assert len(set(killed)) == 2


# ---- before and after


async def test_nobody_is_accepted_before_the_pools_know_enough(autojump_clock: MockClock) -> None:
    late = by_target({"/health": answers(after_s=3)}, answers())
    began = trio.current_time()
    async with scene({"a": late}, top=TWO, pool=HEALTH + 'timeout = "3500ms"') as play:
        assert trio.current_time() - began >= 3
        assert (await fetch(play.network)).status == 200


# ---- more and fewer


class Visitors:
    """Clients who come anew, and clients who stay as long as they may."""

    def __init__(self, play: Scene) -> None:
        self.statuses: list[int] = []
        self.stop = trio.Event()
        self._play = play

    async def come(self) -> None:
        while not self.stop.is_set():
            self.statuses.append((await fetch(self._play.network)).status)
            await trio.sleep(0.005)

    async def stay(self, client: EdgeClient) -> None:
        while not self.stop.is_set():
            answer = await client.get()
            self.statuses.append(answer.status)
            if answer.header("connection") == "close":
                client.close()
                client = await self._play.client()
            await trio.sleep(0.01)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 4)])
async def test_more_or_fewer_workers_lose_nobody(
    autojump_clock: MockClock, before: int, after: int
) -> None:
    async with scene({"a": SCRIPT}, top=f"workers = {before}") as play:
        running = [await client_of(play, slot) for slot in range(before)]
        kept = [await client_of(play, slot) for slot in range(before)]
        for client in running:
            await client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        visitors = Visitors(play)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visitors.come)
            for client in kept:
                nursery.start_soon(visitors.stay, client)
            await trio.sleep(1)
            play.stage.config = config_for("a", top=f"workers = {after}")
            done = await play.stage.instance.desk.reload()
            assert done.laggards == ()
            for client in running:
                assert (await client.answer()).complete
                client.close()
            await trio.sleep(1)
            visitors.stop.set()
        assert set(visitors.statuses) == {200}
        assert states(play) == ["serving"] * after
        for slot in range(after):
            await client_of(play, slot)
        held = [worker(play, slot).sockets.held for slot in range(after)]
        assert [len(each) for each in held] == [after] * after
