"""What the end of an attempt makes of one target: a trial won, or an ejection that is not allowed.

Decides for one entry and tells what changed. Whether an ejection is allowed at all needs the whole
pool, and is for the health table to say.
"""

from dataclasses import replace

from healthcheck.core import ejection as ejecting
from healthcheck.core.ejection import Ejection, Standing
from healthcheck.core.target import Change, Entry


def succeeded(entry: Entry, now: float) -> list[Change]:
    """A success ends a streak of failures, and a trial."""
    before = entry.ejection
    entry.ejection = ejecting.succeeded(before, now)
    entry.refused = False
    if before.standing is entry.ejection.standing:
        return []
    entry.ejection_cause = "the trial succeeded"
    return [entry.ejection_change(before.standing, now)]


def keep_last(entry: Entry, cause: str, now: float) -> list[Change]:
    """The last one is not even held to one attempt at a time: that would shed all the others."""
    if entry.ejection.standing is not Standing.ON_TRIAL:
        return refuse(entry, "the last one that works", cause, now)
    entry.ejection = ejecting.acquitted(entry.ejection, now)
    entry.ejection_cause = f"not ejected (the last one that works), though it {cause}"
    entry.refused = True
    return [entry.ejection_change(Standing.ON_TRIAL, now)]


def refuse(entry: Entry, why: str, cause: str, now: float) -> list[Change]:
    """An ejection that is due and not allowed is told once."""
    entry.ejection_cause = f"not ejected ({why}), though {cause}"
    if entry.refused:
        return []
    entry.refused = True
    return [entry.ejection_change(entry.ejection.standing, now)]


def forgive(entry: Entry) -> None:
    """A target that has just come back is not ejected for failures from before it went."""
    if entry.ejection.standing is Standing.SERVING:
        entry.ejection = replace(entry.ejection, failures=0)
        entry.refused = False


def ends(entry: Entry) -> float:
    """When its ejection is over."""
    until = entry.ejection.until
    assert until is not None, "an ejection without an end"
    return until


def from_before(ejection: Ejection, began: float | None) -> bool:
    """Whether what began then cannot know of the latest ejection."""
    return began is not None and ejection.ejected_at is not None and began < ejection.ejected_at
