"""One client connection: request after request, in order, until one side has had enough.

It rides in a lane while its requests are plain, and leaves it, for a task of its own, with every
request that is not.
"""

import math

import trio

from balancer.core.message import BadMessage
from balancer.proxy.arrival import Arrival
from balancer.proxy.exchange import apologise, refuse, serve_exchange, take_over
from balancer.proxy.exchange_state import NO_EXCHANGE, Exchange
from balancer.proxy.gathering import gathered, head_of
from balancer.proxy.handover import (
    ANSWERED,
    ARRIVED,
    Answered,
    Arrived,
    Begun,
    Crashed,
    Handover,
    Short,
    Unread,
)
from balancer.proxy.plain_exchange import PlainClient, plain_exchange
from balancer.proxy.prelude import begin
from balancer.proxy.resuming import resumed
from balancer.proxy.service import Service
from balancer.telemetry.record import ExchangeRecord
from balancer.wire.lane import Ride
from balancer.wire.network import Sock
from balancer.wire.streams import (
    READ_BYTES_MAX,
    HeadTooLarge,
    PeerClosed,
    linger,
    receive,
    receive_head,
)
from balancer.wire.tls_socket import WantsTurn
from balancer.wire.waiting import Interrupted, Waiter

# One is usual; more in pieces is somebody playing.
EMPTY_LINES_MAX = 16
IS_TO_LEAVE = -math.inf


class ClientConnection(PlainClient):
    """Owns the client's socket, from the accept to `end`, and the exchange that is under way.

    A crash of ours in whatever it does ends it alone. It is told, by `crashed`, and answered with 500
    where the client has asked for something and has been sent nothing of an answer.
    """

    __slots__ = ("_door", "_exchange", "_handover", "_requests", "_unread", "_watch", "arrival")

    def __init__(self, service: Service, sock: Sock, arrival: Arrival) -> None:
        self.service = service
        self.sock = sock
        self.waiter = Waiter(service.timekeeper)
        self.now = trio.lowlevel.current_clock().current_time
        self.arrival = arrival
        self._know_client()
        self.pending = b""
        self.begun = None
        self._requests = 0
        self.leaves_at = self.now() + service.limits.age_max_s
        self.record = NO_EXCHANGE
        self.backend = None
        self._watch = service.lane.watch(sock)
        self._handover: Handover = ARRIVED
        self._exchange: Exchange | None = None
        # What came of a request that is no exchange yet.
        self._unread = bytearray()
        self._door = service.room.door(arrival.rules.bind)
        arrival.era = service.room.enter(self._door)

    def crashed(self, exc: Exception) -> None:
        """Write it down, with the id of the request that is under way."""
        exchange = self._exchange
        self.service.crashed("" if exchange is None else exchange.request_id.decode("ascii"), exc)

    def end(self) -> None:
        """Close the connection; what is still under way ends with it, and gives back what it holds."""
        self.service.room.leave(self._door)
        self.service.room.gone(self.arrival.counted_as)
        try:
            self._own_what_has_begun()
            if self._exchange is not None:
                self._exchange.over()
        finally:
            self.service.idle.close_of(self.arrival, self.arrival.backends)
            self.sock.close()

    # ---- in the lane ---------------------------------------------------------------------------

    def ride(self) -> Ride:  # noqa: C901, PLR0912, PLR0915 - flat: it is resumed twice for each exchange
        """Serve plain requests; True when something else came, for `walk`."""
        service, waiter, watch, receive = self.service, self.waiter, self._watch, self.sock.recv
        resting = service.resting
        data = b""
        try:
            while True:
                data = self.pending
                if self.arrival.era != self._door.era:
                    self._handover = ANSWERED
                    return True
                if not data:
                    now = self.now()
                    deadline = now + service.limits.rest_s(self._requests)
                    resting[waiter] = now, self._door
                    try:
                        while True:
                            waiter.move_deadline(deadline)
                            yield watch
                            try:
                                data = receive(READ_BYTES_MAX)
                                break
                            except WantsTurn:
                                self._handover = Unread(b"")
                                return True
                            except BlockingIOError:
                                continue
                    except Interrupted:
                        # What came while the wait was ended is still served.
                        data = receive(READ_BYTES_MAX)
                    finally:
                        resting.pop(waiter, None)
                        waiter.calm()
                    if not data:
                        return False
                    if len(data) == READ_BYTES_MAX:
                        watch.ready = True
                self.pending = b""
                self._requests += 1
                if self._requests >= service.limits.requests_max:
                    self.leaves_at = IS_TO_LEAVE
                handover = yield from plain_exchange(self, data)
                if isinstance(handover, Unread | Short):
                    handover = yield from gathered(self, watch, handover)
                data = b""
                if handover is not None:
                    self._handover = handover
                    return True
        except OSError:
            return False
        except Exception as exc:  # noqa: BLE001 - the wall between connections
            self._handover = Crashed(exc, data)
            return True

    # ---- in a task of its own ------------------------------------------------------------------

    async def walk(self) -> bool:
        """Serve what the lane could not; whether the connection goes on, and so back there."""
        handover, self._handover = self._handover, ANSWERED
        came = handover.data if isinstance(handover, Unread | Crashed) else b""
        self._unread = bytearray(came)
        try:
            self._own_what_has_begun()
            goes_on = await self._go_on_from(handover)
        except Exception as exc:  # noqa: BLE001 - the wall between connections
            if self._exchange is None and self._unread.strip(b"\r\n"):
                self._exchange = self._new_exchange(self._unread)
            self.crashed(exc)
            return await self._apologise()
        self._exchange = None
        # What was read along with the last request, and is not decoded yet, is told by no edge.
        self._watch.ready = self._watch.ready or self.arrival.terminator is not None
        return goes_on

    async def _go_on_from(self, handover: Handover) -> bool:
        match handover:
            case Begun():
                return await self._take_over(handover)
            case Unread():
                return await self._serve_next(self._unread, handover.began)
            case Crashed(exc):
                raise exc
            case Answered():
                return await self._farewell()
            case Arrived():
                return await self._begin()

    async def _begin(self) -> bool:
        """Take what comes before HTTP; whether HTTP comes."""
        sock = await begin(self.service, self.sock, self.waiter, self.arrival)
        if sock is None:
            return False
        self.sock = sock
        self._know_client()
        return True

    def _know_client(self) -> None:
        self.address = self.arrival.client
        self.hop_lines = self.arrival.forwarding_lines(self.service.fields.pseudonym)
        self.gate, self.hsts = self.arrival.gate, self.arrival.rules.hsts
        self.tls = self.arrival.tls

    def _own_what_has_begun(self) -> None:
        """Have an exchange hold what the plain path has handed over."""
        begun, self.begun = self.begun, None
        if begun is not None:
            self._exchange = resumed(self, begun, self.arrival)

    async def _take_over(self, begun: Begun) -> bool:
        exchange = self._exchange
        assert exchange is not None, "it holds what has begun"
        if begun.crash is not None:
            raise begun.crash
        return await self._after(exchange, await take_over(exchange, begun))

    async def _serve_next(self, buffer: bytearray, began: float | None) -> bool:
        if not await self._first_bytes(buffer):
            return False
        exchange = self._exchange = self._new_exchange(buffer, began)
        try:
            raw = await self._head(buffer, exchange.record.began)
            exchange.record.head_at = trio.current_time()
        except BadMessage as exc:
            await refuse(exchange, exc.status, exc.sentence)
            return await self._farewell()
        except (OSError, PeerClosed):
            self._exchange = None  # it never was one
            return False
        return await self._after(exchange, await serve_exchange(exchange, raw))

    async def _after(self, exchange: Exchange, goes_on: bool) -> bool:
        if goes_on:
            self.pending = bytes(exchange.buffer)
            return True
        return False if exchange.broken else await self._farewell()

    async def _farewell(self) -> bool:
        """Give the client time to read our last words."""
        self.waiter.calm()
        await linger(self.sock, self.waiter)
        return False

    def _new_exchange(self, buffer: bytearray, began: float | None = None) -> Exchange:
        service = self.service
        service.exchanges += 1
        if began is None:
            began = trio.current_time()
        record = ExchangeRecord(service.exchanges, "", self.address, began, began, self.tls)
        made_id = service.new_request_id()
        exchange = Exchange(service, self.sock, buffer, self.waiter, record, made_id, self.arrival)
        exchange.leaves_at = self.leaves_at
        return exchange

    async def _first_bytes(self, buffer: bytearray) -> bool:
        """Rest until the next request begins; False when there will be none.

        Empty lines before a request line are forgiven, a few of them (RFC 9112 2.2), and are no
        request: old clients end a body with one too many. They give nobody more time, either.
        """
        deadline = trio.current_time() + self.service.limits.idle_s
        for _ in range(EMPTY_LINES_MAX):
            while buffer[:2] == b"\r\n":
                del buffer[:2]
            if buffer and buffer != b"\r":
                return True
            arrived = await self._resting(deadline)
            if not arrived:
                return False
            buffer += arrived
        return True

    async def _resting(self, deadline: float) -> bytes:
        service = self.service
        service.resting[self.waiter] = trio.current_time(), self._door
        try:
            return await receive(self.sock, self.waiter, deadline)
        except (OSError, Interrupted):
            return b""
        finally:
            service.resting.pop(self.waiter, None)
            self.waiter.calm()

    async def _head(self, buffer: bytearray, began: float) -> bytes:
        limits = self.service.limits
        head, deadline = head_of(buffer, limits), began + limits.header_s
        try:
            return await receive_head(self.sock, self.waiter, buffer, head, lambda: deadline)
        except Interrupted:
            raise limits.head_too_late() from None
        except HeadTooLarge as exc:
            raise limits.head_too_large(buffer.find(b"\n")) from exc

    async def _apologise(self) -> bool:
        """After a crash: have the exchange end, and let the client read what it is told."""
        exchange = self._exchange
        if exchange is None:
            return False
        if await apologise(exchange):
            return await self._farewell()
        return False
