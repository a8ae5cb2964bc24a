"""When a target is probed next.

Decides due times from a plan and a pace. Never waits and never reads a clock; jitter comes from a
seeded Random, so that a test can replay any schedule.
"""

from dataclasses import dataclass
from enum import StrEnum
from random import Random

# First probes of few targets come at once, so that a start is quick; those of many are spread, so
# that a start is not a burst. A thousand first probes a second keep about one core busy.
FIRST_SPREAD_MIN_S = 0.2
FIRST_SPREAD_MAX_S = 1.0
FIRST_SPREAD_EACH_S = 0.002


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


def first_due(plan: ProbePlan, *, now: float, watched: int, rng: Random) -> float:
    """When a new target is probed first: soon, spread by how many are watched already."""
    spread = min(max(FIRST_SPREAD_EACH_S * watched, FIRST_SPREAD_MIN_S), FIRST_SPREAD_MAX_S)
    return now + rng.uniform(0, min(spread, plan.interval_s))


def next_due(plan: ProbePlan, pace: Pace, *, began: float, now: float, rng: Random) -> float:
    """When a target is due again; counted from the last start, so that slow answers cost no pace.

    Never before `now`: a probe that took longer than the interval is followed by the next at once.
    """
    interval = plan.interval_s if pace is Pace.STEADY else plan.transition_interval_s
    return max(now, began + interval * (1 + rng.uniform(-plan.jitter, plan.jitter)))
