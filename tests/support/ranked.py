"""A policy for tests: told who may be picked and what is in flight, it says whom it would take."""

import random
from collections.abc import Collection, Mapping, Sequence

from balancer.core.backend import BackendView
from balancer.core.policies import POLICIES, SCAN_MAX, Policy
from balancer.core.seat import Seat

# Each policy as it is for few backends (looked at one by one), and for many (kept in heaps).
FEW = sorted(POLICIES)
MANY = [f"{name}, many" for name in FEW]


def policy_of(name: str, seed: int | None) -> "Ranked":
    """The policy of one of these names."""
    policy, _, many = name.partition(", ")
    rng = None if seed is None else random.Random(seed)
    return Ranked(policy, rng, scan_max=0 if many else SCAN_MAX)


class Ranked:
    """A policy and its seats. Each pick ends at once, unless `in_flight` says otherwise."""

    def __init__(self, name: str, rng: random.Random | None, *, scan_max: int = SCAN_MAX) -> None:
        self.policy = Policy(by_load=POLICIES[name], rng=rng, scan_max=scan_max)
        self.seats: dict[str, Seat] = {}
        self._candidates: Sequence[BackendView] = ()

    def pick(
        self,
        candidates: Sequence[BackendView],
        in_flight: Mapping[str, int],
        *,
        avoid: Collection[str] = (),
        spares_trials: bool = False,
    ) -> BackendView | None:
        if candidates is not self._candidates:
            self._seat(candidates)
        for address, seat in self.seats.items():
            by = in_flight.get(address, 0) - seat.taken
            if by:
                self.policy.shift(seat, by)
        chosen = self.policy.pick(avoid=avoid, spares_trials=spares_trials)
        if chosen is None:
            return None
        self.policy.shift(chosen, -1)
        return chosen.view

    def _seat(self, candidates: Sequence[BackendView]) -> None:
        self._candidates = candidates
        for view in candidates:
            seat = self.seats.setdefault(view.id.address, Seat(view))
            seat.take_part_as(view, view, 0.0)
        self.policy.seat([self.seats[view.id.address] for view in candidates])
