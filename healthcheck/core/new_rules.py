"""What becomes of one target when the rules of its pool change: as much as possible stays.

Decides that what was observed goes on to count, that a target which serves is not taken out by new
rules alone, and that rules which are gone hold nobody back any more.
"""

from dataclasses import replace

from healthcheck.core import ejection as ejecting
from healthcheck.core import passive, wording
from healthcheck.core.ejection import EjectionSettings, Standing
from healthcheck.core.probe_health import ProbeHealth, Thresholds, verdicts_needed
from healthcheck.core.target import Change, Entry
from healthcheck.core.verdict import Health


def check_by(
    entry: Entry, before: Thresholds | None, after: Thresholds | None, now: float
) -> list[Change]:
    """Obey other thresholds of the active checks; None: there are none."""
    if after is None:
        return [] if before is None else _unchecked(entry, now)
    if before is None:
        # It has served so far without having been asked; to wait for a verdict would be an outage.
        entry.probe_assumed = True
        entry.probe_cause = wording.ASSUMED
        return []
    most = verdicts_needed(entry.probe.state, after) - 1
    if entry.probe.streak > most:  # the next verdict of its kind decides
        entry.probe = ProbeHealth(entry.probe.state, most)
    return []


def _unchecked(entry: Entry, now: float) -> list[Change]:
    before = entry.probe.state
    entry.probe = ProbeHealth(Health.HEALTHY)
    entry.probe_cause = wording.NO_CHECKS
    entry.probe_last = ""
    entry.probe_restored = entry.probe_assumed = False
    if before is Health.HEALTHY:
        return []
    entry.probe_since = now
    passive.forgive(entry)
    return [entry.health_change(before, now)]


def eject_by(entry: Entry, settings: EjectionSettings | None, now: float) -> list[Change]:
    """Obey other rules of ejection; None: nobody is ejected."""
    before = entry.ejection
    if settings is None:
        if before.standing is Standing.SERVING:
            passive.forgive(entry)
            return []
        entry.ejection = ejecting.acquitted(before, now)
        entry.ejection_cause = "requests are no longer judged"
        entry.ejection_restored = False
        passive.forgive(entry)
        return [entry.ejection_change(before.standing, now)]
    if before.until is not None:  # what is left of it obeys the longest of today
        entry.ejection = replace(before, until=min(before.until, now + settings.max_s))
    return []
