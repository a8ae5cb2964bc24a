"""The places that one worker has for clients: taken, given back, and waited for.

Knows three limits: of descriptors, of each listener, of each address (`balancer.core.places`). Who
accepts asks before each batch; where there is no place, new connections stay in the kernel's queue,
and the clients that have rested longest are asked to leave. A plain request never comes here.
"""

from collections.abc import Callable

import trio

from balancer.core.client_limits import NO_LIMIT
from balancer.core.places import address_of
from balancer.telemetry.logs import get_logger

# So many that rest are dismissed in one go.
DISMISSED_MAX = 16
# A place may also come free without a word: descriptors are not ours alone.
LOOK_AGAIN_S = 0.1
# It is told that there is room again when a tenth is free, not with each place.
ROOMY_SHARE = 0.9
# A listener that is full and is not, from second to second, is told of once in a while.
TELL_EVERY_S = 60.0


class TooMany(Exception):
    """A client's address has as many connections as one may have; the text says so."""


class Door:
    """One listener as its worker counts it; `most` may be replaced.

    Who came in at an `era` that is over is to leave.
    """

    __slots__ = ("bind", "count", "era", "most")

    def __init__(self, bind: str) -> None:
        self.bind = bind
        self.most = NO_LIMIT
        self.count = 0
        self.era = 0


class Room:
    """All places of a worker.

    `most` clients fit; `dismiss(door, count)` asks so many to leave, of one listener or of all.
    `release` closes some connections to backends that rest.
    """

    def __init__(
        self, dismiss: Callable[[Door | None, int], None], release: Callable[[int], bool]
    ) -> None:
        self.most = NO_LIMIT
        self.count = 0
        self._dismiss = dismiss
        self._release = release
        self._doors: dict[str, Door] = {}
        self._addresses: dict[str, int] = {}
        self._freed = trio.Event()
        self._told_full: set[Door | None] = set()
        self._tell_at: dict[Door | None, float] = {}
        self._is_short = False

    # ---- doors

    def door(self, bind: str) -> Door:
        """The door of a listener."""
        door = self._doors.get(bind)
        if door is None:
            door = self._doors[bind] = Door(bind)
        return door

    def left_at(self, door: Door) -> int:
        """How many more there are places for."""
        return min(self.most - self.count, door.most - door.count)

    def enter(self, door: Door) -> int:
        """Take a place; the era in which it was taken."""
        self.count += 1
        door.count += 1
        return door.era

    def leave(self, door: Door) -> None:
        self.count -= 1
        door.count -= 1
        self._freed.set()
        if self._told_full:
            self._tell_roomy()

    # ---- addresses

    def admit(self, client: str, most: int) -> str | None:
        """Count a client by its address; what `gone` is to be told. TooMany.

        Nobody is counted where there is no limit.
        """
        address = None if most == NO_LIMIT else address_of(client)
        if address is None:
            return None
        count = self._addresses.get(address, 0)
        if count >= most:
            raise TooMany(
                f"{address} has {count} connections already (client.max_connections_per_address)"
            )
        self._addresses[address] = count + 1
        return address

    def gone(self, address: str | None) -> None:
        """A client that was counted has left."""
        if address is not None:
            count = self._addresses.pop(address) - 1
            if count:
                self._addresses[address] = count

    # ---- waiting

    async def wait(self, door: Door) -> None:
        """Return when there may be a place."""
        full = None if self.count >= self.most else door
        now = trio.current_time()
        if full not in self._told_full and now >= self._tell_at.get(full, now):
            self._told_full.add(full)
            self._tell_at[full] = now + TELL_EVERY_S
            self._tell_full(full)
        self._dismiss(full, DISMISSED_MAX)
        await self._until_freed()

    async def run_short(self, exc: OSError) -> None:
        """The kernel has nothing left for another connection: make some room, and wait a little."""
        if not self._is_short:
            self._is_short = True
            get_logger().warning(
                "listener.paused", because=f"{exc.strerror}", effect="new connections wait"
            )
        self._release(DISMISSED_MAX)
        self._dismiss(None, DISMISSED_MAX)
        await self._until_freed()

    def accepted(self) -> None:
        """The kernel has given us connections again."""
        if self._is_short:
            self._is_short = False
            get_logger().info("listener.resumed", because="the kernel has room again")

    async def _until_freed(self) -> None:
        self._freed = trio.Event()
        with trio.move_on_after(LOOK_AGAIN_S):
            await self._freed.wait()

    def _tell_full(self, door: Door | None) -> None:
        if door is None:
            because = (
                f"{self.most} clients are as many as descriptors allow (LimitNOFILE, ulimit -n)"
            )
        else:
            because = f"{door.bind} has {door.most} connections (listeners.max_connections)"
        effect = "new connections wait in the kernel's queue; who rests longest is dismissed"
        get_logger().warning("listener.paused", because=because, effect=effect)

    def _tell_roomy(self) -> None:
        for door in list(self._told_full):
            count, most = (self.count, self.most) if door is None else (door.count, door.most)
            if count < most * ROOMY_SHARE:
                self._told_full.discard(door)
                because = f"{count} connections of {most} are open"
                get_logger().info("listener.resumed", because=because, effect="accepts again")
