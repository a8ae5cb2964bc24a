"""Waits: deadlines to the instant, interruptions where the task stands, and nothing left behind."""

import contextlib

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from balancer.rehearsal.memory_network import MemoryNetwork
from balancer.wire.network import Sock
from balancer.wire.waiting import (
    HEAP_TIDY_MIN,
    NEVER,
    TURNS_MAX,
    Interrupted,
    TimedOut,
    Timekeeper,
    Waiter,
)
from tests.support.sock_pair import sock_pair


class Called(Interrupted):
    """An interruption of this suite's own."""


class Bench:
    """A timekeeper that runs, and a connection whose two ends nobody else touches."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.network = MemoryNetwork(seed=1)
        self.keeper = Timekeeper(self.network)
        self.nursery = nursery

    async def start(self) -> "Bench":
        self.near, self.far = await sock_pair(self.network)
        self.nursery.start_soon(self.keeper.run)
        await wait_all_tasks_blocked()
        return self

    def waiter(self) -> Waiter:
        return Waiter(self.keeper)

    def fill(self) -> None:
        """Until send() would block."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.near.send(b"x" * 65536)


@pytest.fixture
async def bench(nursery: trio.Nursery) -> Bench:
    return await Bench(nursery).start()


async def outcome(waiter: Waiter, sock: Sock, deadline: float) -> tuple[str, float]:
    """How a wait to read ended, and when."""
    try:
        await waiter.readable(sock, deadline)
    except Interrupted as exc:
        return type(exc).__name__, trio.current_time()
    return "ready", trio.current_time()


# ---- deadlines -----------------------------------------------------------------------------------


async def test_a_wait_ends_at_its_deadline_exactly(bench: Bench, autojump_clock: MockClock) -> None:
    start = trio.current_time()
    assert await outcome(bench.waiter(), bench.near, start + 7.5) == ("TimedOut", start + 7.5)


async def test_a_wait_to_write_has_a_deadline_too(bench: Bench, autojump_clock: MockClock) -> None:
    bench.fill()
    start = trio.current_time()
    with pytest.raises(TimedOut):
        await bench.waiter().writable(bench.near, start + 3)
    assert trio.current_time() == start + 3


async def test_a_wait_that_is_ready_ends_before_its_deadline(
    bench: Bench, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    bench.far.send(b"x")
    assert await outcome(bench.waiter(), bench.near, start + 5) == ("ready", start)


async def test_a_deadline_that_has_passed_ends_the_wait_at_once(
    bench: Bench, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    assert await outcome(bench.waiter(), bench.near, start - 1) == ("TimedOut", start)


async def test_deadlines_of_many_waiters_each_hit_their_own(
    bench: Bench, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    found = {}

    async def one(seconds: int) -> None:
        near, _ = await sock_pair(bench.network)
        found[seconds] = await outcome(bench.waiter(), near, start + seconds)

    async with trio.open_nursery() as nursery:
        for seconds in (5, 1, 3, 2, 4, 30):
            nursery.start_soon(one, seconds)
    assert found == {s: ("TimedOut", start + s) for s in (5, 1, 3, 2, 4, 30)}


@pytest.mark.parametrize(("first", "then"), [(10, 4), (4, 10), (10, 2), (2, 2)])
async def test_a_deadline_moves_either_way_while_its_task_waits(
    bench: Bench, first: float, then: float, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    waiter = bench.waiter()

    async def move() -> None:
        await trio.sleep(1)
        waiter.move_deadline(start + then)

    bench.nursery.start_soon(move)
    assert await outcome(waiter, bench.near, start + first) == ("TimedOut", start + then)


async def test_a_wait_without_end_can_be_given_one(bench: Bench, autojump_clock: MockClock) -> None:
    start = trio.current_time()
    waiter = bench.waiter()

    async def move() -> None:
        await trio.sleep(1)
        assert waiter.waiting
        assert waiter.deadline == NEVER
        waiter.move_deadline(start + 6)

    bench.nursery.start_soon(move)
    assert await outcome(waiter, bench.near, NEVER) == ("TimedOut", start + 6)


async def test_later_waits_have_deadlines_of_their_own(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """The entry that an earlier, longer or shorter wait left behind ends no other wait."""
    waiter, start = bench.waiter(), trio.current_time()
    bench.far.send(b"x")
    assert (await outcome(waiter, bench.near, start + 2))[0] == "ready"
    bench.near.recv(1)
    assert not waiter.waiting
    assert await outcome(waiter, bench.near, start + 5) == ("TimedOut", start + 5)
    assert await outcome(waiter, bench.near, start + 6) == ("TimedOut", start + 6)
    assert await outcome(waiter, bench.near, start + 90) == ("TimedOut", start + 90)


@pytest.mark.parametrize("order", ["ready first", "deadline first"])
async def test_ready_and_timed_out_in_the_same_instant(
    bench: Bench, order: str, autojump_clock: MockClock
) -> None:
    """What woke the task decides how the wait ends, and the other leaves nothing behind."""
    start = trio.current_time()
    waiter = bench.waiter()
    results: list[tuple[str, float]] = []

    async def wait() -> None:
        results.append(await outcome(waiter, bench.near, start + 50))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        if order == "ready first":
            bench.far.send(b"x")
            waiter.interrupt(TimedOut())
        else:
            waiter.interrupt(TimedOut())
            bench.far.send(b"x")
    assert results == [("ready" if order == "ready first" else "TimedOut", start)]
    bench.near.recv(1)
    assert await outcome(waiter, bench.near, start + 9) == ("TimedOut", start + 9)


# ---- interruptions -------------------------------------------------------------------------------


async def test_an_interruption_ends_the_wait_under_way(
    bench: Bench, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    waiter = bench.waiter()

    async def interrupt() -> None:
        await trio.sleep(2)
        waiter.interrupt(Called())

    bench.nursery.start_soon(interrupt)
    assert await outcome(waiter, bench.near, start + 9) == ("Called", start + 2)
    assert await outcome(waiter, bench.near, start + 9) == ("TimedOut", start + 9)


async def test_an_interruption_between_waits_ends_the_next_one(
    bench: Bench, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    waiter = bench.waiter()
    bench.far.send(b"x")
    waiter.interrupt(Called())
    assert await outcome(waiter, bench.near, start + 9) == ("Called", start)
    assert await outcome(waiter, bench.near, start + 9) == ("ready", start)


async def test_calm_forgets_an_interruption_that_came_too_late(
    bench: Bench, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    waiter = bench.waiter()
    waiter.interrupt(Called())
    waiter.calm()
    assert await outcome(waiter, bench.near, start + 3) == ("TimedOut", start + 3)


async def test_an_interruption_wakes_nobody_else_for_good(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """Two tasks wait on one socket, one to read and one to write; only the one that is meant ends."""
    bench.fill()
    start = trio.current_time()
    reader, writer = bench.waiter(), bench.waiter()
    ended: dict[str, float] = {}

    async def write() -> None:
        with pytest.raises(TimedOut):
            await writer.writable(bench.near, start + 8)
        ended["writer"] = trio.current_time()

    async def interrupt() -> None:
        for _ in range(3):
            await trio.sleep(1)
        reader.interrupt(Called())

    bench.nursery.start_soon(write)
    bench.nursery.start_soon(interrupt)
    assert await outcome(reader, bench.near, start + 5) == ("Called", start + 3)
    assert not ended
    await trio.sleep_until(start + 9)
    assert ended == {"writer": start + 8}


@pytest.mark.parametrize("order", ["said first", "deadline first"])
async def test_what_somebody_said_is_not_hidden_by_the_deadline(
    bench: Bench, order: str, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    waiter = bench.waiter()
    results: list[tuple[str, float]] = []

    async def wait() -> None:
        results.append(await outcome(waiter, bench.near, start + 50))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        reasons = [Called(), TimedOut()]
        for reason in reasons if order == "said first" else reversed(reasons):
            waiter.interrupt(reason)
    assert results == [("Called", start)]


# ---- nothing left behind -------------------------------------------------------------------------


async def test_a_cancelled_wait_leaves_a_waiter_as_new(
    bench: Bench, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    waiter = bench.waiter()
    with trio.move_on_after(2) as scope:
        await waiter.readable(bench.near, start + 4)
    assert scope.cancelled_caught
    assert (waiter.waiting, waiter.deadline) == (False, NEVER)
    await trio.sleep_until(start + 6)  # past the deadline that went with it
    assert await outcome(waiter, bench.near, start + 9) == ("TimedOut", start + 9)


async def test_a_wait_that_is_cancelled_and_timed_out_at_once_keeps_no_grudge(
    bench: Bench, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    waiter = bench.waiter()
    with trio.move_on_after(4):
        with pytest.raises(TimedOut):
            await waiter.readable(bench.near, start + 4)
    assert await outcome(waiter, bench.near, start + 9) == ("TimedOut", start + 9)


async def test_many_waits_make_few_entries(bench: Bench, autojump_clock: MockClock) -> None:
    """A busy connection stands in the heap once, not once for each of its waits."""
    waiter = bench.waiter()
    for _ in range(1000):
        bench.far.send(b"x")
        await waiter.readable(bench.near, trio.current_time() + 30)
        bench.near.recv(1)
    assert len(bench.keeper._heap) == 1


async def test_waits_of_changing_length_do_not_pile_up(
    bench: Bench, autojump_clock: MockClock
) -> None:
    waiter = bench.waiter()
    for turn in range(3 * HEAP_TIDY_MIN):
        bench.far.send(b"x")
        await waiter.readable(bench.near, trio.current_time() + 5000 - turn)
        bench.near.recv(1)
    assert len(bench.keeper._heap) <= HEAP_TIDY_MIN + 1


async def test_connections_that_are_gone_do_not_pile_up(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """A million short connections with a minute's deadline each would fill a heap for a minute."""
    bench.far.send(b"x")
    start = trio.current_time()
    standing = bench.waiter()
    near, _ = await sock_pair(bench.network)
    results: list[tuple[str, float]] = []

    async def stand() -> None:
        results.append(await outcome(standing, near, start + 70))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stand)
        await wait_all_tasks_blocked()
        for _ in range(3 * HEAP_TIDY_MIN):
            await bench.waiter().readable(bench.near, start + 60)
        assert len(bench.keeper._heap) <= HEAP_TIDY_MIN + 1
    assert results == [("TimedOut", start + 70)]


async def test_a_heap_of_true_waits_is_kept_whole(nursery: trio.Nursery) -> None:
    keeper = Timekeeper(MemoryNetwork(seed=1))
    waiters = [Waiter(keeper) for _ in range(3 * HEAP_TIDY_MIN)]
    for number, waiter in enumerate(waiters):
        waiter.move_deadline(10_000.0 - number)
    assert len(keeper._heap) == len(waiters)
    keeper._expire(10_000.0)
    assert keeper._heap == []


async def test_the_keeper_sleeps_when_there_is_nothing_to_keep(
    bench: Bench, autojump_clock: MockClock
) -> None:
    await trio.sleep(10_000)
    assert await outcome(bench.waiter(), bench.near, trio.current_time() + 1) == (
        "TimedOut",
        trio.current_time(),
    )


async def test_calls_that_never_block_let_others_run(
    bench: Bench, autojump_clock: MockClock
) -> None:
    waiter = bench.waiter()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    bench.nursery.start_soon(other)
    for _ in range(10 * TURNS_MAX):
        await waiter.breathe()
    assert 9 <= turns <= 11
