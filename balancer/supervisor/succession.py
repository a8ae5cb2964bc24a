"""An upgrade, on the side of the one that goes: start the successor, hand everything over, and end.

Decides the order, and that whatever goes wrong before the successor says that it serves leaves this
process serving as before. Until then orders, health and sockets are ours: the successor holds handles
of everything, and uses none. How it prepares is in `heritage`.
"""

import signal
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import trio

from balancer.admin.control import Done, HandedOver, NotApplied
from balancer.supervisor.bequest import (
    Estate,
    Failed,
    Handle,
    Prepared,
    Said,
    TakeOver,
    TookOver,
    send_handles,
)
from balancer.supervisor.ending import Ending
from balancer.supervisor.events import EventKind, EventLog
from balancer.supervisor.orders import Orders
from balancer.supervisor.reception import Reception
from balancer.supervisor.successor import Successor
from balancer.telemetry.logs import get_logger
from balancer.worker.channel import ChannelClosed

# On top of the time in which its pools may become known: to start, and to start its workers.
PREPARE_S = 30.0
# From the word to take over until it has; orders wait meanwhile.
TAKE_OVER_S = 10.0
# A process that was killed is gone in a moment.
END_S = 5.0
# Who has closed the channel is about to end, and says why on its way.
LAST_WORDS_S = 2.0


class Outside(Protocol):
    """What belongs to the process rather than to the instance in it."""

    async def start(self) -> Successor:
        """Start the installed program. OSError, or NotApplied where that can lead nowhere."""
        ...

    def handles(self) -> list[tuple[Handle, object]]:
        """The admin socket and the locks."""
        ...

    def leave(self) -> None:
        """Let go of them, so that nothing of them is erased."""
        ...

    def is_vacant(self) -> bool:
        """Whether nobody has the admin socket and the locks any more."""
        ...

    def clear(self, pid: int) -> None:
        """Remove what a successor that failed has left."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Affairs:
    """What is to be handed over, and whom it concerns.

    `outside`: None where the instance is no process. `handles`: of the instance. `in_order`: the places
    whose sockets began to listen in the order of their slots. `rows`: of the board, those that a
    successor is to leave alone, for the time of the block. `lock`: held by a reload, so that no two of
    either kind are under way.
    `limit_s`: how long pools may take to become known. `pass_on`: end, because that process serves.
    """

    outside: Outside | None
    handles: Callable[[], list[tuple[Handle, object]]]
    in_order: Callable[[], tuple[str, ...]]
    rows: Callable[[], AbstractContextManager[Collection[int]]]
    limit_s: Callable[[], float]
    reception: Reception
    orders: Orders
    lock: trio.Lock
    ending: Ending
    events: EventLog
    pid: int
    pass_on: Callable[[int], None]


class Succession:
    """The upgrades of one instance, of which one may succeed.

    `lost`: whoever has taken over has failed, and nobody is in its place yet.
    """

    def __init__(self, affairs: Affairs) -> None:
        self._affairs = affairs
        self.lost = trio.Event()
        self._handed_over = trio.Event()
        self._successor: Successor | None = None

    def signal_heir(self, number: int) -> int:
        """Send it to the process that has taken over; its number."""
        assert self._successor is not None
        self._successor.send_signal(number)
        return self._successor.pid

    async def watch(self) -> None:
        """Once somebody has taken over: say so if it ends before we do. Until cancelled."""
        await self._handed_over.wait()
        assert self._successor is not None
        how = await self._successor.wait()
        log = get_logger()
        tell = log.info if self._successor.ended_in_order else log.error
        tell("successor.ended", process=self._successor.pid, because=how)
        outside = self._affairs.outside
        if outside is not None and not self._successor.ended_in_order and outside.is_vacant():
            self.lost.set()

    async def upgrade(self) -> Done:
        """Let the installed program take over; returns when it serves.

        NotApplied says why it does not, and then everything is as before, but for a stop that was
        asked for meanwhile.
        """
        affairs = self._affairs
        async with affairs.lock:
            if self._handed_over.is_set():
                raise HandedOver
            try:
                return await self._upgrade()
            except NotApplied as exc:
                stops = affairs.ending.asked.is_set()
                effect = "ends, as it was told to" if stops else "goes on as before"
                cause = "; ".join(str(exc).splitlines())
                affairs.events.add(EventKind.UPGRADE_FAILED, cause=cause, effect=effect)
                raise NotApplied(f"{exc}; this process {effect}") from exc

    async def _upgrade(self) -> Done:
        affairs = self._affairs
        if affairs.outside is None:
            raise NotApplied("this instance is no process that could be replaced")
        if affairs.ending.asked.is_set():
            raise NotApplied("this process is ending already")
        try:
            successor = await affairs.outside.start()
        except OSError as exc:
            why = f"cannot start {exc.filename or 'it'}: {exc.strerror or exc}"
            raise NotApplied(f"the installed program: {why}") from exc
        try:
            version = await self._hand_over_to(successor)
        except BaseException:
            with trio.move_on_after(END_S, shield=True):
                await successor.end()
            affairs.outside.clear(successor.pid)
            raise
        self._successor = successor
        self._handed_over.set()
        return Done(
            changed=True,
            message=f"upgraded: process {successor.pid} (version {version}) serves now; "
            f"process {affairs.pid} finishes what it runs",
        )

    async def _hand_over_to(self, successor: Successor) -> str:
        """Its version, when it serves; NotApplied when it does not come to that."""
        outcome: str | NotApplied
        async with trio.open_nursery() as nursery:
            nursery.start_soon(successor.channel.run)
            nursery.start_soon(successor.listen)
            try:
                outcome = await self._agree(successor)
            except NotApplied as exc:
                outcome = exc
            nursery.cancel_scope.cancel()
        if isinstance(outcome, str):
            return outcome
        raise outcome

    async def _agree(self, successor: Successor) -> str:
        affairs, channel = self._affairs, successor.channel
        assert affairs.outside is not None
        send_handles(channel, [*affairs.handles(), *affairs.outside.handles()])
        with affairs.rows() as rows:
            document = affairs.orders.document(affairs.orders.ledger)
            in_order = affairs.in_order()
            channel.send(Estate(affairs.pid, document, rows=tuple(rows), in_order=in_order))
            word = await self._until_prepared(successor, affairs.limit_s() + PREPARE_S)

            async def take(document: dict[str, object]) -> None:
                await self._let_take_over(successor, document)

            await affairs.orders.pass_on(take)
            stopping = affairs.ending.asked.is_set()
            affairs.pass_on(successor.pid)
        if stopping:  # that was meant for whoever serves
            successor.send_signal(signal.SIGTERM)
        return word.version

    async def _until_prepared(self, successor: Successor, limit_s: float) -> Prepared:
        stopping = self._affairs.ending.asked
        word = await _heard(successor, limit_s, unless=stopping)
        if stopping.is_set():
            raise NotApplied("this process was told to stop meanwhile")
        match word:
            case Prepared():
                return word
            case Failed(why):
                raise NotApplied(f"the new process does not come up: {why}")
            case None:
                late = f"the new process was not ready within {limit_s:g} s"
                raise NotApplied(" / ".join([late, *successor.last_words()]))
            case _:
                raise NotApplied("the new process said what makes no sense")

    async def _let_take_over(self, successor: Successor, document: dict[str, object]) -> None:
        """Nobody is answered meanwhile: who comes now waits for the answer of whoever serves then."""
        events = self._affairs.events
        self._affairs.reception.shut()
        try:
            kept = tuple(dict(event) for event in events.recent(0) if "seq" in event)
            successor.channel.send(TakeOver(document, events.last, kept))
            match await _heard(successor, TAKE_OVER_S, unless=trio.Event()):
                case TookOver():
                    return
                case Failed(why):
                    raise NotApplied(f"the new process could not take over: {why}")
                case _:
                    raise NotApplied(f"the new process did not take over within {TAKE_OVER_S:g} s")
        except BaseException:
            with trio.move_on_after(END_S, shield=True):
                await successor.end()  # first, so that no two of us answer
            self._affairs.reception.open()
            raise


async def _heard(successor: Successor, limit_s: float, *, unless: trio.Event) -> Said | None:
    """What it says within that time; None where it says nothing, or that other thing happens."""
    heard: list[Said] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_after, unless, nursery.cancel_scope)
        nursery.cancel_scope.deadline = trio.current_time() + limit_s
        try:
            word, _ = await successor.channel.receive()
        except ChannelClosed as exc:
            word = Failed(await _how_it_ended(successor, str(exc)))
        heard.append(word)
        nursery.cancel_scope.cancel()
    return heard[0] if heard else None


async def _how_it_ended(successor: Successor, why: str) -> str:
    how = f"it closed its channel ({why})"
    with trio.move_on_after(LAST_WORDS_S):
        how = f"it {await successor.wait()}"
        await successor.heard_out.wait()
    return ": ".join([how, " / ".join(successor.last_words())]).removesuffix(": ")


async def cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    """Give up what goes on in the scope when that happens."""
    await event.wait()
    scope.cancel()
