"""Ranking a few seats by looking at all of them: the order of smooth weighted round robin, exactly.

Decides who is next among seats that it was given for good; `balancer.core.queues` does the same for
many.
"""

from collections.abc import Collection, Sequence

from balancer.core.seat import Seat
from balancer.core.turns import take_turn


class Scan:
    """The seats of one snapshot. The least loaded is next; among equals, whose turn it is.

    A newcomer is never ahead of the middle, so it has at any time had at most its share and one.
    """

    newcomer = 0

    def __init__(self, seats: Sequence[Seat]) -> None:
        self._seats = seats
        self._weight = sum(seat.weight for seat in seats)
        self._limited = any(seat.limit is not None for seat in seats)
        self.has_trials = any(seat.view.on_trial for seat in seats)

    def take(self) -> Seat | None:
        """The next one, counted as taken; None when nobody has room."""
        return self._take(self._seats)

    def take_from(self, avoid: Collection[str], *, trials: bool) -> Seat | None:
        """As `take`, among those not at an address in `avoid`, and on trial only if `trials`."""
        return self._take(
            [
                seat
                for seat in self._seats
                if seat.address not in avoid and (trials or not seat.view.on_trial)
            ]
        )

    def _take(self, seats: Sequence[Seat]) -> Seat | None:
        if self._limited:
            seats = [seat for seat in seats if seat.limit is None or seat.taken < seat.limit]
        if not seats:
            return None
        loads = [seat.load for seat in seats]
        least = min(loads)
        tied = loads.count(least)
        if tied == 1:
            chosen = seats[loads.index(least)]
        else:
            if tied < len(seats):
                seats = [seat for seat in seats if seat.load == least]
            whole = len(seats) == len(self._seats)
            weight = self._weight if whole else sum([seat.weight for seat in seats])
            chosen = take_turn(seats, weight)
        chosen.taken += 1
        chosen.load = chosen.taken / chosen.divisor
        return chosen

    def eased(self, seat: Seat) -> None:
        """Nothing is kept that could be out of date."""

    def leave(self) -> None:
        """Have what is owed stand around 0 in the seats, for whichever ranking comes next."""
        seats = self._seats
        if seats:
            middle = sum(seat.owed or 0 for seat in seats) // len(seats)
            for seat in seats:
                seat.owed = (seat.owed or 0) - middle
