"""One worker: everything that serves clients, composed, and how it starts, drains and ends."""

import ipaddress
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import structlog
import trio

from balancer.core.backend import BackendId
from balancer.core.outcome import Failure
from balancer.core.routes import RouteTable
from balancer.core.snapshot import PoolSnapshot
from balancer.proxy.accepting import accept_connections, empty
from balancer.proxy.faults import GoingAway, Stopped
from balancer.proxy.pool import Pool, PoolLimits
from balancer.proxy.service import ClientLimits, Running, Service
from balancer.telemetry.record import ExchangeRecord
from balancer.wire.network import Network, Sock
from balancer.wire.waiting import Timekeeper
from balancer.worker.names import Names

# How often idle upstream connections and clients that wait for an answer are looked at.
SWEEP_S = 1.0
# A client about to send on an idle connection gets this long before a drain closes it.
IDLE_GRACE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """What a worker is told when it starts."""

    limits: ClientLimits
    trusted_proxies: tuple[str, ...]
    routes: RouteTable


class Worker:
    """Serves clients from the pools it was given; snapshots come in, evidence goes out."""

    def __init__(
        self,
        plan: WorkerPlan,
        pools: Mapping[str, Pool],
        *,
        network: Network,
        access: Callable[[ExchangeRecord], None],
        http_date: Callable[[], bytes],
        rng: random.Random,
    ) -> None:
        self._log = structlog.get_logger()
        self.names = Names(network)
        self.service = Service(
            network=network,
            timekeeper=Timekeeper(network),
            limits=plan.limits,
            routes=plan.routes,
            pools=dict(pools),
            trusts=_trust(plan.trusted_proxies),
            targets=self.names.targets,
            access=access,
            crashed=self._crashed,
            http_date=http_date,
            rng=rng,
        )
        self._follow_names()
        self._accepting = trio.CancelScope()
        self._cutting = trio.CancelScope()
        self._ended = trio.Event()

    def apply(self, snapshot: PoolSnapshot) -> None:
        """Serve from `snapshot` from the next pick on, and rest no connection it does not want."""
        pool = self.service.pools[snapshot.name]
        others = pool.apply(snapshot)
        self.service.idle.close_for(
            backend
            for backend in self._resting_of(snapshot.name)
            if not pool.keeps_idle(backend[1])
        )
        if others:
            self._follow_names()

    def _resting_of(self, pool: str) -> list[BackendId]:
        return [backend for backend in self.service.idle.backends() if backend.pool == pool]

    def _follow_names(self) -> None:
        self.names.follow(
            view.id.address
            for pool in self.service.pools.values()
            for view in pool.snapshot.backends
        )

    async def look_after(self) -> None:
        """The tasks that serve no client: time, names and the sweep. Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.service.timekeeper.run)
            nursery.start_soon(self.names.run)
            nursery.start_soon(self._sweep)

    async def serve(self, listeners: Sequence[Sock]) -> None:
        """Accept and serve until `drain`; returns when the last connection has ended.

        The listeners are emptied and closed when accepting ends, so that nobody who waits in their
        queues is reset.
        """
        try:
            with self._cutting:
                async with trio.open_nursery() as connections:
                    with self._accepting:
                        async with trio.open_nursery() as accepting:
                            for listener in listeners:
                                accepting.start_soon(
                                    accept_connections, self.service, listener, connections
                                )
                    for listener in listeners:
                        empty(self.service, listener, connections)
                        listener.close()
        finally:
            self.service.idle.close()
            self._ended.set()

    async def drain(self, timeout_s: float) -> int:
        """Take nothing new, let running exchanges end, cut the rest after `timeout_s`.

        Returns how many exchanges were cut.
        """
        service = self.service
        service.draining = True
        self._accepting.cancel()
        with trio.move_on_after(timeout_s):
            with trio.move_on_after(IDLE_GRACE_S):
                await self._ended.wait()
            self._dismiss_resting()
            await self._ended.wait()
        cut = len(service.running)
        for exchange in list(service.running.values()):
            exchange.interrupt(Stopped(Failure.STOPPING))
        with trio.move_on_after(IDLE_GRACE_S):
            await self._ended.wait()
        self._cutting.cancel()
        await self._ended.wait()
        return cut

    def _dismiss_resting(self) -> None:
        for waiter in list(self.service.resting):
            waiter.interrupt(GoingAway())

    def running(self, backend: BackendId) -> list[Running]:
        """The exchanges whose attempt on this backend is under way."""
        return [
            exchange
            for exchange in self.service.running.values()
            if exchange.backend is not None and exchange.backend.id == backend
        ]

    def cut(self, backend: BackendId) -> int:
        """End every attempt on this backend now; how many there were."""
        running = self.running(backend)
        for exchange in running:
            exchange.interrupt(Stopped(Failure.CUT))
        return len(running)

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP_S)
            now = trio.current_time()
            self.service.idle.sweep(now, self._limits_of)
            for exchange in list(self.service.running.values()):
                exchange.notice_leaving(now - SWEEP_S)
            if self.service.draining:
                self._dismiss_resting()

    def _limits_of(self, backend: BackendId) -> PoolLimits | None:
        pool = self.service.pools.get(backend.pool)
        return pool.limits if pool is not None and pool.keeps_idle(backend.address) else None

    def _crashed(self, request_id: str, exc: Exception) -> None:
        self._log.error("connection.crashed", id=request_id, exc_info=exc)


def _trust(trusted: tuple[str, ...]) -> Callable[[str], bool]:
    networks = [ipaddress.ip_network(text, strict=False) for text in trusted]

    @lru_cache(maxsize=4096)
    def trusts(client: str) -> bool:
        try:
            address = ipaddress.ip_address(client.partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in networks)

    return trusts if networks else lambda _client: False
