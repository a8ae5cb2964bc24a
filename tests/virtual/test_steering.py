"""Fewer workers, in virtual time: who has begun to connect, and what comes in between."""

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from balancer.rehearsal.memory_network import HostNetwork
from balancer.supervisor.steering import HANDSHAKE_S
from balancer.wire.network import Sock
from balancer.worker.messages import LetGo
from balancer.worker.obeying import Obeying
from tests.support.crew_scene import process, states, until
from tests.support.edge_client import EdgeClient
from tests.support.scene import Scene, config_for, scene
from tests.support.virtual_backend import answers

# From the client to the listener, and back.
WAY_S = 0.2
OTHER = '[[listeners]]\nbind = "127.0.0.1:8081"'


@asynccontextmanager
async def three_serve() -> AsyncIterator[Scene]:
    async with scene({"a": answers()}, top="workers = 3", latency_s=WAY_S) as play:
        yield play


async def reload(play: Scene, workers: int, *, listener: str = "") -> float:
    """So many workers from now on; how long that took."""
    play.stage.config = config_for("a", top=f"workers = {workers}", listener=listener)
    began = trio.current_time()
    await play.stage.instance.desk.reload()
    return trio.current_time() - began


async def connect_far_away(play: Scene, statuses: list[int]) -> None:
    client = await EdgeClient.connect(play.network.as_seen_from("10.0.0.99"))
    statuses.append((await client.get()).status)
    client.close()


@pytest.fixture
def steered(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """What networks have been told, in this order."""
    told: list[int | None] = []
    steer = HostNetwork.steer

    def noted(network: HostNetwork, sock: Sock, first: int | None) -> None:
        told.append(first)
        steer(network, sock, first)

    monkeypatch.setattr(HostNetwork, "steer", noted)
    return told


async def test_who_has_begun_to_connect_when_there_are_to_be_fewer_workers_is_served(
    autojump_clock: MockClock,
) -> None:
    """His last packet comes when the workers at whose sockets he has begun are told to leave."""
    statuses: list[int] = []
    async with three_serve() as play:
        async with trio.open_nursery() as nursery:
            for _ in range(300):
                nursery.start_soon(connect_far_away, play, statuses)
                await trio.sleep(0.01)
                if len(nursery.child_tasks) == 100:
                    nursery.start_soon(reload, play, 1)
        assert states(play) == ["serving"]
    assert statuses == [200] * 300


async def test_of_a_place_that_is_given_up_nobody_is_kept_away(
    autojump_clock: MockClock, steered: list[int | None]
) -> None:
    """There is nowhere else to go, and nothing to wait for; where others stay, there is."""
    async with scene({"a": answers()}, top="workers = 3", listener=OTHER) as play:
        assert await reload(play, 3) < 1
        assert steered == []
        assert HANDSHAKE_S <= await reload(play, 2) < HANDSHAKE_S + 1
        assert steered == [2, None]


async def test_sockets_whose_worker_is_killed_meanwhile_are_accepted_at_by_others(
    autojump_clock: MockClock,
) -> None:
    statuses: list[int] = []
    async with three_serve() as play, trio.open_nursery() as nursery:
        began = trio.current_time()
        for _ in range(30):
            nursery.start_soon(connect_far_away, play, statuses)
        await trio.sleep(1.5 * WAY_S)
        nursery.start_soon(reload, play, 1)
        await trio.sleep(0.01)
        process(play, 1).kill()
        process(play, 2).kill()
        await until(lambda: len(statuses) == 30)
        assert trio.current_time() - began < HANDSHAKE_S, "not only when the sockets are emptied"
    assert statuses == [200] * 30


async def test_one_reload_waits_for_the_other(
    autojump_clock: MockClock, steered: list[int | None]
) -> None:
    async with three_serve() as play, trio.open_nursery() as nursery:
        nursery.start_soon(reload, play, 1)
        await trio.sleep(0.1)
        assert await reload(play, 2) > HANDSHAKE_S - 1
        assert await until(lambda: states(play) == ["serving"] * 2) < 1
        assert steered == [1, None]


async def test_a_stop_does_not_wait_for_handshakes(autojump_clock: MockClock) -> None:
    async with three_serve() as play, trio.open_nursery() as nursery:
        nursery.start_soon(reload, play, 1)
        await trio.sleep(0.1)
        began = trio.current_time()
        play.stage.instance.stop(now=True)
    assert trio.current_time() - began < HANDSHAKE_S / 2


async def test_where_the_system_has_no_such_thing_it_is_said_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(network: HostNetwork, sock: Sock, first: int | None) -> None:
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    async with three_serve() as play:
        monkeypatch.setattr(HostNetwork, "steer", refuse)
        with structlog.testing.capture_logs() as lines:
            for workers in (2, 3, 1):
                assert await reload(play, workers) < HANDSHAKE_S / 2, "nothing to wait for"
    told = [line for line in lines if line["event"] == "listener.not_steered"]
    assert [line["because"] for line in told] == ["Protocol not available"]


async def test_where_a_socket_may_still_be_open_numbers_are_not_relied_on(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, steered: list[int | None]
) -> None:
    """Of places that are new since then they are."""
    obey = Obeying.obey

    def deaf(obeying: Obeying, word: object, handles: list[object]) -> object:
        return None if isinstance(word, LetGo) else obey(obeying, word, handles)  # type: ignore[arg-type]

    async with three_serve() as play:
        with monkeypatch.context() as patch:
            patch.setattr(Obeying, "obey", deaf)
            await reload(play, 2)
        assert steered == [2, None]
        await reload(play, 3)
        assert await reload(play, 2) < HANDSHAKE_S
        assert steered == [2, None]
        await reload(play, 3, listener=OTHER)
        await reload(play, 2, listener=OTHER)
        assert steered == [2, None, 2, None]
