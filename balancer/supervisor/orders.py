"""The operator's orders: checked, made durable, told, applied; in this sequence, one at a time.

An order is acknowledged only when it would survive a crash. What cannot be saved is not applied.
"""

from collections.abc import Awaitable, Callable, Mapping

import trio

from balancer.admin.control import Done, HandedOver, NotApplied
from balancer.core.address import AddressError, parse_address
from balancer.core.backend import BackendId
from balancer.core.ledger import Applied, Ledger, LedgerEntry, Refused
from balancer.supervisor.changes import backend_change
from balancer.supervisor.events import EventLog
from balancer.supervisor.pools import Pools
from balancer.supervisor.state_file import StateStore
from balancer.telemetry.logs import get_logger

# Health changes are saved in the background, at most this often; orders at once.
SAVE_EVERY_S = 1.0
# How long a disk may take before an order is refused: much less than a client of the API waits, or
# nobody would be there to hear why.
SAVE_S_MAX = 3.0
# A disk that is full or gone is seldom back in a second, and every try is a line in the log.
RETRY_S = 5.0
FORMAT = 1


class Orders:
    """The ledger's only writer."""

    def __init__(self, ledger: Ledger, pools: Pools, store: StateStore, events: EventLog) -> None:
        self.ledger = ledger
        self._pools = pools
        self._store = store
        self._events = events
        self._log = get_logger()
        self._one_at_a_time = trio.Lock()
        self.passed_on = False

    async def give(
        self, backend: BackendId, order: Callable[[Ledger], tuple[Ledger, Applied]]
    ) -> Done:
        """Carry out an order. Refused: it makes no sense; NotApplied: it could not be saved."""
        async with self._one_at_a_time:
            self._check_ours()
            ledger, applied = order(self.ledger)
            if applied.changed:
                await self._save_order(ledger, backend, applied.message)
                before, self.ledger = self.ledger, ledger
                # Told first: what follows from it is told while the pool obeys.
                self._tell(backend, before)
                self._pools.set_entries(backend.pool, ledger.entries(backend.pool))
        return Done(changed=applied.changed, message=applied.message)

    async def replace(
        self, ledger_from: Callable[[Ledger], Ledger], obey: Callable[[], None]
    ) -> None:
        """Go by the ledger that follows from the present one, and `obey` once it is saved.

        NotApplied: it could not be saved, and nothing has changed.
        """
        async with self._one_at_a_time:
            self._check_ours()
            ledger = ledger_from(self.ledger)
            try:
                await self._save(ledger)
            except NotApplied:
                self._pools.changed.set()  # the file is to hold what is in force
                raise
            self.ledger = ledger
            obey()

    async def pass_on(self, take: Callable[[dict[str, object]], Awaitable[None]]) -> None:
        """Let somebody else `take` the state document; from then on nothing here changes or saves it.

        Orders wait meanwhile. What `take` raises leaves everything as it was.
        """
        async with self._one_at_a_time:
            self._check_ours()
            await take(self.document(self.ledger))
            self.passed_on = True

    def renew(self, file: Mapping[str, Mapping[str, int]], document: Mapping[str, object]) -> None:
        """Go by a later state document, that somebody else has kept up to now."""
        self.ledger = Ledger.of(file, overlay_of(document))
        self._pools.renew(self.ledger, pools_of(document))

    def _check_ours(self) -> None:
        if self.passed_on:
            raise HandedOver

    def document(self, ledger: Ledger) -> dict[str, object]:
        """What a restart needs, as it is now."""
        return {"format": FORMAT, "overlay": ledger.overlay(), "pools": self._pools.dump()}

    async def keep_saved(self) -> None:
        """Save health and ejections after they changed, again if it failed, and on the way out."""
        saved = True
        try:
            while True:
                if saved:
                    await self._pools.changed.wait()
                self._pools.changed = trio.Event()
                saved = await self._save_quietly()
                await trio.sleep(SAVE_EVERY_S if saved else RETRY_S)
        finally:
            # Whoever holds the lock holds it for one save; then it is our turn.
            with trio.move_on_after(2 * SAVE_S_MAX, shield=True):
                await self._save_quietly()

    async def _save_quietly(self) -> bool:
        async with self._one_at_a_time:
            if self.passed_on:
                return True
            try:
                await self._save(self.ledger)
            except NotApplied as exc:
                effect = f"health would not survive a restart; trying again in {RETRY_S:g} s"
                self._log.error("state.not_saved", because=str(exc), effect=effect)
                return False
        return True

    async def _save_order(self, ledger: Ledger, backend: BackendId, message: str) -> None:
        try:
            await self._save(ledger)
        except NotApplied as exc:
            # The file may hold the order by now; it is to hold what is in force.
            self._pools.changed.set()
            self._log.error(
                "order.not_applied",
                pool=backend.pool,
                backend=backend.address,
                because=str(exc),
                effect=f"refused, and not in force: {message}",
            )
            raise

    async def _save(self, ledger: Ledger) -> None:
        """Save, whoever goes away meanwhile: saved and not applied, or the reverse, must not be."""
        document = self.document(ledger)
        with trio.move_on_after(SAVE_S_MAX, shield=True):
            await self._store.save(document)
            return
        raise NotApplied(
            f"the disk did not save the state within {SAVE_S_MAX:g} s; the instance is unchanged"
        )

    def _tell(self, backend: BackendId, before: Ledger) -> None:
        entries = _entry(before, backend), _entry(self.ledger, backend)
        kind, cause, effect = backend_change(*entries, by="the operator")
        self._events.add(
            kind, pool=backend.pool, backend=backend.address, cause=cause, effect=effect
        )


def _entry(ledger: Ledger, backend: BackendId) -> LedgerEntry | None:
    entries = ledger.entries(backend.pool)
    return next((entry for entry in entries if entry.address == backend.address), None)


def overlay_of(document: Mapping[str, object] | None) -> object:
    """The operator's part of a state document."""
    return None if document is None else document.get("overlay")


def pools_of(document: Mapping[str, object] | None) -> Mapping[str, object]:
    """The part of a state document that tells of health and ejections."""
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
