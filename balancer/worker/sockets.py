"""The listening sockets of one worker: which it holds, on which it accepts, and how one is given up.

Every worker holds the sockets of all slots, and accepts on its own, on the shared ones, and on those
whose worker is not there: the kernel goes on queueing connections at them. It opens none itself.
"""

from collections.abc import Collection, Mapping

import trio

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

    def hold(self, sockets: Mapping[SocketKey, Sock]) -> None:
        """Take these over; of one that is held already, the new handle is closed."""
        for key, sock in sockets.items():
            if key in self.held:
                sock.close()
            else:
                self.held[key] = sock
        self._adjust()

    def keep_only(self, keys: Collection[SocketKey], leaving: Collection[SocketKey]) -> None:
        """Close all others; accept on those that are `leaving` until `let_go`."""
        self._leaving = frozenset(leaving)
        for key in self.held.keys() - set(keys) - self._leaving:
            self._stop(key)
            self.held.pop(key).close()
        self._adjust()

    def accept_for(self, slots: Collection[int]) -> None:
        """Accept on the sockets of these slots, and on the shared ones."""
        self._slots = frozenset(slots)
        self._adjust()

    def own_only(self) -> None:
        """Close those on which we do not accept, so that who does holds the last handle."""
        for key in self.held.keys() - self._accepting.keys():
            self.held.pop(key).close()

    def let_go(self) -> None:
        """Take in who waits at the sockets that are leaving, and close them."""
        for key in self._leaving & self.held.keys():
            self._stop(key)
            self._empty(self.held.pop(key))
        self._leaving = frozenset()

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
        """Take in who waits at our own sockets, and close all; after `run`."""
        for key, sock in self.held.items():
            if key.slot in self._slots or key.slot == SHARED:
                self._empty(sock)
            else:
                sock.close()
        self.held.clear()

    def abandon(self) -> None:
        """Close all and take nobody in: other processes go on accepting there."""
        for sock in self.held.values():
            sock.close()
        self.held.clear()

    def _empty(self, sock: Sock) -> None:
        if self._connections is not None:
            empty(self._service, sock, self._connections)
        sock.close()

    def _adjust(self) -> None:
        """Accept on what is to be accepted on, and on nothing else."""
        if self._loops is None:
            return
        wanted = {
            key
            for key in self.held
            if key.slot in self._slots or key.slot == SHARED or key in self._leaving
        }
        for key in self._accepting.keys() - wanted:
            self._stop(key)
        for key in wanted - self._accepting.keys():
            scope = self._accepting[key] = trio.CancelScope()
            self._loops.start_soon(self._accept, self.held[key], scope)

    def _stop(self, key: SocketKey) -> None:
        scope = self._accepting.pop(key, None)
        if scope is not None:
            scope.cancel()

    async def _accept(self, sock: Sock, scope: trio.CancelScope) -> None:
        assert self._connections is not None
        with scope:
            await accept_connections(self._service, sock, self._connections)
