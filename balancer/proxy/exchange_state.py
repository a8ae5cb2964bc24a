"""The state of one exchange: what is known, what has been done, and until when to wait.

Decides nothing about the flow; `balancer.proxy.exchange` does. Lives outside every wait, so that an
interruption loses nothing of it.
"""

from typing import Protocol

import trio

from balancer.core.backend import BackendView
from balancer.core.framing import NO_BODY
from balancer.core.message import RequestHead
from balancer.core.outcome import Failure
from balancer.core.replies import Reply, reply_bytes
from balancer.core.upgrades import Offer
from balancer.proxy.arrival import Arrival
from balancer.proxy.faults import Stopped
from balancer.proxy.pool import Pool
from balancer.proxy.request_body import RequestBody
from balancer.proxy.service import Service
from balancer.telemetry.record import AttemptRecord, ExchangeRecord
from balancer.wire.h11_heads import parse_request_head
from balancer.wire.network import Sock
from balancer.wire.pacing import Paced
from balancer.wire.splice import Splice
from balancer.wire.streams import send_now
from balancer.wire.waiting import NEVER, Interrupted, Waiter
from healthcheck.core.verdict import Evidence

# What a connection holds while it rests.
NO_EXCHANGE = ExchangeRecord(number=0, request_id="", client="", began=0.0, head_at=0.0)


class UnderWay:
    """What stands in the service's `running` while an exchange lasts."""

    __slots__ = ("backend", "record", "service", "sock", "waiter")

    service: Service
    sock: Sock
    waiter: Waiter
    record: ExchangeRecord
    backend: BackendView | None

    @property
    def protocol(self) -> str:
        """What it has switched to; "" for HTTP."""
        return ""

    def notice_leaving(self, since: float) -> None:
        """End an attempt that has run since before `since` if its client has gone."""
        attempts = self.record.attempts
        if self.backend is None or not attempts or attempts[-1].began > since:
            return
        if self.service.network.has_left(self.sock):
            self.interrupt(Stopped(Failure.CLIENT_LEFT))

    def interrupt(self, stopped: Stopped) -> None:
        """End the attempt under way from another task."""
        self.waiter.interrupt(stopped)


class UnderTunnel(Protocol):
    """What an exchange knows of the tunnel that it has become."""

    @property
    def told(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    def stop(self, stopped: Stopped) -> None: ...
    def notice_leaving(self) -> None: ...


class Exchange(UnderWay):
    """One exchange."""

    def __init__(
        self,
        service: Service,
        sock: Sock,
        buffer: bytearray,
        waiter: Waiter,
        record: ExchangeRecord,
        made_id: bytes,
        arrival: Arrival,
    ) -> None:
        self.service = service
        self.sock = sock
        self.buffer = buffer
        self.waiter = waiter
        self.record = record
        self.arrival = arrival
        self.made_id = made_id
        self.request_id = made_id
        self.head: RequestHead | None = None
        # What `head` is read from when it is wanted, where the request was plain.
        self.plain_head = b""
        self.keep_alive = False
        self.leaves_at = NEVER
        self.upstream_head = b""
        self.written = False
        # Whether the client has a byte of the answer; of an interim one that is not whole yet.
        self.answer_begun = False
        self.interim_begun = False
        self.broken = False
        self.body_sent = False
        self.uploading = False
        # When the backend had the request, and until when its answer's head must be there; None
        # once it is.
        self.asked_at = 0.0
        self.head_due: float | None = None
        self.idle_s = 0.0
        self.expects_continue = False
        self.continued = False
        self.upload_fault: Stopped | None = None
        # What it holds, until `end_attempt`: a count in flight while there is a `backend`, the
        # connection there while it is not at rest, and what the kernel moves.
        # What the client asked to switch to, and what it has become with the backend's yes.
        self.offer: Offer | None = None
        self.tunnel: UnderTunnel | None = None
        self.backend: BackendView | None = None
        self.attempt: AttemptRecord | None = None
        self.upstream_sock: Sock | None = None
        self.splices: list[Splice] = []
        self.is_over = False
        self.pool: Pool
        self.body = RequestBody(buffer, NO_BODY, service.limits)

    @property
    def taking(self) -> Paced:
        """How the client takes what is sent to it; the same for all exchanges of a connection."""
        arrival = self.arrival
        if arrival.taking is None:
            pace = self.service.limits.download_pace()
            arrival.taking = Paced(self.service.network, self.sock, pace)
        return arrival.taking

    # ---- what it holds

    def begin_attempt(self, view: BackendView, attempt: AttemptRecord) -> None:
        """Hold the count that a pick took; in one step with the pick."""
        self.backend, self.attempt = view, attempt

    def end_attempt(self, evidence: Evidence, reason: str) -> None:
        """Give back what the attempt holds, if there is one; nothing stops it halfway."""
        view, attempt = self.backend, self.attempt
        if view is None or attempt is None:
            return
        self.backend = self.attempt = None
        for splice in self.splices:
            splice.drop()
        self.splices.clear()
        if self.upstream_sock is not None:
            self.upstream_sock.close()
            self.upstream_sock = None
        self.waiter.calm()
        attempt.outcome = reason
        attempt.ended = trio.current_time()
        try:
            if self.tunnel is None:  # it has said at its beginning what it says of the backend
                self.pool.record(view.id, evidence, reason, attempt.began)
        finally:
            self.pool.end(view.id.address, attempt.began)

    def over(self) -> None:
        """The end, however it came: give back what is still held, and write it down. Once."""
        if self.is_over:
            return
        self.is_over = True
        self.service.running.pop(self.record.number, None)
        self.end_attempt(Evidence.IGNORED, "cancelled")
        self.record.ended = trio.current_time()
        self.service.access(self.record)

    # ---- what the client is told

    async def send(self, data: bytes, *, interim: bool = False) -> None:
        """All of `data` to the client. TimedOut: it was too slow. Interrupted, OSError."""
        await self.waiter.breathe()
        sent = self._send_now(data, interim=interim)
        view = memoryview(data)
        while sent < len(data):
            await self.taking.writable(self.waiter)
            sent += self._send_now(view[sent:], interim=interim)
        self.interim_begun = False

    def _send_now(self, data: bytes | memoryview, *, interim: bool) -> int:
        sent = send_now(self.sock, data)
        self.taking.pace.moved(sent)
        if sent and interim:
            self.interim_begun = True
        elif sent and not self.answer_begun:
            self.answer_begun = True
            self.record.answer_at = trio.current_time()
        return sent

    @property
    def client_has_part(self) -> bool:
        """Whether the client has a part of something, behind which no other answer may follow."""
        return self.answer_begun or self.interim_begun

    @property
    def protocol(self) -> str:
        return self.tunnel.protocol if self.tunnel is not None else ""

    def notice_leaving(self, since: float) -> None:
        if self.tunnel is not None:
            self.tunnel.notice_leaving()
        else:
            super().notice_leaving(since)

    def interrupt(self, stopped: Stopped) -> None:
        if self.tunnel is not None:
            self.tunnel.stop(stopped)
        else:
            super().interrupt(stopped)

    async def reply(self, reply: Reply) -> None:
        """Send our own answer; the connection goes on only where the request has been read whole."""
        if self.head is None and self.plain_head:
            self.head = parse_request_head(self.plain_head)
        if self.head is None or not self.body.complete:
            self.keep_alive = False
        data = reply_bytes(
            reply,
            request=self.head,
            request_id=self.request_id,
            close=not self.keep_alive,
            date=self.service.http_date(),
            hsts=self.arrival.rules.hsts,
        )
        self.record.request_id = self.request_id.decode("ascii")
        self.record.status = reply.status
        self.record.fault = self.record.fault or reply.sentence
        try:
            await self.send(data)
        except (OSError, Interrupted):
            self.keep_alive = False
        else:
            self.record.bytes_down = len(data.partition(b"\r\n\r\n")[2])

    def answer_deadline(self) -> float:
        """Until when to wait for the backend's next bytes: not while the client still sends.

        The upload has deadlines of its own, and a client that is slow to ask must not make its
        backend look slow to answer. One that waits for 100 (Continue) is not slow, though.
        """
        if self.uploading and not self.client_waits:
            return NEVER
        return trio.current_time() + self.idle_s if self.head_due is None else self.head_due

    @property
    def client_waits(self) -> bool:
        """Whether the client holds its body back until it is told to go on (RFC 9110 10.1.1)."""
        return self.expects_continue and not self.continued

    def expect_head(self, response_s: float) -> None:
        """From now on the backend has `response_s` for its answer's head."""
        self.head_due = trio.current_time() + response_s

    def body_begun(self) -> None:
        """The client sends: now it is the upload that is waited for."""
        waits, self.continued = self.client_waits, True
        if waits and self.waiter.waiting and self.waiter.deadline == self.head_due:
            self.waiter.move_deadline(NEVER)

    def upload_failed(self, fault: Stopped) -> None:
        """End the attempt, unless its answer is already on its way: that is passed on whole."""
        if not self.answer_begun:
            self.upload_fault = fault
            self.waiter.interrupt(fault)

    def upload_ended(self, response_s: float) -> None:
        """From now on the backend has to answer in its own time."""
        self.uploading = False
        if self.head_due is not None:
            self.expect_head(response_s)
        if self.waiter.waiting and self.waiter.deadline == NEVER:
            self.waiter.move_deadline(self.answer_deadline())

    def answer_begins(self) -> None:
        """The head is there: what becomes of the upload no longer ends the attempt."""
        self.head_due = None
        if self.upload_fault is not None:
            self.waiter.withdraw(self.upload_fault)
