"""The head of an answer on its way down: judged, rewritten, and handed on with the body behind it.

What becomes of the body: `balancer.proxy.answer_body`.
"""

import trio

from balancer.core.fields import head_length_of, response_bytes
from balancer.core.framing import (
    CHUNKED,
    UNTIL_CLOSE,
    BodyKind,
    Framing,
    announces_body,
    downstream_framing,
    response_framing,
    wants_keep_alive,
)
from balancer.core.message import BadMessage, ResponseHead
from balancer.core.outcome import Failure, broke_before_answer, refuses_reuse
from balancer.core.upgrades import flaw_of
from balancer.proxy.answer_body import finish_down, pass_body, send_to_client, to_client
from balancer.proxy.exchange_state import Exchange
from balancer.proxy.faults import AttemptFailed, ended_by
from balancer.proxy.handover import AnswerBegun
from balancer.proxy.idle import UpstreamConnection
from balancer.proxy.tunnel import pass_tunnel
from balancer.wire.h11_heads import check_status_line, parse_response_head
from balancer.wire.streams import HeadSoFar, PeerClosed, receive_head
from balancer.wire.strict_heads import PlainResponse, forwarded_response, plain_response
from balancer.wire.waiting import Interrupted

# nginx reads an answer's head into 8 KiB; cookies and policies of real backends need more.
HEAD_BYTES_MAX = 64 * 1024
# 100, a few 103 and 102 while it works; more is a flood.
INTERIM_MAX = 16


async def pass_answer(exchange: Exchange, connection: UpstreamConnection) -> tuple[int, bool]:
    """Read the answer and send it to the client: its status, and whether `connection` may rest.

    Raises AttemptFailed; `exchange.answer_begun` says whether the client has seen a byte.
    """
    head = await _final_head(exchange, connection)
    if exchange.offer is not None and isinstance(head, ResponseHead) and head.switches:
        return await pass_tunnel(exchange, connection, head, exchange.offer), False
    if isinstance(head, PlainResponse):
        _refuse_stale(exchange, connection, head.status, stays=head.keep_alive)
        return await _pass_plain(exchange, connection, head)
    stays = wants_keep_alive(head.minor, head.fields)
    _refuse_stale(exchange, connection, head.status, stays=stays)
    return head.status, await _pass_other(exchange, connection, head) and stays


def _refuse_stale(
    exchange: Exchange, connection: UpstreamConnection, status: int, *, stays: bool
) -> None:
    after_s = trio.current_time() - exchange.asked_at
    if refuses_reuse(status, reused=connection.reused, closes=not stays, after_s=after_s):
        raise AttemptFailed(Failure.STALE)


async def _pass_other(
    exchange: Exchange, connection: UpstreamConnection, head: ResponseHead
) -> bool:
    """Pass an answer on; whether it was whole, and nothing came behind it."""
    method = exchange.record.method
    try:
        framing = response_framing(head, method)
    except BadMessage as exc:
        raise AttemptFailed(Failure.BAD_ANSWER, exc.sentence) from exc
    down = downstream_framing(framing, exchange.record.minor)
    _decide_keep_alive(exchange)
    exchange.keep_alive = exchange.keep_alive and down.kind is not BodyKind.UNTIL_CLOSE
    exchange.idle_s = exchange.pool.limits.idle_s
    exchange.answer_begins()
    exchange.record.status = head.status
    out = response_bytes(
        head,
        down,
        request_id=exchange.request_id,
        connection=_connection_option(exchange),
        head_length=head_length_of(head, method),
        panic=exchange.pool.snapshot.panic,
        # RFC 9110 6.6.1: who passes on an answer without a date says when it came.
        date=None if head.values(b"date") else exchange.service.http_date(),
        hsts=exchange.arrival.rules.hsts,
    )
    await pass_body(exchange, connection, out, framing, down)
    ends_clearly = framing.kind is not BodyKind.UNTIL_CLOSE and not announces_body(head)
    return ends_clearly and not connection.buffer


async def _pass_plain(
    exchange: Exchange, connection: UpstreamConnection, head: PlainResponse
) -> tuple[int, bool]:
    """The same for a plain answer to a plain request."""
    _decide_keep_alive(exchange)
    out = forwarded_response(
        head,
        exchange.request_id,
        connection=_connection_option(exchange),
        panic=exchange.pool.snapshot.panic,
        date=None if head.dated else exchange.service.http_date(),
        hsts=exchange.arrival.rules.hsts,
    )
    begun = AnswerBegun(head=head, out=out, content=0, left=head.length)
    return await pass_rest(exchange, connection, begun)


def _decide_keep_alive(exchange: Exchange) -> None:
    exchange.keep_alive = (
        exchange.keep_alive and exchange.body_sent and not exchange.service.draining
    )


async def pass_rest(
    exchange: Exchange, connection: UpstreamConnection, begun: AnswerBegun
) -> tuple[int, bool]:
    """The same for an answer whose head was plain, and of which the client may have a part."""
    head = begun.head
    exchange.idle_s = exchange.pool.limits.idle_s
    exchange.answer_begins()
    exchange.record.status = head.status
    out = begun.out
    if begun.content:
        await to_client(exchange, out, begun.content)
        out = b""
    left = begun.left
    if begun.splice is not None:
        left = await finish_down(exchange, begun.splice)
    framing = CHUNKED if head.chunked else Framing(BodyKind.LENGTH, left)
    await pass_body(exchange, connection, out, framing, framing)
    return head.status, head.keep_alive and not connection.buffer


def _connection_option(exchange: Exchange) -> bytes | None:
    if not exchange.keep_alive:
        return b"close"
    return b"keep-alive" if exchange.record.minor == 0 else None


async def _final_head(
    exchange: Exchange, connection: UpstreamConnection
) -> ResponseHead | PlainResponse:
    """Pass interim answers on and return the final one's head."""
    response_s = exchange.pool.limits.response_s
    began = exchange.asked_at
    exchange.head_due = began + response_s
    for _ in range(INTERIM_MAX):
        head = await _next_head(exchange, connection, began)
        if isinstance(head, PlainResponse):
            return head
        if head.switches and (flaw := flaw_of(head, exchange.offer)) is not None:
            raise AttemptFailed(Failure.BAD_ANSWER, flaw)
        if head.switches or not head.interim:
            return head
        if exchange.record.minor >= 1:
            interim = response_bytes(
                head,
                UNTIL_CLOSE,
                request_id=exchange.request_id,
                connection=None,
                head_length=None,
                panic=False,
            )
            await send_to_client(exchange, interim, interim=True)
            exchange.continued = True
        exchange.expect_head(response_s)
    raise AttemptFailed(Failure.BAD_ANSWER, f"more than {INTERIM_MAX} interim answers")


async def _next_head(
    exchange: Exchange, connection: UpstreamConnection, began: float
) -> ResponseHead | PlainResponse:
    buffer = connection.buffer
    head = HeadSoFar(buffer, limit=HEAD_BYTES_MAX, too_large=502, check_start=check_status_line)
    try:
        raw = await receive_head(
            connection.sock, exchange.waiter, buffer, head, exchange.answer_deadline
        )
        plain = None
        if exchange.plain_head:
            plain = plain_response(raw, exchange.record.method, HEAD_BYTES_MAX)
        return plain or parse_response_head(raw)
    except BadMessage as exc:
        raise AttemptFailed(Failure.BAD_ANSWER, exc.sentence) from exc
    except Interrupted as exc:
        waits = exchange.client_waits
        raise ended_by(exc, Failure.NO_CONTINUE if waits else Failure.RESPONSE_TIMEOUT) from exc
    except (OSError, PeerClosed) as exc:
        failure = broke_before_answer(
            reused=connection.reused,
            after_s=trio.current_time() - began,
            answer_bytes=len(buffer),
        )
        raise AttemptFailed(failure) from exc
