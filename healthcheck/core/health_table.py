"""What is known of every target of one pool, and what follows for it.

Here the two machines meet the pool: probe health goes where verdicts lead, but an ejection needs
leave (the share that may be out, never the last one that works). Plain and synchronous, one owner;
news of a target that is not here (any more) changes nothing, so late news is harmless.
"""

from collections.abc import Mapping

from healthcheck.core import ejection as ejecting
from healthcheck.core import new_rules, passive, wording
from healthcheck.core import saved as saving
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

    def renew(self, target: str, saved: Mapping[str, object], now: float) -> None:
        """Know it as a later `dump` has it, but for what probes of our own have said meanwhile."""
        entry = self._entries[target]
        looked_at = self.looked_at(target)
        self._restore(entry, {"ejection": saved.get("ejection")} if looked_at else saved, now)
        self._out.pop(target, None)
        if entry.ejection.standing is Standing.EJECTED:
            self._out[target] = entry

    def looked_at(self, target: str) -> bool:
        """Whether a probe of our own has said how it is, or none is to."""
        entry = self._entries[target]
        unknown = entry.probe.state is Health.UNKNOWN or entry.probe_restored
        return self._thresholds is None or not unknown

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
        if self._thresholds is not None and not entry.probe_assumed:
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
            passive.forgive(entry)
        entry.serving = serving
        (self._serving.add if serving else self._serving.discard)(target)

    def release(self, target: str) -> Entry:
        """Let a target go to another table, with all that is known of it."""
        entry = self._entries[target]
        self.remove(target)
        return entry

    def adopt(self, entry: Entry) -> None:
        """Take a target over from the table that released it; no news if it is known here."""
        if entry.target in self._entries:
            return
        self._entries[entry.target] = entry
        self.set_serving(entry.target, entry.serving)
        if entry.ejection.standing is Standing.EJECTED:
            self._out[entry.target] = entry

    def reconfigure(
        self, *, thresholds: Thresholds | None, ejection: EjectionSettings | None, now: float
    ) -> list[Change]:
        """Go by other rules from now on; what is known of every target goes on to count.

        Active checks that are new take nobody out before a verdict does; rules that are gone hold
        nobody back.
        """
        before, self._thresholds, self._settings = self._thresholds, thresholds, ejection
        changes = []
        for entry in self._entries.values():
            changes += new_rules.check_by(entry, before, thresholds, now)
            changes += new_rules.eject_by(entry, ejection, now)
        if ejection is None:
            self._out.clear()
        return changes

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
            if entry.probe_assumed and verdict.outcome is Outcome.PASS:
                entry.probe_assumed = False
                entry.probe_cause = wording.first_passed(verdict.reason)
            return []
        entry.probe_assumed = False
        entry.probe_since = now
        entry.probe_cause = wording.flipped(before, entry.probe.state, thresholds, verdict.reason)
        if entry.probe.state is Health.HEALTHY:
            passive.forgive(entry)
        return [entry.health_change(before.state, now)]

    def _pass_ends_ejection(self, entry: Entry, began: float | None) -> bool:
        return (
            self._settings is not None
            and self._settings.end_on_pass
            and entry.ejection.standing is Standing.EJECTED
            and entry.probe.state is Health.HEALTHY
            and not passive.from_before(entry.ejection, began)
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
        if before.standing is Standing.EJECTED or passive.from_before(before, began):
            return []
        entry.ejection_restored = False
        if evidence is Evidence.SUCCESS:
            return passive.succeeded(entry, now)
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
            return passive.keep_last(entry, cause, now)
        serving, out = self._share_out()
        if len(out) >= ejecting.most_ejected(serving, settings.max_ratio):
            return passive.refuse(
                entry, f"{len(out)} of {serving} are out, no more may be", cause, now
            )
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
            if passive.ends(entry) <= now
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
        return max(now, min(passive.ends(entry) for entry in self._out.values()))

    def _too_many(self) -> list[Entry]:
        """Those over the share, next to return first: targets were drained, removed or restored."""
        if not self._out or self._settings is None:
            return []
        serving, out = self._share_out()
        excess = len(out) - ejecting.most_ejected(serving, self._settings.max_ratio)
        return sorted(out, key=passive.ends)[: max(0, excess)]

    def _begin_trial(self, entry: Entry, why: str, now: float) -> Change:
        entry.ejection = ejecting.on_trial(entry.ejection, now)
        entry.ejection_cause = f"{wording.TRIAL}: {why}"
        entry.ejection_restored = False
        del self._out[entry.target]
        return entry.ejection_change(Standing.EJECTED, now)
