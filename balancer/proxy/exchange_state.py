"""The state of one exchange: what is known, what has been done, and until when to wait.

Decides nothing about the flow; `balancer.proxy.exchange` does. Lives outside every wait, so that an
interruption loses nothing of it.
"""

import trio

from balancer.core.backend import BackendView
from balancer.core.framing import NO_BODY
from balancer.core.message import RequestHead
from balancer.core.outcome import Failure
from balancer.core.replies import Reply, reply_bytes
from balancer.proxy.arrival import Arrival
from balancer.proxy.faults import Stopped
from balancer.proxy.pool import Pool
from balancer.proxy.request_body import RequestBody
from balancer.proxy.service import Service
from balancer.telemetry.record import ExchangeRecord
from balancer.wire.h11_heads import parse_request_head
from balancer.wire.network import Sock
from balancer.wire.streams import send
from balancer.wire.waiting import NEVER, Interrupted, Waiter

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
        self.upstream_head = b""
        self.written = False
        self.answer_begun = False
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
        self.backend: BackendView | None = None
        self.pool: Pool
        self.body = RequestBody(sock, buffer, NO_BODY)

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
        )
        self.record.request_id = self.request_id.decode("ascii")
        self.record.status = reply.status
        self.record.fault = self.record.fault or reply.sentence
        self.record.answer_at = trio.current_time()
        self.answer_begun = True
        try:
            await send(self.sock, self.waiter, data, self.service.limits.body_s)
        except (OSError, Interrupted):
            self.keep_alive = False
        else:
            self.record.bytes_down = len(data)

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
