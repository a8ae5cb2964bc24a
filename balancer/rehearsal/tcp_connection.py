"""An established TCP connection's socket: what each call does in each state, as Linux does it.

Decides results, errnos and readiness; connecting and accepting are in tcp_socket.py, travelling is
in flow.py. The states of RFC 793 are kept as the flags in which they differ.
"""

import errno
import socket
import struct
from enum import Enum

from balancer.rehearsal.descriptor import MemorySock, SockHost, fail, os_error
from balancer.rehearsal.flow import Flow


class State(Enum):
    """CLOSED is a fresh socket as well as a dead one: Linux does not tell them apart."""

    CLOSED = "closed"
    LISTENING = "listening"
    CONNECTING = "connecting"
    OPEN = "open"


class TcpConnection(MemorySock):
    """One end of a connection, also after close() while its bytes still travel."""

    def __init__(self, host: SockHost, family: int) -> None:
        super().__init__(host, family)
        self.state = State.CLOSED
        self.inbox = bytearray()
        self.outgoing: Flow | None = None
        self.incoming: Flow | None = None
        self.fin_received = False
        self.fin_arrived_there = False
        self.orphan = False  # closed by its program; the kernel ends the conversation

    # Readiness, as tcp_poll() has it.

    @property
    def is_listening(self) -> bool:
        return self.state is State.LISTENING

    @property
    def is_dead(self) -> bool:
        return self.state is State.CLOSED

    def has_left(self) -> bool:
        """POLLERR or POLLHUP: reset, or shut both ways."""
        if self.state in {State.LISTENING, State.CONNECTING}:
            return bool(self.error)
        both = self.receive_shut and self.send_shut
        return bool(self.error) or both or self.state is State.CLOSED

    def is_readable(self) -> bool:
        return bool(self.inbox) or self.receive_shut or self.has_left()

    def is_writable(self) -> bool:
        if self.state is not State.OPEN:
            return self.has_left()
        if self.send_shut or self.error or self.outgoing is None:
            return True
        pending = self.outgoing.pending
        return (self.send_capacity - pending) * 2 >= pending  # a third must be free

    def unsent(self) -> int:
        return 0 if self.outgoing is None else self.outgoing.pending

    @property
    def user_timeout(self) -> float:
        """TCP_USER_TIMEOUT in seconds; zero when it is not set."""
        value = self.options.get((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT), 0)
        return value / 1000 if isinstance(value, int) else 0.0

    # Calls.

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        self.need_open()
        if flags & socket.MSG_OOB:
            fail(errno.EINVAL)
        if size == 0:
            return b""
        if self.inbox:
            return self._take(size, peek=bool(flags & socket.MSG_PEEK))
        if self.fin_received:
            return b""
        if self.error:
            fail(self.take_error())
        if self.receive_shut:
            return b""
        if self.state in {State.CLOSED, State.LISTENING}:
            fail(errno.ENOTCONN)
        raise os_error(errno.EAGAIN)

    def _take(self, size: int, *, peek: bool) -> bytes:
        taken = self.host.shortened(min(size, len(self.inbox)))
        data = bytes(memoryview(self.inbox)[:taken])
        if not peek:
            del self.inbox[:taken]
            if self.inbox and taken < size and self.edges is not None:
                self.edges.notice(self)  # a short read: as if the rest had come only now
            # Like Linux, open the window only when it is worth a packet.
            if self.incoming is not None and len(self.inbox) * 2 <= self.receive_capacity:
                self.incoming.advance()
        return data

    def send(self, data: bytes | bytearray | memoryview, /) -> int:
        self.need_open()
        if self.state is State.CONNECTING:
            fail(errno.EAGAIN)
        if self.error:
            fail(self.take_error())
        if self.state is not State.OPEN or self.send_shut or self.outgoing is None:
            fail(errno.EPIPE)
        data = memoryview(data).cast("B")
        if not data:
            return 0
        taken = self.outgoing.write(data[: self.host.shortened(len(data))])
        if not taken:
            fail(errno.EAGAIN)
        return taken

    def shutdown(self, how: int, /) -> None:
        self.need_open()
        if how not in {socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR}:
            fail(errno.EINVAL)
        if self.state in {State.LISTENING, State.CONNECTING}:
            self._disconnect(how)
            return
        was_shut = self.send_shut
        self.receive_shut |= how != socket.SHUT_WR
        self.send_shut |= how != socket.SHUT_RD
        if self.state is State.CLOSED:
            fail(errno.ENOTCONN)
        if self.send_shut and not was_shut and self.outgoing is not None:
            self.outgoing.finish()
        self.wake()

    def _disconnect(self, how: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        if not self.open or self.stays_open():
            return
        self.host.release(self)
        self.orphan = True
        if self.state is not State.OPEN or self.outgoing is None:
            self._close_unconnected()
            return
        unread = bool(self.inbox)
        self.inbox.clear()
        if unread or self._lingers_for_nothing():
            self.outgoing.reset()
            self.die()
            return
        was_shut = self.send_shut
        self.receive_shut = self.send_shut = True
        if not was_shut:
            self.outgoing.finish()

    def _close_unconnected(self) -> None:
        raise NotImplementedError

    def _lingers_for_nothing(self) -> bool:
        value = self.options.get((socket.SOL_SOCKET, socket.SO_LINGER))
        closing = self.fin_received and self.send_shut
        return isinstance(value, bytes) and struct.unpack("ii", value) == (1, 0) and not closing

    # What arrives.

    def bytes_arrive(self, data: bytes) -> None:
        shut_both = self.send_shut and self.receive_shut and not self.fin_received
        if self.state is not State.OPEN or self.orphan or shut_both:
            self.answer_reset()
            self.reset_arrives()
            return
        self.inbox += data
        self.wake()

    def fin_arrives(self) -> None:
        if self.state is not State.OPEN:
            self.answer_reset()
            return
        self.fin_received = self.receive_shut = True
        if self.incoming is not None:
            self.incoming.sender.fin_reached_peer()
        self._end_if_done()
        self.wake()

    def fin_reached_peer(self) -> None:
        self.fin_arrived_there = True
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self.state is State.OPEN and self.fin_received and self.fin_arrived_there:
            self.die()

    def reset_arrives(self) -> None:
        """RST: everything ends, but what has been received can still be read."""
        if self.state is State.OPEN:
            half_closed = self.fin_received and not self.send_shut
            self.error = errno.EPIPE if half_closed else errno.ECONNRESET
            self.die()

    def hello_arrives(self) -> None:
        raise NotImplementedError

    def time_out(self) -> None:
        """Nobody has answered for too long."""
        if self.state is State.OPEN:
            self.error = errno.ETIMEDOUT
            self.die()

    def answer_reset(self) -> None:
        if self.outgoing is not None:
            self.outgoing.reset()

    def die(self) -> None:
        """The connection is no more; its descriptor may live on."""
        self.state = State.CLOSED
        self.send_shut = self.receive_shut = True
        if self.outgoing is not None:
            self.outgoing.purge()
            for link in self.outgoing.road:
                link.discard(self)
        self.host.forget(self)
        self.wake()

    def lose_power(self) -> None:
        if self.open:
            self.host.release(self)
        self.orphan = True
        self.inbox.clear()
        if self.outgoing is not None:
            self.outgoing.purge()
        self.die()

    # What links ask of a crossing.

    def road_changed(self) -> None:
        if self.outgoing is not None:
            self.outgoing.road_changed()

    def reset_both(self) -> None:
        if self.outgoing is not None:
            self.outgoing.drop()
            self.outgoing.receiver.reset_arrives()
        self.reset_arrives()
