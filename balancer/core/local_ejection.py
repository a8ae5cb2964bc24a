"""What a worker may do at once when a backend fails it: leave it out until the supervisor decides.

Decides when, within what the snapshot allows, and what the pool then looks like to this worker. What
the supervisor says meanwhile it may have said before it heard of the failures, so only its answer
ends an ejection, or a word that leaves no room for it, or the time of a first ejection.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from balancer.core.backend import AdminState, BackendView
from balancer.core.snapshot import PoolSnapshot, assembled, numbers_of
from healthcheck.core.ejection import most_ejected


def ejectable(views: Iterable[BackendView], max_ratio: float) -> int:
    """How many more of a pool a worker may leave out on its own.

    Within the share that may be out, and never the last one that works.
    """
    serving = [view for view in views if view.weight > 0 and view.admin is AdminState.READY]
    out = sum(view.ejected for view in serving)
    works = sum(view.available for view in serving)
    return max(0, min(most_ejected(len(serving), max_ratio) - out, works - 1))


def room_in(snapshot: PoolSnapshot) -> int:
    """How many more a worker may leave out of the pool as it stands; nobody while it is in panic."""
    return 0 if snapshot.panic or snapshot.eject_after is None else snapshot.ejectable


def may_eject(
    snapshot: PoolSnapshot, candidate: BackendView | None, failures_in_a_row: int
) -> bool:
    """Whether a worker leaves out a backend that has failed so often in a row; on trial, once.

    `candidate`: None where it may not be picked anyway, or is in the pool no more while its last
    attempts end.
    """
    if candidate is None or snapshot.eject_after is None or not room_in(snapshot):
        return False
    return failures_in_a_row >= (1 if candidate.on_trial else snapshot.eject_after)


def without(word: PoolSnapshot, ejected: Mapping[str, str]) -> PoolSnapshot:
    """The supervisor's word as it is to this worker, which has ejected these addresses: why."""
    views = tuple(
        replace(view, ejected=True, on_trial=False, reason=ejected[view.id.address])
        if view.id.address in ejected
        else view
        for view in word.backends
    )
    return assembled(
        name=word.name,
        policy=word.policy,
        views=views,
        pending=word.pending,
        panic=word.panic,
        numbers=numbers_of(views),
        ejectable=max(0, word.ejectable - len(ejected)),
        eject_after=word.eject_after,
    )


class LocalEjections:
    """Whom this worker leaves out of one pool on its own, and until when."""

    def __init__(self) -> None:
        self._out: dict[str, tuple[float, str]] = {}

    def add(self, address: str, reason: str, until: float) -> None:
        self._out[address] = (until, f"ejected by this worker: {reason}")

    def answered(self, address: str) -> bool:
        """The supervisor has decided about this one; whether it was out until now."""
        return self._out.pop(address, None) is not None

    def end(self, now: float) -> bool:
        """Let those go whose time is over; whether there were any."""
        over = [address for address, (until, _) in self._out.items() if until <= now]
        for address in over:
            del self._out[address]
        return bool(over)

    def applied_to(self, word: PoolSnapshot) -> PoolSnapshot:
        """The word as it is to this worker; an ejection that it leaves no room for is over.

        So is one of a backend that would not be picked anyway, or is gone. Who went first stays out.
        """
        if not self._out:
            return word
        picked = {view.id.address for view in word.candidates}
        kept = [item for item in self._out.items() if item[0] in picked][: room_in(word)]
        self._out = dict(kept)
        return without(word, {address: why for address, (_, why) in kept}) if kept else word
