"""A unix stream socket: connects at once, has no road, and knows of its peer's end at once.

Decides the results that differ from TCP, as af_unix.c has them.
"""

import errno
import socket
from collections import deque

from balancer.rehearsal.descriptor import (
    MOST_BACKLOG,
    Address,
    MemorySock,
    SockHost,
    fail,
    os_error,
)


class UnixSock(MemorySock):
    """A unix stream socket of the memory network."""

    def __init__(self, host: SockHost, family: int, paths: "dict[str, UnixSock]") -> None:
        super().__init__(host, family)
        self._paths = paths  # what is bound on this host, by path
        self.path = ""
        self.peer: UnixSock | None = None
        self.peer_path = ""
        self.inbox = bytearray()
        self.backlog = -1  # negative: not listening
        self.accept_queue: deque[UnixSock] = deque()

    @property
    def is_listening(self) -> bool:
        return self.backlog >= 0

    def has_left(self) -> bool:
        if self.is_listening:
            return self.receive_shut and self.send_shut
        return bool(self.error) or (self.receive_shut and self.send_shut) or self.peer is None

    def is_readable(self) -> bool:
        waiting = bool(self.inbox or self.accept_queue)
        return waiting or self.receive_shut or self.has_left()

    def is_writable(self) -> bool:
        if self.is_listening:
            return False
        if self.peer is None or self.send_shut or self.error:
            return True
        return len(self.peer.inbox) * 4 <= self.send_capacity

    def unsent(self) -> int:
        return 0 if self.peer is None else len(self.peer.inbox)

    def getsockname(self) -> object:
        self.need_open()
        return self.path

    def getpeername(self) -> object:
        self.need_open()
        if self.peer is None:
            fail(errno.ENOTCONN)
        return self.peer_path

    def bind(self, address: Address, /) -> None:
        self.need_open()
        if not isinstance(address, str):
            raise TypeError("a unix socket is bound to a path")
        if self.path:
            fail(errno.EINVAL)
        if address in self._paths:
            fail(errno.EADDRINUSE)
        self.path = address
        self._paths[address] = self

    def listen(self, backlog: int, /) -> None:
        self.need_open()
        if not self.path or self.peer is not None:
            fail(errno.EINVAL)
        self.backlog = max(0, min(backlog, MOST_BACKLOG))

    def accept(self) -> "tuple[UnixSock, object]":
        self.need_open()
        self.host.check_limit()
        if not self.is_listening or self.receive_shut:
            fail(errno.EINVAL)
        if not self.accept_queue:
            fail(errno.EAGAIN)
        child = self.accept_queue.popleft()
        self.host.adopt(child)
        return child, child.peer_path

    def connect_ex(self, address: Address, /) -> int:
        self.need_open()
        if not isinstance(address, str):
            raise TypeError("a unix socket connects to a path")
        listener = self._paths.get(address)
        if listener is None:
            return errno.ENOENT
        if not listener.is_listening or not listener.open or listener.receive_shut:
            return errno.ECONNREFUSED
        if self.peer is not None:
            return errno.EISCONN
        if len(listener.accept_queue) > listener.backlog:
            return errno.EAGAIN
        child = UnixSock(listener.host, listener.family, self._paths)
        child.options.update(listener.options)
        child.path, child.peer_path, child.peer = listener.path, self.path, self
        self.peer, self.peer_path = child, listener.path
        listener.accept_queue.append(child)
        listener.wake()
        self.wake()
        return 0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        self.need_open()
        if size == 0:
            return b""
        if self.inbox:
            return self._take(size, peek=bool(flags & socket.MSG_PEEK))
        if self.peer is None:
            fail(errno.EINVAL)
        if self.error:
            fail(self.take_error())
        if self.receive_shut:
            return b""
        raise os_error(errno.EAGAIN)

    def _take(self, size: int, *, peek: bool) -> bytes:
        taken = self.host.shortened(min(size, len(self.inbox)))
        data = bytes(memoryview(self.inbox)[:taken])
        if not peek:
            del self.inbox[:taken]
            if self.inbox and taken < size and self.edges is not None:
                self.edges.notice(self)  # a short read: as if the rest had come only now
            if self.peer is not None:
                self.peer.room_arrives()
        return data

    def send(self, data: bytes | bytearray | memoryview, /) -> int:
        self.need_open()
        peer = self.peer
        if peer is None:
            fail(errno.ENOTCONN)
        if self.send_shut or peer.receive_shut:
            fail(errno.EPIPE)
        data = memoryview(data).cast("B")
        room = self.send_capacity - len(peer.inbox)
        if data and room <= 0:
            fail(errno.EAGAIN)
        taken = self.host.shortened(min(room, len(data)))
        peer.inbox += data[:taken]
        peer.wake()
        return taken

    def shutdown(self, how: int, /) -> None:
        self.need_open()
        if how not in {socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR}:
            fail(errno.EINVAL)
        self.shut(receive=how != socket.SHUT_WR, send=how != socket.SHUT_RD)
        if self.peer is not None:
            self.peer.shut(receive=how != socket.SHUT_RD, send=how != socket.SHUT_WR)

    def shut(self, *, receive: bool, send: bool) -> None:
        self.receive_shut |= receive
        self.send_shut |= send
        self.wake()

    def close(self) -> None:
        if self.open and not self.stays_open():
            self.host.release(self)
            self.end()

    def end(self) -> None:
        self.host.forget(self)
        self.receive_shut = self.send_shut = True
        never_accepted = [*self.accept_queue]
        self.accept_queue.clear()
        for child in never_accepted:
            child.inbox += b"?"  # as with unread data, the peer is told of a reset
            child.end()
        if self.peer is not None and not self.is_listening:
            if self.inbox:
                self.peer.error = errno.ECONNRESET
            self.peer.shut(receive=True, send=True)
        self.inbox.clear()

    def lose_power(self) -> None:
        self.close()
