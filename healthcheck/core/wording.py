"""The reasons of health and ejection in words: fragments that follow a colon or stand alone."""

from healthcheck.core.ejection import Ejection, EjectionSettings, Standing, longest_after
from healthcheck.core.probe_health import ProbeHealth, Thresholds, verdicts_needed
from healthcheck.core.verdict import Health

NO_CHECKS = "no active checks configured"
ASSUMED = "healthy until a check says otherwise"
NO_VERDICT_YET = "no verdict yet"
TRIAL = "on trial until an attempt succeeds"


def seconds(duration_s: float) -> str:
    """`2 s`, `0.25 s`: no more digits than the number has, down to milliseconds."""
    return f"{duration_s:.3f}".rstrip("0").rstrip(".") + " s"


def flipped(before: ProbeHealth, after: Health, thresholds: Thresholds, last: str) -> str:
    """Why health changed: `3 of 3 probes failed: connect refused`."""
    verb = "passed" if after is Health.HEALTHY else "failed"
    if before.state is Health.UNKNOWN:
        return f"first probe {verb}: {last}"
    needed = verdicts_needed(before.state, thresholds)
    return f"{needed} of {needed} probes {verb}: {last}"


def first_passed(last: str) -> str:
    """Why a target that has served unasked is now known to be healthy."""
    return f"first probe passed: {last}"


def probe_reason(health: ProbeHealth, thresholds: Thresholds, cause: str, last: str) -> str:
    """The cause of the state, then what speaks against it or how it looks now."""
    if health.state is Health.UNKNOWN:
        return f"{NO_VERDICT_YET}; last probe void: {last}" if last else NO_VERDICT_YET
    if health.streak and last:
        verb = "failed" if health.state is Health.HEALTHY else "passed"
        needed = verdicts_needed(health.state, thresholds)
        return f"{cause}; now {health.streak} of {needed} probes {verb}: {last}"
    if health.state is Health.UNHEALTHY and last and not cause.endswith(last):
        return f"{cause}; now: {last}"
    return cause


def failure_cause(ejection: Ejection, last: str) -> str:
    """What speaks for an ejection: `5 failures in a row, last: connection reset`."""
    if ejection.standing is Standing.ON_TRIAL:
        return f"failed on trial: {last}"
    plural = "" if ejection.failures == 1 else "s"
    return f"{ejection.failures} failure{plural} in a row, last: {last}"


def ejected(ejection: Ejection, settings: EjectionSettings, cause: str) -> str:
    """`ejected for 20 s (2nd time in a row): 5 failures in a row, last: connection reset`."""
    length = seconds(min(settings.base_s * ejection.times, settings.max_s))
    if ejection.times == 1:
        return f"ejected for {length}: {cause}"
    if ejection.times == longest_after(settings):
        return f"ejected for {length} (the longest): {cause}"
    return f"ejected for {length} ({ordinal(ejection.times)} time in a row): {cause}"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th; 11th to 13th are irregular."""
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
