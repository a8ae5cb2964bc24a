"""The words in which a backend is judged: verdicts of probes and evidence of live attempts."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What one probe found. VOID: the checker itself was at fault, so it says nothing."""

    PASS = "pass"
    FAIL = "fail"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One probe's finding, with its reason in words (`status 503, expected 200-299`)."""

    outcome: Outcome
    reason: str


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
