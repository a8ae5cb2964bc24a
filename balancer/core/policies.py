"""The policies: which backend takes the next attempt.

Decides among the seats that it was given, which the snapshot allows; passes over whoever has weight
0 or no room; counts what it gives. Never waits, reads no clock; randomness only sets where the first
turn starts. The memory of its turns stands in the seats and outlives snapshots.
"""

import math
import random
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from balancer.core.queues import Queues
from balancer.core.scan import Scan
from balancer.core.seat import Seat
from balancer.core.turns import admit

# Up to so many backends it costs less to look at all of them than to keep them in a heap.
SCAN_MAX = 10

# With nothing but unrepeatable requests a backend on trial would wait for ever for its one success;
# so every so many of them one may go there.
UNREPEATABLE_PER_TRIAL = 64


class Ranking(Protocol):
    """An order of seats that never changes its members."""

    has_trials: bool

    def take(self) -> Seat | None: ...
    def take_from(self, avoid: Collection[str], *, trials: bool) -> Seat | None: ...
    def eased(self, seat: Seat) -> None: ...
    def leave(self) -> None: ...


class Policy:
    """`by_load`: the fewest attempts in flight for its weight, and turns among equals; else turns.

    The weights decide whose turn it is in either case. More than `scan_max` seats are kept in heaps.
    """

    def __init__(
        self, *, by_load: bool, rng: random.Random | None, scan_max: int = SCAN_MAX
    ) -> None:
        self._scan_max = scan_max
        self._by_load = by_load
        self._rng = rng
        self._seats: list[Seat] = []
        self._ranking: Ranking = Scan(())
        self.compares = by_load

    def seat(self, seats: Iterable[Seat]) -> None:
        """Choose among these from now on. Costs as much as there are.

        To be called anew whenever a seat's view, weight, limit or `taken` was set from outside.
        """
        self._ranking.leave()
        before = set(self._seats)
        self._seats = [seat for seat in seats if seat.weight > 0]
        ranking = Queues if len(self._seats) > self._scan_max else Scan
        admit([seat for seat in self._seats if seat not in before], ranking.newcomer, self._rng)
        for seat in self._seats:
            seat.divisor = seat.weight if self._by_load else math.inf
            seat.load = seat.taken / seat.divisor
        self._ranking = ranking(self._seats)
        # Whether what is taken makes a difference to a pick.
        self.compares = self._by_load or any(seat.limit is not None for seat in self._seats)

    def pick(self, *, avoid: Collection[str], spares_trials: bool) -> Seat | None:
        """The seat for the next attempt, counted in `taken`; None when nobody has room.

        `avoid` holds the addresses that this exchange has tried; they come last. Who spares trials
        goes to a backend on trial only when no other that it has not tried has room.
        """
        ranking = self._ranking
        if not avoid and not (spares_trials and ranking.has_trials):
            return ranking.take()
        for away, trials in CHOICES[bool(avoid), spares_trials]:
            chosen = ranking.take_from(avoid if away else (), trials=trials)
            if chosen is not None:
                return chosen
        return None

    def shift(self, seat: Seat, by: int) -> None:
        """That many more are taken of the seat, or less; it need not be among those ranked."""
        seat.taken += by
        seat.load = seat.taken / seat.divisor
        if by < 0:
            self._ranking.eased(seat)


# Whom to ask for, best first, by (some were tried, spares trials): (only untried, also on trial).
CHOICES: Mapping[tuple[bool, bool], tuple[tuple[bool, bool], ...]] = {
    (False, True): ((False, False), (False, True)),
    (True, False): ((True, True), (False, True)),
    (True, True): ((True, False), (True, True), (False, False), (False, True)),
}

# By name: whether it goes by load.
POLICIES: Mapping[str, bool] = {"least-connections": True, "weighted-round-robin": False}


def make_policy(name: str, rng: random.Random | None) -> Policy:
    """The policy of that name, its turns starting at a random offset; at zero without an rng."""
    return Policy(by_load=POLICIES[name], rng=rng)


def spares_trials(unrepeatable_so_far: int) -> bool:
    """Whether the next unrepeatable request keeps away from backends on trial.

    Should a trial fail, nothing could hide it.
    """
    return unrepeatable_so_far % UNREPEATABLE_PER_TRIAL != 0
