"""Another number of workers, while those of before still finish what they run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from balancer.admin.control import NotApplied
from balancer.worker.messages import SocketKey
from tests.support.edge_client import EdgeClient
from tests.support.scene import Scene, config_for, scene
from tests.support.virtual_backend import answers, by_target, silent, trickles

GET_SLOW = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
SLOW_S = 100
PLACE = "127.0.0.1:8080"
OTHER = '[[listeners]]\nbind = "127.0.0.1:8081"\n[admin]'


def config(workers: int, *, more: str = "[admin]") -> str:
    return config_for("a", top=f"workers = {workers}").replace("[admin]", more)


async def reload(play: Scene, text: str) -> None:
    play.stage.config = text
    done = await play.stage.instance.desk.reload()
    assert done.laggards == ()


@asynccontextmanager
async def one_retires() -> AsyncIterator[tuple[Scene, list[EdgeClient]]]:
    """Both of two workers have exchanges that last; then there is to be one worker."""
    slow = trickles(b"x" * SLOW_S, piece=1, every_s=1.0)
    script = by_target({"/slow": slow}, answers(200, b"a"))
    async with scene({"a": script}, top="workers = 2") as play:
        clients = [await play.client() for _ in range(8)]
        for client in clients:
            await client.send(GET_SLOW)
        await trio.sleep(1)
        await reload(play, config(1))
        await trio.sleep(1)
        assert len(workers_of(play)) == 2, "one of them is draining"
        yield play, clients


def workers_of(play: Scene) -> list[dict[str, object]]:
    return play.stage.instance.desk.status(None)["workers"]  # type: ignore[return-value]


async def all_are_served(play: Scene, port: int = 8080) -> None:
    with trio.fail_after(1):
        for _ in range(20):
            client = await EdgeClient.connect(play.network, port)
            assert (await client.get()).status == 200
            client.close()


async def test_workers_are_added_while_others_still_drain(autojump_clock: MockClock) -> None:
    """The number of one that drains is not free yet; the sockets are those of who is there."""
    async with one_retires() as (play, clients):
        await reload(play, config(2))
        await trio.sleep(1)
        assert [worker["state"] for worker in workers_of(play)].count("serving") == 2
        sockets = play.stage.instance.fleet.sockets()
        assert set(sockets) == {SocketKey(PLACE, slot) for slot in (0, 2)}
        await all_are_served(play)
        for client in clients:
            assert (await client.answer()).complete


async def test_fewer_workers_and_one_place_more_are_one_reload(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200, b"a")}, top="workers = 3") as play:
        await reload(play, config(1, more=OTHER))
        await all_are_served(play, 8081)
        await reload(play, config(2))
        await trio.sleep(1)
        await all_are_served(play)


async def test_nobody_waits_at_a_socket_of_a_worker_to_come(autojump_clock: MockClock) -> None:
    """What is new is looked at for seconds first; until then all sockets are those of before."""
    async with scene({"a": answers(200, b"a"), "b": silent()}, top="workers = 1") as play:
        await reload(play, config(1))
        checks = '[pools.web.health]\npath = "/"\ntimeout = "30s"\ninterval = "60s"\n'
        unknown = '[pools.other]\nbackends = ["10.0.0.2:80"]\n' + checks.replace("web", "other")
        more = config_for("a", top="workers = 4", pool=unknown + '[[routes]]\npool = "web"\n')
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reload, play, more)
            await trio.sleep(1)
            assert len(workers_of(play)) == 1, "it is not in force yet"
            await all_are_served(play)
        await all_are_served(play)
        await trio.sleep(1)
        assert len(workers_of(play)) == 4


async def test_who_drains_holds_no_socket_that_is_told_later(autojump_clock: MockClock) -> None:
    """Clients would wait in its queue, for nobody, when all others have closed it."""
    async with one_retires() as (play, _):
        await reload(play, config(1, more=OTHER))
        links = [process.link for process in play.stage.crew.processes]
        draining = [link.worker for link in links if link.worker and link.worker.service.draining]
        assert len(draining) == 1
        assert not draining[0].sockets.held


async def test_a_stop_in_the_middle_of_a_reload_is_told_and_opens_nothing(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200, b"a"), "b": silent()}, top="workers = 1") as play:
        await reload(play, config(1))
        checks = '[pools.web.health]\npath = "/"\ntimeout = "30s"\ninterval = "60s"\n'
        unknown = '[pools.other]\nbackends = ["10.0.0.2:80"]\n' + checks.replace("web", "other")
        top, routes = "workers = 4", '[[routes]]\npool = "web"\n'
        more = config_for("a", top=top, pool=unknown + routes).replace("[admin]", OTHER)
        told: list[str] = []

        async def refused() -> None:
            play.stage.config = more
            with pytest.raises(NotApplied) as failed:
                await play.stage.instance.desk.reload()
            told.append(str(failed.value))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused)
            await trio.sleep(1)
            play.stage.instance.stop(now=False)
        assert told == ["the instance is stopping; nothing was changed"]
        assert not play.stage.instance.fleet.sockets()
