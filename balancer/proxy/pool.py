"""A pool as the data path holds it: the snapshot to pick from, and what this worker counts.

Between a pick and its count there is no await, so a pick never sees a stale count of our own. What
is counted also stands on the board, in this worker's row, and what others have in flight is read
from theirs. Whoever decides about health and ejection is told through `report`; the answer comes
back as a new snapshot.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import trio

from balancer.core.admission import Admission
from balancer.core.backend import BackendId, BackendView
from balancer.core.board import NO_CELL, BoardRow, board_bytes, lay_out
from balancer.core.elsewhere import Elsewhere
from balancer.core.local_ejection import LocalEjections, may_eject
from balancer.core.outcome import PickFailure
from balancer.core.policies import Policy, spares_trials
from balancer.core.seat import Seat
from balancer.core.snapshot import PoolSnapshot, why_none
from balancer.core.tally import Tally
from balancer.core.tunnels import NO_TUNNELS, TunnelLimits
from balancer.wire.backend_tls import BackendTlsRules, backend_context
from balancer.wire.proxy_protocol import Version
from healthcheck.core.verdict import Evidence

# How old the counts of others may be where there are too many to read them before every pick.
LOOK_S = 0.01

Report = Callable[[BackendId, Evidence, str, float, bool], None]
"""Told of evidence: the backend, what it says, the reason, when the attempt began, and whether this
worker has ejected the backend and waits for a word about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """Times in seconds; `idle_max` is per backend; 0 requests or age means no limit.

    `proxy_protocol`: each connection begins with such a header, and carries one client only.
    """

    connect_s: float
    response_s: float
    idle_s: float
    idle_max: int
    idle_timeout_s: float
    age_max_s: float
    requests_max: int
    retry_after_s: int
    proxy_protocol: Version | None = None
    tunnels: TunnelLimits = NO_TUNNELS
    tls: BackendTlsRules | None = None


class Pool:
    """One pool of this worker.

    `row` is the worker's own on the board, `admission` that of all its pools. `base_ejection_s`: how
    long an ejection of our own lasts if the supervisor says nothing. It may be replaced, the policy,
    too, and the limits by `go_by`. `tls` is what new connections are made with.
    """

    def __init__(
        self,
        snapshot: PoolSnapshot,
        policy: Policy,
        limits: PoolLimits,
        report: Report,
        *,
        row: BoardRow | None = None,
        admission: Admission | None = None,
        base_ejection_s: float = 10.0,
    ) -> None:
        self.limits = limits
        self.tls = None if limits.tls is None else backend_context(limits.tls)
        self.base_ejection_s = base_ejection_s
        self._policy = policy
        self._report = report
        self._row = row = _row_of_our_own() if row is None else row
        self._admission = Admission(row) if admission is None else admission
        self._running, self._requests, self._failures = row.in_flight, row.requests, row.failures
        self._cells = row.board.cells - 1
        self._elsewhere = Elsewhere(row)
        self._look_at = 0.0
        self._seats: dict[str, Seat] = {}
        self._candidates: Mapping[str, BackendView] = {}
        self._known: frozenset[str] = frozenset()
        # Backends whose work the operator wants to last.
        self.staying: frozenset[str] = frozenset()
        self._ranked = False
        self._unrepeatable = 0
        self._ejections = LocalEjections()
        self.snapshot: PoolSnapshot
        self.apply(snapshot)

    def go_by(self, limits: PoolLimits) -> None:
        """Have these limits from now on."""
        if limits.tls != self.limits.tls:
            self.tls = None if limits.tls is None else backend_context(limits.tls)
        self.limits = limits

    @property
    def name(self) -> str:
        return self.snapshot.name

    @property
    def policy(self) -> Policy:
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        """Choose by another rule from the next pick on."""
        self._policy.seat(())
        self._policy = policy
        self._ranked = False

    @property
    def in_flight(self) -> Mapping[str, int]:
        """Attempts now under way in this worker, by address."""
        return {address: seat.in_flight for address, seat in self._seats.items()}

    @property
    def tallies(self) -> Mapping[str, Tally]:
        """What this worker has counted, by address."""
        return {address: seat.tally for address, seat in self._seats.items()}

    # ---- snapshots

    def apply(self, snapshot: PoolSnapshot) -> bool:
        """The supervisor's word: swap in a new snapshot; whether other backends are in it.

        Counts of backends that are gone stay until they are zero.
        """
        self._word = snapshot
        return self._swap_in(self._ejections.applied_to(snapshot))

    def decided(self, address: str) -> None:
        """The supervisor has heard why we ejected this backend: now its word holds."""
        if self._ejections.answered(address):
            self._swap_in(self._ejections.applied_to(self._word))

    def tick(self, now: float) -> None:
        """End our own ejections that nobody has answered in their time."""
        if self._ejections.end(now):
            self._swap_in(self._ejections.applied_to(self._word))

    def _swap_in(self, snapshot: PoolSnapshot) -> bool:
        now = trio.current_time()
        self._look_elsewhere()
        self.snapshot = snapshot
        self._candidates = candidates = {view.id.address: view for view in snapshot.candidates}
        for view in snapshot.backends:
            address = view.id.address
            seat = self._seats.get(address)
            if seat is None:
                seat = self._seats[address] = Seat(view)
            self._count_at(seat, view.cell if view.cell < self._cells else NO_CELL)
            seat.take_part_as(view, candidates.get(address, view), now)
        self._ranked = False
        before = self._known
        self._known = frozenset(view.id.address for view in snapshot.backends)
        self.staying = frozenset(view.id.address for view in snapshot.backends if view.admin.serves)
        for address in before - self._known:
            self._forget_if_gone(self._seats[address])
        self._elsewhere.watch(seat.cell for seat in self._seats.values())
        return self._known != before

    def _forget_if_gone(self, seat: Seat) -> None:
        if not seat.in_flight and seat.address not in self._known:
            del self._seats[seat.address]

    def _count_at(self, seat: Seat, cell: int) -> None:
        """The backend's counts stand at this place on the board from now on."""
        if seat.cell != cell:
            self._running[seat.cell] -= seat.in_flight
            self._running[cell] += seat.in_flight
            seat.cell = cell

    # ---- attempts

    def pick(self, *, avoid: Collection[str], unrepeatable: bool) -> BackendView | None:
        """Choose and count in one step; whoever gets a backend must call `end` once."""
        policy, admission = self._policy, self._admission
        if admission.limit and not avoid and admission.is_full:
            return None
        if not self._ranked:
            policy.seat([self._seats[address] for address in self._candidates])
            self._ranked = True
        if policy.compares and self._elsewhere.sees_any:
            self._look_elsewhere_in_time()
        spares = False
        if unrepeatable:
            self._unrepeatable += 1
            spares = spares_trials(self._unrepeatable)
        seat = policy.pick(avoid=avoid, spares_trials=spares)
        if seat is None:
            return None
        seat.in_flight += 1
        self._running[seat.cell] += 1
        if admission.limit:
            admission.count(1)
        return seat.view

    def _look_elsewhere_in_time(self) -> None:
        if self._elsewhere.is_large:
            now = trio.current_time()
            if now < self._look_at:
                return
            self._look_at = now + LOOK_S
        self._look_elsewhere()

    def _look_elsewhere(self) -> None:
        """Compare with what other workers have in flight now."""
        counts = self._elsewhere.news()
        if counts is None:
            return
        start = self._elsewhere.start
        for seat in self._seats.values():
            if seat.cell >= 0 and counts[seat.cell - start] != seat.elsewhere:
                self._policy.shift(seat, seat.seen_elsewhere(counts[seat.cell - start]))

    def end(self, address: str, began: float) -> None:
        """Return the count that `pick` took for an attempt that began then; after its `record`."""
        seat = self._seats[address]
        freed = seat.ended(began)
        self._running[seat.cell] -= 1
        if self._admission.limit:
            self._admission.count(-1)
        if freed:
            self._policy.shift(seat, freed)
        if not seat.in_flight and address not in self._known:
            self._forget_if_gone(seat)

    def record(self, backend: BackendId, evidence: Evidence, reason: str, began: float) -> None:
        """Count an attempt that ended, and pass on what it says if that is news.

        A backend that has failed too often in a row takes nothing more from this worker at once,
        where the snapshot allows that.
        """
        seat = self._seats[backend.address]
        failures = seat.tally.failures
        news = seat.count(evidence, began)
        self._requests[seat.cell] += 1
        if news:
            self._failures[seat.cell] += seat.tally.failures - failures
            self._report(backend, evidence, reason, began, self._ejects(seat, reason))

    def _ejects(self, seat: Seat, reason: str) -> bool:
        """Leave the backend out from the next pick on, if it is time to; whether it was."""
        candidate = self._candidates.get(seat.address)
        if not may_eject(self.snapshot, candidate, seat.failures_in_a_row):
            return False
        until = trio.current_time() + self.base_ejection_s
        self._ejections.add(seat.address, reason, until)
        self._swap_in(self._ejections.applied_to(self._word))
        return True

    # ---- questions

    def keeps_idle(self, address: str) -> bool:
        """Whether connections to this backend may rest: only while it may be picked."""
        return address in self._candidates

    def why_none(self) -> PickFailure:
        """Asked once for each request that is refused."""
        if self.snapshot.candidates and self._admission.is_full:
            self._admission.shed += 1
            return PickFailure.SHED
        return why_none(self.snapshot)


def _row_of_our_own() -> BoardRow:
    """For a worker that shares nothing."""
    return lay_out(bytearray(board_bytes(1, 1)), 1, 1).row(0)
