"""A lane: many connections served by one task, each by a generator that says what it waits for.

Decides nothing about requests. A rider is served in the lane as long as what it does is short and
waits only to read; for everything else it leaves the lane for a task of its own (`walk`) and comes
back when that is done. A generator cannot await, so nothing in a lane can hold up the others.
"""

from collections.abc import Generator
from typing import Protocol, TypeAlias

import trio

from balancer.wire.network import Sock
from balancer.wire.waiting import Interrupted, Waiter


class Watch:
    """One socket that a rider waits for.

    `ready`: it may have become readable since somebody last looked, so look before you wait.
    """

    __slots__ = ("ready", "sock")

    def __init__(self, sock: Sock) -> None:
        self.sock = sock
        self.ready = False


Ride: TypeAlias = Generator[Watch, None, bool]
"""Yields the socket to be read next, after `waiter.move_deadline`; True at its end: `walk` next.

Resumed when the socket may be read, or with the Interrupted that ended the wait. A call that would
block all the same is to be followed by another yield. After a call that did not empty the socket,
whoever yields sets `ready`.
"""


class Rider(Protocol):
    """One connection, owned by the lane until `end`."""

    @property
    def waiter(self) -> Waiter: ...

    def ride(self) -> Ride:
        """A new ride. Closing it (GeneratorExit) is cancellation; it raises nothing else."""
        ...

    async def walk(self) -> bool:
        """Do what does not belong in a lane; whether to ride again."""
        ...

    def end(self) -> None:
        """Close the connection; called once, however it came to an end."""
        ...


class Lane(Protocol):
    """Where riders ride."""

    def watch(self, sock: Sock) -> Watch:
        """What a rider yields to wait for `sock`; one for the life of the socket."""
        ...

    def adopt(self, rider: Rider, nursery: trio.Nursery) -> None:
        """Serve `rider` until its end, by tasks of `nursery`."""
        ...


class TaskLane:
    """A lane on any network: a task for each rider."""

    def watch(self, sock: Sock) -> Watch:
        return Watch(sock)

    def adopt(self, rider: Rider, nursery: trio.Nursery) -> None:
        nursery.start_soon(_serve, rider)


async def _serve(rider: Rider) -> None:
    try:
        while await _ride(rider) and await rider.walk():
            pass
    finally:
        rider.end()


async def _ride(rider: Rider) -> bool:
    ride, waiter = rider.ride(), rider.waiter
    try:
        watch = next(ride)
        while True:
            # Level-triggered: the wait itself looks, and whatever was unseen ends it at once.
            try:
                await waiter.readable(watch.sock, waiter.deadline)
            except Interrupted as exc:
                watch = ride.throw(exc)
            else:
                watch = next(ride)
    except StopIteration as end:
        return bool(end.value)
    finally:
        ride.close()
