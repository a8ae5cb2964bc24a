"""A worker that is killed, hangs, crashes again and again, or leaves: what it costs, and who follows."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from balancer.core.board import BoardRow
from balancer.core.restarts import PAUSE_MAX_S
from balancer.supervisor.events import EventKind
from balancer.supervisor.watchdog import HUNG_LOOKS, KILL_LOOKS, LOOK_S, START_LOOKS
from balancer.worker.link import Link
from tests.support.crew_scene import (
    TWO,
    client_of,
    clients_of_all,
    process,
    states,
    told,
    until,
    worker,
)
from tests.support.edge_client import EdgeClient, NoAnswer, fetch
from tests.support.scene import Scene, scene
from tests.support.virtual_backend import answers, silent

SLOW = answers(200, b"slow", after_s=1)
LOST = EventKind.WORKER_LOST
LOOPS = EventKind.WORKER_LOOPS


async def asked(client: EdgeClient) -> None:
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await trio.sleep(0.01)


async def all_are_served(play: Scene, count: int = 20, within_s: float = 0.1) -> None:
    """So many new connections, to whosever sockets they come, each answered in time."""
    for _ in range(count):
        with trio.fail_after(within_s):
            assert (await fetch(play.network)).status == 200


# ---- killed


async def test_a_worker_killed_takes_only_its_own_exchanges_along(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": SLOW}, top=TWO) as play:
        one, other = await clients_of_all(play)
        await asked(one)
        await asked(other)
        assert play.backend_status("a")["in_flight"] == 2
        process(play, 0).kill()
        with pytest.raises(NoAnswer):
            await one.answer()
        assert play.backend_status("a")["in_flight"] == 1, "its row is void"
        assert (await other.answer()).status == 200
        await play.settled()
        assert play.at_rest()


async def test_who_waits_in_the_queue_of_a_dead_worker_is_accepted_by_another_at_once(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers()}, top=TWO) as play:
        await play.settled()  # or it may have accepted the first before it is gone
        process(play, 0).kill()
        await all_are_served(play)


async def test_what_was_counted_is_kept(autojump_clock: MockClock) -> None:
    async with scene({"a": answers()}, top=TWO) as play:
        for client in await clients_of_all(play):
            for _ in range(5):
                await client.get()
        seen = [play.backend_status("a")["requests"]]
        for slot in (0, 1, 0):
            process(play, slot).kill()
            await trio.sleep(0.05)
            seen.append(play.backend_status("a")["requests"])
            await trio.sleep(1)
            seen.append(play.backend_status("a")["requests"])
        assert seen == [10] * 7


async def test_the_next_one_is_told_everything(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(), "b": answers(200, b"b")}, top=TWO) as play:
        await play.stage.instance.desk.drain("web", "10.0.0.1:80")
        killed = process(play, 0)
        killed.kill()
        await trio.sleep(0.1)
        assert states(play) == ["serving", "serving"]
        assert (await (await client_of(play, 0)).get()).body == b"b"
        assert told(play, LOST) == [
            f"worker 0 (process {killed.pid}) was killed by SIGKILL; "
            "1 other accepts at its sockets; the next one starts now"
        ]


async def test_killing_again_and_again_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async with scene({"a": answers()}, top=TWO) as play:
        board, host = play.stage.crew.board, play.network.host("127.0.0.1")
        await all_are_served(play)
        await trio.sleep(5)
        rows, socks = board.used, len(host.open_sockets())
        for number in range(20):
            process(play, number % 2).kill()
            await trio.sleep(PAUSE_MAX_S + 1)
        await all_are_served(play)
        await trio.sleep(5)
        assert (board.used, len(host.open_sockets())) == (rows, socks)
        assert len(play.stage.instance.fleet.workers.slots) == 2


# ---- crashing


@contextmanager
def crashing(monkeypatch: pytest.MonkeyPatch, slot: int) -> Iterator[list[float]]:
    """Workers of that slot end as soon as they have begun; when they did."""
    times: list[float] = []
    run = Link.run

    async def crash(link: Link) -> None:
        if link._around.slot == slot:
            times.append(trio.current_time())
            await trio.sleep(0.001)
        else:
            await run(link)

    with monkeypatch.context() as patch:
        patch.setattr(Link, "run", crash)
        yield times


async def test_who_crashes_at_once_is_started_ever_more_rarely_while_others_accept(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene({"a": answers()}, top=TWO) as play:
        await trio.sleep(20)
        with crashing(monkeypatch, 0) as starts:
            process(play, 0).kill()
            for _ in range(100):
                await all_are_served(play, count=3)
                await trio.sleep(0.5)
            pauses = [b - a for a, b in pairwise(starts)]
            assert pauses[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.01)
            assert max(pauses) == pytest.approx(PAUSE_MAX_S, abs=0.01)
            assert states(play)[0] == "down"
        assert len(told(play, LOST)) == 1, "the first of them"
        assert len(told(play, LOOPS)) == len(starts)
        assert "10 times in a row soon after its start" in told(play, LOOPS)[8]
        assert told(play, LOOPS)[8].endswith(
            "1 other accepts at its sockets; the next one starts in 10 s"
        )
        await trio.sleep(2 * PAUSE_MAX_S)
        assert states(play) == ["serving", "serving"]


async def test_clients_of_a_single_worker_wait_for_the_next_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene({"a": SLOW}, top="workers = 1") as play:
        await asked(await play.client())
        assert play.backend_status("a")["in_flight"] == 1
        with crashing(monkeypatch, 0):
            process(play, 0).kill()
            await trio.sleep(0.15)
            assert states(play) == ["down"]
            assert play.backend_status("a")["in_flight"] == 0
            client = await play.client()
        with trio.fail_after(2):
            assert (await client.get()).status == 200
        assert "clients wait in the queues of its sockets" in told(play, LOST, LOOPS)[-1]


# ---- hanging


async def test_who_hangs_is_covered_then_ended_then_replaced(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene({"a": answers()}, top=TWO) as play:
        await trio.sleep(2)
        hung = process(play, 0)
        row = play.stage.instance.fleet.workers.slots[0].row
        beat = BoardRow.beat
        stuck = {row}
        monkeypatch.setattr(
            BoardRow, "beat", lambda self: None if self.number in stuck else beat(self)
        )
        waited = await until(lambda: states(play)[0] == "hung")
        assert waited <= (HUNG_LOOKS + 1) * LOOK_S + 0.1
        await play.settled()
        assert worker(play, 1).sockets._slots == {0, 1}, "it accepts for both"
        waited += await until(lambda: process(play, 0) is not hung)
        assert waited <= (KILL_LOOKS + 1) * LOOK_S + 0.1
        stuck.clear()
        await trio.sleep(1)
        assert states(play) == ["serving", "serving"]
        assert worker(play, 1).sockets._slots == {1}
        assert "was killed by SIGKILL, because it did not answer" in told(play, LOST)[0]


async def test_who_was_only_slow_goes_on(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene({"a": answers()}, top=TWO) as play:
        await trio.sleep(2)
        first = process(play, 0)
        with monkeypatch.context() as patch:
            patch.setattr(BoardRow, "beat", lambda _: None)
            await trio.sleep((HUNG_LOOKS + 2) * LOOK_S)
            assert states(play) == ["hung", "hung"]
        await trio.sleep(2)
        assert states(play) == ["serving", "serving"]
        assert [worker(play, slot).sockets._slots for slot in (0, 1)] == [{0}, {1}]
        assert process(play, 0) is first
        await all_are_served(play)


async def test_who_never_comes_up_is_ended_too(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene({"a": answers()}, top=TWO) as play:

        async def hang(_: Link) -> None:
            await trio.sleep_forever()

        with monkeypatch.context() as patch:
            patch.setattr(Link, "run", hang)
            process(play, 0).kill()
            await trio.sleep(1)
            stuck = process(play, 0)
            assert states(play)[0] == "starting"
        await trio.sleep((START_LOOKS + 2) * LOOK_S)
        assert process(play, 0) is not stuck
        assert states(play) == ["serving", "serving"]


# ---- leaving


async def test_who_is_told_to_leave_by_somebody_else_is_followed_while_it_drains(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": SLOW}, top="workers = 1") as play:
        leaving = process(play, 0)
        client = await client_of(play, 0)
        await asked(client)
        leaving.terminate()
        await trio.sleep(0.05)
        assert states(play) == ["draining", "serving"]
        assert process(play, 0) is not leaving
        await all_are_served(play, count=5, within_s=1.2)
        assert (await client.answer()).status == 200
        await trio.sleep(12)
        assert states(play) == ["serving"]
        assert told(play, LOST) == []
        assert play.at_rest()


async def test_one_that_is_killed_while_it_leaves_leaves_nothing_behind(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": silent()}, top="workers = 1") as play:
        leaving = process(play, 0)
        await asked(await client_of(play, 0))
        leaving.terminate()
        await trio.sleep(0.5)
        leaving.kill()
        await trio.sleep(0.1)
        assert states(play) == ["serving"]
        assert play.at_rest()


async def test_a_worker_that_leaves_obeys_orders_meanwhile(autojump_clock: MockClock) -> None:
    async with scene({"a": silent(), "b": answers()}, top=TWO) as play:
        clients = await clients_of_all(play)
        for client in clients:
            await asked(client)
        process(play, 0).terminate()
        await trio.sleep(0.05)
        assert (await play.stage.instance.desk.drain("web", "10.0.0.1:80")).laggards == ()
        done = await play.stage.instance.desk.remove("web", "10.0.0.1:80", force=True)
        assert done.laggards == ()
        await trio.sleep(1)
        assert play.at_rest()
