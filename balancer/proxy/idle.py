"""Idle upstream connections: kept within limits, looked at before reuse, dropped with cause."""

import socket
from collections.abc import Callable, Iterable

from balancer.core.backend import BackendId
from balancer.proxy.pool import PoolLimits
from balancer.wire.lane import Watch
from balancer.wire.network import Sock


class UpstreamConnection:
    """An open connection to a backend. Whoever uses it closes it or gives it to the idle ones.

    `client`: it carries the requests of that one client, and of nobody else; None: of all.
    """

    __slots__ = ("backend", "born", "buffer", "client", "requests", "rested_since", "sock", "watch")

    def __init__(
        self, sock: Sock, backend: BackendId, born: float, client: object | None = None
    ) -> None:
        self.client = client
        self.sock = sock
        self.backend = backend
        self.born = born
        self.requests = 0
        self.rested_since = born
        self.buffer = bytearray()
        self.watch: Watch | None = None  # of the lane, once it was used there

    @property
    def reused(self) -> bool:
        return self.requests > 1


class IdleConnections:
    """All idle upstream connections of one worker. Never waits."""

    def __init__(self) -> None:
        self._resting: dict[BackendId, list[UpstreamConnection]] = {}

    def take(
        self, backend: BackendId, now: float, rest_max_s: float, client: object | None = None
    ) -> UpstreamConnection | None:
        """The one that rested shortest, if it still lives and rested at most `rest_max_s`.

        One that is for all, or one that is for `client` alone.
        """
        resting = self._resting.get(backend)
        while resting:
            if resting[-1].client is not client and not _put_last(resting, client):
                return None
            if now - resting[-1].rested_since > rest_max_s:
                return None
            connection = resting.pop()
            if _lives(connection.sock):
                return connection
            connection.sock.close()
        return None

    def give(self, connection: UpstreamConnection, limits: PoolLimits, now: float) -> None:
        """Keep a connection whose answer was whole, or close it where a limit says so.

        Where there are too many for one client each, the one that rested longest goes.
        """
        resting = self._resting.setdefault(connection.backend, [])
        old = limits.age_max_s and now - connection.born >= limits.age_max_s
        used = limits.requests_max and connection.requests >= limits.requests_max
        full = len(resting) >= limits.idle_max
        makes_room = connection.client is not None and resting
        if old or used or connection.buffer or (full and not makes_room):
            connection.sock.close()
            return
        if full:
            resting.pop(0).sock.close()
        connection.rested_since = now
        resting.append(connection)

    def backends(self) -> list[BackendId]:
        return list(self._resting)

    def count(self) -> int:
        return sum(len(resting) for resting in self._resting.values())

    def release(self, count: int) -> bool:
        """Close so many, to have their descriptors for something else; whether there were any."""
        left = count
        for resting in self._resting.values():
            while resting and left:
                resting.pop(0).sock.close()
                left -= 1
        return left < count

    def close_for(self, backends: Iterable[BackendId]) -> None:
        """Close what rests for backends that take no new attempts."""
        for backend in backends:
            for connection in self._resting.pop(backend, []):
                connection.sock.close()

    def close_of(self, client: object, backends: Iterable[BackendId]) -> None:
        """Close what rests at these backends for one client alone, who is gone."""
        for backend in backends:
            resting = self._resting.get(backend, [])
            theirs = [connection for connection in resting if connection.client is client]
            for connection in theirs:
                resting.remove(connection)
                connection.sock.close()

    def sweep(self, now: float, limits_of: Callable[[BackendId], PoolLimits | None]) -> None:
        """Close what rested too long, is too old, or was closed by its backend."""
        for backend, resting in list(self._resting.items()):
            limits = limits_of(backend)
            kept = []
            for connection in resting:
                if limits is not None and _may_stay(connection, limits, now):
                    kept.append(connection)
                else:
                    connection.sock.close()
            if kept:
                self._resting[backend] = kept
            else:
                del self._resting[backend]

    def close(self) -> None:
        self.close_for(list(self._resting))


def _put_last(resting: list[UpstreamConnection], client: object | None) -> bool:
    """Move the last connection for that client to the end; False where there is none."""
    for at in range(len(resting) - 1, -1, -1):
        if resting[at].client is client:
            resting.append(resting.pop(at))
            return True
    return False


def _may_stay(connection: UpstreamConnection, limits: PoolLimits, now: float) -> bool:
    rested = now - connection.rested_since
    age = now - connection.born
    return (
        rested < limits.idle_timeout_s
        # Begun as the pool's connections begin now; a reload may have changed that.
        and (connection.client is None) is (limits.proxy_protocol is None)
        and (not limits.age_max_s or age < limits.age_max_s)
        and _lives(connection.sock)
    )


def _lives(sock: Sock) -> bool:
    """Whether nothing waits to be read: neither an end, nor a reset, nor bytes nobody asked for."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
