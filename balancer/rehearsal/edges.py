"""A set of sockets of the memory network that tells which have become readable, as epoll does.

None is missing, and what is left behind by a read of full size is none.
"""

import select

import trio

from balancer.rehearsal.descriptor import MemorySock
from balancer.wire.network import Sock
from balancer.wire.tls_socket import Coded


class MemoryEdges:
    """`balancer.wire.network.Edges`; tells in the order in which things happened."""

    def __init__(self) -> None:
        self._news: dict[int, MemorySock] = {}
        self._sleeper: trio.lowlevel.Task | None = None

    def add(self, sock: Sock) -> None:
        own = carrier_of(sock)
        if not isinstance(own, MemorySock):
            raise TypeError(f"{sock!r} is not a socket of the memory network")
        own.edges = self
        if own.is_readable():
            self.notice(own)

    def notice(self, sock: MemorySock) -> None:
        """There is something to read, or the end."""
        self._news[sock.number] = sock
        self.wake()

    def poll(self, most: int, /) -> list[tuple[int, int]]:
        numbers = list(self._news)[:most]
        socks = [self._news.pop(number) for number in numbers]
        return [(sock.number, _mask(sock)) for sock in socks if sock.open]

    async def wait(self) -> None:
        if self._news:
            await trio.lowlevel.checkpoint()
            return
        self._sleeper = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def wake(self) -> None:
        if self._sleeper is not None:
            trio.lowlevel.reschedule(self._sleeper)
            self._sleeper = None


def carrier_of(sock: object) -> object:
    """What carries this socket, if it is coded, or else itself."""
    return sock.below if isinstance(sock, Coded) else sock


def _mask(sock: MemorySock) -> int:
    ended = sock.receive_shut or sock.has_left()
    return select.EPOLLIN | (select.EPOLLRDHUP if ended else 0)
