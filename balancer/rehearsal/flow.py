"""One way of a TCP connection: from the sender's buffer over the road to the receiver's buffer.

Decides when bytes and marks (handshake's end, FIN, RST) arrive, in order, and what becomes of them
when the road does not carry them. Acknowledgements and window updates take no time.
"""

from collections import deque
from enum import Enum
from functools import partial
from typing import Protocol, TypeAlias

from balancer.rehearsal.deliveries import Deliveries
from balancer.rehearsal.descriptor import SockHost
from balancer.rehearsal.links import DATA_GIVES_UP_S, Fault, Road, next_resend


class Mark(Enum):
    """A packet without bytes."""

    HELLO = "hello"  # ends the handshake: the receiver is now to be accepted
    FIN = "fin"
    RST = "rst"


Packet: TypeAlias = bytes | Mark


class End(Protocol):
    """What a flow asks of the socket at either end of it, and tells it."""

    inbox: bytearray

    @property
    def host(self) -> SockHost: ...
    @property
    def is_dead(self) -> bool: ...
    @property
    def send_capacity(self) -> int: ...
    @property
    def receive_capacity(self) -> int: ...
    @property
    def user_timeout(self) -> float: ...

    def bytes_arrive(self, data: bytes) -> None: ...
    def hello_arrives(self) -> None: ...
    def fin_arrives(self) -> None: ...
    def fin_reached_peer(self) -> None: ...
    def reset_arrives(self) -> None: ...
    def reset_both(self) -> None: ...
    def time_out(self) -> None: ...
    def room_arrives(self) -> None: ...


class Flow:
    """What `sender` wrote and `receiver` has not yet got."""

    __slots__ = (
        "_deliveries",
        "_epoch",
        "_fin_waits",
        "_in_flight",
        "_last_arrival",
        "_lost_at",
        "_packets",
        "_queued",
        "receiver",
        "road",
        "sender",
    )

    def __init__(
        self,
        *,
        sender: End,
        receiver: End,
        road: Road,
        deliveries: Deliveries,
    ) -> None:
        self.sender = sender
        self.receiver = receiver
        self.road = road
        self._deliveries = deliveries
        self._queued = bytearray()  # in the sender's buffer, not yet sent
        self._packets: deque[Packet] = deque()  # sent, not yet arrived
        self._in_flight = 0
        self._fin_waits = False
        self._last_arrival = 0.0
        self._lost_at: float | None = None  # since when packets wait to be sent again
        self._epoch = 0  # arrivals of an older epoch were lost

    @property
    def pending(self) -> int:
        """Bytes that fill the send buffer."""
        return len(self._queued) + self._in_flight

    @property
    def delivered(self) -> bool:
        """Whether nothing of what was written is still on its way."""
        return not (self._queued or self._packets or self._fin_waits)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take what fits the send buffer; zero when it is full."""
        room = max(0, self.sender.send_capacity - self.pending)
        taken = min(room, len(data))
        self._queued += data[:taken]
        self.advance()
        return taken

    def finish(self) -> None:
        """Send FIN behind everything written."""
        self._fin_waits = True
        self.advance()

    def reset(self) -> None:
        """Forget what was not sent, and send RST behind what was."""
        self.purge()
        self.send_mark(Mark.RST)

    def purge(self) -> None:
        """Forget what was not sent; packets on the road travel on, lost ones are not repeated."""
        self._queued.clear()
        self._fin_waits = False
        if self._lost_at is not None:
            self.drop()

    def drop(self) -> None:
        """Forget everything, packets on the road too."""
        self._queued.clear()
        self._packets.clear()
        self._fin_waits = False
        self._in_flight = 0
        self._lost_at = None
        self._epoch += 1

    def advance(self) -> None:
        """Send what the receiver has room for."""
        receiver = self.receiver
        if self._queued:
            window = receiver.receive_capacity - len(receiver.inbox) - self._in_flight
            if receiver.is_dead:
                window = len(self._queued)  # goes out to be answered by RST
            if window > 0:
                chunk = bytes(memoryview(self._queued)[:window])
                del self._queued[:window]
                self._in_flight += len(chunk)
                self._send(chunk)
        if self._fin_waits and not self._queued:
            self._fin_waits = False
            self._send(Mark.FIN)

    def send_mark(self, mark: Mark) -> None:
        self._send(mark)

    def _send(self, packet: Packet) -> None:
        self._packets.append(packet)
        if self._lost_at is not None:
            return  # goes out with the next retransmission
        delay = self.road.delay()
        if delay <= 0.0 and len(self._packets) == 1:
            self._arrive(self._epoch)
        else:
            self._schedule(delay)

    def _schedule(self, delay: float) -> None:
        self._last_arrival = max(self._deliveries.now() + delay, self._last_arrival)
        self._deliveries.at(self._last_arrival, partial(self._arrive, self._epoch))

    def _arrive(self, epoch: int) -> None:
        if epoch != self._epoch or not self._packets:
            return
        packet = self._packets[0]
        if self._is_lost(packet):
            self._lose()
            return
        self._packets.popleft()
        if isinstance(packet, bytes):
            self._in_flight -= len(packet)
            if self.road.fault() is Fault.RESETS:
                self.sender.reset_both()
                return
            self.receiver.bytes_arrive(packet)
            self.sender.room_arrives()
        elif packet is Mark.FIN:
            self.receiver.fin_arrives()
        elif packet is Mark.RST:
            self.receiver.reset_arrives()
        else:
            self.receiver.hello_arrives()

    def _is_lost(self, packet: Packet) -> bool:
        if not self.receiver.host.powered:
            return True
        return self.road.loses_connects() if packet is Mark.HELLO else self.road.loses_data()

    def _lose(self) -> None:
        self._epoch += 1
        if self.sender.is_dead or self._packets[0] is Mark.RST:
            self.drop()  # nobody is left who would send it again
            return
        now = self._deliveries.now()
        if self._lost_at is None:
            self._lost_at = now
        patience = self.sender.user_timeout or DATA_GIVES_UP_S
        self._deliveries.at(self._lost_at + patience, partial(self._give_up, self._epoch))

    def road_changed(self) -> None:
        """Think of sending again what was lost, when TCP's timer next says so."""
        if self._lost_at is not None:
            when = next_resend(self._lost_at, self._deliveries.now())
            self._deliveries.at(when, partial(self._resend, self._epoch))

    def _resend(self, epoch: int) -> None:
        if epoch != self._epoch or self._lost_at is None or self._is_lost(self._packets[0]):
            return
        self._lost_at = None
        self._epoch += 1
        for _ in self._packets:
            self._schedule(self.road.delay())

    def _give_up(self, epoch: int) -> None:
        if epoch == self._epoch and self._lost_at is not None:
            self.sender.time_out()
