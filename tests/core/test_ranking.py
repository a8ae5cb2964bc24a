"""A ranking of many seats picks as one that looks at every seat would, whatever has happened."""

import random
from collections.abc import Collection

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from balancer.core.policies import Policy
from balancer.core.queues import Queues
from balancer.core.seat import NOT_RANKED, Seat
from tests.support.views import view

MEMBERS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([None, None, 1, 3]), st.booleans()),
    min_size=1,
    max_size=8,
)


class Picking(RuleBasedStateMachine):
    """Begin, end, news from elsewhere and new snapshots in any order; every pick is checked."""

    by_load = True
    scan_max = 0

    def __init__(self) -> None:
        super().__init__()
        self.policy = Policy(by_load=self.by_load, rng=random.Random(1), scan_max=self.scan_max)
        self.seats: dict[str, Seat] = {}
        self.ranked: list[Seat] = []
        self.running: list[Seat] = []
        self.expected: dict[str, int] = {}

    @initialize(members=MEMBERS)
    def first(self, members: list[tuple[int, int | None, bool]]) -> None:
        self.snapshot(members)

    @rule(members=MEMBERS)
    def snapshot(self, members: list[tuple[int, int | None, bool]]) -> None:
        """Others, in other order, with other weights and limits; who is gone may still run."""
        self.ranked = []
        for number, (weight, limit, on_trial) in enumerate(members):
            address = f"b{(number * 3 + len(members)) % 11}"
            new = view(address, weight, limit=limit, on_trial=on_trial)
            seat = self.seats.setdefault(address, Seat(new))
            seat.view, seat.weight, seat.limit = new, weight, limit
            self.expected.setdefault(address, 0)
            self.ranked.append(seat)
        self.policy.seat(self.ranked)

    @rule(
        avoid=st.sets(st.integers(0, 10).map(lambda n: f"b{n}"), max_size=3), spares=st.booleans()
    )
    def pick(self, avoid: set[str], spares: bool) -> None:
        wanted = self.allowed(avoid, spares)
        chosen = self.policy.pick(avoid=avoid, spares_trials=spares)
        if not wanted:
            assert chosen is None
            return
        assert chosen in wanted
        if self.by_load:
            before = (self.expected[chosen.address], chosen.weight)
            for other in wanted:  # cross-products: exact
                assert before[0] * other.weight <= self.expected[other.address] * before[1]
        self.expected[chosen.address] += 1
        self.running.append(chosen)

    def allowed(self, avoid: Collection[str], spares: bool) -> list[Seat]:
        """The rules of a pick, written down a second time."""
        room = [
            seat
            for seat in self.ranked
            if seat.weight and (seat.limit is None or self.expected[seat.address] < seat.limit)
        ]
        untried = [seat for seat in room if seat.address not in avoid]
        steady = [seat for seat in room if not seat.view.on_trial]
        untried_steady = [seat for seat in steady if seat.address not in avoid]
        if spares:
            return untried_steady or untried or steady or room
        return untried or room

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 1000))
    def end(self, which: int) -> None:
        seat = self.running.pop(which % len(self.running))
        self.expected[seat.address] -= 1
        self.policy.shift(seat, -1)

    @rule(which=st.integers(0, 10), by=st.integers(-2, 3))
    def elsewhere(self, which: int, by: int) -> None:
        seat = self.seats.get(f"b{which}")
        if seat is not None and self.expected[seat.address] + by >= 0:
            self.expected[seat.address] += by
            self.policy.shift(seat, by)

    @invariant()
    def nothing_drifts(self) -> None:
        for address, seat in self.seats.items():
            assert seat.taken == self.expected[address]
            ranked = seat in self.ranked and seat.weight > 0
            assert (seat.index != NOT_RANKED) is (ranked and self.scan_max == 0)


class PickingInTurns(Picking):
    by_load = False


class PickingByLookingAtAll(Picking):
    scan_max = 100


for machine in (Picking, PickingInTurns, PickingByLookingAtAll):
    machine.TestCase.settings = settings(stateful_step_count=60)
TestPicking = Picking.TestCase
TestPickingInTurns = PickingInTurns.TestCase
TestPickingByLookingAtAll = PickingByLookingAtAll.TestCase


# ---- what it costs -------------------------------------------------------------------------------


class WatchedSeat(Seat):
    """Counts how often anybody asks for its load."""

    __slots__ = ("_load",)
    looks = 0

    @property
    def load(self) -> float:
        WatchedSeat.looks += 1
        return self._load

    @load.setter
    def load(self, load: float) -> None:
        self._load = load


def crowd(policy: Policy, size: int) -> list[Seat]:
    seats: list[Seat] = [WatchedSeat(view(f"b{n}", 1 + n % 7)) for n in range(size)]
    for seat in seats:
        seat.take_part_as(seat.view, seat.view, 0.0)
    policy.seat(seats)
    return seats


@pytest.mark.parametrize("by_load", [True, False])
@pytest.mark.parametrize("held", [0, 300])
def test_a_pick_among_a_thousand_looks_at_a_few(by_load: bool, held: int) -> None:
    policy = Policy(by_load=by_load, rng=random.Random(1))
    crowd(policy, 1000)
    rng = random.Random(2)
    running = [policy.pick(avoid=(), spares_trials=False) for _ in range(held)]
    WatchedSeat.looks = 0
    for _ in range(2000):
        chosen = policy.pick(avoid=(), spares_trials=False)
        running.append(chosen)
        ending = running.pop(rng.randrange(len(running)))
        assert ending is not None
        policy.shift(ending, -1)
    assert WatchedSeat.looks < 2000 * 10


def test_a_retry_among_a_thousand_looks_at_a_few() -> None:
    policy = Policy(by_load=True, rng=random.Random(1))
    crowd(policy, 1000)
    WatchedSeat.looks = 0
    for _ in range(1000):
        first = policy.pick(avoid=(), spares_trials=False)
        assert first is not None
        policy.shift(first, -1)
        second = policy.pick(avoid={first.address}, spares_trials=False)
        assert second is not None
        policy.shift(second, -1)
    assert WatchedSeat.looks < 1000 * 20


def test_entries_that_are_out_of_date_do_not_pile_up() -> None:
    """Each end makes one, and those of a high load never come to the top."""
    policy = Policy(by_load=True, rng=None)
    crowd(policy, 50)
    for _ in range(5000):
        chosen = policy.pick(avoid=(), spares_trials=False)
        assert chosen is not None
        policy.shift(chosen, -1)
    queues = policy._ranking
    assert isinstance(queues, Queues)
    assert len(queues._steady._heap) <= 2 * 50 + 17


def test_who_fails_at_once_and_always_has_its_share_of_first_attempts_and_no_more() -> None:
    """A retry that moved only the others' turns made it the first choice of every request."""
    for name in (True, False):
        policy = Policy(by_load=name, rng=random.Random(5))
        crowd(policy, 20)
        firsts = 0
        for _ in range(2000):
            first = policy.pick(avoid=(), spares_trials=False)
            assert first is not None
            policy.shift(first, -1)
            if first.address == "b6":
                firsts += 1
                second = policy.pick(avoid={"b6"}, spares_trials=False)
                assert second is not None
                policy.shift(second, -1)
        assert firsts <= 2000 * 7 / 77 * 1.02 + 2
