"""The one word an operator reads for a backend's state, out of its three machines.

Decides which of several true things is said first: what the operator ordered, then what probes
found, then what live traffic found. It changes nothing and picks nothing.
"""

from balancer.core.backend import AdminState
from healthcheck.core.verdict import Health

# What the operator says comes first: it explains everything below it.
_OF_ADMIN = {AdminState.DRAINING: "draining", AdminState.MAINTENANCE: "maintenance"}
_OF_HEALTH = {Health.UNHEALTHY: "unhealthy", Health.UNKNOWN: "checking"}

_STAYS_OUT_IN_PANIC = frozenset({"draining", "maintenance", "checking"})


def state_word(*, admin: str, health: str, ejected: bool, on_trial: bool) -> str:
    """One of: up, on trial, ejected, unhealthy, checking, draining, maintenance."""
    word = _OF_ADMIN.get(AdminState(admin)) or _OF_HEALTH.get(Health(health))
    if word is not None:
        return word
    if ejected:
        return "ejected"
    return "on trial" if on_trial else "up"


def used_in_panic(word: str) -> bool:
    """Whether panic makes a backend in this state take requests that it would not take else."""
    return word not in _STAYS_OUT_IN_PANIC | {"up", "on trial"}
