"""A backend as every reader sees it, and the one predicate that says whether it may be picked."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from balancer.core.board import NO_CELL
from healthcheck.core.verdict import Health


class BackendId(NamedTuple):
    """Identity of a backend: its pool and its address as written, never its position in a list."""

    pool: str
    address: str


class AdminState(StrEnum):
    """What the operator says.

    DRAINING: nothing new, running work finishes, still probed. MAINTENANCE: neither traffic nor
    probes.
    """

    READY = "ready"
    DRAINING = "draining"
    MAINTENANCE = "maintenance"

    @property
    def serves(self) -> bool:
        """Whether the operator lets it take new attempts."""
        return self is AdminState.READY

    @property
    def probed(self) -> bool:
        return self is not AdminState.MAINTENANCE

    def forgets(self, before: "AdminState") -> bool:
        """Whether what was known of its health before says nothing now: nobody looked meanwhile."""
        return self.probed and not before.probed


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendView:
    """One backend at one moment.

    `limit`: most attempts in flight (1 on trial, None: no limit). `cell`: where on the board its
    counts stand; without one, each worker sees its own only.
    """

    id: BackendId
    weight: int
    admin: AdminState
    health: Health
    ejected: bool
    on_trial: bool
    limit: int | None
    reason: str
    since: float
    cell: int = NO_CELL

    @property
    def available(self) -> bool:
        """Ready, of some weight, healthy and not ejected; a pick judges room (`has_room`)."""
        return (
            self.admin is AdminState.READY
            and self.weight > 0
            and self.health is Health.HEALTHY
            and not self.ejected
        )

    @property
    def pending(self) -> bool:
        """Ready, and waiting for its first verdict."""
        return self.admin is AdminState.READY and self.health is Health.UNKNOWN

    def has_room(self, in_flight: int) -> bool:
        return self.limit is None or in_flight < self.limit
