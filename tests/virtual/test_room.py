"""Places for clients: who waits in the kernel's queue, who is sent away, who is asked to leave."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.lowlevel
from structlog.testing import capture_logs
from trio.testing import MockClock

from balancer.wire.streams import cut
from tests.support.edge_client import Answer, EdgeClient, fetch
from tests.support.scene import Scene, scene
from tests.support.virtual_backend import answers, by_target

SLOW = by_target({"/slow": answers(200, b"slow", after_s=20)}, answers(200, b"ok"))


@asynccontextmanager
async def narrow(most: int, top: str = "") -> AsyncIterator[Scene]:
    """A scene whose listener takes so many clients."""
    async with scene({"a": SLOW}, top=top, listener=f"max_connections = {most}") as play:
        yield play


async def clients(play: Scene, count: int, *, ask: bool = True) -> list[EdgeClient]:
    found = [await play.client() for _ in range(count)]
    for client in found:
        if ask:
            assert (await client.get()).status == 200
    return found


async def test_who_finds_a_listener_full_waits_and_is_served_when_somebody_leaves(
    autojump_clock: MockClock,
) -> None:
    async with narrow(2) as play:
        with capture_logs() as logs:
            running = [await play.client() for _ in range(2)]
            for client in running:
                await client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            began = trio.current_time()
            late = await play.client()  # the kernel has it
            await trio.sleep(5)
            assert play.stage.worker.service.connections == 2
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_leaves, running[0], 10)
                assert (await late.get()).status == 200
            assert trio.current_time() - began == pytest.approx(10, abs=2.2)
            for client in (*running[1:], late):
                cut(client.sock)
                client.close()
            await trio.sleep(3)
        told = [line for line in logs if line["event"].startswith("listener.")]
        assert [line["event"] for line in told] == ["listener.paused", "listener.resumed"]
        assert "listeners.max_connections" in told[0]["because"]
        assert play.stage.worker.service.connections == 0


async def _leaves(client: EdgeClient, after_s: float) -> None:
    await trio.sleep(after_s - 5)
    cut(client.sock)
    client.close()


async def test_whoever_rests_longest_makes_room_and_who_only_just_rests_does_not(
    autojump_clock: MockClock,
) -> None:
    async with narrow(3) as play:
        old = await play.client()
        await old.get()
        await trio.sleep(2)
        young = await clients(play, 2)
        began = trio.current_time()
        late = await play.client()
        assert (await late.get()).status == 200
        assert trio.current_time() - began < 0.3
        assert await old.at_end()
        for client in young:
            assert (await client.get()).status == 200


async def test_nobody_is_asked_to_leave_before_somebody_waits(autojump_clock: MockClock) -> None:
    async with narrow(3) as play:
        with capture_logs() as logs:
            resting = await clients(play, 3)
            await trio.sleep(30)
            for client in resting:
                assert (await client.get()).status == 200
        assert not [line for line in logs if line["event"] == "listener.paused"]
        assert (await fetch(play.network)).status == 200


async def test_many_idle_clients_keep_nobody_out(autojump_clock: MockClock) -> None:
    """They come, say nothing, and hold all places; whoever asks for something is served."""
    async with narrow(50) as play:
        idlers = [await play.client() for _ in range(200)]
        await trio.sleep(1)
        for _ in range(20):
            with trio.fail_after(10):
                answer = await fetch(play.network)
            assert answer.status == 200
        for client in idlers:
            client.close()


async def test_running_requests_are_not_asked_to_leave(autojump_clock: MockClock) -> None:
    async with narrow(1) as play:
        busy = await play.client()
        await busy.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.lowlevel.checkpoint()
        late = await play.client()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(late.send, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await busy.answer()).body == b"slow"
        assert (await late.answer()).status == 200


# ---- descriptors


async def test_clients_take_no_more_descriptors_than_leave_some_for_backends(
    autojump_clock: MockClock,
) -> None:
    """All at once, each with a request that needs a connection: not one of them fails."""
    async with scene({"a": answers(200, b"ok", after_s=1)}) as play:
        play.stage.worker.service.room.most = 8
        statuses: list[int] = []

        async def one() -> None:
            client = await play.client()
            statuses.append((await client.get("/", "Connection: close")).status)
            client.close()

        with capture_logs() as logs:
            async with trio.open_nursery() as nursery:
                for _ in range(40):
                    nursery.start_soon(one)
                await trio.sleep(0.5)
                assert play.stage.worker.service.connections == 8
        assert statuses == [200] * 40
        paused = [line for line in logs if line["event"] == "listener.paused"]
        assert len(paused) == 1
        assert "LimitNOFILE" in paused[0]["because"]


async def test_accepting_pauses_when_the_kernel_has_no_descriptors_and_resumes(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200, b"ok")}) as play:
        host = play.network.own_host
        with capture_logs() as logs:
            host.descriptor_limit = len(host.open_sockets()) + 1
            late = await play.client()
            await trio.sleep(3)
            assert play.stage.worker.service.connections == 0
            host.descriptor_limit = None
            assert (await late.get()).status == 200
        events = [line["event"] for line in logs if line["event"].startswith("listener.")]
        assert events == ["listener.paused", "listener.resumed"]


async def test_connections_that_rest_make_room_for_those_that_are_needed(
    autojump_clock: MockClock,
) -> None:
    """One to a backend that rests for the client that comes, and for the backend that is asked."""
    async with scene({"a": answers(200, b"a"), "b": answers(200, b"b")}) as play:
        host, idle = play.network.own_host, play.stage.worker.service.idle
        first = await play.client()
        await first.get()
        assert idle.count() == 1
        host.descriptor_limit = len(host.open_sockets()) + 1
        late = await play.client()
        await trio.sleep(0.5)
        assert (play.stage.worker.service.connections, idle.count()) == (2, 0)
        host.descriptor_limit = len(host.open_sockets()) + 1
        assert [(await late.get()).status for _ in range(4)] == [200] * 4, "of both in turn"


# ---- addresses


async def test_an_address_with_too_many_connections_is_told_so(autojump_clock: MockClock) -> None:
    top = "client = { max_connections_per_address = 2 }"
    async with scene({"a": answers(200, b"ok")}, top=top) as play:
        kept = await clients(play, 2)
        third = await play.client()
        answer = await third.answer()
        assert answer.status == 429
        assert "client.max_connections_per_address" in answer.body.decode()
        assert await third.at_end()
        assert play.stage.worker.turned_away.count == 1
        kept[0].close()
        await play.settled()
        assert (await fetch(play.network)).status == 200
        for client in kept[1:]:
            client.close()
        await play.settled()
        assert not play.stage.worker.service.room._addresses


async def test_by_default_one_address_may_have_any_number(autojump_clock: MockClock) -> None:
    """Behind one address of a provider there may be a town."""
    async with scene({"a": answers(200, b"ok")}) as play:
        assert len(await clients(play, 300)) == 300


# ---- in flight


async def test_more_in_flight_than_the_instance_may_have_is_shed(autojump_clock: MockClock) -> None:
    async with scene(
        {"a": answers(200, b"ok", after_s=5), "b": answers(200, b"ok", after_s=5)},
        top="workers = 2\nmax_in_flight = 6",
    ) as play:
        got: list[Answer] = []

        async def one() -> None:
            got.append(await fetch(play.network))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(one)
        assert sorted(answer.status for answer in got) == [200] * 6 + [503] * 4
        shed = next(answer for answer in got if answer.status == 503)
        assert shed.header("retry-after") is not None
        assert "(max_in_flight)" in shed.body.decode()
        await trio.sleep(1)
        status = play.stage.instance.desk.status(None)
        assert status["shed"] == 4
        assert b"balancer_requests_shed_total 4\n" in play.stage.instance.desk.metrics()
        assert (await fetch(play.network)).status == 200, "there is room again"


async def test_a_limit_that_comes_with_a_reload_counts_what_runs(autojump_clock: MockClock) -> None:
    async with scene({"a": SLOW}) as play:
        worker = play.stage.worker
        busy = await play.client()
        await busy.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(1)
        worker.admission.begin(1, len(worker.service.running))
        answer = await fetch(play.network)
        assert (answer.status, "max_in_flight" in answer.body.decode()) == (503, True)
        assert (await busy.answer()).status == 200
        assert (await fetch(play.network)).status == 200


async def test_a_request_that_is_not_plain_is_shed_alike(autojump_clock: MockClock) -> None:
    async with scene({"a": SLOW}, top="max_in_flight = 1") as play:
        busy = await play.client()
        await busy.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(1)
        client = await play.client()
        assert (await client.get("/", "Max-Forwards: 3")).status == 503
        assert (await client.get("/", "Max-Forwards: 3")).status == 503, "nobody is sent away"
