"""What happens at the points of one connection: noted, or, once, a crash or a cancellation.

Which connection: the one whose client came from `VICTIM_PORT`. A point is told apart by the way there,
the chain of points that are being waited in, since what is contained at one caller may not be at
another. Patches the lane to know who rides; what is injected is the fault alone.
"""

from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from types import CoroutineType
from typing import Any, TypeAlias

import pytest
import trio

from balancer.rehearsal.memory_network import HostNetwork
from balancer.wire.lane import Lane, Rider
from balancer.wire.network import Sock
from balancer.wire.tls_socket import Coded

Way: TypeAlias = tuple[str, ...]
VICTIM_PORT = 50_000


class InjectedCrash(Exception):
    """A mistake of ours that nobody has thought of."""


class Fault(Enum):
    CRASH_BEFORE = "a crash before it"
    CRASH_AFTER = "a crash after it"
    CANCELLATION = "a cancellation at it"

    @property
    def crashes(self) -> bool:
        return self is not Fault.CANCELLATION


@dataclass
class Tap:
    """What the balancer has read from a connection, and written to it."""

    read: bytearray = field(default_factory=bytearray)
    sent: bytearray = field(default_factory=bytearray)
    on: Any = None

    def put_on(self, sock: Any) -> None:
        """From now on of this socket: of what is decoded, where a coding is put on another."""
        recv, send, self.on = sock.recv, sock.send, sock
        self.read.clear()
        self.sent.clear()

        def tapped_recv(size: int, flags: int = 0) -> bytes:
            data: bytes = recv(size, flags)
            self.read += b"" if flags or self.on is not sock else data
            return data

        def tapped_send(data: bytes) -> int:
            sent: int = send(data)
            self.sent += data[:sent] if self.on is sock else b""
            return sent

        sock.recv, sock.send = tapped_recv, tapped_send


@dataclass
class Run:
    """One run of a scenario. `target` is where the fault is to be; None: only note the ways."""

    target: Way | None = None
    fault: Fault = Fault.CRASH_BEFORE
    # The way there, and whether it came back from there without an exception.
    ways: dict[Way, bool] = field(default_factory=dict)
    # What had been read and sent when it happened; None: it has not.
    happened: tuple[bytes, bytes] | None = None
    tap: Tap = field(default_factory=Tap)
    victims: set[Rider] = field(default_factory=set)
    lanes: set[Lane] = field(default_factory=set)
    scope: trio.CancelScope | None = None  # of the victim's task
    to_close: bool = False  # the victim, as soon as it waits in the lane

    def before(self, way: Way) -> None:
        self.ways.setdefault(way, False)
        if not self._is_now(way):
            return
        if self.fault is Fault.CRASH_BEFORE:
            self._happens()
            raise InjectedCrash(way[-1])
        if self.fault is Fault.CANCELLATION:
            self._happens()
            if self.scope is not None:
                self.scope.cancel()
            else:
                self.to_close = True

    def behind(self, way: Way) -> None:
        self.ways[way] = True
        if self._is_now(way) and self.fault is Fault.CRASH_AFTER:
            self._happens()
            raise InjectedCrash(way[-1])

    def _is_now(self, way: Way) -> bool:
        return self.happened is None and way == self.target

    def _happens(self) -> None:
        self.happened = bytes(self.tap.read), bytes(self.tap.sent)


_rider: ContextVar[Rider | None] = ContextVar("rider", default=None)
_way: ContextVar[Way] = ContextVar("way", default=())


def _tap_what_is_decoded(patch: pytest.MonkeyPatch, run: "Run") -> None:
    coded = HostNetwork.coded

    def coding(network: HostNetwork, sock: Any, *about: Any, **how: Any) -> Coded:
        made = coded(network, sock, *about, **how)
        if run.tap.on is sock:
            run.tap.put_on(made)
        return made

    patch.setattr(HostNetwork, "coded", coding)


class Probe:
    """Is called by the code that `await_points.instrumented` has put its hooks into."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self._riding: Rider | None = None

    @contextmanager
    def during(self, run: Run) -> Iterator[None]:
        """Let the victim of this run be watched."""
        with pytest.MonkeyPatch.context() as patch:
            self._know_who_rides(patch, run)
            _tap_what_is_decoded(patch, run)
            self._run = run
            try:
                yield
            finally:
                self._run = None

    # ---- the hooks

    async def awaited(self, name: str, awaitable: Awaitable[Any]) -> Any:
        run = self._run
        if run is None or not self._is_victims(run):
            return await awaitable
        way = (*_way.get(), name)
        try:
            run.before(way)
        except InjectedCrash:
            _close(awaitable)
            raise
        token = _way.set(way)
        try:
            return await awaitable
        finally:
            _way.reset(token)

    def past(self, name: str, value: Any = None) -> Any:
        run = self._run
        if run is not None and self._is_victims(run):
            run.behind(self._way_to(name))
        return value

    def yielding(self, name: str, value: Any) -> Any:
        run = self._run
        if run is not None and self._is_victims(run):
            run.before(self._way_to(name))
        return value

    delegated = yielding

    def within(self, enter: str, leave: str, manager: Any) -> "_Within":
        return _Within(self, enter, leave, manager)

    async def each(self, name: str, things: Any) -> AsyncIterator[Any]:
        things = aiter(things)
        while True:
            try:
                thing = await self.awaited(name, anext(things))
            except StopAsyncIteration:
                return
            yield self.past(name, thing)

    # ---- whose point it is

    def _is_victims(self, run: Run) -> bool:
        rider = self._riding if self._riding is not None else _rider.get()
        return rider in run.victims

    def _way_to(self, name: str) -> Way:
        return (name,) if self._riding is not None else (*_way.get(), name)

    def _know_who_rides(self, patch: pytest.MonkeyPatch, run: Run) -> None:
        adopt, go_on, walk, turn = Lane.adopt, Lane._go_on, Lane._walk, Lane._run

        def adopting(lane: Lane, rider: Any, nursery: trio.Nursery, **how: bool) -> None:
            run.lanes.add(lane)
            if _port_of(rider.sock) == VICTIM_PORT:
                run.victims.add(rider)
                run.tap.put_on(rider.sock)
            adopt(lane, rider, nursery, **how)

        def going_on(lane: Lane, seat: Any, *interruption: Any) -> None:
            outer, self._riding = self._riding, seat.rider
            try:
                go_on(lane, seat, *interruption)
            finally:
                self._riding = outer
            if run.to_close and seat.rider in run.victims and lane._seats.get(seat.rider) is seat:
                run.to_close = False
                _taken_out(lane, seat)

        async def walking(lane: Lane, rider: Any) -> None:
            _rider.set(rider)
            _way.set(())
            with trio.CancelScope() as scope:
                if rider in run.victims:
                    run.scope = scope
                    if run.to_close:
                        run.to_close = False
                        scope.cancel()
                try:
                    await walk(lane, rider)
                finally:
                    run.scope = None if rider in run.victims else run.scope

        async def running(lane: Lane) -> None:
            _rider.set(None)
            await turn(lane)

        for name, method in [
            ("adopt", adopting), ("_go_on", going_on), ("_walk", walking), ("_run", running)
        ]:  # fmt: skip
            patch.setattr(Lane, name, method)


class _Within:
    """An `async with` with hooks around its entry and its end."""

    def __init__(self, probe: Probe, enter: str, leave: str, manager: Any) -> None:
        self._probe = probe
        self._names = enter, leave
        self._manager = manager

    async def __aenter__(self) -> Any:
        value = await self._probe.awaited(self._names[0], self._manager.__aenter__())
        try:
            self._probe.past(self._names[0])
        except InjectedCrash as exc:
            if not await self._manager.__aexit__(type(exc), exc, exc.__traceback__):
                raise
        return value

    async def __aexit__(self, kind: Any, exc: Any, trace: Any) -> Any:
        end = self._manager.__aexit__
        if exc is not None:
            return await end(kind, exc, trace)
        try:
            swallowed = await self._probe.awaited(self._names[1], _Ended(end))
        except InjectedCrash as crash:
            if not await end(type(crash), crash, crash.__traceback__):
                raise
            return True
        self._probe.past(self._names[1])
        return swallowed


class _Ended:
    """An end that is begun only when it is awaited: a crash before it is one within the block."""

    def __init__(self, end: Any) -> None:
        self._end = end

    def __await__(self) -> Any:
        return self._end(None, None, None).__await__()


def _close(awaitable: object) -> None:
    """Have a coroutine that is never begun say nothing of it, nor those that it was given."""
    if isinstance(awaitable, CoroutineType):
        given = list(awaitable.cr_frame.f_locals.values()) if awaitable.cr_frame else []
        awaitable.close()
        for thing in given:
            _close(thing)


def _taken_out(lane: Lane, seat: Any) -> None:
    """What the end of a lane does to each of its riders."""
    seat.ride.close()
    if seat.watch is not None:
        seat.watch.seat = None
    if seat in lane._at_the_end:
        lane._at_the_end.remove(seat)
    lane._leave(seat)
    seat.rider.end()


def _port_of(sock: Sock) -> int:
    peer = sock.getpeername()
    assert isinstance(peer, tuple)
    port = peer[1]
    assert isinstance(port, int)
    return port
