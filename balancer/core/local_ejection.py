"""What a worker may do at once when a backend fails it: leave it out until the supervisor decides.

Decides when, within what the snapshot allows, and what the pool then looks like to this worker. The
supervisor's next word replaces it; without one it ends after the time of a first ejection.
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


def may_eject(snapshot: PoolSnapshot, view: BackendView, failures_in_a_row: int) -> bool:
    """Whether a worker leaves out a backend that has failed so often in a row; on trial, once."""
    if snapshot.eject_after is None or snapshot.ejectable < 1 or snapshot.panic:
        return False
    needed = 1 if view.on_trial else snapshot.eject_after
    return failures_in_a_row >= needed and view.available


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

    def clear(self) -> None:
        """The supervisor has decided."""
        self._out = {}

    def end(self, now: float) -> bool:
        """Let those go whose time is over; whether there were any."""
        over = [address for address, (until, _) in self._out.items() if until <= now]
        for address in over:
            del self._out[address]
        return bool(over)

    def applied_to(self, word: PoolSnapshot) -> PoolSnapshot:
        if not self._out:
            return word
        return without(word, {address: why for address, (_, why) in self._out.items()})
