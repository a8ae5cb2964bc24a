"""What every socket of the memory network is: a descriptor with options, an error and waiters.

Decides nothing about protocols; says who is woken, and how calls fail that need an open descriptor.
"""

import errno
import os
import socket
from collections.abc import Callable
from typing import NoReturn, Protocol, TypeAlias

import trio

Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | str

LEAST_BUFFER = 2048
MOST_BACKLOG = 4096  # net.core.somaxconn


def os_error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def fail(code: int) -> NoReturn:
    raise os_error(code)


class SockHost(Protocol):
    """What every socket asks of the host it is on."""

    powered: bool
    send_buffer: int
    receive_buffer: int

    def next_number(self) -> int: ...
    def shortened(self, size: int, /) -> int: ...
    def check_limit(self) -> None: ...
    def adopt(self, sock: "MemorySock") -> None: ...
    def release(self, sock: "MemorySock") -> None: ...
    def forget(self, sock: "MemorySock") -> None: ...


class Noticing(Protocol):
    """Whoever wants to hear that a socket has become readable."""

    def notice(self, sock: "MemorySock") -> None: ...


class MemorySock:
    """A non-blocking stream socket without a kernel; the calls of `wire.network.Sock`."""

    def __init__(self, host: SockHost, family: int) -> None:
        self.host = host
        self.family = family
        self.number = host.next_number()
        self.open = False  # whether a descriptor holds it
        self.error = 0  # pending SO_ERROR
        self.receive_shut = False
        self.send_shut = False
        self.options: dict[tuple[int, int], int | bytes] = {}
        self.duplicates: list[MemorySock] = []  # other descriptors of this listening socket
        self.closing = False  # closed, but for the duplicates
        self.edges: Noticing | None = None  # the set that tells of it
        self._waiters: list[_Waiter | None] = [None, None]

    def fileno(self) -> int:
        """A number that no real descriptor has; -1 after close()."""
        return self.number if self.open else -1

    def getsockopt(self, level: int, option: int, /) -> int:
        self.need_open()
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            return self.take_error()
        if (level, option) == (socket.SOL_SOCKET, socket.SO_TYPE):
            return int(socket.SOCK_STREAM)
        if (level, option) == (socket.SOL_SOCKET, socket.SO_DOMAIN):
            return int(self.family)
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return int(self.is_listening)
        value = self.options.get((level, option), self._default(level, option))
        return value if isinstance(value, int) else int.from_bytes(value[:4], "little")

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        self.need_open()
        if (level, option) in _BUFFERS:
            size = value if isinstance(value, int) else int.from_bytes(value[:4], "little")
            value = max(2 * size, 2 * LEAST_BUFFER)  # Linux doubles it, for its own books
        self.options[level, option] = value

    @property
    def send_capacity(self) -> int:
        """How many bytes wait at the sender before send() would block."""
        return self.getsockopt_quietly(socket.SO_SNDBUF) // 2

    @property
    def receive_capacity(self) -> int:
        """How many bytes wait at the receiver before the sender's begin to pile up."""
        return self.getsockopt_quietly(socket.SO_RCVBUF) // 2

    def getsockopt_quietly(self, option: int) -> int:
        """A buffer size, also of a socket that is already closed."""
        value = self.options.get((socket.SOL_SOCKET, option))
        return value if isinstance(value, int) else self._default(socket.SOL_SOCKET, option)

    def _default(self, level: int, option: int) -> int:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_SNDBUF):
            return 2 * self.host.send_buffer
        if (level, option) == (socket.SOL_SOCKET, socket.SO_RCVBUF):
            return 2 * self.host.receive_buffer
        return 0

    def need_open(self) -> None:
        if not self.open:
            fail(errno.EBADF)

    def take_error(self) -> int:
        """The pending error, once."""
        error, self.error = self.error, 0
        return error

    # What a protocol says of itself; see TcpSock and UnixSock.

    @property
    def is_listening(self) -> bool:
        raise NotImplementedError

    def is_readable(self) -> bool:
        raise NotImplementedError

    def is_writable(self) -> bool:
        raise NotImplementedError

    def has_left(self) -> bool:
        raise NotImplementedError

    def unsent(self) -> int:
        """Bytes that the peer has not taken; a socket that only listens has none."""
        return 0

    def close(self) -> None:
        raise NotImplementedError

    def lose_power(self) -> None:
        """Stop without a word to anybody."""
        raise NotImplementedError

    # Waiting. A close() without notify_closing() leaves waiters asleep, as epoll does.

    async def wait_readable(self) -> None:
        await self._wait(_READ, self.is_readable)

    async def wait_writable(self) -> None:
        await self._wait(_WRITE, self.is_writable)

    async def _wait(self, side: int, ready: Callable[[], bool]) -> None:
        if not self.open:
            raise ValueError("file descriptor cannot be a negative integer (-1)")
        if self._waiters[side] is not None:
            raise trio.BusyResourceError("another task is already reading / writing this fd")
        if ready():
            await trio.lowlevel.checkpoint()
            return
        waiter = self._waiters[side] = _Waiter(trio.lowlevel.current_task())

        def abort(_: object) -> trio.lowlevel.Abort:
            self._waiters[side] = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if waiter.interrupted:
            raise trio.ClosedResourceError("another task closed this fd")

    def wake(self) -> None:
        """Wake the waiters whose wait has come true, and tell of what has become readable."""
        if self.open and self.edges is not None and self.is_readable():
            self.edges.notice(self)
        self.room_arrives()

    def room_arrives(self) -> None:
        """Wake the waiters whose wait has come true; there is nothing new to read."""
        reader, writer = self._waiters
        if self.open and reader is not None and self.is_readable():
            self._waiters[_READ] = None
            trio.lowlevel.reschedule(reader.task)
        if self.open and writer is not None and self.is_writable():
            self._waiters[_WRITE] = None
            trio.lowlevel.reschedule(writer.task)
        for duplicate in self.duplicates:
            duplicate.wake()

    def stays_open(self) -> bool:
        """Whether this close() leaves others that hold the same socket."""
        self.closing = bool(self.duplicates)
        return self.closing

    def interrupt(self) -> None:
        """Wake every waiter with trio.ClosedResourceError."""
        for waiter in self._waiters:
            if waiter is not None:
                waiter.interrupted = True
                trio.lowlevel.reschedule(waiter.task)
        self._waiters = [None, None]


class _Waiter:
    __slots__ = ("interrupted", "task")

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self.task = task
        self.interrupted = False


_READ, _WRITE = 0, 1
_BUFFERS = {(socket.SOL_SOCKET, socket.SO_SNDBUF), (socket.SOL_SOCKET, socket.SO_RCVBUF)}
