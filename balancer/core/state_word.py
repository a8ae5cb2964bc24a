"""The one word an operator reads for a backend's state, out of its three machines.

Decides which of several true things is said first: what the operator ordered, then what probes
found, then what live traffic found. It changes nothing and picks nothing.
"""

from balancer.core.backend import AdminState
from healthcheck.core.verdict import Health

# What the operator says comes first: it explains everything below it.
_OF_ADMIN = {AdminState.DRAINING: "draining", AdminState.MAINTENANCE: "maintenance"}
_OF_HEALTH = {Health.UNHEALTHY: "unhealthy", Health.UNKNOWN: "checking"}

NO_WEIGHT = "weight 0"
_STAYS_OUT_IN_PANIC = frozenset({"draining", "maintenance", NO_WEIGHT, "checking"})


def state_word(*, admin: str, weight: int, health: str, ejected: bool, on_trial: bool) -> str:
    """One of: up, on trial, ejected, unhealthy, checking, weight 0, draining, maintenance."""
    word = (
        _OF_ADMIN.get(AdminState(admin))
        or (NO_WEIGHT if weight == 0 else None)
        or _OF_HEALTH.get(Health(health))
    )
    if word is not None:
        return word
    if ejected:
        return "ejected"
    return "on trial" if on_trial else "up"


def used_in_panic(word: str) -> bool:
    """Whether panic makes a backend in this state take requests that it would not take else."""
    return word not in _STAYS_OUT_IN_PANIC | {"up", "on trial"}
