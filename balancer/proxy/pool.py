"""A pool as the data path holds it: the snapshot to pick from, and what this worker counts.

Between a pick and its count there is no await, so a pick never sees a stale count. Whoever decides
about health and ejection is told through `report`; the answer comes back as a new snapshot.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import trio

from balancer.core.backend import BackendId, BackendView
from balancer.core.outcome import PickFailure
from balancer.core.policies import Policy
from balancer.core.snapshot import PoolSnapshot, pick, spares_trials, why_none
from balancer.core.tally import Tally
from healthcheck.core.verdict import Evidence

Report = Callable[[BackendId, Evidence, str, float], None]
"""Told of evidence: the backend, what it says, the reason, and when the attempt began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """Times in seconds; `idle_max` is per backend; 0 requests or age means no limit."""

    connect_s: float
    response_s: float
    idle_s: float
    idle_max: int
    idle_timeout_s: float
    age_max_s: float
    requests_max: int
    retry_after_s: int


class Pool:
    """One pool of this worker."""

    def __init__(
        self, snapshot: PoolSnapshot, policy: Policy, limits: PoolLimits, report: Report
    ) -> None:
        self.policy = policy
        self.limits = limits
        self.in_flight: dict[str, int] = {}
        self.tallies: dict[str, Tally] = {}
        self._report = report
        self._known: frozenset[str] = frozenset()
        self._trials: dict[str, float] = {}
        self._older: dict[str, int] = {}
        self._unrepeatable = 0
        self.snapshot: PoolSnapshot
        self.apply(snapshot)

    @property
    def name(self) -> str:
        return self.snapshot.name

    def apply(self, snapshot: PoolSnapshot) -> bool:
        """Swap in a new snapshot; whether other backends are in it than before.

        Counts of backends that are gone stay until they are zero.
        """
        self.snapshot = snapshot
        self._keeping = frozenset(view.id.address for view in snapshot.candidates)
        self._note_trials({view.id.address for view in snapshot.backends if view.on_trial})
        known = frozenset(view.id.address for view in snapshot.backends)
        if known == self._known:
            return False
        self._known = known
        for address in known - self.in_flight.keys():
            self.in_flight[address] = 0
        for address in [a for a, n in self.in_flight.items() if n == 0 and a not in known]:
            self._forget(address)
        return True

    def _note_trials(self, on_trial: set[str]) -> None:
        """Keep since when each is on trial, and how many attempts it has from before that."""
        now = trio.current_time()
        for address in on_trial - self._trials.keys():
            if self.in_flight.get(address):
                self._older[address] = self.in_flight[address]
        self._trials = {address: self._trials.get(address, now) for address in on_trial}
        self._older = {a: count for a, count in self._older.items() if a in on_trial}

    def _taken(self) -> Mapping[str, int]:
        """The attempts that a pick compares.

        Those from before a trial do not count in it: one that hangs would hold the only place, and
        the trial would never end.
        """
        if not self._older:
            return self.in_flight
        counted = {a: self.in_flight[a] - older for a, older in self._older.items()}
        return self.in_flight | counted

    def _forget(self, address: str) -> None:
        del self.in_flight[address]
        self.tallies.pop(address, None)

    def pick(self, *, avoid: Collection[str], unrepeatable: bool) -> BackendView | None:
        """Choose and count in one step; whoever gets a backend must call `end` once."""
        if unrepeatable:
            self._unrepeatable += 1
        spares = unrepeatable and spares_trials(self._unrepeatable)
        chosen = pick(self.snapshot, self.policy, self._taken(), avoid=avoid, unrepeatable=spares)
        if chosen is not None:
            self.in_flight[chosen.id.address] += 1
        return chosen

    def end(self, address: str, began: float) -> None:
        """Return the count that `pick` took for an attempt that began then; after its `record`."""
        self.in_flight[address] -= 1
        assert self.in_flight[address] >= 0, "an attempt ended that never began"
        if address in self._older and began < self._trials[address]:
            self._older[address] -= 1
            if not self._older[address]:
                del self._older[address]
        if not self.in_flight[address] and address not in self._known:
            self._forget(address)

    def keeps_idle(self, address: str) -> bool:
        """Whether connections to this backend may rest: only while it may be picked."""
        return address in self._keeping

    def why_none(self) -> PickFailure:
        return why_none(self.snapshot)

    def record(self, backend: BackendId, evidence: Evidence, reason: str, began: float) -> None:
        """Count an attempt that ended, and pass on what it says if that is news."""
        tally = self.tallies.setdefault(backend.address, Tally())
        if tally.count(evidence, began=began, on_trial=backend.address in self._trials):
            self._report(backend, evidence, reason, began)
