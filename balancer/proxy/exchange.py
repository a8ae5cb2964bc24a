"""One exchange: a request, the attempts to have it answered, and the answer.

Reads as the flow chart: route, pick, attempt, and either the answer has gone to the client, or the
failure is judged and the request is repeated elsewhere, or our own reply says what happened.
"""

from collections.abc import Awaitable

import trio

from balancer.core import outcome, retry
from balancer.core.backend import BackendView
from balancer.core.fields import refuse_loop, request_bytes
from balancer.core.forwarding import Hop, client_of, request_id_of
from balancer.core.framing import expects_continue, request_framing, wants_keep_alive
from balancer.core.message import IDEMPOTENT, BadMessage, RequestHead
from balancer.core.replies import Reply
from balancer.core.request_rules import canonical, ends_here
from balancer.core.routes import AmbiguousPath, NoRoute
from balancer.core.upgrades import offer_of, with_upgrade
from balancer.proxy.attempt import go_on, run_attempt
from balancer.proxy.exchange_state import Exchange
from balancer.proxy.faults import AttemptFailed
from balancer.proxy.handover import Begun
from balancer.proxy.pool import Pool
from balancer.proxy.request_body import RequestBody
from balancer.telemetry.record import AttemptRecord
from balancer.wire.h11_heads import parse_request_head
from healthcheck.core.verdict import Evidence

FINAL_RECIPIENT = Reply(
    status=200, sentence="answered here, as Max-Forwards says", proxy_error=None
)


async def serve_exchange(exchange: Exchange, raw: bytes) -> bool:
    """Answer the request whose head is `raw`; whether the connection may carry another one."""
    return await _noted(exchange, _answer(exchange, raw))


async def take_over(exchange: Exchange, begun: Begun) -> bool:
    """Go on with what the plain path has begun; whether the connection may carry another one."""
    return await _noted(exchange, _attempts(exchange, begun.request.idempotent, begun))


async def _noted(exchange: Exchange, flow: Awaitable[None]) -> bool:
    """The flow of an exchange, listed as running; whoever owns it ends it where this does not."""
    exchange.service.running[exchange.record.number] = exchange
    await flow
    exchange.over()
    return exchange.keep_alive


async def refuse(exchange: Exchange, status: int, sentence: str) -> None:
    """Answer what came instead of a request head."""
    await exchange.reply(Reply(status=status, sentence=sentence))
    exchange.over()


async def apologise(exchange: Exchange) -> bool:
    """End an exchange in which we crashed; whether that could be told as its answer."""
    if exchange.is_over:
        return False
    crashed = outcome.Failure.CRASHED
    consequence = outcome.CONSEQUENCES[crashed]
    record = exchange.record
    record.fault = crashed.value
    record.status = record.status or consequence.status
    exchange.end_attempt(Evidence.IGNORED, crashed.value)
    record.request_id = exchange.request_id.decode("ascii")
    tells = not exchange.client_has_part
    if tells:
        exchange.keep_alive = False
        sentence, proxy_error = crashed.value, consequence.proxy_error
        await exchange.reply(
            Reply(status=consequence.status, sentence=sentence, proxy_error=proxy_error)
        )
    exchange.over()
    return tells


async def _answer(exchange: Exchange, raw: bytes) -> None:
    try:
        head = _understand(exchange, raw)
        exchange.body.take_arrived()
        refusal = exchange.arrival.refusal(head, exchange.record.host)
        if refusal is not None:
            await exchange.reply(refusal)
            return
        if ends_here(head):
            await exchange.reply(FINAL_RECIPIENT)
            return
        pool = _route(exchange, head)
    except BadMessage as exc:
        exchange.keep_alive = False
        await exchange.reply(
            Reply(status=exc.status, sentence=exc.sentence, proxy_error=exc.proxy_error)
        )
        return
    if pool is None:
        await exchange.reply(
            Reply(
                status=404,
                sentence="no route for this host and path",
                proxy_error="destination_not_found",
            )
        )
        return
    exchange.pool = pool
    exchange.offer = offer_of(head, exchange.body.framing, pool.limits.tunnels.protocols)
    if exchange.offer is not None:
        exchange.upstream_head = with_upgrade(exchange.upstream_head, exchange.offer.protocol)
    await _attempts(exchange, head.method in IDEMPOTENT, None)


def _understand(exchange: Exchange, raw: bytes) -> RequestHead:
    limits = exchange.service.limits
    limits.check_fields(raw)
    sent = parse_request_head(raw, limits.fields_max)
    limits.check_target(sent.target)
    head, host = canonical(sent, secure=exchange.arrival.terminator is not None)
    exchange.head = head
    framing = request_framing(head)
    record = exchange.record
    record.method, record.target, record.minor = head.method, head.target, head.minor
    record.host = host or ""
    service, peer = exchange.service, exchange.arrival.client
    trusted = service.trusts(peer)
    record.client = client_of(head, peer, service.trusts)
    exchange.request_id = request_id_of(head, trusted=trusted, made=exchange.made_id)
    record.request_id = exchange.request_id.decode("ascii")
    exchange.keep_alive = (
        wants_keep_alive(head.minor, head.fields)
        and not exchange.service.draining
        and record.began < exchange.leaves_at
    )
    refuse_loop(head, service.fields.pseudonym)
    exchange.expects_continue = expects_continue(head, framing)
    limits.check_body(framing.length)
    exchange.body = RequestBody(exchange.buffer, framing, limits)
    hop = _hop(exchange, host, trusted=trusted)
    exchange.upstream_head = request_bytes(head, framing, hop, service.fields)
    return head


def _hop(exchange: Exchange, host: str | None, *, trusted: bool) -> Hop:
    arrival = exchange.arrival
    return Hop(
        peer=arrival.client.encode("ascii", "replace"),
        client=exchange.record.client.encode("ascii", "replace"),
        trusted=trusted,
        scheme=arrival.scheme,
        # HTTP/1.0 may name no host: then it is the address that the client connected to.
        host=(host or arrival.local).encode("latin-1"),
        request_id=exchange.request_id,
        certificate=arrival.certificate,
    )


def _route(exchange: Exchange, head: RequestHead) -> Pool | None:
    found = exchange.service.routes.match(exchange.record.host or None, head.target)
    if isinstance(found, AmbiguousPath):
        raise BadMessage(400, "the path has a second reading that leads elsewhere")
    if isinstance(found, NoRoute):
        return None
    exchange.record.pool = found
    return exchange.service.pools[found]


async def _attempts(exchange: Exchange, idempotent: bool, begun: Begun | None) -> None:
    """One attempt after the other; the first of them may have begun already."""
    tried: set[str] = set()
    written_attempts = 0
    while True:
        if begun is None:
            view = exchange.pool.pick(avoid=tried, unrepeatable=not idempotent)
            if view is None:
                await _no_backend(exchange)
                return
            attempt = AttemptRecord(backend=view.id.address, began=trio.current_time())
            exchange.begin_attempt(view, attempt)
            exchange.record.attempts.append(attempt)
        else:
            view = begun.view
        rest_max_s = 0.0 if tried else retry.rest_limit(idempotent)
        failed = await _attempt(exchange, view, rest_max_s, begun)
        begun = None
        if failed is None:
            return
        written_attempts += retry.counts(failed.failure, written=exchange.written)
        tried.add(view.id.address)
        why_not = retry.refusal(
            retry.Attempted(
                failure=failed.failure,
                written=exchange.written,
                answer_begun=exchange.client_has_part,
                idempotent=idempotent,
                replayable=exchange.body.replayable,
                attempts=len(exchange.record.attempts),
                written_attempts=written_attempts,
                choices=len(exchange.pool.snapshot.candidates),
            )
        )
        if why_not is not None:
            await _give_up(exchange, failed, why_not)
            return


async def _attempt(
    exchange: Exchange, view: BackendView, rest_max_s: float, begun: Begun | None
) -> AttemptFailed | None:
    """One attempt on a backend that was picked, counted until its answer has gone or failed."""
    exchange.written = exchange.body_sent = exchange.uploading = False
    exchange.upload_fault = None
    evidence, reason = Evidence.IGNORED, "cancelled"
    try:
        if begun is not None:
            status = await go_on(exchange, begun, rest_max_s)
        else:
            status = await run_attempt(exchange, view, rest_max_s)
        evidence, reason = outcome.evidence_of_status(status), f"status {status}"
        if exchange.tunnel is not None:
            reason = exchange.tunnel.told
    except AttemptFailed as exc:
        evidence = outcome.CONSEQUENCES[exc.failure].evidence
        reason = f"{exc.failure.value}: {exc.detail}" if exc.detail else exc.failure.value
        return exc
    except Exception:
        reason = outcome.Failure.CRASHED.value
        raise
    finally:
        exchange.end_attempt(evidence, reason)
    return None


async def _no_backend(exchange: Exchange) -> None:
    why = exchange.pool.why_none()
    exchange.record.fault = why.told
    await exchange.reply(
        Reply(
            status=503,
            sentence=f"{why.told}; try again later",
            proxy_error="destination_unavailable",
            retry_after_s=exchange.pool.limits.retry_after_s,
        )
    )


async def _give_up(exchange: Exchange, failed: AttemptFailed, why_not: str) -> None:
    consequence = outcome.CONSEQUENCES[failed.failure]
    said = failed.failure.value + (f": {failed.detail}" if failed.detail else "")
    exchange.record.fault = f"{said}; not repeated: {why_not}"
    if exchange.client_has_part or outcome.client_is_gone(failed.failure):
        exchange.keep_alive = False
        exchange.broken = True
        exchange.record.status = exchange.record.status or consequence.status
        return
    tries = len(exchange.record.attempts)
    told = outcome.told_to_client(failed.failure, failed.detail)
    after = "" if tries == 1 else f" after {tries} attempts"
    await exchange.reply(
        Reply(
            status=consequence.status,
            sentence=f"{told}{after}; not repeated: {why_not}",
            proxy_error=consequence.proxy_error,
            retry_after_s=exchange.pool.limits.retry_after_s,
        )
    )
