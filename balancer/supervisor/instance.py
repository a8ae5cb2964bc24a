"""One instance: everything composed, started in order, stopped in order.

Supervisor and worker share one trio run here; what passes between them (snapshots down, evidence
up) is already what would pass between processes.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import cast

import structlog
import trio

from balancer.admin import api, health, server
from balancer.admin.control import Done, NotApplied
from balancer.config.settings import Settings
from balancer.core.ledger import Ledger
from balancer.core.routes import RouteTable
from balancer.proxy.service import ClientLimits
from balancer.supervisor.effective import toml_in_force
from balancer.supervisor.ending import Ending, Haste, cut_in_words
from balancer.supervisor.events import EventKind, EventLog
from balancer.supervisor.listeners import open_listener
from balancer.supervisor.orders import Orders, backend_named, check_removable, overlay_of, pools_of
from balancer.supervisor.pools import Pools
from balancer.supervisor.reporting import http_date, pool_status, running_status
from balancer.supervisor.state_file import StateStore
from balancer.telemetry.metrics import Figures, exposition
from balancer.telemetry.record import ExchangeRecord
from balancer.wire.network import Network, Sock
from balancer.worker.worker import Worker, WorkerPlan

VERSION = version("balancer")
# Followers of events are told the last one before their connection ends.
FAREWELL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an instance takes from outside, so that a rehearsal can give it all virtual.

    `wall`: seconds since 1970. `admin_listener`: None serves no admin socket.
    """

    name: str
    network: Network
    store: StateStore
    access: Callable[[ExchangeRecord], None]
    wall: Callable[[], float]
    rng: random.Random
    admin_listener: Sock | None = None


class Instance:
    """Implements `balancer.admin.control.Control`."""

    def __init__(self, settings: Settings, around: Surroundings) -> None:
        self._settings = settings
        self._around = around
        self._log = structlog.get_logger()
        self.events = EventLog(wall=around.wall)
        document = around.store.load()
        file = {
            name: {backend.address: backend.weight for backend in pool.backends}
            for name, pool in settings.pools.items()
        }
        ledger = Ledger.of(file, overlay_of(document))
        for note in ledger.notes:
            self._log.warning("state.entry_dropped", because=note)
        entries = {name: ledger.entries(name) for name in settings.pools}
        self.pools = Pools(
            settings, entries, pools_of(document), events=self.events, rng=around.rng
        )
        self._orders = Orders(ledger, self.pools, around.store, self.events)
        self.worker = Worker(
            self._plan(),
            self.pools.serving,
            network=around.network,
            access=around.access,
            http_date=lambda: http_date(around.wall()),
            rng=around.rng,
        )
        self._started = around.wall()
        self.accepting = trio.Event()
        self._ending = Ending(limit_s=settings.shutdown_timeout, events=self.events)

    def _plan(self) -> WorkerPlan:
        client = self._settings.client
        return WorkerPlan(
            limits=ClientLimits(
                header_s=client.header_timeout,
                idle_s=client.idle_timeout,
                body_s=client.body_timeout,
                head_bytes_max=client.max_header,
            ),
            trusted_proxies=self._settings.trusted_proxies,
            routes=RouteTable(self._settings.routes_in_effect),
        )

    async def run(self) -> None:
        """Serve until `stop`; `accepting` is set when clients are being accepted.

        Raises CannotListen before anything was started.
        """
        network = self._around.network
        with ExitStack() as opened:
            listeners = []
            for listener in self._settings.listeners:
                listeners.append(open_listener(network, listener.bind))
                opened.callback(listeners[-1].close)
            public = self._open_health()
            if public is not None:
                opened.callback(public.close)
            async with trio.open_nursery() as background:
                self._start_background(background, public)
                await self._until_known()
                cut = await self._serve(listeners)
                self.events.add(EventKind.INSTANCE_STOPPED, cause=cut_in_words(cut))
                await trio.sleep(FAREWELL_S)
                background.cancel_scope.cancel()

    def _open_health(self) -> Sock | None:
        bind = self._settings.admin.health
        return None if bind is None else open_listener(self._around.network, bind)

    def _start_background(self, nursery: trio.Nursery, public: Sock | None) -> None:
        network = self._around.network
        self.pools.begin(self.worker)
        nursery.start_soon(self.worker.look_after)
        nursery.start_soon(self.pools.monitor.run)
        nursery.start_soon(self.pools.keep_time)
        nursery.start_soon(self._orders.keep_saved)
        if self._around.admin_listener is not None:
            answer = partial(api.answer, control=self)
            nursery.start_soon(server.serve, self._around.admin_listener, network, answer)
        if public is not None:
            answer = partial(health.answer_public, control=self)
            nursery.start_soon(server.serve, public, network, answer)

    async def _until_known(self) -> None:
        """Wait for what the pools must know before clients come, or for `start_timeout`."""
        with trio.move_on_after(self._settings.start_timeout):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._give_up_waiting, nursery.cancel_scope)
                await self.pools.first_verdicts()
                nursery.cancel_scope.cancel()

    async def _give_up_waiting(self, scope: trio.CancelScope) -> None:
        await self._ending.asked.wait()
        scope.cancel()

    async def _serve(self, listeners: Sequence[Sock]) -> int:
        """Serve until told to stop; how many exchanges were cut then."""
        places = ", ".join(listener.bind for listener in self._settings.listeners)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.worker.serve, listeners)
            self.accepting.set()
            self.events.add(EventKind.LISTENER_OPEN, cause=f"listening on {places}")
            self.events.add(EventKind.INSTANCE_STARTED, cause=f"instance {self._around.name}")
            await self._ending.asked.wait()
            delay_s = self._settings.readiness_delay
            return await self._ending.carry_out(self.worker.drain, delay_s=delay_s, places=places)

    # ---- Control

    def status(self, pool: str | None) -> Mapping[str, object]:
        now, wall = trio.current_time(), self._around.wall()
        return {
            "instance": self._around.name,
            "version": VERSION,
            "ready": self.readiness()[0],
            "started_s": self._started,
            "connections": self.worker.service.connections,
            "exchanges": self.worker.service.exchanges,
            "pools": {
                name: pool_status(book, self.pools.serving[name], now, wall)
                for name, book in self.pools.books.items()
                if pool is None or pool == name
            },
        }

    def config(self) -> str:
        return toml_in_force(self._settings, self._orders.ledger)

    def running(self, pool: str, address: str) -> Sequence[Mapping[str, object]]:
        now = trio.current_time()
        running = self.worker.running(backend_named(pool, address))
        return [running_status(exchange, now) for exchange in running]

    def readiness(self) -> tuple[bool, list[str]]:
        if self._ending.asked.is_set():
            return False, ["stopping"]
        if not self.accepting.is_set():
            return False, ["waiting for first verdicts of the health checks"]
        return True, [
            f"pool {name}: {book.snapshot.summary}" for name, book in self.pools.books.items()
        ]

    def metrics(self) -> bytes:
        return exposition(cast(Figures, self.status(None)))

    def stop(self, *, now: bool) -> None:
        self._ending.ask(Haste.NOW if now else Haste.LIMITED)

    def stop_sooner(self) -> None:
        """Stop within `shutdown_timeout`; where that was asked already, now."""
        self._ending.ask_sooner()

    def stop_without_limit(self) -> None:
        """Stop when the last exchange has ended, however long that takes."""
        self._ending.ask(Haste.NO_LIMIT)

    async def reload(self) -> Done:
        raise NotApplied("reload is not there yet; restart the instance")

    async def upgrade(self) -> Done:
        raise NotApplied("upgrade is not there yet; restart the instance")

    async def add(self, pool: str, address: str, weight: int | None) -> Done:
        backend = backend_named(pool, address)
        return await self._orders.give(backend, lambda ledger: ledger.add(*backend, weight))

    async def drain(self, pool: str, address: str) -> Done:
        backend = backend_named(pool, address)
        return await self._orders.give(backend, lambda ledger: ledger.drain(*backend))

    async def ready(self, pool: str, address: str) -> Done:
        backend = backend_named(pool, address)
        return await self._orders.give(backend, lambda ledger: ledger.ready(*backend))

    async def maintenance(self, pool: str, address: str) -> Done:
        backend = backend_named(pool, address)
        return await self._orders.give(backend, lambda ledger: ledger.maintenance(*backend))

    async def weight(self, pool: str, address: str, weight: int) -> Done:
        backend = backend_named(pool, address)
        return await self._orders.give(backend, lambda ledger: ledger.set_weight(*backend, weight))

    async def remove(self, pool: str, address: str, *, force: bool) -> Done:
        backend = backend_named(pool, address)
        check_removable(len(self.worker.running(backend)), backend, force=force)
        done = await self._orders.give(backend, lambda ledger: ledger.remove(*backend))
        if not force:
            return done  # what was picked while the order was saved may finish
        cut = self.worker.cut(backend)
        return done if not cut else Done(changed=True, message=f"{done.message}; {cut} cut")
