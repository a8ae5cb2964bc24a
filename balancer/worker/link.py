"""A worker's link to its supervisor: dials it, says who it is, obeys, reports, and dials again.

Without a supervisor a worker serves on with what it knows, for as long as its plan allows; whoever
takes over is handed the listening sockets and the board. It decides nothing about pools.
"""

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import trio

from balancer.core.backend import BackendId
from balancer.core.board import CONNECTIONS_AT, EXCHANGES_AT, Board
from balancer.telemetry.logs import get_logger
from balancer.telemetry.record import ExchangeRecord
from balancer.wire.network import Network, Sock
from balancer.worker.channel import DESCRIPTORS_MAX, Channel, ChannelClosed
from balancer.worker.http_date import HttpDate
from balancer.worker.messages import (
    Accept,
    Applied,
    Ask,
    Cut,
    Drain,
    Drained,
    Hello,
    LetGo,
    LogPlan,
    Memory,
    Plan,
    PoolNews,
    Reopen,
    Reported,
    Running,
    RunningExchange,
    SocketKey,
    Sockets,
    Word,
)
from balancer.worker.worker import Worker
from healthcheck.core.verdict import Evidence

# A supervisor that was killed and started again is missed for no longer than this.
REDIAL_S = 0.1
# The watchdog looks at the board this often for a sign of life, so to speak.
BEAT_S = 0.5
# A worker that was never told anything is of no use to anybody.
UNPLANNED_S = 15.0
NO_LIMIT = float("inf")


class Lines(Protocol):
    """Where a worker's lines go."""

    def access(self, record: ExchangeRecord) -> None: ...
    def obey(self, plan: LogPlan) -> None: ...
    def reopen(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a worker takes from outside, so that a rehearsal can give it all virtual.

    `dial` connects to the supervisor, or raises OSError. `board_of` and `sock_of` make of a handle
    that a message brought what it stands for. `wall`: seconds since 1970.
    """

    slot: int
    pid: int
    network: Network
    rng: random.Random
    wall: Callable[[], float]
    dial: Callable[[], Awaitable[Channel]]
    board_of: Callable[[object], Board]
    sock_of: Callable[[object], Sock]
    lines: Lines


class Link:
    """Keeps one worker in touch; `run` serves until the worker has drained."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._log = get_logger()
        self._memory: object = None
        self._board: Board | None = None
        self._arrived: dict[SocketKey, Sock] = {}
        self._plan: Plan | None = None
        self._planned = trio.Event()
        self._channel: Channel | None = None
        self.worker: Worker | None = None

    async def run(self) -> None:
        """Serve until drained, or until nobody has told us anything for too long."""
        try:
            async with trio.open_nursery() as tasks:
                tasks.start_soon(self._stay_in_touch)
                with trio.move_on_after(UNPLANNED_S):
                    await self._planned.wait()
                if self.worker is not None:
                    tasks.start_soon(self._beat)
                    self._say(Drained(await self.worker.serve()))
                tasks.cancel_scope.cancel()
        finally:
            for sock in self._arrived.values():
                sock.close()

    def leave(self) -> None:
        """Drain within the shutdown time and end, as somebody else has asked us to."""
        if self.worker is not None and self._plan is not None:
            self.worker.drain(self._plan.shutdown_s)

    async def _stay_in_touch(self) -> None:
        alone_since = trio.current_time()
        while True:
            try:
                channel = await self._around.dial()
            except OSError:
                self._mind_being_alone(trio.current_time() - alone_since)
                await trio.sleep(REDIAL_S)
                continue
            why = await self._talk(channel)
            alone_since = trio.current_time()
            self._log.warning(
                "worker.orphaned",
                slot=self._around.slot,
                because=why,
                effect="serving on with what is known",
            )

    def _mind_being_alone(self, alone_s: float) -> None:
        plan = self._plan
        if plan is None or self.worker is None or alone_s < plan.orphan_s:
            return
        if not self.worker.service.draining:
            self._log.error(
                "worker.leaves",
                slot=plan.slot,
                because=f"there has been no supervisor for {plan.orphan_s:g} s",
                effect="draining, then ending",
            )
            self.worker.drain(plan.shutdown_s)

    async def _talk(self, channel: Channel) -> str:
        """Talk until the channel closes; why it did."""
        why = ""
        self._channel = channel
        try:
            async with trio.open_nursery() as talking:
                talking.start_soon(channel.run)
                self._greet(channel)
                try:
                    while True:
                        self._obey(*await channel.receive())
                except ChannelClosed as exc:
                    why = str(exc)
                talking.cancel_scope.cancel()
        finally:
            self._channel = None
            channel.close()
        return why

    def _greet(self, channel: Channel) -> None:
        """Say who we are, and hand over what a new supervisor must have to take over."""
        around = self._around
        if self.worker is not None:
            channel.send(Memory(), [self._memory])
            held = list(self.worker.sockets.held.items())
            for start in range(0, len(held), DESCRIPTORS_MAX):
                some = held[start : start + DESCRIPTORS_MAX]
                channel.send(Sockets(tuple(key for key, _ in some)), [sock for _, sock in some])
        row = None if self._plan is None else self._plan.row
        channel.send(Hello(around.slot, around.pid, row))

    def _obey(self, word: Word, handles: list[object]) -> None:
        match word:
            case Memory():
                self._memory = handles[0]
                self._board = self._around.board_of(handles[0])
            case Sockets(keys):
                socks = [self._around.sock_of(handle) for handle in handles]
                self._take_sockets(dict(zip(keys, socks, strict=True)))
            case Plan():
                self._follow(word)
            case Reopen():
                self._around.lines.reopen()
            case _:
                if self.worker is not None:
                    self._order(self.worker, word)

    def _take_sockets(self, sockets: dict[SocketKey, Sock]) -> None:
        if self.worker is None:
            self._arrived |= sockets
        else:
            self.worker.sockets.hold(sockets)

    def _follow(self, plan: Plan) -> None:
        around = self._around
        assert self._board is not None, "the board comes before the first plan"
        self._plan = plan
        around.lines.obey(plan.log)
        if self.worker is None:
            self.worker = Worker(
                plan,
                self._board,
                network=around.network,
                access=around.lines.access,
                http_date=HttpDate(around.wall),
                rng=around.rng,
                report=self._report,
            )
            self.worker.sockets.hold(self._arrived)
            self._arrived = {}
            self._planned.set()
        else:
            self.worker.obey(plan)
        self._say(Applied(plan.number))

    def _order(self, worker: Worker, word: Word) -> None:
        match word:  # what only goes up is not for us
            case PoolNews(number=number):
                worker.heed(word)
                self._say(Applied(number))
            case Accept(number, slots):
                worker.sockets.accept_for(slots)
                self._say(Applied(number))
            case LetGo(number):
                worker.sockets.let_go()
                self._say(Applied(number))
            case Drain(limit_s, patient):
                worker.drain(NO_LIMIT if limit_s is None else limit_s, patient=patient)
            case Cut(number, backend):
                self._say(Applied(number, worker.cut(backend)))
            case Ask(number, backend):
                self._say(Running(number, self._running(worker, backend)))
            case _:
                pass

    def _running(self, worker: Worker, backend: BackendId) -> tuple[RunningExchange, ...]:
        now = trio.current_time()
        records = [exchange.record for exchange in worker.running(backend)]
        return tuple(
            RunningExchange(
                id=record.request_id,
                method=record.method,
                path=record.target,
                client=record.client,
                age_s=round(now - record.began, 3),
                bytes=record.bytes_down,
            )
            for record in records
        )

    def _report(
        self, backend: BackendId, evidence: Evidence, reason: str, began: float, ejected: bool
    ) -> None:
        age_s = trio.current_time() - began
        self._say(Reported(backend, evidence, reason, age_s, ejected))

    def _say(self, message: Applied | Reported | Running | Drained) -> None:
        if self._channel is not None:
            with suppress(OSError):
                self._channel.send(message)

    async def _beat(self) -> None:
        """Show on the board that this loop turns, and what it serves."""
        assert self._board is not None
        assert self._plan is not None
        assert self.worker is not None
        row = self._board.row(self._plan.row)
        row.sign_on(self._around.pid)
        service = self.worker.service
        while True:
            row.beat()
            row.head[CONNECTIONS_AT] = service.connections
            row.head[EXCHANGES_AT] = service.exchanges
            await trio.sleep(BEAT_S)
