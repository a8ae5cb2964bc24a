"""Where many connections pass one place: what a crash for one of them does there, and one of the place.

What happens within one connection: test_containment.py.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import structlog
import trio
from trio.testing import MockClock

from balancer.proxy import accepting
from balancer.proxy.exchange_state import NO_EXCHANGE, UnderWay
from balancer.proxy.idle import IdleConnections
from balancer.supervisor.events import EventKind
from balancer.wire.lane import Lane
from balancer.wire.streams import cut
from balancer.wire.waiting import Timekeeper
from balancer.worker.worker import LOOKED_AT_ONCE, Worker
from tests.support.crew_scene import TWO, client_of, process, told, worker
from tests.support.edge_client import NoAnswer, fetch
from tests.support.scene import ADDRESSES, Scene, scene
from tests.support.transcript import messages
from tests.support.virtual_backend import Line, Request, Script, answers


class Bug(Exception):
    """Nobody has thought of it."""


def breaks_once(patch: pytest.MonkeyPatch, place: object, name: str) -> None:
    """The next call of this crashes."""
    original = getattr(place, name)
    left = [Bug(name)]

    def broken(*args: object, **kwargs: object) -> object:
        if left:
            raise left.pop()
        return original(*args, **kwargs)

    patch.setattr(place, name, broken)


def crashes(lines: list[structlog.typing.EventDict]) -> list[str]:
    return [str(line["exc_info"]) for line in lines if line["event"] == "connection.crashed"]


# ---- a crash for one connection


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (accepting, "no_delay"),
        (accepting, "arrival_of"),
        (accepting, "ClientConnection"),
        (Lane, "watch"),
        (Lane, "adopt"),
        (Lane, "_board"),
    ],
)
async def test_a_connection_that_cannot_be_taken_in_is_closed_and_the_next_one_is_not(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, place: object, name: str
) -> None:
    async with scene({"a": answers(200)}) as play:
        other = await play.client()
        await play.settled()
        before = len(play.network.own_host.open_sockets())
        with structlog.testing.capture_logs() as lines:
            breaks_once(monkeypatch, place, name)
            lost = await play.client()
            await play.settled()
        with pytest.raises(NoAnswer):
            await lost.get()
        lost.close()
        assert crashes(lines) == [name]
        assert (await other.get()).status == (await fetch(play.network)).status == 200
        other.close()
        await trio.sleep(1)
        service = play.stage.worker.service
        assert service.connections == 0
        assert not service.lane._seats
        assert len(play.network.own_host.open_sockets()) == before - 2 + service.idle.count()
        assert play.stage.instance.desk.status(None)["connection_crashes"] == 1


async def test_a_client_that_cannot_be_looked_after_leaves_the_sweep_to_the_others(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene({"a": answers(200, after_s=9)}) as play:
        one, other = await play.client(), await play.client()
        for client in (one, other):
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(1.5)
        with structlog.testing.capture_logs() as lines:
            breaks_once(monkeypatch, UnderWay, "notice_leaving")
            await trio.sleep(1)
        assert crashes(lines) == ["notice_leaving"]
        cut(other.sock)
        other.close()
        assert (await one.answer()).status == 200
        assert play.stage.access[0].fault.startswith("client left")


async def test_thousands_under_way_are_looked_after_in_parts(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            steps.append(0)

    def looked_at(_: UnderWay, since: float) -> None:
        steps[-1] += 1

    monkeypatch.setattr(UnderWay, "notice_leaving", looked_at)
    count = 3 * LOOKED_AT_ONCE
    async with scene({"a": answers(200, after_s=9)}) as play:
        running = play.stage.worker.service.running
        for number in range(-count, 0):
            running[number] = under_way = UnderWay()
            under_way.record = replace(NO_EXCHANGE, number=number)
        trio.lowlevel.add_instrument(instrument := Steps())
        await trio.sleep(1.5)
        trio.lowlevel.remove_instrument(instrument)
        for number in range(-count, 0):
            del running[number]
    assert sum(steps) == count
    assert max(steps) == LOOKED_AT_ONCE


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("name", ["report", "access"])
async def test_what_is_written_down_of_an_exchange_never_costs_its_answer_or_its_count(
    autojump_clock: MockClock, name: str, *, general: bool
) -> None:
    """Evidence that cannot be told, a line that cannot be written."""

    def broken(*_: object) -> None:
        raise Bug(name)

    async with scene({"a": answers(502, b"oops")}) as play:
        client = await play.client()
        await client.get()  # from here on, a connection rests
        service = play.stage.worker.service
        pool = service.pools["web"]
        with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs() as lines:
            if name == "report":
                patch.setattr(pool, "_report", broken)
            else:
                patch.setattr(service, "access", broken)
            answer = await client.get("/", *(["TE: x"] if general else []))
            await play.settled()
        assert (answer.status, answer.complete) == (502, True)
        assert crashes(lines) == [name]
        assert play.at_rest()
        assert (await fetch(play.network)).status == 502


def long_hints() -> Script:
    async def script(line: Line, request: Request) -> bool:
        await line.send(b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 20_000 + b"\r\n\r\n")
        await trio.sleep(9)
        return False

    return script


async def test_nothing_follows_a_part_of_an_interim_answer(autojump_clock: MockClock) -> None:
    """It would be read as the rest of that: so no repeat, and no reply of ours."""
    async with scene({"a": long_hints(), "b": answers(200, b"b")}) as play:
        await play.stage.instance.desk.weight("web", ADDRESSES["b"], 0)
        play.network.own_host.receive_buffer = play.network.own_host.send_buffer = 4096
        client = await play.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(0.5)
        await play.stage.instance.desk.weight("web", ADDRESSES["b"], 1)
        await play.stage.instance.desk.remove("web", ADDRESSES["a"], force=True)
        got = b""
        try:
            while data := await client.receive():
                got += data
        except OSError:
            pass
        assert got.startswith(b"HTTP/1.1 103")
        assert got.count(b"HTTP/1.1 ") == 1
        assert messages(got, (), "reset")[1] == b""
        assert play.attempts() == ["a cut by the operator"]


# ---- a crash of the place itself


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (accepting, "accept_ready"),
        (Lane, "_turn"),
        (Timekeeper, "_expire"),
        (IdleConnections, "sweep"),
        (Worker, "_dismiss_resting"),
    ],
)
async def test_what_all_connections_need_takes_its_worker_along_and_another_follows(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, place: object, name: str
) -> None:
    """The other workers notice nothing, nothing of the one is left, and its slot serves again."""
    async with scene({"a": answers(200, b"slow", after_s=2)}, top=TWO) as play:
        before = len(play.network.own_host.open_sockets())
        mine, others = await client_of(play, 0), await client_of(play, 1)
        resting = await client_of(play, 0)
        for client in (mine, others):
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(0.5)
        process(play, 0).may_crash = True
        breaks_in_worker_0(monkeypatch, play, place, name)
        if name == "_dismiss_resting":
            worker(play, 0).service.draining = True
        if name == "_turn":
            await resting.send(b"G")
        if name == "accept_ready":
            for _ in range(50):
                (await play.client()).close()
        assert (await others.answer()).body == b"slow"
        with pytest.raises(NoAnswer):
            await mine.answer()
        for client in (mine, others, resting):
            client.close()
        await trio.sleep(3)
        assert len(told(play, EventKind.WORKER_LOST)) == 1
        assert "exit code 1" in told(play, EventKind.WORKER_LOST)[0]
        for slot in (0, 1):
            client = await client_of(play, slot)
            assert (await client.get()).body == b"slow"
            client.close()
        await play.settled()
        assert play.at_rest()
        idle = sum(worker(play, slot).service.idle.count() for slot in (0, 1))
        assert len(play.network.own_host.open_sockets()) == before + idle


def breaks_in_worker_0(patch: pytest.MonkeyPatch, play: Scene, place: object, name: str) -> None:
    """The next call of this crashes, of which worker 0 is the one who makes it."""
    ours = worker(play, 0)
    things = (ours, ours.service, ours.service.lane, ours.service.timekeeper, ours.service.idle)
    original: Callable[..., object] = getattr(place, name)

    def broken(who: object, *args: object) -> object:
        if any(who is thing for thing in things):
            raise Bug(name)
        return original(who, *args)

    patch.setattr(place, name, broken)
