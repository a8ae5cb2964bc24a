"""Several workers are one balancer: they count together, learn from each other, obey together."""

import pytest
import trio
from trio.testing import MockClock

from balancer.core.backend import AdminState
from balancer.core.board import Counts
from balancer.core.snapshot import PoolSnapshot
from tests.support.crew_scene import TWO, client_of, clients_of_all, process, worker
from tests.support.edge_client import EdgeClient
from tests.support.scene import ADDRESSES, Scene, scene
from tests.support.virtual_backend import answers, by_target, resets_after, silent

A, B = ADDRESSES["a"], ADDRESSES["b"]
# Some way for what one process says to another.
SOON_S = 0.1
QUIET = "[pools.web.passive]\nconsecutive_failures = 4\nbase_ejection = '5s'\n"
FAILS_ON_POST = by_target({"/fail": resets_after(0)}, answers(200, b"a"))


async def send(client: EdgeClient, request: str) -> None:
    await client.send(f"{request} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())


async def fail(client: EdgeClient, times: int = 1) -> None:
    """Requests until so many have failed, which no other backend may be tried with."""
    while times:
        await send(client, "POST /fail")
        times -= (await client.answer()).status == 502


def candidates(play: Scene, slot: int) -> set[str]:
    snapshot = worker(play, slot).service.pools["web"].snapshot
    return {view.id.address for view in snapshot.candidates}


# ---- counting


async def test_what_other_workers_have_in_flight_counts(autojump_clock: MockClock) -> None:
    async with scene({"a": silent(), "b": silent()}, top=TWO) as play:
        for number in range(12):
            client = await client_of(play, number % 2)
            await send(client, "GET /")
            await trio.sleep(0.05)
        counts = [play.backend_status(name)["in_flight"] for name in "ab"]
        assert counts == [6, 6]
        own = [worker(play, slot).service.pools["web"].in_flight for slot in (0, 1)]
        assert [sum(each.values()) for each in own] == [6, 6]


async def test_a_worker_alone_sends_elsewhere_what_another_is_busy_with(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": silent(), "b": silent()}, top=TWO) as play:
        for _ in range(3):
            await send(await client_of(play, 0), "GET /")
        await trio.sleep(0.05)
        first = dict(worker(play, 0).service.pools["web"].in_flight)
        for _ in range(3):
            await send(await client_of(play, 1), "GET /")
        await trio.sleep(0.05)
        second = worker(play, 1).service.pools["web"].in_flight
        assert {address: first[address] + second[address] for address in (A, B)} == {A: 3, B: 3}


# ---- evidence


async def test_failures_seen_by_different_workers_add_up(autojump_clock: MockClock) -> None:
    """Two of four failures in each: neither would eject on its own."""
    async with scene({"a": FAILS_ON_POST, "b": answers()}, top=TWO, pool=QUIET) as play:
        one, other = await clients_of_all(play)
        await fail(one, 2)
        await fail(other, 1)
        await trio.sleep(SOON_S)
        assert not play.backend_status("a")["ejected"]
        await fail(other, 1)
        await trio.sleep(SOON_S)
        assert play.backend_status("a")["ejected"]
        assert [candidates(play, slot) for slot in (0, 1)] == [{B}, {B}]


@pytest.mark.parametrize("ejecting", [0, 1])
async def test_an_ejection_is_obeyed_at_once_here_and_soon_everywhere(
    autojump_clock: MockClock, ejecting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene({"a": FAILS_ON_POST, "b": FAILS_ON_POST}, top=TWO, pool=QUIET) as play:
        client, _ = await client_of(play, ejecting), await client_of(play, 1 - ejecting)
        pool = worker(play, ejecting).service.pools["web"]
        record, seen = pool.record, []

        def watched(*given: object) -> None:
            record(*given)  # type: ignore[arg-type]
            seen.append(len(pool.snapshot.candidates))

        monkeypatch.setattr(pool, "record", watched)
        while 1 not in seen:
            await fail(client)
        assert seen[-1] == 1, "between the attempt that failed and the next pick"
        await trio.sleep(SOON_S)
        assert len(candidates(play, 1 - ejecting)) == 1
        assert candidates(play, 0) == candidates(play, 1)
        assert sum(bool(play.backend_status(name)["ejected"]) for name in "ab") == 1


async def test_the_supervisors_word_replaces_an_ejection_even_where_it_does_not_eject(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene({"a": FAILS_ON_POST, "b": FAILS_ON_POST}, top=TWO, pool=QUIET) as play:
        book = play.stage.instance.pools.books["web"]
        # It has its reasons: such as a success that it heard of from another worker.
        monkeypatch.setattr(book, "evidence", lambda *_: [])
        client = await client_of(play, 0)
        seen = []
        for _ in range(8):
            await fail(client)
            await play.settled()
            seen.append(len(candidates(play, 0)))
        assert seen == [2] * 8, "it was asked each time, and has said no"
        assert not any(play.backend_status(name)["ejected"] for name in "ab")


async def test_a_word_that_was_on_its_way_does_not_end_an_ejection(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene({"a": FAILS_ON_POST, "b": answers()}, top=TWO, pool=QUIET) as play:
        instance, client = play.stage.instance, await client_of(play, 0)
        pool = worker(play, 0).service.pools["web"]
        record, apply, seen = pool.record, pool.apply, []

        def recorded(*given: object) -> None:
            record(*given)  # type: ignore[arg-type]
            # Said in the moment in which the report is on its way.
            instance.fleet.apply(instance.pools.books["web"].snapshot)

        def applied(snapshot: PoolSnapshot) -> bool:
            others = apply(snapshot)
            seen.append((len(snapshot.candidates), len(pool.snapshot.candidates)))
            return others

        monkeypatch.setattr(pool, "record", recorded)
        monkeypatch.setattr(pool, "apply", applied)
        await fail(client, 4)
        await trio.sleep(SOON_S)
        assert (2, 1) in seen, "the word knows nothing of it yet"
        assert seen[-1] == (1, 1), "the supervisor has decided"


# ---- orders


async def test_an_order_is_done_when_all_workers_obey_it(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(), "b": answers()}, top="workers = 3") as play:
        done = await play.stage.instance.desk.drain("web", A)
        assert done.laggards == ()
        assert [candidates(play, slot) for slot in range(3)] == [{B}] * 3
        assert (await play.stage.instance.desk.ready("web", A)).laggards == ()
        assert [candidates(play, slot) for slot in range(3)] == [{A, B}] * 3
        assert (await play.stage.instance.desk.remove("web", A, force=False)).laggards == ()
        assert [candidates(play, slot) for slot in range(3)] == [{B}] * 3


async def test_who_does_not_confirm_is_named_after_two_seconds(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene({"a": answers(), "b": answers()}, top=TWO) as play:
        monkeypatch.setattr(process(play, 1).link, "_say", lambda _: None)
        began = trio.current_time()
        done = await play.stage.instance.desk.drain("web", A)
        assert done.laggards == (f"worker 1 (process {process(play, 1).pid})",)
        assert trio.current_time() - began == pytest.approx(2, abs=0.1)
        assert play.backend_status("a")["admin"] == AdminState.DRAINING.value


async def test_who_is_out_of_touch_is_a_laggard_until_he_is_told_anew(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(), "b": answers()}, top=TWO) as play:
        play.stage.crew.unattended = True
        process(play, 1).hang_up()
        await trio.sleep(1)
        desk = play.stage.instance.desk
        laggard = f"worker 1 (process {process(play, 1).pid})"
        assert (await desk.drain("web", A)).laggards == (laggard,)
        assert candidates(play, 1) == {A, B}, "it serves on with what it knows"
        play.stage.crew.unattended = False
        assert (await desk.drain("web", A)).laggards == (), "told before, but not everywhere"
        assert candidates(play, 1) == {B}


async def test_what_is_cut_is_cut_in_every_worker(autojump_clock: MockClock) -> None:
    async with scene({"a": silent(), "b": answers()}, top=TWO) as play:
        desk = play.stage.instance.desk
        await desk.drain("web", B)
        clients = await clients_of_all(play)
        for client in clients:
            await send(client, "POST /")
        await trio.sleep(SOON_S)
        assert len(await desk.running("web", A)) == 2
        done = await desk.remove("web", A, force=True)
        assert done.message.endswith("2 cut")
        for client in clients:
            assert (await client.answer()).status >= 500
        await play.settled()
        assert play.at_rest()


async def test_the_status_sums_up(autojump_clock: MockClock) -> None:
    async with scene({"a": answers()}, top=TWO) as play:
        for client in await clients_of_all(play):
            for _ in range(3):
                assert (await client.get()).status == 200
        await trio.sleep(1)
        board = play.stage.crew.board
        assert board.counts([0]) == [Counts(0, 6, 0)]
        assert play.backend_status("a")["requests"] == 6
        assert (board.connections, board.exchanges) == (2, 6)
