"""Who may be picked at one moment, and which of them an attempt should go to.

Here the three machines (admin state, health, ejection) meet: `BackendView.available` is the one
predicate, panic is its one exception, and the rules of a single pick (retries, unrepeatable
requests, backends on trial) stand on top. A snapshot never changes; it is replaced whole.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from balancer.core.backend import AdminState, BackendView
from balancer.core.outcome import PickFailure
from balancer.core.policies import Policy
from healthcheck.core.verdict import Health

# Leaving panic takes this share of the counted backends more than entering it (one at least), so
# that a pool at the threshold does not swing between the two with every verdict.
LEAVING_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """A pool at one moment.

    `candidates` may be picked; `steady` are those of them that are not on trial (the same tuple
    when none is). `summary` says in a sentence how the pool is doing.
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
) -> PoolSnapshot:
    """The snapshot that follows from the views.

    `pending` holds the addresses whose first verdict is not there yet. Panic is judged over the
    backends that could take requests if health and ejection were ignored: ready, of some weight,
    and past their first verdict. Nobody else takes any, panic or not.
    """
    wanted = [view for view in backends if view.weight > 0 and view.admin is AdminState.READY]
    counted = [view for view in wanted if view.id.address not in pending] if pending else wanted
    usable = tuple(view for view in wanted if view.available)
    # While a first verdict is still to come, panic does not begin: it may yet be a PASS.
    may_panic = was_panic or len(counted) == len(wanted)
    panic = may_panic and _is_panic(
        len(usable), len(counted), panic_below=panic_below, was_panic=was_panic
    )
    numbers = f"{len(usable)} of {len(wanted)} backends available"
    candidates = tuple(_as_in_panic(view) for view in counted) if panic else _unlimited(usable)
    on_trial = any(view.on_trial for view in candidates)
    return PoolSnapshot(
        name=name,
        policy=policy,
        backends=tuple(backends),
        candidates=candidates,
        steady=tuple(view for view in candidates if not view.on_trial) if on_trial else candidates,
        pending=frozenset(pending),
        panic=panic,
        numbers=numbers,
        summary=f"panic: {numbers}, too few; health and ejection are ignored" if panic else numbers,
    )


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


# With nothing but unrepeatable requests a backend on trial would wait for ever for its one success;
# so every so many of them one may go there.
UNREPEATABLE_PER_TRIAL = 64


def spares_trials(unrepeatable_so_far: int) -> bool:
    """Whether the next unrepeatable request keeps away from backends on trial."""
    return unrepeatable_so_far % UNREPEATABLE_PER_TRIAL != 0


def pick(
    snapshot: PoolSnapshot,
    policy: Policy,
    in_flight: Mapping[str, int],
    *,
    avoid: Collection[str],
    unrepeatable: bool,
) -> BackendView | None:
    """The backend for the next attempt, or None when nobody has room (`why_none` says more).

    `avoid` holds the addresses this exchange has tried; they come last. An unrepeatable request
    goes to a backend on trial only when no other that it has not tried has room: should the trial
    fail, nothing could hide it.
    """
    if not avoid and not (unrepeatable and snapshot.steady is not snapshot.candidates):
        return policy.pick(snapshot.candidates, in_flight)
    for choice in _choices(snapshot, avoid=avoid, unrepeatable=unrepeatable):
        chosen = policy.pick(choice, in_flight)
        if chosen is not None:
            return chosen
    return None


def _choices(
    snapshot: PoolSnapshot, *, avoid: Collection[str], unrepeatable: bool
) -> list[Sequence[BackendView]]:
    """Whom to ask for, best first."""
    if not avoid:
        return [snapshot.steady, snapshot.candidates]
    untried = [view for view in snapshot.candidates if view.id.address not in avoid]
    if not unrepeatable:
        return [untried, snapshot.candidates]
    steady = [view for view in untried if not view.on_trial]
    return [steady, untried, snapshot.steady, snapshot.candidates]


def why_none(snapshot: PoolSnapshot) -> PickFailure:
    """Why `pick` found nobody, in the words the client and the log are told."""
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
