"""The listening sockets of one worker: which it holds, on which it accepts, and how one is given up.

Every worker holds the sockets of all slots, and accepts on its own, on the shared ones, and on those
whose worker is not there: the kernel goes on queueing connections at them. Told of no slot, it accepts
nowhere. It opens none itself.
"""

from collections.abc import Collection, Mapping

import trio

from balancer.core.places import most_clients
from balancer.proxy.accepting import accept_connections, empty
from balancer.proxy.service import Service
from balancer.wire.network import Sock
from balancer.worker.messages import SHARED, SocketKey


class ListeningSockets:
    """Owns the sockets it holds; connections live in the nursery that `run` is given."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.held: dict[SocketKey, Sock] = {}
        self._leaving: frozenset[SocketKey] = frozenset()
        self._slots: frozenset[int] = frozenset()
        self._accepting: dict[SocketKey, trio.CancelScope] = {}
        self._loops: trio.Nursery | None = None
        self._connections: trio.Nursery | None = None
        self._closed = False

    def hold(self, sockets: Mapping[SocketKey, Sock]) -> None:
        """Take these over; of one that is held already, the new handle is closed.

        After `close` all are: whom the kernel queued at a socket that only we hold would wait in vain.
        """
        for key, sock in sockets.items():
            if self._closed or key in self.held:
                sock.close()
            else:
                self.held[key] = sock
        self._adjust()

    def keep_only(self, keys: Collection[SocketKey], leaving: Collection[SocketKey]) -> None:
        """Give up all others; those that are `leaving` stay until `let_go`."""
        self._leaving = frozenset(leaving)
        self._give_up(self.held.keys() - set(keys) - self._leaving)

    def accept_for(self, slots: Collection[int]) -> None:
        """Accept on the sockets of these slots, and on the shared ones."""
        self._slots = frozenset(slots)
        self._adjust()

    def accept_everywhere(self) -> None:
        """Accept at all sockets until told otherwise, where we accept at all.

        For as long as nobody is there who would say which worker is missing.
        """
        if self.serves_clients:
            self.accept_for({key.slot for key in self.held})

    def let_go(self) -> None:
        """Give up the sockets that are leaving."""
        self._give_up(self._leaving & self.held.keys())
        self._leaving = frozenset()

    @property
    def serves_clients(self) -> bool:
        """Whether we were told to accept anywhere."""
        return bool(self._slots)

    async def run(self, connections: trio.Nursery) -> None:
        """Accept until cancelled; connections go on in the nursery."""
        async with trio.open_nursery() as loops:
            self._loops, self._connections = loops, connections
            self._adjust()
            try:
                await trio.sleep_forever()
            finally:
                self._loops = None

    def close(self) -> None:
        """Give up all, for good; after `run`."""
        self._closed = True
        self._give_up(set(self.held))

    def abandon(self) -> None:
        """Close all for good and take nobody in: other processes go on accepting there."""
        self._closed = True
        for sock in self.held.values():
            sock.close()
        self.held.clear()

    def _give_up(self, keys: Collection[SocketKey]) -> None:
        """Take in who waits at these, whoever's they are, and close them.

        Nobody knows who closes last: the kernel resets whoever then still waits. So each empties.
        """
        for key in keys:
            self._stop(key)
            sock = self.held.pop(key)
            if self._connections is not None and self.serves_clients and self._has_rules(key):
                empty(self._service, key.bind, sock, self._connections)
            sock.close()

    def _adjust(self) -> None:
        """Accept on what is to be accepted on, and on nothing else."""
        room = self._service.room
        room.most = most_clients(self._service.network.descriptors(), len(self.held))
        if self._loops is None:
            return
        slots = self._slots and self._slots | {SHARED}
        wanted = {key for key in self.held if key.slot in slots and self._has_rules(key)}
        for key in self._accepting.keys() - wanted:
            self._stop(key)
        for key in wanted - self._accepting.keys():
            scope = self._accepting[key] = trio.CancelScope()
            self._loops.start_soon(self._accept, key, scope)

    def _has_rules(self, key: SocketKey) -> bool:
        """Not where it was leaving already when we began: then it is the others' to empty."""
        return key.bind in self._service.listeners

    def _stop(self, key: SocketKey) -> None:
        scope = self._accepting.pop(key, None)
        if scope is not None:
            scope.cancel()

    async def _accept(self, key: SocketKey, scope: trio.CancelScope) -> None:
        assert self._connections is not None
        with scope:
            await accept_connections(self._service, key.bind, self.held[key], self._connections)
