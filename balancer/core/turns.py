"""Whose turn it is: smooth weighted round robin whose memory outlives every snapshot.

Decides the order among backends that are equally good. Each backend is owed turns; at every pick
all that take part are owed their share of one turn more, and the one that is owed most takes it and
pays one turn. Weights 5, 1, 1 give a a b a c a a (the order of nginx).

What is owed is kept in the backend's seat and counted in turns, not in units of the weights at hand.
So a backend that leaves (a weight of 1000 may have left two of weight 1) neither speeds up nor holds
back the others, and whoever returns is owed what it was owed.
"""

import random
from collections.abc import Iterable, Sequence

from balancer.core.seat import Seat

# One turn. A step of 1/W turns is a whole number of units, cut off at one part in 2^20 even when
# W is a million; integers, so that ties are ties and nothing drifts.
TURN = 1 << 40
# Less than anybody can be owed.
LEAST = -(1 << 62)


def take_turn(seats: Sequence[Seat], weight: int) -> Seat:
    """The seat whose turn it is among `seats`, whose weights sum up to `weight`; it pays."""
    unit = TURN // weight
    best = seats[0]
    most = LEAST
    for seat in seats:
        seat.owed = owed = (seat.owed or 0) + seat.weight * unit
        if owed > most:
            most = owed
            best = seat
    best.owed = most - weight * unit
    return best


def admit(seats: Iterable[Seat], late: int, rng: random.Random | None) -> None:
    """Have those who come or come back owed what can neither burst nor starve beside the others.

    The middle of what the others are owed is taken to be 0. A newcomer stands up to a turn behind
    `late`. The random part keeps workers, and balancers, that start or learn of a backend together
    from all choosing it together.
    """
    for seat in seats:
        if seat.owed is None:
            seat.owed = 0 if rng is None else late - rng.randrange(TURN)
        else:
            seat.owed = min(max(seat.owed, -TURN), TURN)
