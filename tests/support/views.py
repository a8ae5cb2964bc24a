"""Backend views for tests: say what matters, the rest is a plain healthy backend."""

from balancer.core.backend import AdminState, BackendId, BackendView
from balancer.core.board import NO_CELL
from healthcheck.core.verdict import Health


def view(
    address: str,
    weight: int = 1,
    *,
    admin: AdminState = AdminState.READY,
    health: Health = Health.HEALTHY,
    ejected: bool = False,
    on_trial: bool = False,
    limit: int | None = None,
    reason: str = "",
    cell: int = NO_CELL,
) -> BackendView:
    return BackendView(
        id=BackendId("web", address),
        weight=weight,
        admin=admin,
        health=health,
        ejected=ejected,
        on_trial=on_trial,
        limit=limit,
        reason=reason,
        since=0.0,
        cell=cell,
    )


def views(**weights: int) -> tuple[BackendView, ...]:
    """`views(a=5, b=1)`: plain backends of these weights."""
    return tuple(view(address, weight) for address, weight in weights.items())
