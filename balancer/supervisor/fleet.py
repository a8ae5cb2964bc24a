"""The listening sockets and the workers of an instance, kept as the settings in force say.

Opens and closes sockets, makes the plans that workers are told, and passes on what they report. How
pools are is for `pools`; when settings change is for `reloading`.
"""

import signal
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import trio

from balancer.config.settings import Settings
from balancer.core.field_names import pseudonym_of
from balancer.core.snapshot import PoolSnapshot
from balancer.supervisor.certificates import Certificates
from balancer.supervisor.events import EventKind, EventLog
from balancer.supervisor.listeners import CannotListen
from balancer.supervisor.listening import Listening
from balancer.supervisor.planning import Alike, plan_of, pool_news
from balancer.supervisor.pools import Pools
from balancer.supervisor.reload_plan import ReloadPlan
from balancer.supervisor.rows import NoRow
from balancer.supervisor.slots import Process, Slot
from balancer.supervisor.steering import HANDSHAKE_S, Steering
from balancer.supervisor.surroundings import Surroundings
from balancer.supervisor.workers import Workers
from balancer.telemetry.logs import get_logger
from balancer.worker.messages import (
    SHARED,
    Drain,
    LetGo,
    Plan,
    Reopen,
    Reported,
    SocketKey,
)


class Fleet:
    """Implements what reloading, pools and workers each ask of whoever serves clients."""

    def __init__(
        self,
        settings: Settings,
        pools: Pools,
        events: EventLog,
        around: Surroundings,
    ) -> None:
        self.settings = settings
        self._pools = pools
        self._events = events
        self._processors = around.processors
        self._log = around.log
        # No other instance has it: two on one host differ in their name, two of one name in time.
        self._pseudonym = pseudonym_of(f"{around.name} {around.wall()}")
        binds = {key.bind for key in around.sockets}
        in_order = binds if around.heritage is None else around.heritage.estate.in_order
        self._listening = Listening(around.network, around.sockets, in_order)
        self._steering = Steering(around.network, self._listening)
        self._leaving: frozenset[SocketKey] = frozenset()
        self._told: dict[str, PoolSnapshot] = {}
        self.certificates = Certificates(settings, around.certificates, events, around.wall)
        self.certificates.changed = self.brief
        crew = around.crew
        self.workers = Workers(self, crew.board, crew.memory, crew.launch, crew.lives)

    # ---- starting

    @property
    def places(self) -> str:
        """Where clients connect, in words."""
        return ", ".join(_binds(self.settings))

    def open(self, there: Mapping[int, tuple[Process, int]]) -> None:
        """Open all sockets, and a slot for every worker, for those that are there too.

        Raises CannotListen.
        """
        self.workers.adopt(there, self._slots_there())
        self.workers.resize(self._workers_wanted(self.settings))
        self._steering.end_what_was_left(self._places_there())
        self._listening.open(_binds(self.settings), self._slots())

    def open_beside(self, rows: Collection[int]) -> None:
        """As `open`, while the supervisor before us serves with workers in these rows.

        Of a place where it listens we take what it has given us and open no more: connections would
        come to a new socket at once, and nobody accepts there before `complete`. Raises CannotListen.
        """
        self.workers.rows.lend(rows)
        self.workers.check_room_for(self._workers_wanted(self.settings))
        for number in self._slots_there():
            self.workers.add_slot(number)
        self.workers.resize(self._workers_wanted(self.settings))
        there, binds = self._places_there(), _binds(self.settings)
        self._listening.close([key for key in self._listening.sockets if key.bind not in binds])
        self._listening.open([bind for bind in binds if bind not in there], self._slots())
        self._leaving = frozenset(self._listening.sockets.keys() - self._wanted())

    def complete(self) -> None:
        """Open what is still missing, and tell the workers. Raises CannotListen."""
        if self._listening.open(_binds(self.settings), self._slots()):
            self.workers.brief()

    @property
    def in_order(self) -> tuple[str, ...]:
        """The places whose sockets began to listen in the order of their slots."""
        return tuple(sorted(self._listening.in_order))

    def _slots_there(self) -> list[int]:
        """Of the slots that sockets are there for, as many as we want."""
        there = {key.slot for key in self._listening.sockets} - {SHARED}
        return sorted(there)[: self._workers_wanted(self.settings)]

    def _slots(self) -> list[int]:
        return [slot.number for slot in self.workers.staying]

    def _places_there(self) -> set[str]:
        return {key.bind for key in self._listening.sockets}

    def _workers_wanted(self, settings: Settings) -> int:
        return self._processors if settings.workers == "auto" else int(settings.workers)

    # ---- other settings: `balancer.supervisor.reloading.Serving`

    @contextmanager
    def opening(self, plan: ReloadPlan) -> Iterator[None]:
        """Open the places that the plan adds; at the end of the block, close again what is not in use.

        NoRow where there is no room for the workers that it wants.
        More sockets of a place that is there wait for `switch`: connections would come to them at
        once, and nobody accepts there before.
        """
        self.workers.check_room_for(self._workers_wanted(plan.settings))
        there = self._places_there()
        slots = self._slots()[: self._workers_wanted(plan.settings)]
        opened = self._listening.open([b for b in _binds(plan.settings) if b not in there], slots)
        try:
            yield
        finally:
            in_use = self._wanted() | self._leaving
            self._listening.close(key for key in opened if key not in in_use)

    def switch(self, settings: Settings) -> None:
        """Have the workers go by these settings, and give up the sockets that these do not name."""
        self.settings = settings
        self._resize()
        self._open_missing()
        self._leaving = frozenset(self._listening.sockets.keys() - self._wanted())
        self.workers.brief()

    def _resize(self) -> None:
        """As many workers as are wanted; the room was there when the reload began."""
        try:
            self.workers.resize(self._workers_wanted(self.settings))
        except NoRow as exc:
            effect = "there are as many workers as before, until the next reload"
            get_logger().error("worker.not_added", because=str(exc), effect=effect)

    def _open_missing(self) -> None:
        """A socket for each new worker, at places that are ours already: only want can prevent it."""
        try:
            self._listening.open(_binds(self.settings), self._slots())
        except CannotListen as exc:
            effect = "new workers share the sockets of the others, until the next reload"
            get_logger().error("listener.not_opened", because=str(exc), effect=effect)

    async def switched(self) -> tuple[str, ...]:
        """Close what is gone; the workers that have not confirmed in time.

        Whoever waits in the queue of such a socket is taken in by the last worker that holds it; one
        that is told its plan from here on gives it up at once.
        """
        laggards = await self.workers.confirmed()
        if self._leaving:
            if self._steering.away_from(self._leaving):
                await self.workers.until_ending(HANDSHAKE_S)
            laggards += await self._let_go()
        self.workers.say_to_retiring(Drain(None, patient=True))
        return tuple(dict.fromkeys(laggards))

    async def _let_go(self) -> tuple[str, ...]:
        leaving, self._leaving = self._leaving, frozenset()
        self._listening.close(leaving)
        self.workers.say(LetGo(self.workers.answers.next_number()))
        laggards = await self.workers.confirmed()
        self._steering.end()
        if laggards:  # sockets are still open that others will be opened after
            self._listening.in_order -= {key.bind for key in leaving}
        return laggards

    def _wanted(self) -> set[SocketKey]:
        return set(self._listening.wanted(_binds(self.settings), self._slots()))

    # ---- news of pools: `balancer.supervisor.pools.Audience`

    def apply(self, snapshot: PoolSnapshot) -> None:
        """Tell every worker what is new in a pool."""
        before = self._told.get(snapshot.name)
        self._told[snapshot.name] = snapshot
        self.workers.say(pool_news(self.workers.answers.next_number(), snapshot, before))

    def brief(self) -> None:
        """Tell every worker everything anew, and probes of what backends are believed by."""
        self._pools.know(self.certificates.loaded.backends)
        self.workers.brief()

    def reopen_logs(self) -> None:
        """Have everybody who writes for this instance open the log files again."""
        self.workers.say(Reopen())
        self.workers.rows.signal_elders(signal.SIGUSR1)

    # ---- what workers need: `balancer.supervisor.broadcast.Owner`

    def plan(self, slot: Slot, number: int) -> Plan:
        self._told = {name: book.snapshot for name, book in self._pools.books.items()}
        return plan_of(
            self.settings,
            self._told,
            number=number,
            slot=slot,
            sockets=self._wanted(),
            leaving=self._leaving,
            alike=Alike(
                len(self.workers.slots),
                self._pseudonym,
                self._log(self.settings),
                self.certificates.loaded,
            ),
        )

    def sockets(self) -> Mapping[SocketKey, object]:
        theirs = self._wanted() | self._leaving
        return {key: sock for key, sock in self._listening.sockets.items() if key in theirs}

    def close_sockets(self) -> None:
        self._listening.close_all()

    def heard(self, reported: Reported) -> None:
        began = trio.current_time() - reported.age_s
        self._pools.evidence(reported.backend, reported.evidence, reported.reason, began)

    def worker_lost(self, cause: str, effect: str, *, looping: bool) -> None:
        kind = EventKind.WORKER_LOOPS if looping else EventKind.WORKER_LOST
        self._events.add(kind, cause=cause, effect=effect)

    def worker_serves(self, slot: Slot) -> None:
        if self.workers.accepting:
            self._events.add(EventKind.WORKER_SERVES, cause=f"{slot.label} serves")


def _binds(settings: Settings) -> list[str]:
    return [listener.bind for listener in settings.listeners]
