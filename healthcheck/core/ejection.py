"""Passive removal for a time: one target's state machine.

    SERVING --enough failures in a row--> EJECTED --time over, or a PASS--> ON_TRIAL
    ON_TRIAL --success--> SERVING            ON_TRIAL --failure--> EJECTED, for longer

Decides when a target deserves to go, for how long, and what brings it back. Whether it may go is
for the health table to say, which sees the whole pool; so is which evidence is too old to count.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum


class Standing(StrEnum):
    """ON_TRIAL: back with one attempt at a time, until one succeeds."""

    SERVING = "serving"
    EJECTED = "ejected"
    ON_TRIAL = "on_trial"


@dataclass(frozen=True, slots=True, kw_only=True)
class EjectionSettings:
    """An ejection lasts `base_s` times the ejections in a row, and never more than `max_s`."""

    consecutive_failures: int
    base_s: float
    max_s: float
    max_ratio: float
    end_on_pass: bool

    def __post_init__(self) -> None:
        assert self.consecutive_failures >= 1, "no failure is no reason to eject"
        assert self.base_s > 0, "an ejection has a length, or it is none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ejection:
    """One target's standing. `since`: when the standing began; `ejected_at`: latest ejection."""

    since: float
    standing: Standing = Standing.SERVING
    failures: int = 0
    times: int = 0
    until: float | None = None
    ejected_at: float | None = None


def succeeded(ejection: Ejection, now: float) -> Ejection:
    """A success ends a streak of failures, and a trial; it cannot shorten an ejection."""
    if ejection.standing is Standing.ON_TRIAL:
        return _serving(ejection, now)
    return replace(ejection, failures=0) if ejection.failures else ejection


def failed(ejection: Ejection) -> Ejection:
    """A failure counts, except on a target that is out: it cannot lengthen an ejection."""
    if ejection.standing is Standing.EJECTED:
        return ejection
    return replace(ejection, failures=ejection.failures + 1)


def deserves_to_go(ejection: Ejection, settings: EjectionSettings) -> bool:
    needed = {Standing.SERVING: settings.consecutive_failures, Standing.ON_TRIAL: 1}
    return ejection.failures >= needed.get(ejection.standing, math.inf)


def eject(ejection: Ejection, settings: EjectionSettings, now: float) -> Ejection:
    """Out from now on, for longer than the last time unless that has been forgotten meanwhile."""
    times = min(times_in_a_row(ejection, settings, now) + 1, longest_after(settings))
    return Ejection(
        since=now,
        standing=Standing.EJECTED,
        times=times,
        until=now + min(settings.base_s * times, settings.max_s),
        ejected_at=now,
    )


def longest_after(settings: EjectionSettings) -> int:
    """After how many ejections in a row they are longest; counting on would only delay the decay."""
    return max(1, math.ceil(settings.max_s / settings.base_s))


def times_in_a_row(ejection: Ejection, settings: EjectionSettings, now: float) -> int:
    """Ejections still held against it: one is forgotten for each `base_s` that it serves."""
    if ejection.standing is not Standing.SERVING:
        return ejection.times
    return max(0, ejection.times - int((now - ejection.since) / settings.base_s))


def on_trial(ejection: Ejection, now: float) -> Ejection:
    """The ejection is over."""
    return replace(ejection, since=now, standing=Standing.ON_TRIAL, failures=0, until=None)


def acquitted(ejection: Ejection, now: float) -> Ejection:
    """The trial is dropped without a success; what was held against the target still is."""
    return _serving(ejection, now)


def _serving(ejection: Ejection, now: float) -> Ejection:
    return replace(ejection, since=now, standing=Standing.SERVING, failures=0, until=None)


def most_ejected(serving: int, max_ratio: float) -> int:
    """How many of `serving` targets may be out at once: never more than the share, nor the only one."""
    if serving < 2:
        return 0
    # A share such as 0.29 of 100 comes out of the multiplication a hair below 29.
    return math.floor(serving * max_ratio + 1e-9)
