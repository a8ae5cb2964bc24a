"""One target of a health table: what is known of it, and how that reads.

Decides nothing; the table does. `Change` and `TargetView` are what leaves the table.
"""

from dataclasses import dataclass

from healthcheck.core import wording
from healthcheck.core.ejection import Ejection, Standing
from healthcheck.core.probe_health import ProbeHealth, Thresholds, streak_words
from healthcheck.core.verdict import Health


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that is now otherwise; old == new tells of an ejection that was not allowed."""

    target: str
    kind: str  # "health" or "ejection"
    old: str
    new: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetView:
    """One target at one moment. `pending`: the first verdict is not there yet."""

    health: Health
    pending: bool
    ejected: bool
    on_trial: bool
    ejected_until: float | None
    reason: str
    since: float
    streak: str
    restored: bool


@dataclass(slots=True, kw_only=True)
class Entry:
    """The table's own record of a target. `*_cause`: why it is as it is, in words."""

    target: str
    probe: ProbeHealth
    probe_cause: str
    probe_since: float
    probe_last: str = ""  # what the latest probe said
    probe_restored: bool = False
    probe_assumed: bool = False  # it counts as healthy, and nothing of it has been observed yet
    ejection: Ejection
    ejection_cause: str = ""
    ejection_restored: bool = False
    known_since: float
    serving: bool = True
    refused: bool = False  # an ejection was due and not allowed, and that has been told

    @property
    def works(self) -> bool:
        return (
            self.serving
            and self.probe.state is Health.HEALTHY
            and self.ejection.standing is not Standing.EJECTED
        )

    def health_change(self, old: Health, now: float) -> Change:
        return Change(
            target=self.target,
            kind="health",
            old=old,
            new=self.probe.state,
            reason=self.probe_cause,
            at=now,
        )

    def ejection_change(self, old: Standing, now: float) -> Change:
        return Change(
            target=self.target,
            kind="ejection",
            old=old,
            new=self.ejection.standing,
            reason=self.ejection_cause,
            at=now,
        )

    def view(self, thresholds: Thresholds | None) -> TargetView:
        standing = self.ejection.standing
        ejected_ever = self.ejection.times > 0
        return TargetView(
            health=self.probe.state,
            pending=self.probe.state is Health.UNKNOWN,
            ejected=standing is Standing.EJECTED,
            on_trial=standing is Standing.ON_TRIAL,
            ejected_until=self.ejection.until,
            reason=self._reason(thresholds),
            since=max(self.probe_since, self.ejection.since) if ejected_ever else self.probe_since,
            streak=streak_words(self.probe, thresholds) if thresholds else "",
            restored=self.probe_restored or self.ejection_restored,
        )

    def _reason(self, thresholds: Thresholds | None) -> str:
        """Whatever keeps it from serving in full; if nothing does, why it is healthy."""
        health = self._probe_reason(thresholds)
        if self.ejection.standing is Standing.SERVING and not self.refused:
            return health
        ejection = _restored(self.ejection_cause, self.ejection_restored)
        if self.probe.state is Health.HEALTHY and not self.probe.streak:
            return ejection
        return f"{health}; {ejection}"

    def _probe_reason(self, thresholds: Thresholds | None) -> str:
        if thresholds is None:
            return wording.NO_CHECKS
        reason = wording.probe_reason(self.probe, thresholds, self.probe_cause, self.probe_last)
        return _restored(reason, self.probe_restored)


def _restored(reason: str, restored: bool) -> str:
    return f"restored: {reason}" if restored else reason
