"""The policies: which candidate takes the next attempt.

Decides from the candidates and what is in flight on each. A policy passes over whoever has weight
0 or no room; whether a backend may be picked at all was decided in the snapshot. Never waits,
reads no clock; randomness only sets where the first turn starts.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

from balancer.core.backend import BackendView
from balancer.core.turns import Row, Turns, take_turn


class Policy(Protocol):
    """A rule that chooses. Its memory is its own, by address, and outlives snapshots."""

    def pick(
        self, candidates: Sequence[BackendView], in_flight: Mapping[str, int]
    ) -> BackendView | None:
        """One of `candidates`, or None when none has weight and room.

        `in_flight` counts attempts by address. A tuple of candidates is taken as never changing:
        pass the same object to make the next pick cheap.
        """
        ...

    def dump(self) -> dict[str, int]:
        """The cursors, JSON-able, by address."""
        ...

    def load(self, cursors: Mapping[str, object]) -> None:
        """Go on where the dump stopped; damaged entries are passed over."""
        ...


class WeightedRoundRobin:
    """Turns by weight, evenly mixed; what is in flight matters only where there is a limit."""

    def __init__(self, rng: random.Random | None) -> None:
        self._turns = Turns(rng)
        self.dump = self._turns.dump
        self.load = self._turns.load

    def pick(
        self, candidates: Sequence[BackendView], in_flight: Mapping[str, int]
    ) -> BackendView | None:
        seating = self._turns.seat(candidates)
        rows, weight = seating.rows, seating.weight
        if seating.has_limits:
            rows = _with_room(rows, in_flight)
            weight = sum(row[1] for row in rows)
        if not rows:
            return None
        return take_turn(rows, weight)


class LeastConnections:
    """The fewest attempts in flight for its weight; among equals, turns by weight."""

    def __init__(self, rng: random.Random | None) -> None:
        self._turns = Turns(rng)
        self.dump = self._turns.dump
        self.load = self._turns.load

    def pick(
        self, candidates: Sequence[BackendView], in_flight: Mapping[str, int]
    ) -> BackendView | None:
        seating = self._turns.seat(candidates)
        rows = _with_room(seating.rows, in_flight) if seating.has_limits else seating.rows
        if not rows:
            return None
        tied = _least_loaded(rows, in_flight)
        if len(tied) == 1:
            return tied[0][3]
        all_tied = len(tied) == len(seating.rows)
        return take_turn(tied, seating.weight if all_tied else sum([row[1] for row in tied]))


def make_policy(name: str, rng: random.Random | None) -> Policy:
    """The policy of that name, its turns starting at a random offset; at zero without an rng."""
    return POLICIES[name](rng)


POLICIES: Mapping[str, type[LeastConnections] | type[WeightedRoundRobin]] = {
    "least-connections": LeastConnections,
    "weighted-round-robin": WeightedRoundRobin,
}


def _with_room(rows: list[Row], in_flight: Mapping[str, int]) -> list[Row]:
    return [
        row for row in rows if (limit := row[3].limit) is None or in_flight.get(row[0], 0) < limit
    ]


def _least_loaded(rows: list[Row], in_flight: Mapping[str, int]) -> list[Row]:
    """All rows whose in-flight count is smallest for their weight; never empty."""
    count_of = in_flight.get
    tied = rows[:1]
    least_count: int = count_of(rows[0][0], 0)
    least_weight = rows[0][1]
    for row in rows[1:]:
        # Cross-products: exact, and no division. a/b < c/d  <=>  a*d < c*b
        count = count_of(row[0], 0)
        here, there = count * least_weight, least_count * row[1]
        if here < there:
            tied = [row]
            least_count, least_weight = count, row[1]
        elif here == there:
            tied.append(row)
    return tied
