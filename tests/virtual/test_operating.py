"""Operating a running balancer: orders, drains, restarts and the end, while requests flow."""

import pytest
import trio
from trio.testing import MockClock

from balancer.core.ledger import Refused
from balancer.supervisor.state_file import MemoryStateStore
from tests.support.edge_client import EdgeClient, fetch
from tests.support.scene import ADDRESSES, Scene, scene
from tests.support.virtual_backend import VirtualBackend, answers, by_target, silent, trickles

A, B, C = (ADDRESSES[name] for name in "abc")
SLOW_BODY = trickles(b"x" * 10, piece=1, every_s=1.0)


async def _download(play: Scene, results: list[tuple[int, bool]]) -> None:
    answer = await fetch(play.network)
    results.append((answer.status, answer.complete))


async def _start_download(
    play: Scene, nursery: trio.Nursery, results: list[tuple[int, bool]]
) -> None:
    nursery.start_soon(_download, play, results)
    await trio.sleep(0.5)


# ---- drain, ready, maintenance, weight


async def test_a_drained_backend_gets_no_new_attempt_and_finishes_its_download(
    autojump_clock: MockClock,
) -> None:
    results: list[tuple[int, bool]] = []
    async with scene({"a": SLOW_BODY, "b": answers(200, b"b")}) as play:
        control = play.stage.instance.desk
        play.backends["b"].kill()
        async with trio.open_nursery() as nursery:
            await _start_download(play, nursery, results)
            play.backends["b"].restart()
            done = await control.drain("web", A)
            assert done.changed
            assert [row["path"] for row in await control.running("web", A)] == ["/"]
            for _ in range(6):
                assert (await fetch(play.network)).body == b"b"
        assert results == [(200, True)]
        assert await control.running("web", A) == []
        assert len(play.backends["a"].requests) == 1
        assert not (await control.drain("web", A)).changed


async def test_a_drain_closes_idle_connections_to_the_backend(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200), "b": answers(200)}) as play:
        for _ in range(4):
            await fetch(play.network)
        assert play.backends["a"].open_connections == 1
        await play.stage.instance.desk.drain("web", A)
        await play.settled()
        assert play.backends["a"].open_connections == 0
        assert play.backends["b"].open_connections == 1


async def test_a_drained_pool_answers_503_and_says_why(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}) as play:
        await play.stage.instance.desk.drain("web", A)
        answer = await fetch(play.network)
        assert answer.status == 503
        assert b"draining or in maintenance" in answer.body
        assert answer.header("retry-after") == "5"
        assert "destination_unavailable" in (answer.header("proxy-status") or "")
        await play.stage.instance.desk.ready("web", A)
        assert (await fetch(play.network)).status == 200


async def test_maintenance_ends_probes_and_a_return_needs_a_new_pass(
    autojump_clock: MockClock,
) -> None:
    health = '[pools.web.health]\npath = "/health"\ninterval = "1s"\n'
    app = by_target({"/health": answers(200)}, answers(200, b"app"))
    async with scene({"a": app, "b": app}, pool=health) as play:
        control = play.stage.instance.desk
        await control.maintenance("web", A)
        await trio.sleep(0.1)
        seen = len(play.backends["a"].requests)
        await trio.sleep(10)
        assert len(play.backends["a"].requests) == seen
        play.backends["a"].script = by_target({"/health": answers(503)}, answers(200))
        await control.ready("web", A)
        await trio.sleep(5)
        assert not play.backend_status("a")["available"]


async def test_a_backend_added_takes_traffic_and_a_removed_one_does_not(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200, b"a")}) as play:
        control = play.stage.instance.desk
        extra = VirtualBackend(play.network, C, answers(200, b"c"))
        await play.nursery.start(extra.run)
        assert (await control.add("web", C, None)).changed
        assert {(await fetch(play.network)).body for _ in range(4)} == {b"a", b"c"}
        assert (await control.remove("web", A, force=False)).changed
        assert {(await fetch(play.network)).body for _ in range(4)} == {b"c"}
        with pytest.raises(Refused, match="no pool 'wbe'; did you mean 'web'"):
            await control.drain("wbe", C)


async def test_weights_are_obeyed_at_once(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200, b"a"), "b": answers(200, b"b")}) as play:
        await play.stage.instance.desk.weight("web", A, 3)
        bodies = [(await fetch(play.network)).body for _ in range(8)]
        assert bodies.count(b"a") == 6
        await play.stage.instance.desk.weight("web", A, 0)
        assert {(await fetch(play.network)).body for _ in range(4)} == {b"b"}


async def test_a_backend_with_work_in_flight_is_removed_only_by_force(
    autojump_clock: MockClock,
) -> None:
    results: list[tuple[int, bool]] = []
    async with scene({"a": SLOW_BODY}) as play:
        control = play.stage.instance.desk
        async with trio.open_nursery() as nursery:
            await _start_download(play, nursery, results)
            with pytest.raises(Refused, match="1 exchange in flight"):
                await control.remove("web", A, force=False)
            done = await control.remove("web", A, force=True)
            assert "1 cut" in done.message
        assert results == [(200, False)]
        await play.settled()
        assert play.at_rest()


# ---- restarts


async def test_orders_and_ejections_survive_a_restart(autojump_clock: MockClock) -> None:
    store = MemoryStateStore()
    scripts = {"a": answers(200, b"a"), "b": answers(503), "c": answers(200, b"c")}
    passive = 'passive = { consecutive_failures = 2, base_ejection = "60s" }'
    async with scene(scripts, pool=passive, store=store) as play:
        control = play.stage.instance.desk
        for _ in range(9):
            await fetch(play.network)
        await control.drain("web", A)
        await control.weight("web", C, 7)
        assert play.backend_status("b")["ejected"]
    async with scene(scripts, pool=passive, store=store) as play:
        assert play.backend_status("a")["admin"] == "draining"
        assert play.backend_status("c")["weight"] == 7
        ejected = play.backend_status("b")
        assert ejected["ejected"]
        assert ejected["restored"]
        assert {(await fetch(play.network)).body for _ in range(4)} == {b"c"}


async def test_an_order_is_saved_before_it_is_acknowledged(autojump_clock: MockClock) -> None:
    store = MemoryStateStore()
    async with scene({"a": answers(200), "b": answers(200)}, store=store) as play:
        await play.stage.instance.desk.drain("web", A)
        document = store.load()
        assert document is not None
        assert "draining" in str(document["overlay"])


# ---- the end


async def test_a_stop_lets_a_download_finish_and_tells_keep_alive_clients(
    autojump_clock: MockClock,
) -> None:
    results: list[tuple[int, bool]] = []
    async with scene({"a": SLOW_BODY}, top='shutdown_timeout = "30s"') as play:
        async with trio.open_nursery() as nursery:
            await _start_download(play, nursery, results)
            resting = await play.client()
            await play.settled()
            play.stage.instance.stop(now=False)
            await play.settled()
            assert play.stage.instance.desk.readiness() == (False, ["stopping"])
            assert await resting.at_end()
            with pytest.raises(OSError, match="connect"):
                await EdgeClient.connect(play.network)
        assert results == [(200, True)]


async def test_a_keep_alive_client_is_told_to_close_during_a_stop(
    autojump_clock: MockClock,
) -> None:
    slow = answers(200, b"x", after_s=2)
    async with scene({"a": slow}, top='shutdown_timeout = "30s"') as play:
        client = await play.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(0.1)
        play.stage.instance.stop(now=False)
        answer = await client.answer()
        assert answer.header("connection") == "close"
        assert await client.at_end()


async def test_what_outlives_the_shutdown_time_is_cut(autojump_clock: MockClock) -> None:
    results: list[tuple[int, bool]] = []
    began = trio.current_time()
    async with (
        scene({"a": SLOW_BODY}, top='shutdown_timeout = "3s"') as play,
        trio.open_nursery() as nursery,
    ):
        await _start_download(play, nursery, results)
        play.stage.instance.stop(now=False)
    assert results == [(200, False)]
    assert trio.current_time() - began < 5


async def test_a_request_waiting_for_its_answer_is_told_503_at_the_end(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": silent()}, top='shutdown_timeout = "3s"') as play:
        client = await play.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(0.1)
        play.stage.instance.stop(now=False)
        assert (await client.answer()).status == 503


async def test_stop_now_does_not_wait(autojump_clock: MockClock) -> None:
    results: list[tuple[int, bool]] = []
    async with scene({"a": SLOW_BODY}) as play:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            await _start_download(play, nursery, results)
            play.stage.instance.stop(now=False)
            await trio.sleep(1)
            play.stage.instance.stop(now=True)
        assert trio.current_time() - began < 3


async def test_readiness_says_no_before_the_listeners_close(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}, top='readiness_delay = "5s"') as play:
        play.stage.instance.stop(now=False)
        await trio.sleep(4)
        assert not play.stage.instance.desk.readiness()[0]
        assert (await fetch(play.network)).status == 200


async def test_it_starts_with_every_backend_down_and_says_so(autojump_clock: MockClock) -> None:
    health = '[pools.web.health]\npath = "/health"\ninterval = "1s"\n'
    async with scene({"a": silent()}, pool=health) as play:
        answer = await fetch(play.network)
        assert answer.status == 504
        assert answer.header("x-balancer-panic") is None
        assert trio.current_time() < 60


async def test_a_name_that_is_not_known_is_no_reason_not_to_start(
    autojump_clock: MockClock,
) -> None:
    pool = 'policy = "weighted-round-robin"'
    async with scene({"a": answers(200, b"a")}, pool=pool) as play:
        await play.stage.instance.desk.add("web", "later.test:80", None)
        assert [(await fetch(play.network)).status for _ in range(4)] == [200] * 4
        late = VirtualBackend(play.network, "10.9.9.9:80", answers(200, b"late"))
        await play.nursery.start(late.run)
        play.network.name("later.test", ["10.9.9.9"])
        await trio.sleep(31)
        assert {(await fetch(play.network)).body for _ in range(4)} == {b"a", b"late"}


async def test_before_any_first_pass_it_answers_503_with_retry_after(
    autojump_clock: MockClock,
) -> None:
    health = '[pools.web.health]\npath = "/health"\ninterval = "30s"\ntimeout = "20s"\n'
    async with scene({"a": silent()}, pool=health) as play:
        assert trio.current_time() == pytest.approx(5)  # start_timeout
        answer = await fetch(play.network)
        assert answer.status == 503
        assert b"no backend has passed its first check yet" in answer.body
        assert answer.header("retry-after") == "30"


async def test_state_follows_identity_when_the_file_is_reordered(
    autojump_clock: MockClock,
) -> None:
    """State restored by position would hand one backend's drain to its neighbour."""
    store = MemoryStateStore()
    async with scene({"a": answers(200), "b": answers(200)}, store=store) as play:
        await play.stage.instance.desk.drain("web", A)
    async with scene({"b": answers(200), "a": answers(200)}, store=store) as play:
        assert play.backend_status("a")["admin"] == "draining"
        assert play.backend_status("b")["admin"] == "ready"


async def test_a_thousand_requests_in_flight_survive_add_drain_and_remove(
    autojump_clock: MockClock,
) -> None:
    results: list[tuple[int, bool]] = []
    slow = answers(200, b"done", after_s=5)
    async with scene({"a": slow, "b": slow}) as play:
        control = play.stage.instance.desk
        for backend in play.backends.values():
            backend.backlog = 4096
        extra = VirtualBackend(play.network, C, slow)
        await play.nursery.start(extra.run)
        async with trio.open_nursery() as clients:
            for number in range(1000):
                clients.start_soon(_download, play, results)
                if number == 400:
                    await trio.sleep(0.5)
                    await control.add("web", C, 2)
                    await control.drain("web", A)
            await trio.sleep(4)
            with pytest.raises(Refused):
                await control.remove("web", A, force=False)
            await trio.sleep(6)
            assert (await control.remove("web", A, force=False)).changed
        assert results == [(200, True)] * 1000
        assert play.at_rest()
