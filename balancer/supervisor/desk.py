"""What operators are shown and may order: the instance as the admin API sees it.

Reads from the books, the board and the workers; passes orders on. Decides nothing itself.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import cast

import msgspec
import trio

from balancer.admin.control import Done
from balancer.core.backend import BackendId
from balancer.core.board import Board
from balancer.core.ledger import Applied, Ledger
from balancer.supervisor.certificates import Certificates
from balancer.supervisor.effective import toml_in_force
from balancer.supervisor.ending import Ending, Haste
from balancer.supervisor.events import EventLog
from balancer.supervisor.notify import Notifier
from balancer.supervisor.orders import Orders, backend_named, check_removable
from balancer.supervisor.pools import Pools
from balancer.supervisor.reloading import Reloading
from balancer.supervisor.reporting import pool_status, worker_status
from balancer.supervisor.workers import Workers
from balancer.telemetry.metrics import Figures, exposition

VERSION = version("balancer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the desk stands on. `passed_on`: whether another process serves by now."""

    name: str
    events: EventLog
    pools: Pools
    orders: Orders
    reloading: Reloading
    workers: Workers
    certificates: Certificates
    board: Board
    ending: Ending
    accepting: trio.Event
    notifier: Notifier
    upgrade: Callable[[], Awaitable[Done]]
    passed_on: Callable[[], bool]
    wall: Callable[[], float]


class Desk:
    """Implements `balancer.admin.control.Control`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.events = parts.events
        self._started = parts.wall()

    @property
    def one_at_a_time(self) -> trio.Lock:
        """Held by a reload that is under way."""
        return self._parts.reloading.one_at_a_time

    def status(self, pool: str | None) -> Mapping[str, object]:
        parts = self._parts
        now, wall = trio.current_time(), parts.wall()
        books = [book for name, book in parts.pools.books.items() if pool in (None, name)]
        cells = {view.id: view.cell for book in books for view in book.views.values()}
        counts = dict(zip(cells, parts.board.counts(list(cells.values())), strict=True))
        return {
            "instance": parts.name,
            "version": VERSION,
            "ready": self.readiness()[0],
            "started_s": self._started,
            "connections": parts.board.connections,
            "exchanges": parts.board.exchanges,
            "turned_away": parts.board.turned_away,
            "shed": parts.board.shed,
            "connection_crashes": parts.board.crashes,
            "workers": [worker_status(slot, parts.board) for slot in parts.workers.slots],
            "certificates": parts.certificates.status(),
            "certificates_problem": parts.certificates.problem,
            "pools": {book.name: pool_status(book, counts, now, wall) for book in books},
        }

    def config(self) -> str:
        return toml_in_force(self._parts.reloading.settings, self._parts.orders.ledger)

    async def running(self, pool: str, address: str) -> Sequence[Mapping[str, object]]:
        running = await self._parts.workers.running(backend_named(pool, address))
        return [msgspec.structs.asdict(exchange) for exchange in running]

    def readiness(self) -> tuple[bool, list[str]]:
        parts = self._parts
        if parts.passed_on():
            return True, ["another process has taken over and serves"]
        if parts.ending.asked.is_set():
            return False, ["stopping"]
        if not parts.accepting.is_set():
            return False, ["waiting for first verdicts of the health checks"]
        return True, [
            f"pool {name}: {book.snapshot.summary}" for name, book in parts.pools.books.items()
        ]

    def metrics(self) -> bytes:
        return exposition(cast(Figures, self.status(None)))

    def stop(self, *, now: bool) -> None:
        self._parts.ending.ask(Haste.NOW if now else Haste.LIMITED)

    async def reload(self) -> Done:
        # Before that, no worker could take in who waits at a listener that is to go.
        await self._parts.accepting.wait()
        return await self._parts.notifier.tell_of(self._parts.reloading.reload)

    async def upgrade(self) -> Done:
        await self._parts.accepting.wait()
        return await self._parts.upgrade()

    async def add(self, pool: str, address: str, weight: int | None) -> Done:
        backend = backend_named(pool, address)
        return await self._order(backend, lambda ledger: ledger.add(*backend, weight))

    async def drain(self, pool: str, address: str) -> Done:
        backend = backend_named(pool, address)
        return await self._order(backend, lambda ledger: ledger.drain(*backend))

    async def ready(self, pool: str, address: str) -> Done:
        backend = backend_named(pool, address)
        return await self._order(backend, lambda ledger: ledger.ready(*backend))

    async def maintenance(self, pool: str, address: str) -> Done:
        backend = backend_named(pool, address)
        return await self._order(backend, lambda ledger: ledger.maintenance(*backend))

    async def weight(self, pool: str, address: str, weight: int) -> Done:
        backend = backend_named(pool, address)
        return await self._order(backend, lambda ledger: ledger.set_weight(*backend, weight))

    async def remove(self, pool: str, address: str, *, force: bool) -> Done:
        backend = backend_named(pool, address)
        workers = self._parts.workers
        check_removable(len(await workers.running(backend)), backend, force=force)
        done = await self._order(backend, lambda ledger: ledger.remove(*backend))
        if not force:
            return done  # what was picked while the order was saved may finish
        cut = await workers.cut(backend)
        return done if not cut else replace(done, message=f"{done.message}; {cut} cut")

    async def _order(
        self, backend: BackendId, order: Callable[[Ledger], tuple[Ledger, Applied]]
    ) -> Done:
        """Carry an order out, and wait until every worker obeys it."""
        done = await self._parts.orders.give(backend, order)
        return replace(done, laggards=await self._parts.workers.confirmed())
