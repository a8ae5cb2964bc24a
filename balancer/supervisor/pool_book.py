"""All that is known of one pool, kept by its only writer, and the snapshots that follow from it.

The three machines meet here: what the operator says (ledger entries), what probes say and what live
traffic says (the health table). Plain and synchronous; whoever calls passes `now`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from balancer.config.pool_settings import Pool as PoolSettings
from balancer.core.backend import BackendId, BackendView
from balancer.core.board import NO_CELL
from balancer.core.ledger import LedgerEntry
from balancer.core.local_ejection import ejectable
from balancer.core.snapshot import PoolSnapshot, pool_snapshot
from healthcheck.core.ejection import EjectionSettings
from healthcheck.core.health_table import Change, HealthTable, TargetView
from healthcheck.core.probe_health import Thresholds
from healthcheck.core.schedule import Pace
from healthcheck.core.target import Entry as HealthEntry
from healthcheck.core.verdict import Evidence, Verdict


def _no_cell(_backend: BackendId) -> int:
    return NO_CELL


class PoolBook:
    """One pool: its entries, its health table, and its newest snapshot."""

    def __init__(
        self,
        name: str,
        settings: PoolSettings,
        entries: Sequence[LedgerEntry],
        *,
        saved: Mapping[str, Mapping[str, object]],
        cell_of: Callable[[BackendId], int] = _no_cell,
        now: float,
    ) -> None:
        self.name = name
        self.settings = settings
        self._cell_of = cell_of
        self.entries: dict[str, LedgerEntry] = {}
        self._table = HealthTable(thresholds=_thresholds(settings), ejection=_ejection(settings))
        self._saved = saved
        self._panic = False
        self._changed_at: dict[str, float] = {}
        self._seen: dict[str, TargetView] = {}
        self.views: dict[str, BackendView] = {}
        self.snapshot: PoolSnapshot
        self.set_entries(entries, now)

    def set_entries(self, entries: Sequence[LedgerEntry], now: float) -> None:
        """What the operator says now; a backend that stays keeps all that is known of it."""
        wanted = {entry.address: entry for entry in entries}
        for address in self.entries.keys() - wanted.keys():
            self._table.remove(address)
            self._changed_at.pop(address, None)
            self._seen.pop(address, None)
        for address, entry in wanted.items():
            known = self.entries.get(address)
            if known is not None and entry.admin.forgets(known.admin):
                # Nobody looked at it meanwhile: what was known is worth nothing now.
                self._table.remove(address)
            self._table.add(address, now, self._saved.get(address))
            self._table.set_serving(address, entry.admin.serves and entry.weight > 0)
            if known is not None and known.admin is not entry.admin:
                self._changed_at[address] = now
        self.entries = wanted
        self._saved = {}
        self._draw_all()

    def reconfigure(
        self,
        settings: PoolSettings,
        entries: Sequence[LedgerEntry],
        joined: "PoolBook | None",
        now: float,
    ) -> list[Change]:
        """Go by other settings, with other backends; all that is known of those who stay goes on.

        `joined` is the book in which new ones were looked at; it is of no use afterwards.
        """
        self.settings = settings
        changes = self._table.reconfigure(
            thresholds=_thresholds(settings), ejection=_ejection(settings), now=now
        )
        for entry in entries:
            if joined is not None and entry.address in joined.entries:
                self._table.adopt(joined.release(entry.address))
        self.set_entries(entries, now)
        return [change for change in changes if change.target in self.entries]

    def release(self, address: str) -> HealthEntry:
        """What is known of a backend's health, for the book that it goes to."""
        return self._table.release(address)

    def verdict(self, address: str, verdict: Verdict, now: float) -> list[Change]:
        changes = self._table.verdict(address, verdict, now)
        self._draw_news([address])
        return changes

    def evidence(
        self, address: str, evidence: Evidence, reason: str, now: float, began: float
    ) -> list[Change]:
        changes = self._table.evidence(address, evidence, reason, now, began)
        self._draw_news([address])
        return changes

    def tick(self, now: float) -> list[Change]:
        changes = self._table.tick(now)
        self._draw_news([change.target for change in changes])
        return changes

    def next_event(self) -> float | None:
        return self._table.next_event(0.0)

    def pace(self, address: str) -> Pace:
        return self._table.pace(address)

    def view(self, address: str) -> TargetView:
        """What the health table says of it, as of the latest news."""
        return self._seen[address]

    def knows_enough(self) -> bool:
        """Whether the pool may start to serve: a first PASS, or every first verdict."""
        return self.snapshot.available > 0 or not self.snapshot.pending

    def knows_by_itself(self) -> bool:
        """Whether our own probes have found one available, or have looked at every one."""
        probed = [address for address, entry in self.entries.items() if entry.admin.probed]
        looked_at = [address for address in probed if self._table.looked_at(address)]
        return len(looked_at) == len(probed) or any(self.views[a].available for a in looked_at)

    def renew(
        self,
        entries: Sequence[LedgerEntry],
        saved: Mapping[str, Mapping[str, object]],
        now: float,
    ) -> None:
        """Go by what another supervisor knows by now, but for what our own probes have said."""
        there = self.entries.keys()
        self._saved = saved
        self.set_entries(entries, now)
        for address in self.entries.keys() & there & saved.keys():
            self._table.renew(address, saved[address], now)
        self._draw_all()

    def dump(self, now: float) -> dict[str, object]:
        """What a restart needs: health and ejections, by address.

        Nothing of a backend that is not probed: what was known of it is worth nothing by then.
        """
        return {
            "backends": {
                address: self._table.dump(address, now)
                for address, entry in self.entries.items()
                if entry.admin.probed
            },
        }

    def _draw_news(self, addresses: Iterable[str]) -> None:
        """Draw these backends anew, and the pool only if that matters to a pick; then once.

        Most news changes nothing or only words, and must cost the same in a pool of a thousand as
        in one of three.
        """
        matters = False
        for address in addresses:
            entry = self.entries.get(address)
            if entry is None:
                continue
            before, after = self.views[address], self._view(entry)
            self.views[address] = after
            matters = matters or not _same_to_a_pick(before, after)
        if matters:
            self._draw_pool()

    def _draw_all(self) -> None:
        """Draw every backend and the pool anew."""
        self.views = {address: self._view(entry) for address, entry in self.entries.items()}
        self._draw_pool()

    def _draw_pool(self) -> None:
        passive = self.settings.passive
        self.snapshot = pool_snapshot(
            self.name,
            self.settings.policy,
            tuple(self.views.values()),
            pending={address for address, view in self.views.items() if view.pending},
            panic_below=self.settings.panic_below,
            was_panic=self._panic,
            ejectable=ejectable(self.views.values(), passive.max_ejected_ratio),
            eject_after=passive.consecutive_failures if passive.enabled else None,
        )
        self._panic = self.snapshot.panic

    def _view(self, entry: LedgerEntry) -> BackendView:
        target = self._seen[entry.address] = self._table.view(entry.address)
        said = not entry.admin.serves
        backend = BackendId(self.name, entry.address)
        since = max(target.since, self._changed_at.get(entry.address, target.since))
        return BackendView(
            id=backend,
            cell=self._cell_of(backend),
            weight=entry.weight,
            admin=entry.admin,
            health=target.health,
            ejected=target.ejected,
            on_trial=target.on_trial,
            limit=1 if target.on_trial else None,
            reason=f"{entry.admin.value} by the operator; {target.reason}"
            if said
            else target.reason,
            since=since,
        )


def _same_to_a_pick(before: BackendView, after: BackendView) -> bool:
    """Whether they differ in words only."""
    return after == before or replace(after, reason=before.reason, since=before.since) == before


def _thresholds(settings: PoolSettings) -> Thresholds | None:
    health = settings.health
    return None if health is None else Thresholds(fails=health.fails, passes=health.passes)


def _ejection(settings: PoolSettings) -> EjectionSettings | None:
    passive = settings.passive
    if not passive.enabled:
        return None
    return EjectionSettings(
        consecutive_failures=passive.consecutive_failures,
        base_s=passive.base_ejection,
        max_s=passive.max_ejection,
        max_ratio=passive.max_ejected_ratio,
        end_on_pass=passive.end_on_pass,
    )
