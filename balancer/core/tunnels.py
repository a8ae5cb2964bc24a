"""How long a tunnel may last, when it is closed while its backend or its worker leaves, and why.

Tunnels seldom end by themselves, and their clients come back at once. So those that must end do not
end in one instant: each has its own share of a time over which they are spread.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from balancer.core.outcome import Failure

NEVER = float("inf")
# How long the peers of a WebSocket have to answer a close frame, or to end the frame under way.
CLOSE_WAIT_S = 2.0
# Closing is spread over so much of the time to drain, after it.
SPREAD = 0.25


class TunnelEnd(StrEnum):
    """How a tunnel came to its end. The value is what the access log says."""

    BY_CLIENT = "ended by the client"
    BY_BACKEND = "ended by the backend"
    CLIENT_BROKE = "broken by the client"
    BACKEND_BROKE = "broken by the backend"
    IDLE = "closed after its idle time"
    AGED = "closed at its greatest age"
    BACKEND_LEAVES = "closed because its backend leaves"
    WORKER_ENDS = "closed because its worker ends"
    CUT = Failure.CUT.value
    STOPPING = Failure.STOPPING.value

    @property
    def ordinary(self) -> bool:
        """Whether one of the two ends wanted it so."""
        return self in _ORDINARY


_ORDINARY = frozenset({TunnelEnd.BY_CLIENT, TunnelEnd.BY_BACKEND})
# What may end an exchange under way from outside.
END_OF: Mapping[Failure, TunnelEnd] = {
    Failure.CUT: TunnelEnd.CUT,
    Failure.STOPPING: TunnelEnd.STOPPING,
    Failure.CLIENT_LEFT: TunnelEnd.CLIENT_BROKE,
}


def graver(end: TunnelEnd, before: TunnelEnd | None) -> TunnelEnd:
    """What is told of a tunnel: the first that was not ordinary."""
    return end if before is None or (before.ordinary and not end.ordinary) else before


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelLimits:
    """Which protocols a pool's tunnels may speak; times in seconds, `age_max_s` 0 for no limit."""

    protocols: tuple[str, ...] = ()
    idle_s: float = 3600.0
    age_max_s: float = 0.0
    drain_s: float = 300.0


NO_TUNNELS = TunnelLimits()


@dataclass(frozen=True, slots=True)
class Leave:
    """Somebody leaves: since when, by when all must be over, and since when that is known."""

    since: float
    end: float = NEVER
    told: float = 0.0

    def sooner(self, now: float, limit_s: float) -> "Leave":
        """The same, with another limit from now on."""
        return Leave(self.since, now + limit_s, now)


def closing_time(leave: Leave, drain_s: float, share: float) -> float:
    """When a tunnel is to be closed: `share`, from 0 to 1, is its place among the others.

    All of them within a quarter of `drain_s` after it; where the time is shorter, so that the peers
    can still answer within it, and spread over a third of it at most.
    """
    time_s = leave.end - leave.told
    last = leave.end - min(CLOSE_WAIT_S, time_s / 4)
    spread_s = min(drain_s * SPREAD, time_s / 3)
    begin = min(leave.since + drain_s, last - spread_s)
    return max(begin + spread_s * share, leave.since)


@dataclass(slots=True, kw_only=True)
class Lifetime:
    """The times of one tunnel.

    `moved`: when a byte was last taken by either end. `closing`: why it is being closed; it is over
    at `cut_at` even if the peers have not answered.
    """

    began: float
    moved: float
    share: float
    closing: TunnelEnd | None = None
    cut_at: float = NEVER
    backend_left: float | None = None
    closes: dict[TunnelEnd, float] = field(default_factory=dict)

    def leave(
        self, now: float, *, backend_leaves: bool, worker: Leave | None, drain_s: float
    ) -> None:
        """Who leaves now; who has come back is left no more."""
        if not backend_leaves:
            self.backend_left = None
        elif self.backend_left is None:
            self.backend_left = now
        self.closes.clear()
        if self.backend_left is not None:
            leave = Leave(self.backend_left)
            self.closes[TunnelEnd.BACKEND_LEAVES] = closing_time(leave, drain_s, self.share)
        if worker is not None:
            self.closes[TunnelEnd.WORKER_ENDS] = closing_time(worker, drain_s, self.share)

    def _ends(self, limits: TunnelLimits) -> dict[TunnelEnd, float]:
        """When it is to be closed for each of the reasons there are."""
        aged = self.began + limits.age_max_s if limits.age_max_s else NEVER
        return {TunnelEnd.IDLE: self.moved + limits.idle_s, TunnelEnd.AGED: aged} | self.closes

    def next_look(self, limits: TunnelLimits) -> float:
        """When `due` may say something else than now."""
        return min(self._ends(limits).values()) if self.closing is None else self.cut_at

    def due(self, limits: TunnelLimits, now: float) -> TunnelEnd | None:
        """Why it is to be closed now; while it is being closed, whether that has to be over."""
        if self.closing is not None:
            return self.closing if now >= self.cut_at else None
        ends = self._ends(limits)
        end = min(ends, key=ends.__getitem__)
        return end if now >= ends[end] else None

    def close(self, end: TunnelEnd, now: float) -> None:
        """Begin to close it."""
        self.closing = end
        self.cut_at = now + CLOSE_WAIT_S
