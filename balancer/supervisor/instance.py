"""One instance: everything composed, started in order, stopped in order.

This is the supervisor's part: books, probes, orders, listening sockets. The data path is its
workers, which may be processes or, in a rehearsal, tasks of the same run.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from balancer.admin import api, health, server
from balancer.config.settings import Settings
from balancer.core.cells import Cells
from balancer.core.ledger import Ledger
from balancer.supervisor.crew import Crew
from balancer.supervisor.desk import Desk, Parts
from balancer.supervisor.ending import Ending, Haste, cut_in_words
from balancer.supervisor.events import EventKind, EventLog
from balancer.supervisor.fleet import Fleet
from balancer.supervisor.listeners import CannotListen, open_listener
from balancer.supervisor.orders import Orders, overlay_of, pools_of
from balancer.supervisor.pools import Pools
from balancer.supervisor.reload_plan import weights_of
from balancer.supervisor.reloading import Load, Reloading
from balancer.supervisor.state_file import StateStore
from balancer.supervisor.takeover import Adopted
from balancer.telemetry.logs import get_logger
from balancer.wire.network import Network, Sock
from balancer.worker.messages import LogPlan, SocketKey

# Followers of events are told the last one before their connection ends.
FAREWELL_S = 0.05
# A worker starts in a fraction of a second; one that does not in this time never will.
FIRST_WORKER_S = 15.0


class NoWorker(CannotListen):
    """No worker came up; str() is a sentence for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an instance takes from outside, so that a rehearsal can give it all virtual.

    `wall`: seconds since 1970. `processors`: how many workers `auto` is. `admin_listener`: None
    serves no admin socket. `load` reads `source`, the configuration, again; None: it is no file.
    `sockets` and `adopted`: what was there before us.
    """

    name: str
    network: Network
    store: StateStore
    crew: Crew
    log: Callable[[Settings], LogPlan]
    wall: Callable[[], float]
    rng: random.Random
    source: str = ""
    load: Load | None = None
    processors: int = 1
    admin_listener: Sock | None = None
    sockets: Mapping[SocketKey, Sock] = field(default_factory=dict)
    adopted: Sequence[Adopted] = ()


class Instance:
    """Owns everything of an instance; `desk` is what operators deal with."""

    def __init__(self, settings: Settings, around: Surroundings) -> None:
        self._around = around
        self.events = EventLog(wall=around.wall)
        document = around.store.load()
        ledger = Ledger.of(weights_of(settings), overlay_of(document))
        for note in ledger.notes:
            get_logger().warning("state.entry_dropped", because=note)
        self.pools = Pools(
            settings,
            {name: ledger.entries(name) for name in settings.pools},
            pools_of(document),
            events=self.events,
            rng=around.rng,
            cells=Cells(around.crew.board),
        )
        self.orders = Orders(ledger, self.pools, around.store, self.events)
        self.fleet = Fleet(
            settings,
            self.pools,
            self.events,
            around.crew,
            network=around.network,
            sockets=around.sockets,
            processors=around.processors,
            log=around.log,
        )
        self.accepting = trio.Event()
        self.ending = Ending(
            limit_s=lambda: self.fleet.settings.shutdown_timeout, events=self.events
        )
        self.desk = Desk(self._parts())

    def _parts(self) -> Parts:
        around = self._around
        reloading = Reloading(
            self.fleet.settings,
            source=around.source,
            load=around.load,
            pools=self.pools,
            orders=self.orders,
            serving=self.fleet,
            events=self.events,
            stopping=self.ending.asked,
        )
        return Parts(
            name=around.name,
            events=self.events,
            pools=self.pools,
            orders=self.orders,
            reloading=reloading,
            workers=self.fleet.workers,
            board=around.crew.board,
            ending=self.ending,
            accepting=self.accepting,
            wall=around.wall,
        )

    async def run(self) -> None:
        """Serve until told to stop; `accepting` is set when clients are being accepted.

        Raises CannotListen before anything was started.
        """
        there = {each.slot: (each.process, each.row) for each in self._around.adopted}
        try:
            self.fleet.open(there)
            public = self._open_health()
            try:
                await self._run(public)
            finally:
                if public is not None:
                    public.close()
        finally:
            self.fleet.close_sockets()

    def _open_health(self) -> Sock | None:
        bind = self.fleet.settings.admin.health
        if bind is None:
            return None
        return open_listener(self._around.network, bind, reuse_port=False)

    async def _run(self, public: Sock | None) -> None:
        async with trio.open_nursery() as background:
            self._start_background(background, public)
            await self._until_known()
            await self._begin_to_serve(background)
            await self.ending.asked.wait()
            cut = await self.ending.carry_out(
                self.fleet.workers.drain,
                delay_s=self.fleet.settings.readiness_delay,
                places=self.fleet.places,
            )
            self.events.add(EventKind.INSTANCE_STOPPED, cause=cut_in_words(cut))
            await trio.sleep(FAREWELL_S)
            background.cancel_scope.cancel()

    def _start_background(self, nursery: trio.Nursery, public: Sock | None) -> None:
        network = self._around.network
        nursery.start_soon(self.fleet.workers.run)
        nursery.start_soon(self._take_channels, nursery)
        self.pools.begin(self.fleet)
        nursery.start_soon(self.pools.monitor.run)
        nursery.start_soon(self.pools.keep_time)
        nursery.start_soon(self.orders.keep_saved)
        if self._around.admin_listener is not None:
            answer = partial(api.answer, control=self.desk)
            nursery.start_soon(server.serve, self._around.admin_listener, network, answer)
        if public is not None:
            answer = partial(health.answer_public, control=self.desk)
            nursery.start_soon(server.serve, public, network, answer)

    async def _take_channels(self, nursery: trio.Nursery) -> None:
        while True:
            channel = await self._around.crew.next_channel()
            nursery.start_soon(self.fleet.workers.talk, channel)

    async def _until_known(self) -> None:
        """Wait for what the pools must know before clients come, or for `start_timeout`."""
        with trio.move_on_after(self.fleet.settings.start_timeout):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._give_up_waiting, nursery.cancel_scope)
                await self.pools.first_verdicts()
                nursery.cancel_scope.cancel()

    async def _give_up_waiting(self, scope: trio.CancelScope) -> None:
        await self.ending.asked.wait()
        scope.cancel()

    async def _begin_to_serve(self, nursery: trio.Nursery) -> None:
        """Have the workers accept. NoWorker."""
        fleet = self.fleet
        for each in self._around.adopted:
            # Only now: until here they were better off with what they knew.
            nursery.start_soon(fleet.workers.talk, each.channel, each.introduction)
        if not await fleet.workers.one_serves(FIRST_WORKER_S):
            raise NoWorker(f"no worker came up within {FIRST_WORKER_S:g} s; the log says why")
        await fleet.workers.accept()
        self.accepting.set()
        self.events.add(EventKind.LISTENER_OPEN, cause=f"listening on {fleet.places}")
        self.events.add(EventKind.INSTANCE_STARTED, cause=f"instance {self._around.name}")
        if self._around.adopted:
            fleet.switch(fleet.settings)
            await fleet.switched()

    # ---- stopping

    def stop(self, *, now: bool) -> None:
        self.desk.stop(now=now)

    def stop_sooner(self) -> None:
        """Stop within `shutdown_timeout`; where that was asked already, now."""
        self.ending.ask_sooner()

    def stop_without_limit(self) -> None:
        """Stop when the last exchange has ended, however long that takes."""
        self.ending.ask(Haste.NO_LIMIT)
