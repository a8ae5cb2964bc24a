"""One worker: everything that serves clients, composed; how it changes, drains and ends."""

import random
from collections.abc import Callable
from contextlib import suppress

import trio

from balancer.core.admission import Admission
from balancer.core.backend import BackendId, BackendView
from balancer.core.board import Board
from balancer.core.outcome import Failure
from balancer.core.policies import make_policy
from balancer.core.routes import RouteTable
from balancer.core.snapshot import PoolSnapshot, assembled
from balancer.core.trust import trusting
from balancer.core.tunnels import Leave
from balancer.proxy.faults import GoingAway, Stopped
from balancer.proxy.pool import Pool, PoolLimits, Report
from balancer.proxy.service import Running, Service
from balancer.telemetry.logs import get_logger
from balancer.telemetry.record import ExchangeRecord
from balancer.wire.network import Network
from balancer.wire.waiting import Timekeeper
from balancer.worker.messages import Plan, PoolNews, PoolPlan
from balancer.worker.names import Names
from balancer.worker.sockets import ListeningSockets
from balancer.worker.terminators import terminators_of
from balancer.worker.turned_away import TurnedAwayClients

# How often idle upstream connections and clients that wait for an answer are looked at.
SWEEP_S = 1.0
LOOKED_AT_ONCE = 256  # ten thousand in one go would hold up everybody for 25 ms
# A client about to send on an idle connection gets this long before a drain closes it.
IDLE_GRACE_S = 0.5
# Idle clients are dismissed in slices, so that thousands of them do not come back in one instant.
SLICE_S = 0.025
SLICE_MIN = 64
SLICES_MAX = 80


class Worker:
    """Serves clients as its plan says; plans and news come in, evidence goes out."""

    def __init__(
        self,
        plan: Plan,
        board: Board,
        *,
        network: Network,
        access: Callable[[ExchangeRecord], None],
        http_date: Callable[[], bytes],
        rng: random.Random,
        report: Report,
    ) -> None:
        self._log = get_logger()
        self._row = board.row(plan.row)
        self.admission = Admission(self._row)
        self._rng = rng
        self._report = report
        self._views: dict[str, dict[str, BackendView]] = {}
        self.names = Names(network)
        self.turned_away = TurnedAwayClients(self._log)
        self.service = Service(
            network=network,
            timekeeper=Timekeeper(network),
            limits=plan.limits,
            listeners={},
            routes=RouteTable(plan.routes),
            pools={},
            trusts=trusting(plan.trusted_proxies),
            fields=plan.fields,
            targets=self.names.targets,
            access=access,
            crashed=self._crashed,
            turned_away=self.turned_away,
            http_date=http_date,
            rng=rng,
        )
        self.sockets = ListeningSockets(self.service)
        self._hurry = trio.CancelScope()
        self._cutting = trio.CancelScope()
        self._asked_to_end = trio.Event()
        self._ended = trio.Event()
        self._patient = False
        self.obey(plan)

    def obey(self, plan: Plan) -> None:
        """Become what the plan says; what is there already of it stays as it is."""
        service = self.service
        service.limits = plan.limits
        # A socket that is leaving is emptied by the rules that its clients came under.
        held = {key.bind for key in self.sockets.held}
        kept = {bind: rules for bind, rules in service.listeners.items() if bind in held}
        service.terminators = terminators_of(plan.listeners, service.terminators)
        service.listen_by(kept | {rules.bind: rules for rules in plan.listeners})
        service.trusts = trusting(plan.trusted_proxies)
        service.fields = plan.fields
        service.routes = RouteTable(plan.routes)
        for pool in plan.pools:
            self._views[pool.news.name] = {}
            snapshot = self._snapshot(pool.news)
            known = service.pools.get(snapshot.name)
            if known is None:
                service.pools[snapshot.name] = self._new_pool(snapshot, pool)
            else:
                if _begins_otherwise(known.limits, pool.limits):
                    service.idle.close_for(self._resting_of(snapshot.name))
                known.go_by(pool.limits)
                known.base_ejection_s = pool.base_ejection_s
                if known.snapshot.policy != snapshot.policy:
                    known.policy = make_policy(snapshot.policy, self._rng)
                self._apply(known, snapshot)
        in_flight = sum(each.backend is not None for each in service.running.values())
        self.admission.begin(plan.in_flight_max, in_flight)
        for name in service.pools.keys() - {pool.news.name for pool in plan.pools}:
            del service.pools[name], self._views[name]
            service.idle.close_for(self._resting_of(name))
        service.review_tunnels()
        self._follow_names()
        self.sockets.keep_only(plan.sockets, plan.leaving)
        self.sockets.accept_for(plan.accept)

    def heed(self, news: PoolNews) -> None:
        """Serve one pool as it is now, from the next pick on."""
        pool = self.service.pools.get(news.name)
        if pool is None:
            return
        staying = pool.staying
        if self._apply(pool, self._snapshot(news)):
            self._follow_names()
        if pool.staying != staying:
            self.service.review_tunnels()

    def decided(self, backend: BackendId) -> None:
        """What the supervisor says of this backend holds, which we had ejected on our own."""
        pool = self.service.pools.get(backend.pool)
        if pool is not None:
            pool.decided(backend.address)

    def _new_pool(self, snapshot: PoolSnapshot, plan: PoolPlan) -> Pool:
        return Pool(
            snapshot,
            make_policy(snapshot.policy, self._rng),
            plan.limits,
            self._report,
            row=self._row,
            admission=self.admission,
            base_ejection_s=plan.base_ejection_s,
        )

    def _snapshot(self, news: PoolNews) -> PoolSnapshot:
        fresh = {view.id.address: view for view in news.views}
        views = self._views[news.name] = fresh if news.whole else self._views[news.name] | fresh
        return assembled(
            name=news.name,
            policy=news.policy,
            views=tuple(views.values()),
            pending=frozenset(news.pending),
            panic=news.panic,
            numbers=news.numbers,
            eject_after=news.eject_after,
            ejectable=news.ejectable,
        )

    def _apply(self, pool: Pool, snapshot: PoolSnapshot) -> bool:
        """Swap the snapshot in, and rest no connection it does not want; whether others are in it."""
        others = pool.apply(snapshot)
        self.service.idle.close_for(
            backend
            for backend in self._resting_of(snapshot.name)
            if not pool.keeps_idle(backend.address)
        )
        return others

    def _resting_of(self, pool: str) -> list[BackendId]:
        return [backend for backend in self.service.idle.backends() if backend.pool == pool]

    def _follow_names(self) -> None:
        self.names.follow(address for views in self._views.values() for address in views)

    async def serve(self) -> int:
        """Serve until `drain` has ended everything; how many exchanges were cut."""
        async with trio.open_nursery() as tasks:
            tasks.start_soon(self.service.timekeeper.run)
            tasks.start_soon(self.names.run)
            tasks.start_soon(self._sweep)
            tasks.start_soon(self._serve_connections)
            await self._asked_to_end.wait()
            cut = await self._end()
            tasks.cancel_scope.cancel()
        return cut

    async def _serve_connections(self) -> None:
        """Accept until asked to end; return when the last connection has ended.

        Our own sockets are emptied before they close, so that nobody in their queues is reset.
        """
        try:
            with self._cutting:
                async with trio.open_nursery() as connections:
                    async with trio.open_nursery() as accepting:
                        accepting.start_soon(self.sockets.run, connections)
                        await self._asked_to_end.wait()
                        accepting.cancel_scope.cancel()
                    self.sockets.close()
        finally:
            self.sockets.abandon()
            self.service.idle.close()
            self._ended.set()

    def drain(self, limit_s: float, *, patient: bool = False) -> None:
        """Take nothing new, let what runs end, cut the rest after `limit_s`; again: another limit.

        `patient`: whose connection rests may stay until his next answer, or until he leaves.
        """
        now, service = trio.current_time(), self.service
        service.draining = True
        service.leave = (service.leave or Leave(now)).sooner(now, limit_s)
        service.review_tunnels()
        self._patient = patient
        self._hurry.deadline = now + limit_s
        self._asked_to_end.set()

    async def _end(self) -> int:
        with self._hurry:
            with trio.move_on_after(IDLE_GRACE_S):
                await self._ended.wait()
            if not self._patient:
                await self._dismiss_resting()
            await self._ended.wait()
        running = list(self.service.running.values())
        for exchange in running:
            exchange.interrupt(Stopped(Failure.STOPPING))
        with trio.move_on_after(IDLE_GRACE_S):
            await self._ended.wait()
        self._cutting.cancel()
        await self._ended.wait()
        return len(running)

    async def _dismiss_resting(self) -> None:
        """Close the connections on which no request is under way."""
        resting = list(self.service.resting)
        size = max(SLICE_MIN, -(-len(resting) // SLICES_MAX))
        for start in range(0, len(resting), size):
            for waiter in resting[start : start + size]:
                if waiter in self.service.resting:
                    waiter.interrupt(GoingAway())
            await trio.sleep(SLICE_S)

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
            for pool in self.service.pools.values():
                pool.tick(now)
            self.service.idle.sweep(now, self._limits_of)
            await self._notice_leaving(since=now - SWEEP_S)
            if self.service.draining and not self._patient:
                await self._dismiss_resting()

    async def _notice_leaving(self, since: float) -> None:
        """Look whose client has gone, of those that began before; some, then others have their turn."""
        for at, exchange in enumerate(list(self.service.running.values()), start=1):
            try:
                if exchange.record.number in self.service.running:
                    exchange.notice_leaving(since)
            except Exception as exc:  # noqa: BLE001 - the wall between connections
                self._crashed(exchange.record.request_id, exc)
            if not at % LOOKED_AT_ONCE:
                await trio.lowlevel.checkpoint()

    def _limits_of(self, backend: BackendId) -> PoolLimits | None:
        pool = self.service.pools.get(backend.pool)
        return pool.limits if pool is not None and pool.keeps_idle(backend.address) else None

    def _crashed(self, request_id: str, exc: Exception) -> None:
        self._row.count_crash()
        with suppress(Exception):  # there is nobody else to tell
            self._log.error("connection.crashed", id=request_id, exc_info=exc)


def _begins_otherwise(before: PoolLimits, after: PoolLimits) -> bool:
    """Whether connections made by the one are none that the other would make."""
    return (before.proxy_protocol, before.tls) != (after.proxy_protocol, after.tls)
