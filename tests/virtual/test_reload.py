"""A whole balancer whose configuration changes while clients are served."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from balancer.admin.control import NotApplied
from tests.support.edge_client import Answer, EdgeClient, fetch
from tests.support.scene import ADDRESSES, Scene, config_for, scene
from tests.support.virtual_backend import VirtualBackend, answers, by_target, trickles

A, B, C = (ADDRESSES[name] for name in "abc")
HEALTH = '[pools.web.health]\npath = "/health"\ninterval = "1s"\njitter = 0.0\n'
SLOW = trickles(b"x" * 10, piece=1, every_s=1.0)


@asynccontextmanager
async def reloadable(
    names: str, *, pool: str = "", top: str = "workers = 2", more: str = ""
) -> AsyncIterator[Scene]:
    """A scene whose backends answer their name, with two workers; `more` backends serve in no pool."""
    scripts = {name: by_target({"/slow": SLOW}, answers(200, name.encode())) for name in names}
    async with scene(scripts, pool=pool, top=top) as play:
        for name in more:
            script = answers(200, name.encode())
            extra = play.backends[name] = VirtualBackend(play.network, ADDRESSES[name], script)
            await play.nursery.start(extra.run)
        yield play


async def reload(play: Scene, config: str) -> str:
    """Change the file and have it obeyed; what is said."""
    play.stage.config = config
    done = await play.stage.instance.desk.reload()
    assert done.laggards == ()
    return done.message


async def bodies(play: Scene, count: int, target: str = "/") -> set[bytes]:
    return {(await fetch(play.network, target)).body for _ in range(count)}


# ---- backends


async def test_a_removed_backend_finishes_what_it_runs(autojump_clock: MockClock) -> None:
    async with reloadable("a", more="b") as play:
        got: list[Answer] = []

        async def download() -> None:
            got.append(await fetch(play.network, "/slow"))

        play.nursery.start_soon(download)
        await trio.sleep(2.5)
        told = await reload(play, config_for("b", top="workers = 2"))
        assert told == "reloaded stage.toml: pool web: 1 backend added, 1 backend removed"
        assert await bodies(play, 6) == {b"b"}
        await trio.sleep(10)
        assert [(answer.status, answer.body, answer.complete) for answer in got] == [
            (200, b"x" * 10, True)
        ]
        await play.settled()
        assert play.at_rest()
        assert play.backends["a"].open_connections == 0


async def test_nobody_is_refused_while_all_backends_are_replaced(
    autojump_clock: MockClock,
) -> None:
    async with reloadable("a", pool=HEALTH, more="b") as play:
        statuses: list[int] = []

        async def ask() -> None:
            while True:
                statuses.append((await fetch(play.network)).status)
                await trio.sleep(0.01)

        async with trio.open_nursery() as asking:
            asking.start_soon(ask)
            for turn in range(20):
                await reload(play, config_for("ab"[1 - turn % 2], pool=HEALTH, top="workers = 2"))
                await trio.sleep(0.05)
            asking.cancel_scope.cancel()
        assert set(statuses) == {200}
        assert len(statuses) > 50


async def test_counts_idle_connections_and_turns_of_a_pool_that_stays_go_on(
    autojump_clock: MockClock,
) -> None:
    async with reloadable("ab", top="workers = 1") as play:
        await bodies(play, 4)
        kept = [play.backends[name].open_connections for name in "ab"]
        assert kept == [1, 1]
        await reload(play, config_for("ab", top='workers = 1\nshutdown_timeout = "3s"'))
        await bodies(play, 4)
        assert [play.backends[name].connections for name in "ab"] == kept
        assert [play.backend_status(name)["requests"] for name in "ab"] == [4, 4]


# ---- listeners and connections


async def test_listeners_come_and_go_and_their_connections_stay(
    autojump_clock: MockClock,
) -> None:
    async with reloadable("a") as play:
        config = config_for("a", top="workers = 2")
        both = config.replace("[admin]", '[[listeners]]\nbind = "127.0.0.1:8081"\n[admin]')
        assert await reload(play, both) == "reloaded stage.toml: listener 127.0.0.1:8081 added"
        old = [await EdgeClient.connect(play.network) for _ in range(4)]
        waiting = [await EdgeClient.connect(play.network) for _ in range(4)]
        for client in old:
            assert (await client.get()).status == 200
        await reload(play, config.replace("8080", "8081"))
        for client in [*old, *waiting]:
            assert (await client.get()).status == 200
            client.close()
        with pytest.raises(OSError, match="connect"):
            await EdgeClient.connect(play.network)
        fresh = await EdgeClient.connect(play.network, 8081)
        assert (await fresh.get()).status == 200
        fresh.close()


async def test_a_listener_that_is_taken_changes_nothing(autojump_clock: MockClock) -> None:
    async with reloadable("a", more="b") as play:
        taken = play.network.socket(2)
        taken.bind(("127.0.0.1", 8081))
        taken.listen(1)
        config = config_for("b", top="workers = 2")
        play.stage.config = config.replace(
            "[admin]", '[[listeners]]\nbind = "127.0.0.1:8081"\n[admin]'
        )
        with pytest.raises(NotApplied, match=r"cannot listen on 127.0.0.1:8081: .*; nothing was"):
            await play.stage.instance.desk.reload()
        taken.close()
        assert await bodies(play, 4) == {b"a"}
        assert "listener 127.0.0.1:8081 added" in await reload(play, play.stage.config)


# ---- pools and routes


async def test_routes_switch_and_what_runs_in_a_pool_that_goes_finishes(
    autojump_clock: MockClock,
) -> None:
    async with reloadable("ab", top="workers = 2") as play:
        api = f'[pools.api]\nbackends = ["{B}"]\n[[routes]]\npath = "/slow"\npool = "api"\n'
        two = config_for("a", top="workers = 2", pool=f'{api}[[routes]]\npool = "web"\n')
        assert "pool api added; pool web: 1 backend removed; routes changed" in await reload(
            play, two
        )
        got: list[Answer] = []

        async def download() -> None:
            got.append(await fetch(play.network, "/slow"))

        play.nursery.start_soon(download)
        await trio.sleep(2.5)
        before = len(play.backends["b"].requests)
        await reload(play, config_for("a", top="workers = 2"))
        assert await bodies(play, 4) == {b"a"}
        await trio.sleep(10)
        assert [answer.complete for answer in got] == [True]
        assert len(play.backends["b"].requests) == before
        await play.settled()
        assert play.at_rest()


# ---- workers


async def test_workers_are_added_and_retired_without_a_lost_connection(
    autojump_clock: MockClock,
) -> None:
    async with reloadable("a", top="workers = 1") as play:
        kept = [await EdgeClient.connect(play.network) for _ in range(8)]
        for client in kept:
            assert (await client.get()).status == 200
        await reload(play, config_for("a", top="workers = 4"))
        await trio.sleep(1)
        assert len(play.stage.instance.desk.status(None)["workers"]) == 4  # type: ignore[arg-type]
        for client in kept:
            assert (await client.get()).status == 200
        more = [await EdgeClient.connect(play.network) for _ in range(16)]
        await reload(play, config_for("a", top="workers = 1"))
        for client in more:  # whoever had not asked yet is answered all the same
            assert (await client.get()).status == 200
        assert {(await fetch(play.network)).status for _ in range(8)} == {200}
        for client in [*kept, *more]:
            client.close()
        await trio.sleep(60)
        assert len(play.stage.instance.desk.status(None)["workers"]) == 1  # type: ignore[arg-type]
        assert play.at_rest()


# ---- what is left behind


async def test_many_reloads_under_traffic_leave_nothing_behind(
    autojump_clock: MockClock,
) -> None:
    async with reloadable("ab", pool=HEALTH, more="c") as play:

        async def ask(statuses: list[int]) -> None:
            client = await play.client()
            try:
                while True:
                    statuses.append((await client.get()).status)
                    await trio.sleep(0.02)
            finally:
                client.close()

        statuses: list[int] = []
        config = config_for("ab", pool=HEALTH, top="workers = 2")
        other = config_for("bc", pool=HEALTH, top="workers = 2").replace(
            "[admin]", '[[listeners]]\nbind = "127.0.0.1:8081"\n[admin]'
        )
        await reload(play, other)
        await reload(play, config)
        await play.settled()
        tasks = _tasks()
        async with trio.open_nursery() as asking:
            for _ in range(4):
                asking.start_soon(ask, statuses)
            for turn in range(50):
                await reload(play, other if turn % 2 == 0 else config)
                await trio.sleep(0.05)
            asking.cancel_scope.cancel()
        assert set(statuses) == {200}
        await trio.sleep(60)
        assert play.at_rest()
        assert _tasks() == tasks


def _tasks() -> int:
    """How many tasks there are in this run."""
    return trio.lowlevel.current_statistics().tasks_living


async def test_an_instance_that_is_only_starting_is_reloaded_when_it_has_started(
    autojump_clock: MockClock,
) -> None:
    """Before that no worker could take in who waits at a listener that goes."""
    async with reloadable("a", more="b") as play:
        desk = play.stage.instance.desk
        accepting = trio.Event()
        desk._parts = replace(desk._parts, accepting=accepting)
        play.stage.config = config_for("b", top="workers = 2")
        done = trio.Event()

        async def reload_it() -> None:
            await desk.reload()
            done.set()

        play.nursery.start_soon(reload_it)
        await trio.sleep(60)
        assert not done.is_set()
        accepting.set()
        await trio.sleep(1)
        assert done.is_set()
