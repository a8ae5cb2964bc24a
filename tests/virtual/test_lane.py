"""The lane: who goes on when, what ends a wait, and that nobody is left behind."""

from collections.abc import Callable, Generator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from balancer.rehearsal.memory_network import MemoryNetwork
from balancer.wire.lane import EVENTS_MAX, Lane, Ride, Watch
from balancer.wire.network import Sock
from balancer.wire.waiting import Interrupted, TimedOut, Timekeeper, Waiter
from tests.support.sock_pair import sock_pair

Script = Callable[["Passenger"], Generator[Watch | None, None, bool]]


class Passenger:
    """A rider whose rides are a script; notes what happens to it."""

    def __init__(self, road: "Road", sock: Sock, script: Script, name: str = "") -> None:
        self.road = road
        self.sock = sock
        self.waiter = Waiter(road.keeper)
        self.watch = road.lane.watch(sock)
        self.script = script
        self.name = name
        self.walks = 0
        self.ended = 0
        self.seen: list[object] = []

    def ride(self) -> Ride:
        return self.script(self)

    async def walk(self) -> bool:
        self.walks += 1
        await trio.sleep(1)
        return True

    def crashed(self, exc: Exception) -> None:
        self.note(exc)

    def end(self) -> None:
        self.ended += 1
        self.sock.close()

    def note(self, what: object) -> None:
        self.seen.append(what)
        self.road.notes.append((self.name, what))


class Road:
    """A network, a lane and its riders."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.network = MemoryNetwork(seed=1)
        self.keeper = Timekeeper(self.network)
        self.lane = Lane(self.network)
        self.nursery = nursery
        self.notes: list[tuple[str, object]] = []
        nursery.start_soon(self.keeper.run)

    async def rider(self, script: Script, name: str = "") -> tuple[Passenger, Sock]:
        ours, theirs = await sock_pair(self.network)
        passenger = Passenger(self, ours, script, name)
        self.lane.adopt(passenger, self.nursery)
        return passenger, theirs


def reads(passenger: Passenger) -> Ride:
    """Note what comes until the end; `walk` asks for a walk, an interruption is noted."""
    while True:
        passenger.waiter.move_deadline(trio.current_time() + 10)
        try:
            yield passenger.watch
            data = passenger.sock.recv(100)
        except BlockingIOError:
            passenger.note("would block")
            continue
        except Interrupted as exc:
            passenger.note(type(exc).__name__)
            continue
        passenger.note(data)
        if not data:
            return False
        if data == b"walk":
            return True


@pytest.fixture
async def road(autojump_clock: MockClock, nursery: trio.Nursery) -> Road:
    return Road(nursery)


async def test_it_reads_what_comes_and_ends_with_its_peer(
    autojump_clock: MockClock, road: Road
) -> None:
    passenger, theirs = await road.rider(reads)
    for piece in (b"one", b"two"):
        theirs.send(piece)
        await wait_all_tasks_blocked()
    theirs.close()
    await wait_all_tasks_blocked()
    assert passenger.seen == [b"one", b"two", b""]
    assert passenger.ended == 1


async def test_an_end_that_came_with_the_last_bytes_is_not_missed(
    autojump_clock: MockClock, road: Road
) -> None:
    passenger, theirs = await road.rider(reads)
    await wait_all_tasks_blocked()
    theirs.send(b"last")
    theirs.close()
    await wait_all_tasks_blocked()
    assert passenger.seen == [b"last", b""]


async def test_what_comes_while_nobody_waits_is_seen_at_the_next_wait(
    autojump_clock: MockClock, road: Road
) -> None:
    passenger, theirs = await road.rider(reads)
    theirs.send(b"walk")
    await wait_all_tasks_blocked()
    theirs.send(b"meanwhile")
    await trio.sleep(1.5)
    assert passenger.walks == 1
    assert [what for what in passenger.seen if what != "would block"] == [b"walk", b"meanwhile"]


async def test_a_deadline_ends_the_wait_and_the_next_one_has_its_own(
    autojump_clock: MockClock, road: Road
) -> None:
    passenger, theirs = await road.rider(reads)
    await trio.sleep(10.5)
    assert passenger.seen == ["TimedOut"]
    theirs.send(b"x")
    await trio.sleep(9.8)
    assert passenger.seen == ["TimedOut", b"x"]
    await trio.sleep(0.5)
    assert passenger.seen == ["TimedOut", b"x", "TimedOut"]


async def test_an_interruption_ends_the_wait_under_way(
    autojump_clock: MockClock, road: Road
) -> None:
    class Meant(Interrupted):
        pass

    passenger, theirs = await road.rider(reads)
    await wait_all_tasks_blocked()
    passenger.waiter.interrupt(Meant())
    await wait_all_tasks_blocked()
    theirs.send(b"x")
    await wait_all_tasks_blocked()
    assert passenger.seen == ["Meant", b"x"]


async def test_an_interruption_between_waits_ends_the_next_one(
    autojump_clock: MockClock, road: Road
) -> None:
    def script(passenger: Passenger) -> Ride:
        passenger.waiter.interrupt(TimedOut())
        yield None
        passenger.note("not here")
        try:
            yield passenger.watch
        except Interrupted:
            passenger.note("here")
        return False

    passenger, _ = await road.rider(script)
    await wait_all_tasks_blocked()
    assert passenger.seen == ["not here", "here"]


async def test_an_interruption_that_was_taken_back_leaves_the_wait_alone(
    autojump_clock: MockClock, road: Road
) -> None:
    passenger, theirs = await road.rider(reads)
    await wait_all_tasks_blocked()
    passenger.waiter.interrupt(Interrupted())
    passenger.waiter.calm()
    await wait_all_tasks_blocked()
    theirs.send(b"x")
    await wait_all_tasks_blocked()
    assert passenger.seen == ["would block", b"x"]


async def test_those_who_are_ready_together_go_on_together_at_the_end_of_the_turn(
    autojump_clock: MockClock, road: Road
) -> None:
    def script(passenger: Passenger) -> Ride:
        passenger.waiter.move_deadline(trio.current_time() + 10)
        yield passenger.watch
        passenger.note("read")
        yield None
        passenger.note("sent")
        return False

    both = [await road.rider(script, name) for name in "ab"]
    await wait_all_tasks_blocked()
    for _, theirs in both:
        theirs.send(b"x")
    await wait_all_tasks_blocked()
    assert road.notes == [("a", "read"), ("b", "read"), ("a", "sent"), ("b", "sent")]
    assert [passenger.ended for passenger, _ in both] == [1, 1]


async def test_one_that_starts_with_none_is_not_forgotten_by_a_sleeping_lane(
    autojump_clock: MockClock, road: Road
) -> None:
    def script(passenger: Passenger) -> Ride:
        yield None
        passenger.note("went on")
        return False

    await road.rider(reads)
    await wait_all_tasks_blocked()
    passenger, _ = await road.rider(script)
    with trio.fail_after(1):
        await wait_all_tasks_blocked()
    assert passenger.seen == ["went on"]


async def test_more_than_a_turn_of_them_are_all_served_and_others_have_their_turn(
    autojump_clock: MockClock, road: Road
) -> None:
    all_of_them = [await road.rider(reads) for _ in range(EVENTS_MAX * 2 + 5)]
    await wait_all_tasks_blocked()
    for _, theirs in all_of_them:
        theirs.send(b"x")
    await trio.testing.wait_all_tasks_blocked()
    assert all(passenger.seen == [b"x"] for passenger, _ in all_of_them)


async def test_a_cancelled_lane_ends_all_who_ride_and_all_who_walk(
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as outer:
        road = Road(outer)
        async with trio.open_nursery() as nursery:
            road.nursery = nursery
            riding, _ = await road.rider(reads)
            walking, theirs = await road.rider(reads)
            theirs.send(b"walk")
            await wait_all_tasks_blocked()
            assert walking.walks == 1
            nursery.cancel_scope.cancel()
        assert (riding.ended, walking.ended) == (1, 1)
        outer.cancel_scope.cancel()


async def test_its_task_ends_with_the_last_rider_and_begins_with_the_next(
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as outer:
        road = Road(outer)
        for _ in range(2):
            with trio.fail_after(5):
                async with trio.open_nursery() as nursery:
                    road.nursery = nursery
                    passenger, theirs = await road.rider(reads)
                    theirs.send(b"walk")
                    await trio.sleep(2)
                    theirs.close()
            assert passenger.ended == 1
        outer.cancel_scope.cancel()
