"""Waits for a peer that may be slow, but not too slow for too long.

The pace decides (`balancer.core.pace`); here it is told how long each wait took, and what came of it.
Where a wait to write is over time, the kernel is asked what the peer has taken meanwhile: a large
send buffer is announced as writable only when a good part of it is free again, which takes an honest
reader on a thin line longer than any timeout.
"""

import trio

from balancer.core.pace import Pace
from balancer.wire.network import Network, Sock
from balancer.wire.streams import READ_BYTES_MAX
from balancer.wire.tls_socket import WantsTurn
from balancer.wire.waiting import TURNS_MAX, TimedOut, Waiter


class Paced:
    """One direction of one connection."""

    __slots__ = ("_network", "pace", "sock")

    def __init__(self, network: Network, sock: Sock, pace: Pace) -> None:
        self._network = network
        self.sock = sock
        self.pace = pace

    async def receive(self, waiter: Waiter, *, grace_s: float = 0.0) -> bytes:
        """Some bytes, b"" at the end of the stream; `grace_s` of the wait are not the peer's.

        TimedOut: it was too slow. Interrupted, OSError.
        """
        await waiter.breathe()
        while True:
            try:
                data = self.sock.recv(READ_BYTES_MAX)
            except WantsTurn:
                await waiter.breathe(TURNS_MAX)
                continue
            except BlockingIOError:
                await self.readable(waiter, grace_s=grace_s)
                continue
            self.pace.moved(len(data))
            return data

    async def readable(self, waiter: Waiter, *, grace_s: float = 0.0) -> None:
        """Wait until there is something to read. TimedOut: the peer was too slow. Interrupted."""
        began = trio.current_time()
        try:
            await waiter.readable(self.sock, began + grace_s + self.pace.left_s)
        finally:
            self.pace.waited(max(trio.current_time() - began - grace_s, 0.0))

    async def writable(self, waiter: Waiter) -> None:
        """Wait until there is room to write. TimedOut: the peer was too slow. Interrupted."""
        pace, unsent_in = self.pace, self._network.unsent
        while True:
            began, unsent = trio.current_time(), unsent_in(self.sock)
            try:
                await waiter.writable(self.sock, began + pace.left_s)
                pace.waited(trio.current_time() - began)
                return
            except TimedOut:
                pace.waited(trio.current_time() - began)
                pace.seen(unsent - unsent_in(self.sock))
                if pace.is_used_up:
                    raise
