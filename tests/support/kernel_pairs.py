"""Connected TCP sockets of the kernel, and bodies that tell whose they are."""

import random
import socket

import trio

from balancer.wire.network import KernelNetwork, Sock
from balancer.wire.streams import cut

_NOISE = random.Random(20).randbytes(4 << 20)


def body_of(key: int, size: int) -> bytes:
    """A body that no other key has a piece of, nor this one twice."""
    start = key * 1009 % (len(_NOISE) - size)
    return _NOISE[start : start + size]


class Lines:
    """Makes connections, each end a socket of `network`; closes them all in the end."""

    def __init__(self, network: KernelNetwork, *, buffers: int | None = None) -> None:
        self._network = network
        self._buffers = buffers
        self._listener = network.socket(socket.AF_INET)
        if buffers is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self._made: list[Sock] = []
        self._one_at_a_time = trio.Lock()

    async def pair(self) -> tuple[Sock, Sock]:
        """The end that connected, and the one that was accepted."""
        near = self._network.socket(socket.AF_INET)
        if self._buffers is not None:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffers)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffers)
        async with self._one_at_a_time:
            near.connect_ex(self._listener.getsockname())  # type: ignore[arg-type]
            await self._network.wait_readable(self._listener)
            far, _ = self._listener.accept()
        if self._buffers is not None:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffers)
        self._made += [near, far]
        return near, far

    def release(self, *socks: Sock) -> None:
        """Close these by a reset, so that thousands of them leave no port taken behind."""
        for sock in socks:
            cut(sock)
            sock.close()
            self._made.remove(sock)

    def close(self) -> None:
        self._listener.close()
        for sock in self._made:
            sock.close()


async def send_all(network: KernelNetwork, sock: Sock, data: bytes) -> None:
    """All of `data`; OSError when the connection breaks."""
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view) :]
        except BlockingIOError:
            await network.wait_writable(sock)


async def read_to_end(network: KernelNetwork, sock: Sock, into: bytearray) -> None:
    """What comes until the end, or until the connection breaks."""
    while True:
        try:
            data = sock.recv(1 << 18)
        except BlockingIOError:
            await network.wait_readable(sock)
            continue
        except OSError:
            return
        if not data:
            return
        into += data
