"""When a target is probed next.

Decides due times from a plan and a pace. Never waits and never reads a clock; jitter comes from a
seeded Random, so that a test can replay any schedule.
"""

from dataclasses import dataclass
from enum import StrEnum
from random import Random

# The first probe of a crowd begins at once, so that a start is quick, and the others follow at a
# rate that one core keeps up with; all within the time that a start may reasonably take.
FIRST_EACH_S = 0.001
FIRST_WITHIN_S = 4.0
# Probes that begin together share a wake-up of the loop, which costs as much as a third of a probe.
EARLY_MAX_S = 0.025
EARLY_SHARE = 0.01


class Pace(StrEnum):
    """TRANSITION: not yet sure of its state (no verdict, or a streak under way)."""

    STEADY = "steady"
    TRANSITION = "transition"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePlan:
    """How often a target is probed. `jitter` is a share of the interval, either way (0 to 1)."""

    interval_s: float
    transition_interval_s: float
    timeout_s: float
    jitter: float

    def __post_init__(self) -> None:
        assert self.interval_s > 0, "probes without a pause would be an attack"
        assert self.transition_interval_s > 0, "probes without a pause would be an attack"
        assert 0 <= self.jitter < 1, "jitter is a share of the interval, below the whole"


def first_due(plan: ProbePlan, *, now: float, ahead: int) -> float:
    """When a new target is probed first: at once, but for those `ahead` that still wait for it."""
    return now + min(ahead * FIRST_EACH_S, FIRST_WITHIN_S, plan.interval_s)


def early_s(plan: ProbePlan) -> float:
    """How much sooner than due a probe may begin, when others begin then."""
    shortest = min(plan.interval_s, plan.transition_interval_s)
    return min(shortest * EARLY_SHARE, EARLY_MAX_S)


def next_due(plan: ProbePlan, pace: Pace, *, began: float, now: float, rng: Random) -> float:
    """When a target is due again; counted from the last start, so that slow answers cost no pace.

    Never before `now`: a probe that took longer than the interval is followed by the next at once.
    """
    interval = plan.interval_s if pace is Pace.STEADY else plan.transition_interval_s
    return max(now, began + interval * (1 + rng.uniform(-plan.jitter, plan.jitter)))
