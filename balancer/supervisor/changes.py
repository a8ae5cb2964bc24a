"""What a change of one backend is: kind, cause and effect, from what it made of the ledger's entry."""

from typing import NamedTuple

from balancer.core.backend import AdminState
from balancer.core.ledger import LedgerEntry
from balancer.supervisor.events import EventKind

_KIND_OF_ADMIN = {
    AdminState.READY: EventKind.BACKEND_READY,
    AdminState.DRAINING: EventKind.BACKEND_DRAINING,
    AdminState.MAINTENANCE: EventKind.BACKEND_MAINTENANCE,
}


class BackendChange(NamedTuple):
    """One event to be told; `effect` None: the usual one of its kind."""

    kind: EventKind
    cause: str
    effect: str | None


def backend_change(
    before: LedgerEntry | None, after: LedgerEntry | None, *, by: str
) -> BackendChange:
    """What was made of a backend. `by`: who did it, such as `the operator`."""
    if after is None:
        return BackendChange(EventKind.BACKEND_REMOVED, f"removed by {by}", None)
    effect = "takes no new requests" if after.weight == 0 else None
    if before is None:
        cause = f"added by {by} with weight {after.weight}"
        return BackendChange(EventKind.BACKEND_ADDED, cause, effect)
    if before.admin is not after.admin:
        cause = f"set to {after.admin.value} by {by} (was {before.admin.value})"
        return BackendChange(_KIND_OF_ADMIN[after.admin], cause, None)
    cause = f"weight set to {after.weight} by {by} (was {before.weight})"
    return BackendChange(EventKind.BACKEND_WEIGHT, cause, effect)
