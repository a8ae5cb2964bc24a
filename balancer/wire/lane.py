"""The lane: many connections served by one task, each by a generator that says what it waits for.

Decides nothing about requests. A rider is served in the lane as long as what it does is short and
waits only to read; for everything else it leaves the lane for a task of its own (`walk`) and comes
back when that is done. A generator cannot await, so nothing in a lane can hold up the others.

A wait costs a fifth of what it costs as a task, and a rider that rests is a generator instead of a
task. Each turn serves at most EVENTS_MAX sockets, then all other tasks of the worker have theirs.
"""

from collections.abc import Generator
from typing import Protocol, TypeAlias

import trio

from balancer.wire.network import ENDED, Network, Sock
from balancer.wire.waiting import NEVER, Interrupted, Waiter

# At 50 µs each, a turn holds up the accept loop and the exchanges outside for some 3 ms at most.
EVENTS_MAX = 64


class Watch:
    """One socket in a lane.

    `ready`: it may have become readable since somebody last looked, so a wait ends at once.
    `ended`: the peer's end has been announced, and nothing will announce it again.
    """

    __slots__ = ("ended", "ready", "seat")

    def __init__(self) -> None:
        self.ready = False
        self.ended = False
        self.seat: _Seat | None = None


Ride: TypeAlias = Generator[Watch | None, None, bool]
"""Yields the socket to be read next, after `waiter.move_deadline`; True at its end: `walk` next.

Resumed when the socket may be read, or with the Interrupted that ended the wait. A wait is told
only what is new: a call that left something behind is to be followed by `ready`. A call that would
block all the same is followed by another yield.

Yields None to go on at the end of the turn, with all others that were ready in it: a burst of sends
wakes a peer once, and costs a third of the same sends with other work between them.
"""


class Rider(Protocol):
    """One connection, owned by the lane until `end`; whatever it raises ends it alone."""

    @property
    def waiter(self) -> Waiter: ...

    def ride(self) -> Ride:
        """A new ride. Closing it (GeneratorExit) is cancellation; it raises nothing else."""
        ...

    async def walk(self) -> bool:
        """Do what does not belong in a lane; whether to ride again."""
        ...

    def crashed(self, exc: Exception) -> None:
        """Tell of a mistake of ours that ends this rider; `end` follows. Raises nothing."""
        ...

    def end(self) -> None:
        """Close the connection; called once, however it came to an end."""
        ...


class _Seat:
    """A rider in the lane, and what it waits for."""

    __slots__ = ("lane", "ride", "rider", "waiter", "watch")

    def __init__(self, lane: "Lane", rider: Rider) -> None:
        self.lane = lane
        self.rider = rider
        self.waiter = rider.waiter
        self.ride = rider.ride()
        self.watch: Watch | None = None

    def wake(self) -> None:
        """End the wait under way, if there is one, so that the interruption is delivered."""
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.seat = None
            self.lane.deliver(self)


class Lane:
    """Its task runs while anybody rides."""

    def __init__(self, network: Network) -> None:
        self._edges = network.edges()
        self._watches: dict[int, Watch] = {}
        self._seats: dict[Rider, _Seat] = {}
        self._interrupted: list[_Seat] = []
        self._at_the_end: list[_Seat] = []
        self._runs = False
        self._nursery: trio.Nursery

    def watch(self, sock: Sock) -> Watch:
        """What a rider yields to wait for `sock`; asked for once in the life of the socket."""
        # A closed socket drops out by itself, and its number comes again with another one.
        watch = self._watches[sock.fileno()] = Watch()
        self._edges.add(sock)
        return watch

    def adopt(self, rider: Rider, nursery: trio.Nursery, *, walking: bool = False) -> None:
        """Serve `rider` until its end, by tasks of `nursery`; if `walking`, it walks first."""
        self._nursery = nursery
        if walking:
            nursery.start_soon(self._walk, rider)
        else:
            self._board(rider)

    def deliver(self, seat: _Seat) -> None:
        """Resume a rider whose wait was interrupted, at the next turn."""
        self._interrupted.append(seat)
        self._edges.wake()

    def _board(self, rider: Rider) -> None:
        seat = self._seats[rider] = _Seat(self, rider)
        rider.waiter.seat = seat
        if not self._runs:
            self._runs = True
            self._nursery.start_soon(self._run)
        self._go_on(seat)
        if self._at_the_end:
            self._edges.wake()

    async def _run(self) -> None:
        try:
            while self._seats:
                await self._turn()
        finally:
            self._runs = False
            self._interrupted.clear()
            self._at_the_end.clear()
            for seat in list(self._seats.values()):
                try:
                    seat.ride.close()
                except Exception as exc:  # noqa: BLE001 - the others want to be closed as well
                    seat.rider.crashed(exc)
                self._leave(seat)
                self._end(seat.rider)

    async def _turn(self) -> None:
        events = self._edges.poll(EVENTS_MAX)
        if not (events or self._interrupted or self._at_the_end):
            await self._edges.wait()
            return
        interrupted, self._interrupted = self._interrupted, []
        for seat in interrupted:
            self._go_on(seat, seat.waiter.taken_interruption())
        watches = self._watches
        for number, mask in events:
            watch = watches[number]
            if mask & ENDED:
                watch.ended = True
            waiting = watch.seat
            if waiting is None:
                watch.ready = True
            else:
                watch.seat = waiting.watch = None
                self._go_on(waiting)
        at_the_end, self._at_the_end = self._at_the_end, []
        for seat in at_the_end:
            self._go_on(seat)
        await trio.lowlevel.checkpoint()

    def _go_on(self, seat: _Seat, interruption: Interrupted | None = None) -> None:
        """Let a rider that waits for nothing any more go on until it waits again."""
        waiter, ride = seat.waiter, seat.ride
        waiter.deadline = NEVER
        try:
            while True:
                watch = next(ride) if interruption is None else ride.throw(interruption)
                if watch is None:
                    self._at_the_end.append(seat)
                    return
                interruption = waiter.taken_interruption()
                if interruption is None:
                    if not (watch.ready or watch.ended):
                        break
                    watch.ready = False
                waiter.deadline = NEVER
        except StopIteration as end:
            self._leave(seat)
            if end.value:
                self._nursery.start_soon(self._walk, seat.rider)
            else:
                self._end(seat.rider)
            return
        except Exception as exc:  # noqa: BLE001 - the wall between riders
            self._leave(seat)
            seat.rider.crashed(exc)
            self._end(seat.rider)
            return
        watch.seat, seat.watch = seat, watch

    def _leave(self, seat: _Seat) -> None:
        seat.waiter.seat = None
        del self._seats[seat.rider]

    async def _walk(self, rider: Rider) -> None:
        again = False
        try:
            again = await rider.walk()
        except Exception as exc:  # noqa: BLE001 - the wall between riders
            again = False
            rider.crashed(exc)
        finally:
            if not again:
                self._end(rider)
        if again:
            self._board(rider)

    def _end(self, rider: Rider) -> None:
        try:
            rider.end()
        except Exception as exc:  # noqa: BLE001 - the wall between riders
            rider.crashed(exc)
