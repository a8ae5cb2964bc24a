"""One instance: everything composed, started in order, stopped in order.

This is the supervisor's part: books, probes, orders, listening sockets. The data path is its
workers, which may be processes or, in a rehearsal, tasks of the same run.
"""

import os
import signal
from collections.abc import Awaitable, Callable

import trio

from balancer.admin.control import Done
from balancer.config.settings import Settings
from balancer.core.cells import Cells
from balancer.core.ledger import Ledger
from balancer.supervisor.bequest import BOARD, HEALTH, LISTENER, Handle
from balancer.supervisor.desk import VERSION, Desk, Parts
from balancer.supervisor.ending import Ending, Haste, cut_in_words
from balancer.supervisor.events import EventKind, EventLog
from balancer.supervisor.fleet import Fleet
from balancer.supervisor.heritage import CannotTakeOver, Heritage
from balancer.supervisor.listeners import CannotListen, open_listener
from balancer.supervisor.orders import Orders, overlay_of, pools_of
from balancer.supervisor.pools import Pools
from balancer.supervisor.reception import Reception
from balancer.supervisor.reload_plan import weights_of
from balancer.supervisor.reloading import Reloading
from balancer.supervisor.succession import Affairs, Succession, cancel_after
from balancer.supervisor.surroundings import Surroundings
from balancer.telemetry.logs import get_logger

# Followers of events are told the last one before their connection ends.
FAREWELL_S = 0.05
# A worker starts in a fraction of a second; one that does not in this time never will.
FIRST_WORKER_S = 15.0


class NoWorker(CannotListen):
    """No worker came up; str() is a sentence for the operator."""


class Instance:
    """Owns everything of an instance; `desk` is what operators deal with."""

    def __init__(self, settings: Settings, around: Surroundings) -> None:
        self._around = around
        self.events = EventLog(wall=around.wall)
        heritage = around.heritage
        document = around.store.load() if heritage is None else heritage.estate.document
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
        self.pools.know(around.certificates.loaded.backends)
        self.orders = Orders(ledger, self.pools, around.store, self.events)
        self.fleet = Fleet(settings, self.pools, self.events, around)
        self.accepting = trio.Event()
        self.ending = Ending(
            limit_s=lambda: self.fleet.settings.shutdown_timeout, events=self.events
        )
        self.took_over = heritage is not None
        self.passed_on = False
        self._probing = trio.CancelScope()
        self.desk = Desk(self._parts())
        self._reception = Reception(
            around.network,
            self.desk,
            around.admin_listener,
            names=lambda: self.fleet.settings.admin.health_hosts,
        )
        self.succession = Succession(self._affairs())

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
            upgrade=self._upgrade,
            passed_on=lambda: self.passed_on,
            workers=self.fleet.workers,
            certificates=self.fleet.certificates,
            board=around.crew.board,
            ending=self.ending,
            accepting=self.accepting,
            notifier=around.notifier,
            wall=around.wall,
        )

    async def _upgrade(self) -> Done:
        return await self.succession.upgrade()

    def _affairs(self) -> Affairs:
        return Affairs(
            outside=self._around.outside,
            handles=self._handles,
            in_order=lambda: self.fleet.in_order,
            rows=self.fleet.workers.rows.shared,
            limit_s=lambda: self.fleet.settings.start_timeout,
            reception=self._reception,
            orders=self.orders,
            lock=self.desk.one_at_a_time,
            ending=self.ending,
            events=self.events,
            pid=os.getpid(),
            pass_on=self._pass_on,
        )

    def _handles(self) -> list[tuple[Handle, object]]:
        return [
            (Handle(BOARD), self._around.crew.memory),
            *((Handle(LISTENER, *key), sock) for key, sock in self.fleet.sockets().items()),
            *self._reception.handles(),
        ]

    async def run(self) -> None:
        """Serve until told to stop; `accepting` is set when clients are being accepted.

        Raises CannotListen before anything was started; CannotTakeOver.
        """
        heritage = self._around.heritage
        there = {each.slot: (each.process, each.row) for each in self._around.adopted}
        try:
            if heritage is None:
                self.fleet.open(there)
            else:
                self.fleet.open_beside(heritage.estate.rows)
            self._open_health()
            await self._run()
        finally:
            self._reception.close()
            self.fleet.close_sockets()

    def _open_health(self) -> None:
        bind, around = self.fleet.settings.admin.health, self._around
        if bind is None:
            return
        sock = None if around.heritage is None else around.heritage.take_sock(HEALTH, bind)
        sock = sock or open_listener(around.network, bind, reuse_port=False)
        self._reception.own(bind, sock)

    async def _run(self) -> None:
        async with trio.open_nursery() as background:
            self._start_background(background)
            if self._around.heritage is None:
                self._start_answering(background)
                background.start_soon(self.fleet.workers.rows.take_back, self._around.strays)
                await self._until_known(self.pools.first_verdicts)
                await self._begin_to_serve(background)
            else:
                await self._until_known(self.pools.own_verdicts)
                await self._take_over(background, self._around.heritage)
            await self.ending.asked.wait()
            await self._end(background)
            background.cancel_scope.cancel()

    async def _end(self, background: trio.Nursery) -> None:
        if self.passed_on:
            background.start_soon(self._reception.dismiss)
        else:
            self._hurry_elders()
        cut = await self.ending.carry_out(
            self.fleet.workers.drain,
            delay_s=self.fleet.settings.readiness_delay,
            places=None if self.passed_on else self.fleet.places,
        )
        effect = f"process {os.getpid()} ends" if self.passed_on else None
        self.events.add(EventKind.INSTANCE_STOPPED, cause=cut_in_words(cut), effect=effect)
        await trio.sleep(FAREWELL_S)

    def _start_background(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self.fleet.workers.run)
        nursery.start_soon(self._take_channels, nursery)
        self.pools.begin(self.fleet)
        nursery.start_soon(self.fleet.certificates.watch)
        nursery.start_soon(self._probe)
        nursery.start_soon(self.pools.keep_time)
        nursery.start_soon(self.succession.watch)

    async def _probe(self) -> None:
        with self._probing:
            await self.pools.monitor.run()

    def _start_answering(self, nursery: trio.Nursery) -> None:
        """Begin with what only one process of an instance may do: answer, and save."""
        nursery.start_soon(self._reception.run)
        nursery.start_soon(self.orders.keep_saved)

    async def _take_channels(self, nursery: trio.Nursery) -> None:
        while True:
            channel = await self._around.crew.next_channel()
            nursery.start_soon(self.fleet.workers.talk, channel)

    async def _until_known(self, known: Callable[[], Awaitable[None]]) -> None:
        """Wait for what the pools must know before clients come, or for `start_timeout`."""
        with trio.move_on_after(self.fleet.settings.start_timeout):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_after, self.ending.asked, nursery.cancel_scope)
                await known()
                nursery.cancel_scope.cancel()

    async def _begin_to_serve(self, nursery: trio.Nursery) -> None:
        """Have the workers accept. NoWorker."""
        fleet = self.fleet
        for each in self._around.adopted:
            # Only now: until here they were better off with what they knew.
            nursery.start_soon(fleet.workers.talk, each.channel, each.introduction)
        if not await fleet.workers.one_serves(FIRST_WORKER_S):
            await fleet.workers.drain(0)
            raise NoWorker(f"no worker came up within {FIRST_WORKER_S:g} s; the log says why")
        await fleet.workers.accept()
        self.accepting.set()
        self.events.add(EventKind.LISTENER_OPEN, cause=f"listening on {fleet.places}")
        self.events.add(EventKind.INSTANCE_STARTED, cause=f"instance {self._around.name}")
        if self._around.adopted:
            fleet.switch(fleet.settings)
            nursery.start_soon(self._give_up_sockets)

    async def _give_up_sockets(self) -> None:
        """Those of workers that were there before us and are not to be any more."""
        async with self.desk.one_at_a_time:
            await self.fleet.switched()

    # ---- upgrading

    async def _take_over(self, nursery: trio.Nursery, heritage: Heritage) -> None:
        """Have our workers accept beside the others, and all else be ours. CannotTakeOver."""
        fleet = self.fleet
        if not await fleet.workers.all_serve(FIRST_WORKER_S):
            raise NoWorker(f"not all workers came up within {FIRST_WORKER_S:g} s; the log says why")
        if self.ending.asked.is_set():
            raise CannotTakeOver("it was told to stop meanwhile")
        last = await heritage.our_turn(VERSION)
        self.orders.renew(weights_of(fleet.settings), last.document)
        self.events.go_on_from(last.last_event, last.events)
        fleet.complete()
        await fleet.workers.accept()
        heritage.took_over()
        self.accepting.set()
        self._start_answering(nursery)
        self.pools.changed.set()
        nursery.start_soon(fleet.workers.rows.take_back, heritage.workers(self._around.crew.board))
        nursery.start_soon(self._give_up_sockets)
        cause = f"process {os.getpid()} has taken over from process {heritage.estate.pid}"
        self.events.add(EventKind.INSTANCE_STARTED, cause=cause)

    def _pass_on(self, pid: int) -> None:
        """Finish what runs, and end, because that process serves."""
        assert self._around.outside is not None
        self.passed_on = True
        self._around.outside.leave()
        # The other one says so, too; but before we end the manager must have heard of it.
        self._around.notifier.main_pid(pid)
        self.events.add(EventKind.INSTANCE_HANDED_OVER, cause=f"process {pid} has taken over")
        self.fleet.workers.pass_on()
        self._probing.cancel()
        self.ending.pass_on()

    # ---- stopping

    def stop(self, *, now: bool) -> None:
        self.desk.stop(now=now)

    def stop_sooner(self) -> None:
        """Stop within `shutdown_timeout`; where that was asked already, now."""
        self.ending.ask_sooner()
        if self.passed_on:
            self.fleet.workers.lose_patience()
            self._hurry_elders()

    def stop_without_limit(self) -> None:
        """Stop when the last exchange has ended, however long that takes."""
        self.ending.ask(Haste.NO_LIMIT)

    def _hurry_elders(self) -> None:
        """A stop is meant for everybody who still serves clients of this instance."""
        self.fleet.workers.rows.signal_elders(signal.SIGTERM)
        if self._around.heritage is not None:
            self._around.heritage.hurry_predecessor()
