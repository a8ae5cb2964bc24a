"""One exchange: a request, the attempts to have it answered, and the answer.

Reads as the flow chart: route, pick, attempt, and either the answer has gone to the client, or the
failure is judged and the request is repeated elsewhere, or our own reply says what happened.
"""

import trio

from balancer.core import outcome, retry
from balancer.core.backend import BackendView
from balancer.core.fields import Hop, request_bytes, request_id_of
from balancer.core.framing import NO_BODY, request_framing, wants_keep_alive
from balancer.core.message import IDEMPOTENT, BadMessage, RequestHead
from balancer.core.outcome import Failure
from balancer.core.replies import Reply, reply_bytes
from balancer.core.request_rules import canonical
from balancer.core.routes import AmbiguousPath, NoRoute
from balancer.proxy.attempt import run_attempt
from balancer.proxy.faults import AttemptFailed, Stopped
from balancer.proxy.pool import Pool
from balancer.proxy.request_body import RequestBody
from balancer.proxy.service import Service
from balancer.telemetry.record import AttemptRecord, ExchangeRecord
from balancer.wire.h11_heads import parse_request_head
from balancer.wire.network import Sock
from balancer.wire.streams import send
from balancer.wire.waiting import NEVER, Interrupted, Waiter
from healthcheck.core.verdict import Evidence


class Exchange:
    """The state of one exchange; lives in the service's `running` while it lasts."""

    def __init__(
        self,
        service: Service,
        sock: Sock,
        buffer: bytearray,
        waiter: Waiter,
        client: str,
        *,
        local: str,
        began: float,
    ) -> None:
        self.service = service
        self.sock = sock
        self.buffer = buffer
        self.waiter = waiter
        self.local = local
        service.exchanges += 1
        self.record = ExchangeRecord(
            number=service.exchanges,
            request_id="",
            client=client,
            began=began,
            head_at=trio.current_time(),
        )
        self.made_id = service.new_request_id()
        self.request_id = self.made_id
        self.head: RequestHead | None = None
        self.keep_alive = False
        self.upstream_head = b""
        self.written = False
        self.answer_begun = False
        self.broken = False
        self.body_sent = False
        self.uploading = False
        self.answer_wait_s = 0.0
        self.backend: BackendView | None = None
        self.pool: Pool
        self.body = RequestBody(sock, buffer, NO_BODY)

    async def run(self, raw: bytes) -> bool:
        """Answer the request whose head is `raw`; whether the connection may carry another one."""
        number = self.record.number
        self.service.running[number] = self
        try:
            await self._answer(raw)
        finally:
            del self.service.running[number]
            self.record.ended = trio.current_time()
            self.service.access(self.record)
        return self.keep_alive

    async def refuse(self, status: int, sentence: str) -> None:
        """Answer what came instead of a request head."""
        try:
            await self.reply(Reply(status=status, sentence=sentence))
        finally:
            self.record.ended = trio.current_time()
            self.service.access(self.record)

    async def _answer(self, raw: bytes) -> None:
        try:
            head = self._understand(raw)
            pool = self._route(head)
            self.body.take_arrived()
        except BadMessage as exc:
            self.keep_alive = False
            await self.reply(Reply(status=exc.status, sentence=exc.sentence))
            return
        if pool is None:
            await self.reply(Reply(status=404, sentence="no route for this host and path"))
            return
        self.pool = pool
        await self._attempts(head)

    def _understand(self, raw: bytes) -> RequestHead:
        head, host = canonical(parse_request_head(raw))
        self.head = head
        framing = request_framing(head)
        record = self.record
        record.method, record.target, record.minor = head.method, head.target, head.minor
        record.host = host or ""
        trusted = self.service.trusts(record.client)
        self.request_id = request_id_of(head, trusted=trusted, made=self.made_id)
        record.request_id = self.request_id.decode("ascii")
        self.keep_alive = wants_keep_alive(head.minor, head.fields) and not self.service.draining
        self.body = RequestBody(self.sock, self.buffer, framing)
        hop = Hop(
            client=record.client.encode("ascii", "replace"),
            trusted=trusted,
            scheme=b"http",
            # HTTP/1.0 may name no host: then it is the address that the client connected to.
            host=(host or self.local).encode("latin-1"),
            request_id=self.request_id,
        )
        self.upstream_head = request_bytes(head, framing, hop)
        return head

    def _route(self, head: RequestHead) -> Pool | None:
        found = self.service.routes.match(self.record.host or None, head.target)
        if isinstance(found, AmbiguousPath):
            raise BadMessage(400, "the path has a second reading that leads elsewhere")
        if isinstance(found, NoRoute):
            return None
        self.record.pool = found
        return self.service.pools[found]

    async def _attempts(self, head: RequestHead) -> None:
        idempotent = head.method in IDEMPOTENT
        tried: set[str] = set()
        written_attempts = 0
        while True:
            view = self.pool.pick(avoid=tried, unrepeatable=not idempotent)
            if view is None:
                await self._no_backend()
                return
            failed = await self._attempt(view, fresh=bool(tried), idempotent=idempotent)
            if failed is None:
                return
            written_attempts += self.written
            tried.add(view.id.address)
            why_not = retry.refusal(
                retry.Attempted(
                    failure=failed.failure,
                    written=self.written,
                    answer_begun=self.answer_begun,
                    idempotent=idempotent,
                    replayable=self.body.replayable,
                    attempts=len(self.record.attempts),
                    written_attempts=written_attempts,
                    choices=len(self.pool.snapshot.candidates),
                )
            )
            if why_not is not None:
                await self._give_up(failed, why_not)
                return

    async def _attempt(
        self, view: BackendView, *, fresh: bool, idempotent: bool
    ) -> AttemptFailed | None:
        """One attempt on a backend that was picked, counted until its answer has gone or failed."""
        attempt = AttemptRecord(backend=view.id.address, began=trio.current_time())
        self.record.attempts.append(attempt)
        self.backend = view
        self.written = self.body_sent = self.uploading = False
        evidence, reason = Evidence.IGNORED, "cancelled"
        rest_max_s = 0.0 if fresh else retry.rest_limit(idempotent)
        try:
            status = await run_attempt(self, view, attempt, rest_max_s)
            evidence, reason = outcome.evidence_of_status(status), f"status {status}"
        except AttemptFailed as exc:
            evidence = outcome.CONSEQUENCES[exc.failure].evidence
            reason = f"{exc.failure.value}: {exc.detail}" if exc.detail else exc.failure.value
            return exc
        finally:
            self.backend = None
            self.answer_wait_s = 0.0
            self.waiter.calm()
            attempt.outcome = reason
            attempt.ended = trio.current_time()
            self.pool.end(view.id.address)
            self.pool.record(view.id, evidence, reason, attempt.began)
        return None

    async def _no_backend(self) -> None:
        why = self.pool.why_none()
        self.record.fault = why.value
        await self.reply(
            Reply(
                status=503,
                sentence=f"{why.value}; try again later",
                proxy_error="destination_unavailable",
                retry_after_s=self.pool.limits.retry_after_s,
            )
        )

    async def _give_up(self, failed: AttemptFailed, why_not: str) -> None:
        consequence = outcome.CONSEQUENCES[failed.failure]
        self.record.fault = f"{failed.failure.value}; not repeated: {why_not}"
        if self.answer_begun or outcome.client_is_gone(failed.failure):
            self.keep_alive = False
            self.broken = True
            self.record.status = self.record.status or consequence.status
            return
        tries = len(self.record.attempts)
        told = failed.detail or failed.failure.value
        after = "" if tries == 1 else f" after {tries} attempts"
        await self.reply(
            Reply(
                status=consequence.status,
                sentence=f"{told}{after}; not repeated: {why_not}",
                proxy_error=consequence.proxy_error,
                retry_after_s=self.pool.limits.retry_after_s if consequence.status == 503 else None,
            )
        )

    async def reply(self, reply: Reply) -> None:
        """Send our own answer; the connection goes on only where the request has been read whole."""
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
        backend look slow to answer.
        """
        return NEVER if self.uploading else trio.current_time() + self.answer_wait_s

    def upload_ended(self) -> None:
        """From now on the backend has to answer in its own time."""
        self.uploading = False
        if self.waiter.waiting and self.waiter.deadline == NEVER:
            self.waiter.move_deadline(self.answer_deadline())

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
