"""What a new configuration changes in a running instance, and what it may not change.

Decides from the settings and the ledger in force and the settings that were loaded: which backends,
pools and listeners come and go, what else differs, and how that reads. Plain and synchronous; it
carries nothing out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel

from balancer.config.settings import Settings
from balancer.core.ledger import Ledger, LedgerEntry

# What the instance stands on for as long as it runs: locks, ways in, what a restart finds.
FIXED = ("admin.socket", "admin.state", "admin.health")


class CannotReload(Exception):
    """The new configuration asks for what only a restart can do; str() has a line for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolChange:
    """What changes in one pool that stays. `settings`: names such as `health.path`."""

    name: str
    added: tuple[LedgerEntry, ...]
    removed: tuple[LedgerEntry, ...]
    altered: tuple[tuple[LedgerEntry, LedgerEntry], ...]
    settings: tuple[str, ...]

    @property
    def in_words(self) -> str:
        """`pool web: 1 backend added, 2 weights changed`; empty where nothing is to be told."""
        weights = sum(before.weight != after.weight for before, after in self.altered)
        admin = sum(before.admin is not after.admin for before, after in self.altered)
        counts = [(len(self.added), "backend", "added"), (len(self.removed), "backend", "removed")]
        counts += [(weights, "weight", "changed"), (admin, "order", "overruled")]
        parts = [_counted(*each) for each in counts if each[0]]
        if self.settings:
            parts.append(f"{_listed(self.settings)} changed")
        return f"pool {self.name}: {', '.join(parts)}" if parts else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadPlan:
    """The step from what is in force to `settings` and `ledger`.

    `pools` are those that stay and change; `others` names the settings outside of pools and
    listeners that differ.
    """

    settings: Settings
    ledger: Ledger
    changes: bool
    new_pools: tuple[str, ...]
    gone_pools: tuple[str, ...]
    pools: tuple[PoolChange, ...]
    opened: tuple[str, ...]
    closed: tuple[str, ...]
    altered: tuple[tuple[str, tuple[str, ...]], ...]
    others: tuple[str, ...]

    @property
    def in_words(self) -> str:
        """All of it as one part of a sentence."""
        if not self.changes:
            return "nothing changed"
        parts = [f"pool {name} added" for name in self.new_pools]
        parts += [f"pool {name} removed" for name in self.gone_pools]
        parts += [change.in_words for change in self.pools]
        parts += [f"listener {bind} added" for bind in self.opened]
        parts += [f"listener {bind} removed" for bind in self.closed]
        parts += [f"listener {bind}: {_listed(names)} changed" for bind, names in self.altered]
        if self.others:
            parts.append(f"{_listed(self.others)} changed")
        return "; ".join(part for part in parts if part) or "only the order of entries changed"


def plan_reload(running: Settings, ledger: Ledger, new: Settings) -> ReloadPlan:
    """What it takes to get from `running` (with the operator's orders in `ledger`) to `new`.

    An order holds until the file changes that same backend. Raises CannotReload with all reasons.
    """
    others = [name for name in differing(running, new) if name not in ("pools", "listeners")]
    refused = [name for name in others if name in FIXED]
    if refused:
        raise CannotReload("\n".join(_why_fixed(running, new, name) for name in refused))
    after = Ledger.of(weights_of(new), ledger.overlay())
    binds = [listener.bind for listener in running.listeners]
    wanted = [listener.bind for listener in new.listeners]
    stay = [name for name in new.pools if name in running.pools]
    pools = [_pool_change(name, running, ledger, new, after) for name in stay]
    return ReloadPlan(
        settings=new,
        ledger=after,
        changes=new != running or after.overlay() != ledger.overlay(),
        new_pools=tuple(name for name in new.pools if name not in running.pools),
        gone_pools=tuple(name for name in running.pools if name not in new.pools),
        pools=tuple(change for change in pools if change.in_words),
        opened=tuple(bind for bind in wanted if bind not in binds),
        closed=tuple(bind for bind in binds if bind not in wanted),
        altered=tuple(_altered(running, new)),
        others=tuple(others),
    )


def _altered(running: Settings, new: Settings) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The listeners that stay where they are, and what is new about them."""
    before = {listener.bind: listener for listener in running.listeners}
    for listener in new.listeners:
        names = tuple(differing(before.get(listener.bind, listener), listener))
        if names:
            yield listener.bind, names


def weights_of(settings: Settings) -> dict[str, dict[str, int]]:
    """What the file says of every backend, by pool and address, as a ledger wants it."""
    return {
        name: {backend.address: backend.weight for backend in pool.backends}
        for name, pool in settings.pools.items()
    }


def differing(before: object, after: object, place: str = "") -> Iterator[str]:
    """The dotted names of the settings in which two tables differ."""
    if before == after:
        return
    if isinstance(before, BaseModel) and type(before) is type(after):
        for name in type(before).model_fields:
            yield from differing(
                getattr(before, name), getattr(after, name), f"{place}.{name}".lstrip(".")
            )
    else:
        yield place


def _pool_change(
    name: str, running: Settings, ledger: Ledger, new: Settings, after: Ledger
) -> PoolChange:
    before_entries = {entry.address: entry for entry in ledger.entries(name)}
    entries = {entry.address: entry for entry in after.entries(name)}
    both = [(before_entries[a], entry) for a, entry in entries.items() if a in before_entries]
    settings = differing(running.pools[name], new.pools[name])
    return PoolChange(
        name=name,
        added=tuple(entry for a, entry in entries.items() if a not in before_entries),
        removed=tuple(entry for a, entry in before_entries.items() if a not in entries),
        altered=tuple(
            (old, entry)
            for old, entry in both
            if (old.weight, old.admin) != (entry.weight, entry.admin)
        ),
        settings=tuple(each for each in settings if each != "backends"),
    )


def _why_fixed(running: Settings, new: Settings, name: str) -> str:
    key = name.rpartition(".")[2]
    before, after = (getattr(settings.admin, key) or "none" for settings in (running, new))
    return (
        f"{name} cannot change while running (it is {before}, the file says {after}): change it"
        " back, or restart"
    )


def _counted(count: int, noun: str, what: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'} {what}"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)
