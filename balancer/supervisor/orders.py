"""The operator's orders: checked, made durable, applied, told; in this sequence, one at a time.

An order is acknowledged only when it would survive a crash. What cannot be saved is not applied.
"""

from collections.abc import Callable, Mapping

import structlog
import trio

from balancer.admin.control import Done, NotApplied
from balancer.core.address import AddressError, parse_address
from balancer.core.backend import BackendId
from balancer.core.ledger import Applied, Ledger, Refused
from balancer.supervisor.events import EventKind, EventLog
from balancer.supervisor.pools import Pools
from balancer.supervisor.state_file import StateStore

# Health changes are saved in the background, at most this often; orders at once.
SAVE_EVERY_S = 1.0
# How long a disk may take before an order is refused.
SAVE_S_MAX = 10.0
FORMAT = 1


class Orders:
    """The ledger's only writer."""

    def __init__(self, ledger: Ledger, pools: Pools, store: StateStore, events: EventLog) -> None:
        self.ledger = ledger
        self._pools = pools
        self._store = store
        self._events = events
        self._log = structlog.get_logger()
        self._one_at_a_time = trio.Lock()

    async def give(
        self,
        kind: EventKind,
        backend: BackendId,
        order: Callable[[Ledger], tuple[Ledger, Applied]],
    ) -> Done:
        """Carry out an order. Refused: it makes no sense; NotApplied: it could not be saved."""
        async with self._one_at_a_time:
            ledger, applied = order(self.ledger)
            if applied.changed:
                # Saved and not applied, or the reverse, must not come of a caller that went away.
                with trio.CancelScope(shield=True):
                    await self._save(ledger)
                    self.ledger = ledger
                    self._pools.set_entries(backend.pool, ledger.entries(backend.pool))
                    cause = f"by the operator: {applied.message}"
                    self._events.add(kind, pool=backend.pool, backend=backend.address, cause=cause)
        return Done(changed=applied.changed, message=applied.message)

    async def keep_saved(self) -> None:
        """Save health and ejections after they changed, and once on the way out."""
        try:
            while True:
                await self._pools.changed.wait()
                self._pools.changed = trio.Event()
                await self._save_quietly()
                await trio.sleep(SAVE_EVERY_S)
        finally:
            with trio.move_on_after(SAVE_EVERY_S, shield=True):
                await self._save_quietly()

    async def _save_quietly(self) -> None:
        async with self._one_at_a_time:
            try:
                await self._save(self.ledger)
            except NotApplied as exc:
                effect = "health would not survive a restart; trying again with the next change"
                self._log.error("state.not_saved", because=str(exc), effect=effect)

    async def _save(self, ledger: Ledger) -> None:
        document = {"format": FORMAT, "overlay": ledger.overlay(), "pools": self._pools.dump()}
        with trio.move_on_after(SAVE_S_MAX):
            await self._store.save(document)
            return
        raise NotApplied(f"the state file took longer than {SAVE_S_MAX:g} s; nothing was changed")


def overlay_of(document: Mapping[str, object] | None) -> object:
    """The operator's part of a state document."""
    return None if document is None else document.get("overlay")


def pools_of(document: Mapping[str, object] | None) -> Mapping[str, object]:
    """The part of a state document that tells of health and cursors."""
    pools = None if document is None else document.get("pools")
    return pools if isinstance(pools, Mapping) else {}


def backend_named(pool: str, address: str) -> BackendId:
    """The identity behind an address as an operator spells it."""
    try:
        return BackendId(pool, str(parse_address(address)))
    except AddressError:
        return BackendId(pool, address)  # the ledger will say what is wrong with it


def check_removable(running: int, backend: BackendId, *, force: bool) -> None:
    """Refuse to remove a backend with work in flight, unless told to cut it."""
    if running and not force:
        raise Refused(
            f"{backend.address} of pool {backend.pool} has {running} exchange{'s' if running > 1 else ''} in flight, which would be"
            " cut; drain it first (`balancer drain --wait`), or give --force"
        )
