"""The form in which health and ejection survive a restart: JSON-able, times as ages.

Streaks are not kept: what comes after a restart does not follow in a row on what came before it.
Refuses what it cannot read as a whole: damaged or foreign data is a new target, never a crash.
"""

from collections.abc import Mapping

from healthcheck.core.ejection import Ejection, EjectionSettings, Standing
from healthcheck.core.probe_health import ProbeHealth
from healthcheck.core.verdict import Health

# Far more than can be; below what arithmetic with floats can take.
COUNT_MAX = 1_000_000
SPAN_MAX_S = 1e10


def dump_health(health: ProbeHealth, cause: str, since: float, now: float) -> dict[str, object]:
    return {
        "state": health.state.value,
        "cause": cause,
        "age_s": now - since,
    }


def load_health(saved: object, now: float) -> tuple[ProbeHealth, str, float] | None:
    """State, cause and since-time; None for nothing, for unknown and for what makes no sense."""
    if not isinstance(saved, Mapping):
        return None
    state, cause = saved.get("state"), saved.get("cause")
    age_s = _span(saved.get("age_s"))
    if state not in (Health.HEALTHY, Health.UNHEALTHY) or not isinstance(cause, str):
        return None
    if age_s is None:
        return None
    return ProbeHealth(Health(state)), cause, now - age_s


def dump_ejection(ejection: Ejection, cause: str, now: float) -> dict[str, object]:
    return {
        "standing": ejection.standing.value,
        "times": ejection.times,
        "age_s": now - ejection.since,
        "left_s": None if ejection.until is None else max(0.0, ejection.until - now),
        "ejected_age_s": None if ejection.ejected_at is None else now - ejection.ejected_at,
        "cause": cause,
    }


def load_ejection(
    saved: object, settings: EjectionSettings, now: float
) -> tuple[Ejection, str] | None:
    """The standing and its cause; what is left of an ejection obeys the longest of today."""
    if not isinstance(saved, Mapping):
        return None
    standing, cause = saved.get("standing"), saved.get("cause")
    times = _count(saved.get("times"))
    age_s, left_s = _span(saved.get("age_s")), _span(saved.get("left_s"))
    ejected_age_s = _span(saved.get("ejected_age_s"))
    if standing not in tuple(Standing) or not isinstance(cause, str):
        return None
    if times is None or age_s is None:
        return None
    if (standing == Standing.EJECTED) != (left_s is not None):
        return None
    return Ejection(
        since=now - age_s,
        standing=Standing(standing),
        times=times,
        until=None if left_s is None else now + min(left_s, settings.max_s),
        ejected_at=None if ejected_age_s is None else now - ejected_age_s,
    ), cause


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= COUNT_MAX else None


def _span(value: object) -> float | None:
    """A length of time, or None for anything that is none (NaN, infinity, a flag)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if 0 <= value <= SPAN_MAX_S else None
    return None
