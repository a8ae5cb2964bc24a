"""What a case of the socket suite stands on: a bench, and small steps written against the seam."""

import errno
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from balancer.wire.network import Network, Sock, SockAddr

SMALL = 4096
LINGER_RESET = struct.pack("ii", 1, 0)


class Bench(Protocol):
    """What a case runs on."""

    @property
    def network(self) -> Network: ...

    async def settle(self) -> None:
        """Return when everything sent has arrived."""
        ...

    def hide(self, *socks: Sock) -> None:
        """From now on these sockets receive no packet at all: their hosts have vanished."""
        ...

    def show(self, *socks: Sock) -> None:
        """Undo hide()."""
        ...


Case = Callable[[Bench], Awaitable[None]]
CASES: list[Case] = []


def case(function: Case) -> Case:
    CASES.append(function)
    return function


def attempt(call: Callable[..., object], *args: object) -> object:
    """The result of a call, or the name of its errno."""
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def listening(bench: Bench, *, backlog: int = 5, small: bool = False) -> tuple[Sock, SockAddr]:
    listener = bench.network.socket(socket.AF_INET)
    if small:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(backlog)
    return listener, listener.getsockname()  # type: ignore[return-value]


async def connected(bench: Bench, address: SockAddr, *, small: bool = False) -> Sock:
    sock = bench.network.socket(socket.AF_INET)
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    assert sock.connect_ex(address) == errno.EINPROGRESS
    await bench.network.wait_writable(sock)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    return sock


async def pair(bench: Bench, *, small: bool = False) -> tuple[Sock, Sock]:
    """A connected client and its accepted other end."""
    listener, address = listening(bench, small=small)
    client = await connected(bench, address, small=small)
    await bench.network.wait_readable(listener)
    accepted, _ = listener.accept()
    listener.close()
    return client, accepted


def refusing_address(bench: Bench) -> SockAddr:
    listener, address = listening(bench)
    listener.close()
    return address


def close_all(*socks: Sock) -> None:
    for sock in socks:
        sock.close()


def fill(sock: Sock) -> int:
    """Send until it would block; how many bytes went."""
    total = 0
    while True:
        sent = attempt(sock.send, b"x" * 1024)
        if not isinstance(sent, int):
            assert sent == "EAGAIN"
            return total
        total += sent


async def drained(bench: Bench, sock: Sock, size: int) -> None:
    """Read exactly `size` bytes."""
    while size:
        await bench.network.wait_readable(sock)
        size -= len(sock.recv(size))


async def is_ready(
    wait: Callable[[Sock], Awaitable[None]], sock: Sock, within: float = 0.02
) -> bool:
    with trio.move_on_after(within):
        await wait(sock)
        return True
    return False
