"""The line between supervisor and worker: messages in order, descriptors beside them.

Sending never waits: what the socket does not take at once is kept and sent by `run`, up to a bound;
who falls behind it is as good as gone, and is told apart from a slow one by nobody. The message's
meaning is none of its business.
"""

import array
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import msgspec
import trio

from balancer.worker.messages import Message, Word, decoded, encoded

# A plan of 10,000 backends is 2 MiB; so many of them behind, and nobody is reading.
WAITING_BYTES_MAX = 64 * 1024 * 1024
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
# SCM_MAX_FD of Linux is 253.
DESCRIPTORS_MAX = 200
_HEAD = struct.Struct("!IH")
_CREDENTIALS = struct.Struct("3i")
_READ_BYTES = 256 * 1024
_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

W = TypeVar("W")


class ChannelClosed(Exception):
    """The other side is gone, or speaks another language; str() says which."""


class Channel(Protocol):
    """One end. `handles` are descriptors, or what stands for them where there is no kernel."""

    @property
    def peer(self) -> int | None:
        """The process that has dialled, as the kernel says; None where it does not know."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether the other side still holds its end: what it has said may not be read yet."""
        ...

    def send(self, message: Message, handles: Sequence[object] = ()) -> None:
        """Say it; nothing happens on a channel that is closed: `receive` tells its owner."""
        ...

    async def receive(self) -> tuple[Word, list[object]]:
        """The next message with its handles, which are the caller's now. ChannelClosed."""
        ...

    async def run(self) -> None:
        """Send what waits; returns when the channel is closed."""
        ...

    def close(self) -> None:
        """Close this end; what waits is lost."""
        ...


class SocketChannel(Generic[W]):
    """A channel over a connected, non-blocking unix stream socket, which it owns.

    `decode` makes words of bytes; ValueError where they are none.
    """

    def __init__(self, sock: socket.socket, decode: Callable[[bytes], W]) -> None:
        self._sock = sock
        self._decode = decode
        self._waiting: deque[tuple[memoryview, list[int]]] = deque()
        self._waiting_bytes = 0
        self._more = trio.Event()
        self._buffer = bytearray()
        self._arrived: deque[int] = deque()
        self._closed = False

    @property
    def peer(self) -> int | None:
        # SO_PEERCRED (unix(7)): who called connect(); 0 where it is not in our namespace.
        try:
            answer = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
        pid: int = _CREDENTIALS.unpack(answer)[0]
        return pid or None

    @property
    def is_open(self) -> bool:
        if self._closed:
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)
        return not poll.poll(0)

    def send(self, message: msgspec.Struct, handles: Sequence[object] = ()) -> None:
        """Send now what the socket takes; handles are duplicated, so the caller keeps its own.

        Where no descriptor is left for that, the channel is closed: who is not told all is told
        anew when he dials again.
        """
        if self._closed:
            return
        assert len(handles) <= DESCRIPTORS_MAX, "too many descriptors for one message"
        body = encoded(message)
        frame = memoryview(_HEAD.pack(len(body), len(handles)) + body)
        try:
            duplicates = _duplicated(handles)
        except OSError:
            self.close()
            return
        self._waiting.append((frame, duplicates))
        self._waiting_bytes += len(frame)
        self._flush()
        if self._waiting_bytes > WAITING_BYTES_MAX:
            self.close()
        elif self._waiting:
            self._more.set()

    def _flush(self) -> None:
        while self._waiting:
            frame, descriptors = self._waiting[0]
            try:
                sent = self._send(frame, descriptors)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            _close_all(descriptors)
            self._waiting_bytes -= sent
            if sent == len(frame):
                self._waiting.popleft()
            else:
                self._waiting[0] = (frame[sent:], [])

    def _send(self, frame: memoryview, descriptors: list[int]) -> int:
        if not descriptors:
            return self._sock.send(frame)
        rights = array.array("i", descriptors)
        return self._sock.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    async def run(self) -> None:
        while not self._closed:
            if not self._waiting:
                self._more = trio.Event()
                await self._more.wait()
                continue
            with suppress(trio.ClosedResourceError):
                await trio.lowlevel.wait_writable(self._sock)
            self._flush()

    async def receive(self) -> tuple[W, list[object]]:
        while (found := self._take()) is None:
            if self._closed:
                raise ChannelClosed("it was closed here")
            try:
                data, control, _, _ = self._sock.recvmsg(
                    _READ_BYTES, socket.CMSG_SPACE(4 * DESCRIPTORS_MAX), _FLAGS
                )
            except BlockingIOError:
                with suppress(trio.ClosedResourceError):
                    await trio.lowlevel.wait_readable(self._sock)
                continue
            except OSError as exc:
                raise ChannelClosed(exc.strerror or str(exc)) from exc
            self._keep(control)
            if not data:
                raise ChannelClosed("the other side has closed it")
            self._buffer += data
        return found

    def _keep(self, control: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                whole = len(data) - len(data) % 4
                self._arrived.extend(array.array("i", data[:whole]))

    def _take(self) -> tuple[W, list[object]] | None:
        if len(self._buffer) < _HEAD.size:
            return None
        size, count = _HEAD.unpack_from(self._buffer)
        if size > MESSAGE_BYTES_MAX or count > DESCRIPTORS_MAX:
            raise ChannelClosed("what came is no message")
        if len(self._buffer) < _HEAD.size + size:
            return None
        body = bytes(self._buffer[_HEAD.size : _HEAD.size + size])
        del self._buffer[: _HEAD.size + size]
        if len(self._arrived) < count:
            raise ChannelClosed("descriptors were lost on the way: too many are open here")
        handles: list[object] = [self._arrived.popleft() for _ in range(count)]
        try:
            return self._decode(body), handles
        except ValueError as exc:
            _close_all([handle for handle in handles if isinstance(handle, int)])
            raise ChannelClosed(f"it speaks another version: {exc}") from exc

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for _, descriptors in self._waiting:
            _close_all(descriptors)
        self._waiting.clear()
        _close_all(list(self._arrived))
        self._arrived.clear()
        self._more.set()
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()


class KernelChannel(SocketChannel[Word]):
    """The one between supervisor and worker."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, decoded)


def _number_of(handle: object) -> int:
    if isinstance(handle, int):
        return handle
    number: int = handle.fileno()  # type: ignore[attr-defined]
    return number


def _duplicated(handles: Sequence[object]) -> list[int]:
    """Duplicates of all, or OSError and of none."""
    made: list[int] = []
    try:
        for handle in handles:
            made.append(os.dup(_number_of(handle)))  # noqa: PERF401 - those made are to be closed
    except OSError:
        _close_all(made)
        raise
    return made


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
    descriptors.clear()
