"""The network seam: what the data path asks of the operating system, and nothing more.

`KernelNetwork` is the real one; `balancer.rehearsal.memory_network` is the one without a kernel.
Sockets are raw, non-blocking stream sockets: try the call first, wait only on BlockingIOError.
"""

import array
import fcntl
import resource
import select
import socket
import ssl
import struct
import sys
import termios
from typing import Protocol, TypeAlias

import trio

from balancer.core.steering import program
from balancer.wire.pipes import Pipes
from balancer.wire.tls_engine import Engine
from balancer.wire.tls_socket import Coded, prepared

SockAddr: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | str
"""What connect() and bind() take: (host, port) for IPv4, four values for IPv6, a path for unix."""


class Sock(Protocol):
    """The part of `socket.socket` that the data path uses; errors are the kernel's OSErrors."""

    def recv(self, size: int, flags: int = 0, /) -> bytes: ...
    def send(self, data: bytes | bytearray | memoryview, /) -> int: ...
    def accept(self) -> "tuple[Sock, object]": ...
    def bind(self, address: SockAddr, /) -> None: ...
    def listen(self, backlog: int, /) -> None: ...
    def connect_ex(self, address: SockAddr, /) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...
    def getsockopt(self, level: int, option: int, /) -> int: ...
    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None: ...
    def getpeername(self) -> object: ...
    def getsockname(self) -> object: ...
    def fileno(self) -> int: ...


class TlsSock(Sock, Protocol):
    """A socket whose bytes are coded. Before `do_handshake` has returned nothing else is called."""

    def do_handshake(self) -> None:
        """Go on exchanging keys. BlockingIOError (`WantsWrite`: when to call again), OSError."""
        ...

    def shut_below(self, how: int) -> None:
        """Shut the connection that carries the coding."""
        ...

    def recv_below(self, size: int) -> bytes:
        """What has come as it is, where it will never be decoded."""
        ...

    def send_below(self, data: bytes) -> int:
        """Say something as it is, where nothing has been coded."""
        ...

    @property
    def engine(self) -> Engine:
        """What is known of the coding: version, cipher, certificates, whether it was resumed."""
        ...


class Network(Protocol):
    """Where sockets come from and how a task waits for them."""

    def socket(self, family: int) -> Sock:
        """A new non-blocking stream socket; OSError when descriptors have run out."""
        ...

    async def wait_readable(self, sock: Sock) -> None:
        """Return when recv() or accept() would not block. trio.ClosedResourceError: interrupted."""
        ...

    async def wait_writable(self, sock: Sock) -> None:
        """Return when send() would not block or a connect has ended."""
        ...

    def notify_closing(self, sock: Sock) -> None:
        """Wake every task that waits on `sock` with trio.ClosedResourceError."""
        ...

    def has_left(self, sock: Sock) -> bool:
        """Whether the peer reset or fully closed the connection; a half-close is not leaving."""
        ...

    def descriptors(self) -> int:
        """How many this process may have open."""
        ...

    def unsent(self, sock: Sock) -> int:
        """Bytes that were given to `sock` and that its peer has not taken yet."""
        ...

    def steer(self, sock: Sock, first: int | None) -> None:
        """Have clients who connect from now on come to the first so many sockets of a place alone.

        `sock`: any of them, which share it by SO_REUSEPORT. Those are the first that began to listen
        first, as long as none but the last of them is closed. None: to all again. OSError where the
        system has no such thing.
        """
        ...

    def edges(self) -> "Edges":
        """An empty set of sockets that tells which of them have become readable."""
        ...

    def pipes(self, source: Sock, sink: Sock) -> Pipes | None:  # noqa: ARG002 - a network without
        """The pipes through which the kernel moves bytes between these two; None: copy them."""
        return None

    def coded(
        self,
        sock: Sock,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
    ) -> Coded:
        """`sock` with TLS on it, to be used in its place: it owns the connection now. OSError.

        Its descriptor stays the same, and so does whoever watches it.
        """
        engine = Engine(
            sock, prepared(context), server_side=server_side, server_hostname=server_hostname
        )
        return Coded(engine, sock)

    async def resolve(self, host: str, port: int) -> tuple[tuple[int, SockAddr], ...]:
        """Addresses of a name as (family, sockaddr), best first; OSError when there is none."""
        ...


# In the mask of an edge: the peer's end, or a reset, is there or behind the bytes that are.
ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Edges(Protocol):
    """A set of sockets, waited for by one task; each change to readable is told once."""

    def add(self, sock: Sock) -> None:
        """Tell of `sock` from now on, until it is closed; at once if it is readable."""
        ...

    def poll(self, most: int, /) -> list[tuple[int, int]]:
        """At most so many that have become readable: `fileno()` and mask. Does not wait."""
        ...

    async def wait(self) -> None:
        """Return when there is something to poll, or after `wake`."""
        ...

    def wake(self) -> None:
        """End the wait under way."""
        ...


class _KernelSocket(socket.socket):
    """A socket whose accepted connections do not block either (Linux does not pass that on)."""

    def accept(self) -> tuple[socket.socket, object]:
        sock, address = super().accept()
        sock.setblocking(False)
        return sock, address


_PLAIN = (socket.socket, _KernelSocket)
_ATTACH_REUSEPORT_CBPF = 51  # linux/socket.h (4.5); Python has no name for it


class KernelNetwork(Network):
    """The operating system's own sockets, waited for through trio."""

    def __init__(self) -> None:
        self._pipes = Pipes()

    def adopted(self, descriptor: int) -> Sock:
        """The socket behind a descriptor that another process has handed over; owns it now."""
        sock = _KernelSocket(fileno=descriptor)
        sock.setblocking(False)
        return sock

    def socket(self, family: int) -> Sock:
        return _KernelSocket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

    async def wait_readable(self, sock: Sock) -> None:
        await trio.lowlevel.wait_readable(sock)

    async def wait_writable(self, sock: Sock) -> None:
        await trio.lowlevel.wait_writable(sock)

    def notify_closing(self, sock: Sock) -> None:
        trio.lowlevel.notify_closing(sock)

    def has_left(self, sock: Sock) -> bool:
        poller = select.poll()
        poller.register(sock.fileno(), 0)
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poller.poll(0))

    def descriptors(self) -> int:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return sys.maxsize if soft == resource.RLIM_INFINITY else soft

    def unsent(self, sock: Sock) -> int:
        count = array.array("i", [0])
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, count)
        return count[0]

    def steer(self, sock: Sock, first: int | None) -> None:
        instructions = array.array("Q", program(first))
        address, length = instructions.buffer_info()
        # struct sock_fprog: how many there are, and where.
        value = struct.pack("@HP", length, address)
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_REUSEPORT_CBPF, value)

    def edges(self) -> "Edges":
        return _KernelEdges()

    def pipes(self, source: Sock, sink: Sock) -> Pipes | None:
        # These types and no others: what is sent on a TLS socket must not go past its coding.
        return self._pipes if type(source) in _PLAIN and type(sink) in _PLAIN else None

    async def resolve(self, host: str, port: int) -> tuple[tuple[int, SockAddr], ...]:
        found = await trio.to_thread.run_sync(
            lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), abandon_on_cancel=True
        )
        return tuple((int(family), sockaddr) for family, _, _, _, sockaddr in found)  # type: ignore[misc]


class _KernelEdges:
    """An edge-triggered epoll set, itself waited for through trio."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def add(self, sock: Sock) -> None:
        self._epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def poll(self, most: int, /) -> list[tuple[int, int]]:
        return self._epoll.poll(0, most)

    async def wait(self) -> None:
        try:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
        except trio.ClosedResourceError:
            pass

    def wake(self) -> None:
        trio.lowlevel.notify_closing(self._epoll.fileno())
