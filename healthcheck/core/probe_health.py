"""Where a verdict leads: the state machine of active checks.

Decides health from verdicts alone, and only from verdicts in a row. Knows no kinds of failure: a
refused connection and an odd status count the same. VOID verdicts change nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from healthcheck.core.verdict import Health, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """How many verdicts in a row take a healthy target out (fails) or bring it back (passes)."""

    fails: int
    passes: int

    def __post_init__(self) -> None:
        assert self.fails >= 1, "a threshold of no verdicts would flip a target unasked"
        assert self.passes >= 1, "a threshold of no verdicts would flip a target unasked"


@dataclass(frozen=True, slots=True)
class ProbeHealth:
    """What probes say now; `streak` counts the latest verdicts in a row against that."""

    state: Health = Health.UNKNOWN
    streak: int = 0


# Where a contradicting verdict leads. A pair that is not listed confirms the state.
LEADS_TO: Mapping[tuple[Health, Outcome], Health] = {
    (Health.UNKNOWN, Outcome.PASS): Health.HEALTHY,
    (Health.UNKNOWN, Outcome.FAIL): Health.UNHEALTHY,
    (Health.HEALTHY, Outcome.FAIL): Health.UNHEALTHY,
    (Health.UNHEALTHY, Outcome.PASS): Health.HEALTHY,
}


def step(health: ProbeHealth, outcome: Outcome, thresholds: Thresholds) -> ProbeHealth:
    """The health after one more verdict."""
    if outcome is Outcome.VOID:
        return health
    target = LEADS_TO.get((health.state, outcome))
    if target is None:
        return ProbeHealth(health.state)  # confirmed: the streak starts over
    streak = health.streak + 1
    if streak < verdicts_needed(health.state, thresholds):
        return ProbeHealth(health.state, streak)
    return ProbeHealth(target)


def verdicts_needed(state: Health, thresholds: Thresholds) -> int:
    """How many verdicts in a row against `state` end it; the first of all decides alone."""
    if state is Health.UNKNOWN:
        return 1
    return thresholds.fails if state is Health.HEALTHY else thresholds.passes


def streak_words(health: ProbeHealth, thresholds: Thresholds) -> str:
    """How far from flipping: `2/3 fails`, `1/2 passes`, or nothing."""
    if health.streak == 0:
        return ""
    kind = "fails" if health.state is Health.HEALTHY else "passes"
    return f"{health.streak}/{verdicts_needed(health.state, thresholds)} {kind}"
