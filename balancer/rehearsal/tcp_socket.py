"""A TCP socket from bind() to the end of the handshake, on either side.

Decides what binding, listening, connecting and accepting give; what happens on the established
connection is in tcp_connection.py.
"""

import errno
import socket
from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Protocol

from balancer.rehearsal.addresses import Endpoint, mapped, parsed, shown, wildcard
from balancer.rehearsal.deliveries import Deliveries
from balancer.rehearsal.descriptor import MOST_BACKLOG, Address, SockHost, fail
from balancer.rehearsal.flow import Flow, Mark
from balancer.rehearsal.links import NO_ROUTE_S, SYN_GIVES_UP_S, SYN_RETRIES_S, Fault, Road
from balancer.rehearsal.tcp_connection import State, TcpConnection


class Dialling(Enum):
    """What connect() has been told so far; Linux keeps this apart from the state."""

    NOT = "not"
    UNDER_WAY = "under way"
    TOLD = "told"


class TcpStack(SockHost, Protocol):
    """What a TCP socket asks of its host besides: addresses, ports, and the way to other hosts."""

    deliveries: Deliveries

    def source_for(self, family: int) -> str | None: ...
    def ephemeral_port(self) -> int: ...
    def claim(self, sock: "TcpSock", ip: str, port: int) -> Endpoint: ...
    def check_listen(self, sock: "TcpSock") -> None: ...
    def listener_at(self, local: Endpoint, remote: Endpoint) -> "TcpSock | None": ...
    def located(self, remote: Endpoint, family: int) -> Endpoint: ...
    def road_to(self, remote: Endpoint) -> "tuple[TcpStack, Road] | None": ...
    def remember(self, connection: TcpConnection) -> None: ...


class TcpSock(TcpConnection):
    """A TCP socket of the memory network."""

    def __init__(self, stack: TcpStack, family: int) -> None:
        super().__init__(stack, family)
        self.stack = stack  # the host again, for what only TCP asks of it
        self.local: Endpoint | None = None
        self.remote: Endpoint | None = None
        self.backlog = 0
        self.accept_queue: deque[TcpSock] = deque()
        self.half_accepted = 0  # places taken by handshakes that have not ended
        self.listener: TcpSock | None = None
        self._dialling = Dialling.NOT
        self._attempt = 0  # tells an answer to this connect() from an answer to an earlier one
        self._dialled_at = 0.0

    def getsockname(self) -> object:
        self.need_open()
        return shown(self.local or (wildcard(self.family), 0), self.family)

    def getpeername(self) -> object:
        self.need_open()
        if self.remote is None or self.state is not State.OPEN:
            fail(errno.ENOTCONN)
        return shown(self.remote, self.family)

    def is_readable(self) -> bool:
        return bool(self.accept_queue) or super().is_readable()

    # The listening side.

    def option_is_set(self, option: int) -> bool:
        return bool(self.options.get((socket.SOL_SOCKET, option)))

    def bind(self, address: Address, /) -> None:
        self.need_open()
        ip, port = parsed(address, self.family)
        if self.local is not None:
            fail(errno.EINVAL)
        self.local = self.stack.claim(self, ip, port)

    def listen(self, backlog: int, /) -> None:
        self.need_open()
        if self._dialling is not Dialling.NOT or self.state in {State.OPEN, State.CONNECTING}:
            fail(errno.EINVAL)
        if self.local is None:
            self.local = self.stack.claim(self, wildcard(self.family), 0)
        if self.state is not State.LISTENING:
            self.stack.check_listen(self)
        self.backlog = max(0, min(backlog, MOST_BACKLOG))
        self.receive_shut = self.send_shut = False
        self.state = State.LISTENING

    def accept(self) -> "tuple[TcpSock, object]":
        self.need_open()
        self.host.check_limit()
        if self.state is not State.LISTENING:
            fail(errno.EINVAL)
        if not self.accept_queue:
            fail(errno.EAGAIN)
        child = self.accept_queue.popleft()
        self.host.adopt(child)
        return child, shown(child.remote or ("", 0), child.family)

    def hello_arrives(self) -> None:
        """The handshake of this accepted end is over: queue it at its listener."""
        listener, self.listener = self.listener, None
        if listener is None:
            return
        listener.half_accepted -= 1
        if listener.state is State.LISTENING:
            listener.accept_queue.append(self)
            listener.wake()
        else:
            self.answer_reset()
            self.die()

    def _stop_listening(self) -> None:
        self.state = State.CLOSED
        while self.accept_queue:
            child = self.accept_queue.popleft()
            child.orphan = True
            child.answer_reset()
            child.die()

    def _disconnect(self, how: int) -> None:
        if self.state is State.CONNECTING:
            self._attempt += 1
            self.state = State.CLOSED
            self.error = errno.ECONNRESET
            self._dialling = Dialling.NOT
        elif how != socket.SHUT_WR:
            self._stop_listening()
        self.wake()

    def _close_unconnected(self) -> None:
        self._attempt += 1
        if self.state is State.LISTENING:
            self._stop_listening()
        self.state = State.CLOSED
        self.host.forget(self)

    def lose_power(self) -> None:
        self._attempt += 1
        while self.accept_queue:
            self.accept_queue.popleft().lose_power()
        super().lose_power()

    # The connecting side.

    def connect_ex(self, address: Address, /) -> int:
        self.need_open()
        if self._dialling is Dialling.UNDER_WAY:
            return self._tell()
        if self._dialling is Dialling.TOLD or self.state is not State.CLOSED:
            return errno.EISCONN
        remote = parsed(address, self.family)
        source = self.stack.source_for(self.family)
        if source is None:
            return errno.ENETUNREACH
        if self.local is None:
            self.local = (source, self.stack.ephemeral_port())
        self.remote = self.stack.located(remote, self.family)
        self.receive_shut = self.send_shut = False
        self.error = 0
        self.state = State.CONNECTING
        self._dialling = Dialling.UNDER_WAY
        self._attempt += 1
        self._dialled_at = self.stack.deliveries.now()
        self._send_syn(self._attempt)
        return errno.EINPROGRESS

    def _tell(self) -> int:
        if self.state is State.CONNECTING:
            return errno.EALREADY
        if self.state is State.OPEN:
            self._dialling = Dialling.TOLD
            return 0
        error = self.take_error() or errno.ECONNABORTED
        self._dialling = Dialling.NOT
        self.receive_shut = self.send_shut = False
        self.outgoing = self.incoming = None
        return error

    def _is_still_dialling(self, attempt: int) -> bool:
        return self.state is State.CONNECTING and attempt == self._attempt

    def _fail_to_connect(self, attempt: int, error: int) -> None:
        if self._is_still_dialling(attempt):
            self.error = error
            self.die()

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        if delay <= 0.0:
            call()
        else:
            deliveries = self.stack.deliveries
            deliveries.at(deliveries.now() + delay, call)

    def _send_syn(self, attempt: int) -> None:
        if not self._is_still_dialling(attempt) or self.remote is None:
            return
        way = self.stack.road_to(self.remote)
        if way is None:
            unreachable = partial(self._fail_to_connect, attempt, errno.EHOSTUNREACH)
            self._later(NO_ROUTE_S, unreachable)
            return
        target, road = way
        self._later(road.delay(), partial(self._syn_arrives, attempt, target, road))

    def _syn_arrives(self, attempt: int, target: TcpStack, road: Road) -> None:
        if not self._is_still_dialling(attempt) or self.remote is None:
            return
        if road.loses_connects() or not target.powered:
            self._syn_is_lost(attempt)
            return
        listener = target.listener_at(self.remote, self.local or self.remote)
        if listener is None or road.fault() is Fault.REFUSES:
            refused = partial(self._fail_to_connect, attempt, errno.ECONNREFUSED)
            self._later(road.delay(), refused)
        elif len(listener.accept_queue) + listener.half_accepted > listener.backlog:
            self._syn_is_lost(attempt)
        else:
            child = self._accepted_end(listener, road)
            listener.half_accepted += 1
            self._later(road.delay(), partial(self._syn_is_answered, attempt, child, road))

    def _syn_is_lost(self, attempt: int) -> None:
        deliveries = self.stack.deliveries
        now = deliveries.now()
        gives_up = self._dialled_at + (self.user_timeout or SYN_GIVES_UP_S)
        for pause in SYN_RETRIES_S:
            when = self._dialled_at + pause
            if now < when < gives_up:
                deliveries.at(when, partial(self._send_syn, attempt))
                return
        deliveries.at(gives_up, partial(self._fail_to_connect, attempt, errno.ETIMEDOUT))

    def _accepted_end(self, listener: "TcpSock", road: Road) -> "TcpSock":
        child = TcpSock(listener.stack, listener.family)
        child.options.update(listener.options)
        child.listener = listener
        child.local = mapped(self.remote, child.family)
        child.remote = mapped(self.local, child.family)
        child._dialling = Dialling.TOLD
        deliveries = self.stack.deliveries
        there = Flow(sender=self, receiver=child, road=road, deliveries=deliveries)
        back = Flow(sender=child, receiver=self, road=road, deliveries=deliveries)
        self.outgoing, self.incoming = there, back
        child.outgoing, child.incoming = back, there
        return child

    def _syn_is_answered(self, attempt: int, child: "TcpSock", road: Road) -> None:
        listener = child.listener
        if not self._is_still_dialling(attempt) or listener is None or self.outgoing is None:
            if listener is not None:
                listener.half_accepted -= 1
            return
        if road.loses_connects() or not child.host.powered:
            listener.half_accepted -= 1
            self._syn_is_lost(attempt)
            return
        for end in (self, child):
            end.state = State.OPEN
            end.stack.remember(end)
            for link in road:
                link.add(end)
        self.outgoing.send_mark(Mark.HELLO)
        self.wake()
