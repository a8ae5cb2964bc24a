"""Whose turn it is: smooth weighted round robin whose memory outlives every snapshot.

Decides the order among backends that are equally good. Each backend is owed turns; at every pick
all that take part are owed their share of one turn more, and the one that is owed most takes it and
pays one turn. Weights 5, 1, 1 give a a b a c a a (the order of nginx).

What is owed is kept by address and counted in turns, not in units of the weights at hand. So a
backend that leaves (a weight of 1000 may have left two of weight 1) neither speeds up nor holds
back the others, and whoever returns is owed what it was owed.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from balancer.core.backend import BackendView

# One turn. A step of 1/W turns is a whole number of units, cut off at one part in 2^20 even when
# W is a million; integers, so that ties are ties and nothing drifts, and JSON keeps every digit.
TURN = 1 << 40
# Memory of backends that are out just now or were removed. More than a pool's own size plus this
# many are forgotten, oldest first: addresses that come and go for years must not pile up.
ABSENT_MAX = 1024
# Beyond what balanced turns can reach; such a number comes from a damaged file.
OWED_MAX = 1 << 52


class Seat:
    """What one backend is owed, in units of TURN; only differences between seats mean anything."""

    __slots__ = ("owed",)

    def __init__(self, owed: int) -> None:
        self.owed = owed


# The address stands first because it is what the loops of the policies look up.
Row: TypeAlias = tuple[str, int, Seat, BackendView]
"""Address, weight, seat, view of one backend that may be picked."""


class Seating:
    """The rows of one set of candidates, and what their loops need to know beforehand."""

    __slots__ = ("candidates", "has_limits", "rows", "weight")

    def __init__(self, candidates: Sequence[BackendView], rows: list[Row]) -> None:
        self.candidates = candidates
        self.rows = rows
        self.weight = sum(row[1] for row in rows)
        self.has_limits = any(view.limit is not None for _, _, _, view in rows)


class Turns:
    """The memory: who is owed what, by address. One owner; plain synchronous."""

    def __init__(self, rng: random.Random | None) -> None:
        self._rng = rng
        self._seats: dict[str, Seat] = {}
        self._standing: set[str] = set()
        self._seating = Seating((), [])

    def seat(self, candidates: Sequence[BackendView]) -> Seating:
        """The rows of `candidates`, those of weight 0 left out.

        The seating of a tuple is kept until another one comes: a snapshot never changes. Anything
        else is a passing choice out of it (a retry), and is seated anew each time.
        """
        if candidates is self._seating.candidates:
            return self._seating
        weighty = [view for view in candidates if view.weight > 0]
        self._admit([view.id.address for view in weighty])
        seats = self._seats
        seating = Seating(
            candidates,
            [(view.id.address, view.weight, seats[view.id.address], view) for view in weighty],
        )
        if isinstance(candidates, tuple):
            self._standing = {row[0] for row in seating.rows}
            self._seating = seating
            self._forget_the_oldest_absent()
        return seating

    def _admit(self, addresses: Sequence[str]) -> None:
        """Give everyone a seat that can neither burst nor starve beside those who stayed."""
        seats, standing = self._seats, self._standing
        arriving = [address for address in addresses if address not in standing]
        if not arriving:
            return
        middle = _mean(seats[a].owed for a in addresses if a in standing)
        if middle is None:
            middle = _mean(seats[a].owed for a in arriving if a in seats) or 0
        for address in arriving:
            seat = seats.get(address)
            if seat is not None:
                seat.owed = min(max(seat.owed, middle - TURN), middle + TURN)
            else:
                # Never ahead of the others' middle. The random part keeps balancers that start or
                # learn of a backend together from all choosing it together.
                late = 0 if self._rng is None else self._rng.randrange(TURN)
                seats[address] = Seat(middle - late)
        self._standing = standing.union(arriving)

    def _forget_the_oldest_absent(self) -> None:
        surplus = len(self._seats) - len(self._standing) - ABSENT_MAX
        if surplus > 0:
            absent = [address for address in self._seats if address not in self._standing]
            for address in absent[:surplus]:
                del self._seats[address]

    def dump(self) -> dict[str, int]:
        """What `load` takes; JSON-able."""
        return {address: seat.owed for address, seat in self._seats.items()}

    def load(self, cursors: Mapping[str, object]) -> None:
        """Take over what `dump` gave; what is no sane whole number is passed over.

        Values need no trust: whoever is seated is brought within one turn of the others.
        """
        for address, owed in cursors.items():
            if type(owed) is int and -OWED_MAX <= owed <= OWED_MAX:
                self._seats[address] = Seat(owed)
        self._standing = set()
        self._seating = Seating((), [])


def take_turn(rows: Sequence[Row], weight: int) -> BackendView:
    """The row whose turn it is among `rows`, whose weights sum up to `weight`; it pays."""
    unit = TURN // weight
    best = rows[0]
    most = -2 * OWED_MAX
    for row in rows:
        seat = row[2]
        seat.owed = owed = seat.owed + row[1] * unit
        if owed > most:
            most = owed
            best = row
    best[2].owed -= weight * unit
    return best[3]


def _mean(numbers: Iterable[int]) -> int | None:
    found = list(numbers)
    return sum(found) // len(found) if found else None
