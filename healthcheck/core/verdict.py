"""The words in which a backend is judged: verdicts of probes and evidence of live attempts."""

from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What one probe found. VOID: the checker itself was at fault, so it says nothing."""

    PASS = "pass"
    FAIL = "fail"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One probe's finding, with its reason in words (`status 503, expected 200-299`).

    `began` is when the probe started, where that is known: what a probe saw before an ejection is
    no reason to end it. It is no part of what was found, so verdicts compare without it.
    """

    outcome: Outcome
    reason: str
    began: float | None = field(default=None, compare=False)

    @property
    def says_nothing(self) -> bool:
        """Void: whatever went wrong was ours."""
        return self.outcome is Outcome.VOID


class Evidence(StrEnum):
    """What one live attempt says about its backend; a client that left says nothing."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


class Health(StrEnum):
    """What probes say. UNKNOWN takes no traffic."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
