"""Who may be picked at one moment, and why nobody else.

Here the three machines (admin state, health, ejection) meet: `BackendView.available` is the one
predicate, and panic is its one exception. Which of those who may be picked an attempt goes to is for
the policies. A snapshot never changes; it is replaced whole.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from balancer.core.backend import AdminState, BackendView
from balancer.core.outcome import PickFailure
from healthcheck.core.verdict import Health

# Leaving panic takes this share of the counted backends more than entering it (one at least), so
# that a pool at the threshold does not swing between the two with every verdict.
LEAVING_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """A pool at one moment.

    `candidates` may be picked; `steady` are those of them that are not on trial (the same tuple
    when none is). `summary` says in a sentence how the pool is doing. A worker may eject a backend
    on its own after `eject_after` failures in a row, if not None, and `ejectable` of them.
    """

    name: str
    policy: str
    backends: tuple[BackendView, ...]
    candidates: tuple[BackendView, ...]
    steady: tuple[BackendView, ...]
    pending: frozenset[str]
    panic: bool
    numbers: str
    summary: str
    ejectable: int = 0
    eject_after: int | None = None

    @property
    def available(self) -> int:
        """How many backends the one predicate holds for."""
        return sum(view.available for view in self.backends)

    def explain(self, view: BackendView) -> str:
        """Why that backend of the pool does or does not take new requests, in words.

        The view at hand may have newer words than the snapshot's own.
        """
        why = f": {view.reason}" if view.reason else ""
        if view.admin is not AdminState.READY:
            return f"takes no new requests: {view.admin.value} by the operator"
        if view.weight == 0:
            return "takes no new requests: its weight is 0"
        if view.id.address in self.pending:
            return f"takes no requests yet: its first check is still to come{why}"
        if not view.available:
            state = "ejected" if view.ejected else view.health.value
            if self.panic:
                return f"takes requests although {state}, because the pool is in panic{why}"
            return f"takes no new requests: {state}{why}"
        if view.on_trial and not self.panic:
            limited = view.limit is not None and self.steady
            limit = f", at most {view.limit} at a time" if limited else ""
            return f"takes requests on trial{limit}{why}"
        return f"takes requests{why}"


def pool_snapshot(
    name: str,
    policy: str,
    backends: Sequence[BackendView],
    *,
    pending: Collection[str],
    panic_below: float,
    was_panic: bool,
    ejectable: int = 0,
    eject_after: int | None = None,
) -> PoolSnapshot:
    """The snapshot that follows from the views.

    `pending` holds the addresses whose first verdict is not there yet. Panic is judged over the
    backends that could take requests if health and ejection were ignored: ready, of some weight,
    and past their first verdict. Nobody else takes any, panic or not.
    """
    wanted = _wanted(backends)
    counted = _past_first_verdict(wanted, pending)
    usable = sum(view.available for view in wanted)
    # While a first verdict is still to come, panic does not begin: it may yet be a PASS.
    may_panic = was_panic or len(counted) == len(wanted)
    panic = may_panic and _is_panic(
        usable, len(counted), panic_below=panic_below, was_panic=was_panic
    )
    return assembled(
        name=name,
        policy=policy,
        views=tuple(backends),
        pending=frozenset(pending),
        panic=panic,
        numbers=_numbers(usable, len(wanted)),
        ejectable=ejectable,
        eject_after=eject_after,
    )


def assembled(
    *,
    name: str,
    policy: str,
    views: tuple[BackendView, ...],
    pending: frozenset[str],
    panic: bool,
    numbers: str,
    ejectable: int,
    eject_after: int | None,
) -> PoolSnapshot:
    """The snapshot of what has been decided already: a worker is told no more than this."""
    wanted = _wanted(views)
    if panic:
        candidates = tuple(_as_in_panic(view) for view in _past_first_verdict(wanted, pending))
    else:
        candidates = _unlimited(tuple(view for view in wanted if view.available))
    on_trial = any(view.on_trial for view in candidates)
    return PoolSnapshot(
        name=name,
        policy=policy,
        backends=views,
        candidates=candidates,
        steady=tuple(view for view in candidates if not view.on_trial) if on_trial else candidates,
        pending=pending,
        panic=panic,
        numbers=numbers,
        summary=f"panic: {numbers}, too few; health and ejection are ignored" if panic else numbers,
        ejectable=ejectable,
        eject_after=eject_after,
    )


def numbers_of(views: Sequence[BackendView]) -> str:
    """`2 of 3 backends available`, of those that would take requests if they were well."""
    wanted = _wanted(views)
    return _numbers(sum(view.available for view in wanted), len(wanted))


def _numbers(usable: int, wanted: int) -> str:
    return f"{usable} of {wanted} backends available"


def _wanted(views: Sequence[BackendView]) -> list[BackendView]:
    return [view for view in views if view.weight > 0 and view.admin is AdminState.READY]


def _past_first_verdict(wanted: list[BackendView], pending: Collection[str]) -> list[BackendView]:
    return [view for view in wanted if view.id.address not in pending] if pending else wanted


def _unlimited(usable: tuple[BackendView, ...]) -> tuple[BackendView, ...]:
    """A trial holds a backend to one attempt while others carry the rest; with none, it would shed."""
    if not all(view.on_trial for view in usable):
        return usable
    return tuple(replace(view, limit=None) for view in usable)


def _is_panic(usable: int, counted: int, *, panic_below: float, was_panic: bool) -> bool:
    """Whether too few of the counted are usable.

    With `panic_below` 0 that is when none is, and it is over with the first: to go on sending to
    backends known to be bad beside a good one would help nobody.
    """
    needed = max(1, math.ceil(round(panic_below * counted, 6)))
    if was_panic and panic_below > 0:
        needed += max(1, math.ceil(counted * LEAVING_SHARE))
    return usable < min(needed, counted)


def _as_in_panic(view: BackendView) -> BackendView:
    """Ejection is ignored in panic, and with it what follows from having been ejected."""
    return replace(view, on_trial=False, limit=None) if view.on_trial else view


def why_none(snapshot: PoolSnapshot) -> PickFailure:
    """Why a pick found nobody, in the words the client and the log are told."""
    if not snapshot.backends:
        return PickFailure.EMPTY
    if snapshot.candidates:
        return PickFailure.FULL
    ready = [view for view in snapshot.backends if view.admin is AdminState.READY]
    if not ready:
        return PickFailure.NONE_READY
    if all(view.weight == 0 for view in ready):
        return PickFailure.NO_WEIGHT
    if all(view.health is Health.UNKNOWN for view in ready):
        return PickFailure.PENDING
    return PickFailure.NONE_AVAILABLE
