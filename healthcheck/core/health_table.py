"""What is known of every target of one pool, and what follows for it.

Here the two machines meet the pool: probe health goes where verdicts lead, but an ejection needs
leave (the share that may be out, never the last one that works). Plain and synchronous, one owner;
news of a target that is not here (any more) changes nothing, so late news is harmless.
"""

from collections.abc import Mapping
from dataclasses import replace

from healthcheck.core import ejection as ejecting
from healthcheck.core import saved as saving
from healthcheck.core import wording
from healthcheck.core.ejection import Ejection, EjectionSettings, Standing
from healthcheck.core.probe_health import ProbeHealth, Thresholds, step
from healthcheck.core.schedule import Pace
from healthcheck.core.target import Change, Entry, TargetView
from healthcheck.core.verdict import Evidence, Health, Outcome, Verdict

__all__ = ["Change", "HealthTable", "TargetView"]


class HealthTable:
    """`thresholds` None: no active checks. `ejection` None: no passive tracking."""

    def __init__(self, *, thresholds: Thresholds | None, ejection: EjectionSettings | None) -> None:
        self._thresholds = thresholds
        self._settings = ejection
        self._entries: dict[str, Entry] = {}
        self._out: dict[str, Entry] = {}  # the ejected ones
        self._serving: set[str] = set()  # by the operator's word

    # ---- who is here

    def add(self, target: str, now: float, saved: Mapping[str, object] | None = None) -> None:
        """Know `target` from now on, as `dump` left it if `saved` is given; no news if it is known.

        Without active checks it is healthy; with them unknown. It serves until told otherwise.
        """
        if target in self._entries:
            return
        checked = self._thresholds is not None
        entry = Entry(
            target=target,
            probe=ProbeHealth(Health.UNKNOWN if checked else Health.HEALTHY),
            probe_cause=wording.NO_VERDICT_YET if checked else wording.NO_CHECKS,
            probe_since=now,
            ejection=Ejection(since=now),
            known_since=now,
        )
        self._restore(entry, saved or {}, now)
        self._entries[target] = entry
        self._serving.add(target)
        if entry.ejection.standing is Standing.EJECTED:
            self._out[target] = entry

    def _restore(self, entry: Entry, saved: Mapping[str, object], now: float) -> None:
        if self._thresholds is not None:
            health = saving.load_health(saved.get("health"), now)
            if health is not None:
                entry.probe, entry.probe_cause, entry.probe_since = health
                entry.probe_restored = True
        if self._settings is not None:
            ejection = saving.load_ejection(saved.get("ejection"), self._settings, now)
            if ejection is not None:
                entry.ejection, entry.ejection_cause = ejection
                entry.ejection_restored = entry.ejection.standing is not Standing.SERVING

    def dump(self, target: str, now: float) -> dict[str, object]:
        """What `add` takes as `saved`: JSON-able, with ages for times, so any clock can go on."""
        entry = self._entries[target]
        dumped: dict[str, object] = {}
        if self._thresholds is not None:
            dumped["health"] = saving.dump_health(
                entry.probe, entry.probe_cause, entry.probe_since, now
            )
        if self._settings is not None:
            dumped["ejection"] = saving.dump_ejection(entry.ejection, entry.ejection_cause, now)
        return dumped

    def remove(self, target: str) -> None:
        self._entries.pop(target, None)
        self._out.pop(target, None)
        self._serving.discard(target)

    def targets(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def view(self, target: str) -> TargetView:
        return self._entries[target].view(self._thresholds)

    def pace(self, target: str) -> Pace:
        """How often to probe: faster without a verdict, and while a streak is under way."""
        entry = self._entries.get(target)
        if entry is None or (entry.probe.state is not Health.UNKNOWN and not entry.probe.streak):
            return Pace.STEADY
        return Pace.TRANSITION

    def set_serving(self, target: str, serving: bool) -> None:
        """Whether the operator lets it serve; if not, it is neither in the share nor the last one.

        A target that comes back starts with no failures held against it; an ejection goes on.
        """
        entry = self._entries[target]
        if serving and not entry.serving:
            _forgive(entry)
        entry.serving = serving
        (self._serving.add if serving else self._serving.discard)(target)

    # ---- verdicts of probes

    def verdict(self, target: str, verdict: Verdict, now: float) -> list[Change]:
        """A probe has ended. A void one changes nothing but the words.

        A PASS may end an ejection, if the settings say so, the target is healthy, and the probe is
        not known to have begun before it (`verdict.began`): the target is then on trial.
        """
        entry = self._entries.get(target)
        if entry is None or self._thresholds is None:
            return []
        if verdict.outcome is Outcome.VOID:
            if entry.probe.state is Health.UNKNOWN:
                entry.probe_last = verdict.reason
            return []
        changes = self._step(entry, self._thresholds, verdict, now)
        if verdict.outcome is Outcome.PASS and self._pass_ends_ejection(entry, verdict.began):
            changes.append(self._begin_trial(entry, "a probe passed", now))
        return changes

    def _step(
        self, entry: Entry, thresholds: Thresholds, verdict: Verdict, now: float
    ) -> list[Change]:
        before, entry.probe = entry.probe, step(entry.probe, verdict.outcome, thresholds)
        entry.probe_last = verdict.reason
        entry.probe_restored = False
        if entry.probe.state is before.state:
            return []
        entry.probe_since = now
        entry.probe_cause = wording.flipped(before, entry.probe.state, thresholds, verdict.reason)
        if entry.probe.state is Health.HEALTHY:
            _forgive(entry)
        return [entry.health_change(before.state, now)]

    def _pass_ends_ejection(self, entry: Entry, began: float | None) -> bool:
        return (
            self._settings is not None
            and self._settings.end_on_pass
            and entry.ejection.standing is Standing.EJECTED
            and entry.probe.state is Health.HEALTHY
            and not _from_before(entry.ejection, began)
        )

    # ---- evidence of live attempts

    def evidence(
        self,
        target: str,
        evidence: Evidence,
        reason: str,
        now: float,
        began: float | None = None,
    ) -> list[Change]:
        """An attempt has ended. `began`: when it started; one from before an ejection says nothing.

        An ejection that is due but not allowed is told once, until something else happens.
        """
        entry = self._entries.get(target)
        if entry is None or self._settings is None or evidence is Evidence.IGNORED:
            return []
        before = entry.ejection
        if began is not None and began < entry.known_since:
            return []  # of another life: it was out of sight since
        if before.standing is Standing.EJECTED or _from_before(before, began):
            return []
        entry.ejection_restored = False
        if evidence is Evidence.SUCCESS:
            return _succeeded(entry, now)
        entry.ejection = ejecting.failed(before)
        # One that takes no traffic anyway is not ejected: there is nothing to protect.
        if entry.works and ejecting.deserves_to_go(entry.ejection, self._settings):
            return self._judge(entry, self._settings, reason, now)
        return []

    def _judge(
        self, entry: Entry, settings: EjectionSettings, reason: str, now: float
    ) -> list[Change]:
        """Eject, or say why not."""
        before = entry.ejection
        cause = wording.failure_cause(before, reason)
        if not any(other.works for other in self._entries.values() if other is not entry):
            return _keep_last(entry, cause, now)
        serving, out = self._share_out()
        if len(out) >= ejecting.most_ejected(serving, settings.max_ratio):
            return _refuse(entry, f"{len(out)} of {serving} are out, no more may be", cause, now)
        entry.ejection = ejecting.eject(before, settings, now)
        entry.ejection_cause = wording.ejected(entry.ejection, settings, cause)
        entry.refused = False
        self._out[entry.target] = entry
        return [entry.ejection_change(before.standing, now)]

    def _share_out(self) -> tuple[int, list[Entry]]:
        """How many serve by the operator's word, and which of them are ejected."""
        return len(self._serving), [entry for entry in self._out.values() if entry.serving]

    # ---- time

    def tick(self, now: float) -> list[Change]:
        """Put those on trial whose ejection is over, or one too many since others have gone."""
        changes = [
            self._begin_trial(entry, "the ejection is over", now)
            for entry in tuple(self._out.values())
            if _ends(entry) <= now
        ]
        changes += [
            self._begin_trial(entry, "too many would be out", now) for entry in self._too_many()
        ]
        return changes

    def next_event(self, now: float) -> float | None:
        """When `tick` has something to do next; never in the past."""
        if not self._out:
            return None
        if self._too_many():
            return now
        return max(now, min(_ends(entry) for entry in self._out.values()))

    def _too_many(self) -> list[Entry]:
        """Those over the share, next to return first: targets were drained, removed or restored."""
        if not self._out or self._settings is None:
            return []
        serving, out = self._share_out()
        excess = len(out) - ejecting.most_ejected(serving, self._settings.max_ratio)
        return sorted(out, key=_ends)[: max(0, excess)]

    def _begin_trial(self, entry: Entry, why: str, now: float) -> Change:
        entry.ejection = ejecting.on_trial(entry.ejection, now)
        entry.ejection_cause = f"{wording.TRIAL}: {why}"
        entry.ejection_restored = False
        del self._out[entry.target]
        return entry.ejection_change(Standing.EJECTED, now)


def _succeeded(entry: Entry, now: float) -> list[Change]:
    before = entry.ejection
    entry.ejection = ejecting.succeeded(before, now)
    entry.refused = False
    if before.standing is entry.ejection.standing:
        return []
    entry.ejection_cause = "the trial succeeded"
    return [entry.ejection_change(before.standing, now)]


def _keep_last(entry: Entry, cause: str, now: float) -> list[Change]:
    """The last one is not even held to one attempt at a time: that would shed all the others."""
    if entry.ejection.standing is not Standing.ON_TRIAL:
        return _refuse(entry, "the last one that works", cause, now)
    entry.ejection = ejecting.acquitted(entry.ejection, now)
    entry.ejection_cause = f"not ejected (the last one that works), though it {cause}"
    entry.refused = True
    return [entry.ejection_change(Standing.ON_TRIAL, now)]


def _refuse(entry: Entry, why: str, cause: str, now: float) -> list[Change]:
    entry.ejection_cause = f"not ejected ({why}), though {cause}"
    if entry.refused:
        return []
    entry.refused = True
    return [entry.ejection_change(entry.ejection.standing, now)]


def _forgive(entry: Entry) -> None:
    """A target that has just come back is not ejected for failures from before it went."""
    if entry.ejection.standing is Standing.SERVING:
        entry.ejection = replace(entry.ejection, failures=0)
        entry.refused = False


def _ends(entry: Entry) -> float:
    until = entry.ejection.until
    assert until is not None, "an ejection without an end"
    return until


def _from_before(ejection: Ejection, began: float | None) -> bool:
    """Whether what began then cannot know of the latest ejection."""
    return began is not None and ejection.ejected_at is not None and began < ejection.ejected_at
