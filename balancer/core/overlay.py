"""The operator's orders as they are stored: what one entry says, and how it is read back.

Refuses nothing as a whole: the stored form may be damaged or hand-edited, and an entry that cannot
be read must not cost the others.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from balancer.core.address import AddressError, parse_address
from balancer.core.backend import AdminState, BackendId
from balancer.core.wording import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """The orders about one backend.

    `file` is the weight that the file gave it when the entry was made (None: not in the file);
    `weight` None means as in the file.
    """

    file: int | None
    weight: int | None = None
    admin: AdminState = AdminState.READY
    removed: bool = False

    @property
    def effective_weight(self) -> int:
        return self.weight if self.weight is not None else self.file or 0

    @property
    def normal(self) -> "Override":
        """The same orders in the one form that is stored."""
        return replace(self, weight=None) if self.weight == self.file else self

    @property
    def is_as_file(self) -> bool:
        """Whether the file alone would say the same."""
        return (
            self.file is not None
            and self.effective_weight == self.file
            and self.admin is AdminState.READY
            and not self.removed
        )

    @property
    def is_nowhere(self) -> bool:
        """Whether there is no such backend: neither the file nor the operator brought it in."""
        return self.removed or (self.file is None and self.weight is None)

    @property
    def in_words(self) -> str:
        if self.removed:
            return "removed by the operator"
        words = [] if self.file is not None else ["added by the operator"]
        if self.file is not None and self.effective_weight != self.file:
            words.append(f"set to weight {self.effective_weight}")
        if self.admin is not AdminState.READY:
            words.append(self.admin.value)
        return ", ".join(words) or "as in the file"


def overlay_json(overrides: Mapping[BackendId, Override]) -> dict[str, object]:
    """By pool, a list of entries; their order is the order in which backends were added."""
    pools: dict[str, list[dict[str, object]]] = {}
    for backend, override in overrides.items():
        pools.setdefault(backend.pool, []).append(
            {
                "address": backend.address,
                "file": override.file,
                "weight": override.weight,
                "admin": override.admin.value,
                "removed": override.removed,
            }
        )
    return {"pools": pools}


def read_overlay(stored: object, *, weight_max: int) -> tuple[dict[BackendId, Override], list[str]]:
    """The entries that can be read, and a sentence for each that cannot."""
    overrides: dict[BackendId, Override] = {}
    notes: list[str] = []
    for pool, item in _items(stored, notes):
        try:
            address, override = _read_entry(item, weight_max)
        except (AddressError, _DamagedError) as exc:
            notes.append(f"ignored a damaged order for pool {pool}: {exc}")
            continue
        backend = BackendId(pool, address)
        if backend in overrides:
            notes.append(f"ignored a second order for {address} of pool {pool}")
        else:
            overrides[backend] = override
    return overrides, notes


class _DamagedError(Exception):
    pass


def _items(stored: object, notes: list[str]) -> Iterator[tuple[str, object]]:
    if stored is None or stored == {}:
        return
    pools = stored.get("pools") if isinstance(stored, dict) else None
    if not isinstance(pools, dict):
        notes.append("ignored the stored orders: they are damaged as a whole")
        return
    for pool, items in pools.items():
        if not (isinstance(pool, str) and pool.isprintable() and isinstance(items, list)):
            notes.append(f"ignored all orders for pool {shown(pool)}: they are damaged")
            continue
        for item in items:
            yield pool, item


def _read_entry(item: object, weight_max: int) -> tuple[str, Override]:
    if not isinstance(item, dict):
        raise _DamagedError(f"{shown(item)} is no entry")
    address = item.get("address")
    if not isinstance(address, str):
        raise _DamagedError(f"address {shown(address)} is no text")
    admin = item.get("admin", AdminState.READY.value)
    if admin not in [state.value for state in AdminState]:
        raise _DamagedError(f"{shown(admin)} is no admin state")
    removed = item.get("removed", False)
    if not isinstance(removed, bool):
        raise _DamagedError(f"removed = {shown(removed)} is neither true nor false")
    override = Override(
        file=_read_weight(item.get("file"), weight_max),
        weight=_read_weight(item.get("weight"), weight_max),
        admin=AdminState(admin),
        removed=removed,
    )
    if override.file is None and override.weight is None and not removed:
        raise _DamagedError(f"{shown(address)} has no weight")
    return str(parse_address(address)), override


def _read_weight(value: object, weight_max: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= weight_max:
        raise _DamagedError(f"weight {shown(value)} is not a number from 0 to {weight_max}")
    return value
