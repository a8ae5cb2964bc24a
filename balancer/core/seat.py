"""One backend as one worker counts it: what a pick compares, and what its turns stand at.

Decides which attempts count. Whoever chooses (`balancer.core.policies`) and whoever counts
(`balancer.proxy.pool`) write here; nobody else does.
"""

import math
from typing import TypeAlias

from balancer.core.backend import BackendView
from balancer.core.board import NO_CELL
from balancer.core.tally import Tally
from healthcheck.core.verdict import Evidence

Entry: TypeAlias = tuple[float, int, int]
"""A place in a queue: load and due at the time of entering, and the seat's index there."""

LONG_AGO = -math.inf
NOT_RANKED = -1


class Seat:
    """A backend's place in a worker's pool. It outlives snapshots, and is known by address.

    For whoever counts: `in_flight` is this worker's and exact, `elsewhere` that of all others as
    last read. `older` and `elsewhere_older` are those of them from before the trial that began at
    `trial_since`; they do not count in it: one that hangs would hold the only place, and the trial
    would never end. Over several workers that is near enough: for a moment each of them may have an
    attempt of the trial. `failures_in_a_row` counts attempts that began at `blamed_since` or later.

    For whoever chooses: `taken` is what a pick compares, `load` the same for the weight
    (`divisor`). Counts times weights stay far below 2^52, so that this division orders exactly as
    fractions do, and equal loads are equal. `owed` is None until the seat has been ranked.
    """

    __slots__ = (
        "address", "blamed_since", "cell", "divisor", "due", "elsewhere", "elsewhere_older",
        "entry", "failures_in_a_row", "in_flight", "index", "limit", "load", "older", "owed", "taken", "tally",
        "trial_since", "view", "weight",
    )  # fmt: skip

    def __init__(self, view: BackendView) -> None:
        self.address = view.id.address
        self.view = view
        self.cell = NO_CELL
        self.weight = view.weight
        self.limit = view.limit
        self.tally = Tally()
        self.in_flight = self.older = 0
        self.elsewhere = self.elsewhere_older = 0
        self.trial_since: float | None = None
        self.blamed_since = LONG_AGO
        self.failures_in_a_row = 0
        self.taken = 0
        self.load = 0.0
        self.divisor = math.inf
        self.owed: int | None = None
        self.due = 0
        self.index = NOT_RANKED
        self.entry: Entry | None = None

    def take_part_as(self, view: BackendView, picked_as: BackendView, now: float) -> None:
        """The supervisor's word: how it is, and how a pick should see it (in panic, without limit)."""
        if view.on_trial and self.trial_since is None:
            self.trial_since = now
            self._acquit(now)
            self.older, self.elsewhere_older = self.in_flight, self.elsewhere
        elif not view.on_trial:
            self.trial_since = None
            self.older = self.elsewhere_older = 0
        if view.ejected and not self.view.ejected:
            self._acquit(now)
        self.view = picked_as
        self.weight, self.limit = picked_as.weight, picked_as.limit
        self.taken = self.in_flight - self.older + self.elsewhere - self.elsewhere_older

    def _acquit(self, now: float) -> None:
        """What began until now says nothing of how it is when it is back."""
        self.blamed_since = now
        self.failures_in_a_row = 0

    def count(self, evidence: Evidence, began: float) -> bool:
        """Count what an attempt that began then has said; whether the judge must hear of it."""
        if evidence is Evidence.FAILURE and began >= self.blamed_since:
            self.failures_in_a_row += 1
        elif evidence is Evidence.SUCCESS:
            self.failures_in_a_row = 0
        return self.tally.count(evidence, began=began, on_trial=self.trial_since is not None)

    def ended(self, began: float) -> int:
        """An attempt that began then has ended here; by how much `taken` changes."""
        self.in_flight -= 1
        assert self.in_flight >= 0, "an attempt ended that never began"
        if self.older and self.trial_since is not None and began < self.trial_since:
            self.older -= 1
            return 0
        return -1

    def seen_elsewhere(self, count: int) -> int:
        """Other workers have so many in flight; by how much `taken` changes."""
        before = self.elsewhere - self.elsewhere_older
        self.elsewhere = count
        self.elsewhere_older = min(self.elsewhere_older, count)
        return count - self.elsewhere_older - before
