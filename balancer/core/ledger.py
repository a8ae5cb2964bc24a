"""What the operator changed at runtime, laid over what the file says.

Decides which backends there are, with which weight and admin state. An order of the operator holds
until the file itself changes that same backend; to know when, each entry keeps what the file said
of the backend when the entry was made. Refuses what names nothing, with the name that was
probably meant. Pure: whoever owns the ledger stores `overlay()` before it answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from balancer.core.address import AddressError, parse_address
from balancer.core.backend import AdminState, BackendId
from balancer.core.overlay import Override, overlay_json, read_overlay
from balancer.core.wording import did_you_mean, shown

WEIGHT_MAX = 1000
# Removed backends that the file does not know are remembered so that removing them twice is no
# error; only the latest, so that addresses which come and go for years do not pile up.
GONE_MAX = 256


class Refused(Exception):
    """An order that cannot be carried out; `message` is a sentence for the operator."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Applied:
    """An order that holds now; `changed` is False when it held already."""

    changed: bool
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One backend as file and operator want it.

    `origin` says who brought it in; `overridden` names what the operator set on one of the file's.
    """

    address: str
    weight: int
    admin: AdminState
    origin: Literal["file", "cli"]
    overridden: tuple[Literal["weight", "admin"], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """File and overlay; immutable.

    Every order returns the ledger that follows from it, or raises Refused and changes nothing.
    `notes` are sentences about entries that `of` let go: damaged, or overruled by the file.
    """

    _file: Mapping[str, Mapping[str, int]]
    _overrides: Mapping[BackendId, Override]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, file: Mapping[str, Mapping[str, int]], overlay: object) -> "Ledger":
        """The ledger for a file; `overlay` is what `overlay()` gave, or None.

        Never raises: an entry that cannot be read is let go and noted, the others stay.
        """
        known = {
            pool: {_canonical(address): weight for address, weight in backends.items()}
            for pool, backends in file.items()
        }
        overrides, notes = read_overlay(overlay, weight_max=WEIGHT_MAX)
        kept: dict[BackendId, Override] = {}
        for backend, override in overrides.items():
            if backend.pool not in known:
                notes.append(_note(backend, override, "the file no longer has that pool"))
            elif known[backend.pool].get(backend.address) != override.file:
                notes.append(_note(backend, override, "the file has changed that backend since"))
            else:
                kept[backend] = override
        return cls(_file=known, _overrides=kept, notes=tuple(notes))

    def entries(self, pool: str) -> list[LedgerEntry]:
        """The pool's backends: the file's in their order, then the operator's as they came."""
        file = self._file.get(pool, {})
        overrides = {b.address: o for b, o in self._overrides.items() if b.pool == pool}
        listed = [
            _entry(address, overrides.get(address, Override(file=weight)))
            for address, weight in file.items()
        ]
        listed += [
            _entry(address, override)
            for address, override in overrides.items()
            if address not in file
        ]
        return [entry for entry in listed if entry is not None]

    def overlay(self) -> dict[str, object]:
        """The operator's part alone, JSON-able, for `of`."""
        return overlay_json(self._overrides)

    def add(self, pool: str, address: str, weight: int | None) -> tuple["Ledger", Applied]:
        """Bring a backend in, or back; one that is there takes the weight, if one is given."""
        self._check_pool(pool)
        _check_weight(weight)
        try:
            backend = BackendId(pool, str(parse_address(address)))
        except AddressError as exc:
            raise Refused(str(exc)) from None
        there = self._find(backend)
        if there is not None and weight not in (None, there.weight):
            ledger, _ = self.set_weight(pool, backend.address, weight or 0)
            return ledger, Applied(
                True, f"{_name(backend)} is there already; its weight is now {weight}"
            )
        if there is not None:
            state = "" if there.admin is AdminState.READY else f" ({there.admin.value})"
            return self, Applied(False, f"{_name(backend)} is there already{state}")
        file = self._file[pool].get(backend.address)
        back = " back" if file is not None else ""
        override = Override(file=file, weight=weight)
        if file is None and weight is None:
            override = replace(override, weight=1)
        ledger = self._with(backend, override)
        return ledger, Applied(
            True, f"added {_name(backend)}{back} with weight {override.effective_weight}"
        )

    def drain(self, pool: str, address: str) -> tuple["Ledger", Applied]:
        return self._set_admin(pool, address, AdminState.DRAINING)

    def ready(self, pool: str, address: str) -> tuple["Ledger", Applied]:
        return self._set_admin(pool, address, AdminState.READY)

    def maintenance(self, pool: str, address: str) -> tuple["Ledger", Applied]:
        return self._set_admin(pool, address, AdminState.MAINTENANCE)

    def set_weight(self, pool: str, address: str, weight: int) -> tuple["Ledger", Applied]:
        _check_weight(weight)
        backend, there = self._must_find(pool, address)
        if there.weight == weight:
            return self, Applied(False, f"the weight of {_name(backend)} is {weight} already")
        ledger = self._with(backend, replace(self._override(backend), weight=weight))
        return ledger, Applied(
            True, f"the weight of {_name(backend)} is now {weight} (was {there.weight})"
        )

    def remove(self, pool: str, address: str) -> tuple["Ledger", Applied]:
        """Take a backend out; whoever calls this has seen to the work that still runs there."""
        backend = BackendId(pool, _canonical(address))
        gone = self._overrides.get(backend)
        if gone is not None and gone.removed:
            return self, Applied(False, f"{_name(backend)} was removed already")
        backend, _ = self._must_find(pool, address)
        override = Override(file=self._file[pool].get(backend.address), removed=True)
        return self._with(backend, override), Applied(True, f"removed {_name(backend)}")

    def _set_admin(self, pool: str, address: str, admin: AdminState) -> tuple["Ledger", Applied]:
        backend, there = self._must_find(pool, address)
        if there.admin is admin:
            return self, Applied(False, f"{_name(backend)} is {_DOING[admin]} already")
        ledger = self._with(backend, replace(self._override(backend), admin=admin))
        return ledger, Applied(
            True, f"{_name(backend)} is now {_DOING[admin]} (was {_DOING[there.admin]})"
        )

    def _override(self, backend: BackendId) -> Override:
        file = self._file[backend.pool].get(backend.address)
        return self._overrides.get(backend, Override(file=file))

    def _with(self, backend: BackendId, override: Override) -> "Ledger":
        """The ledger with that entry; one that says what the file says is none."""
        overrides = dict(self._overrides)
        if override.removed or self._find(backend) is None:
            overrides.pop(backend, None)  # who comes or goes now stands last
        overrides[backend] = override.normal
        if override.is_as_file:
            del overrides[backend]
        gone = [b for b, o in overrides.items() if o.removed and o.file is None]
        for oldest in gone[:-GONE_MAX]:
            del overrides[oldest]
        return Ledger(_file=self._file, _overrides=overrides, notes=self.notes)

    def _find(self, backend: BackendId) -> LedgerEntry | None:
        override = self._override(backend)
        return None if override.is_nowhere else _entry(backend.address, override)

    def _must_find(self, pool: str, address: str) -> tuple[BackendId, LedgerEntry]:
        self._check_pool(pool)
        backend = BackendId(pool, _canonical(address))
        there = self._find(backend)
        if there is not None:
            return backend, there
        gone = self._overrides.get(backend)
        if gone is not None and gone.removed:
            raise Refused(f"{_name(backend)} was removed; add it first")
        known = [entry.address for entry in self.entries(pool)]
        raise Refused(
            f"pool {pool} has no backend {shown(address)}{did_you_mean(address, known, 'it has')}"
        )

    def _check_pool(self, pool: str) -> None:
        if pool not in self._file:
            hint = did_you_mean(pool, list(self._file), "there is")
            raise Refused(f"there is no pool {shown(pool)}{hint}")


_DOING = {
    AdminState.READY: "ready",
    AdminState.DRAINING: "draining",
    AdminState.MAINTENANCE: "in maintenance",
}


def _entry(address: str, override: Override) -> LedgerEntry | None:
    if override.removed:
        return None
    of_file = override.file is not None
    overridden: list[Literal["weight", "admin"]] = []
    if of_file and override.effective_weight != override.file:
        overridden.append("weight")
    if of_file and override.admin is not AdminState.READY:
        overridden.append("admin")
    return LedgerEntry(
        address=address,
        weight=override.effective_weight,
        admin=override.admin,
        origin="file" if of_file else "cli",
        overridden=tuple(overridden),
    )


def _check_weight(weight: int | None) -> None:
    if weight is not None and not 0 <= weight <= WEIGHT_MAX:
        raise Refused(f"weight {weight}: expected 0 to {WEIGHT_MAX} (0 takes no new requests)")


def _canonical(address: str) -> str:
    """The canonical spelling; what is no address stays as it is and will not be found."""
    try:
        return str(parse_address(address))
    except AddressError:
        return address


def _name(backend: BackendId) -> str:
    return f"{backend.address} of pool {backend.pool}"


def _note(backend: BackendId, override: Override, why: str) -> str:
    return f"{_name(backend)}: no longer {override.in_words}, because {why}"
