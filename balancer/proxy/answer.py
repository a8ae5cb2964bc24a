"""The answer on its way down: its head judged and rewritten, its body passed on as it comes.

Never holds more than one read of the body. What breaks is told apart by side: the backend's fault
is BODY_CUT or BODY_STALLED, the client's is CLIENT_LEFT or CLIENT_STALLED.
"""

import trio

from balancer.core.fields import head_length_of, response_bytes, trailer_bytes
from balancer.core.framing import (
    CHUNKED,
    UNTIL_CLOSE,
    BodyKind,
    Framing,
    downstream_framing,
    response_framing,
    wants_keep_alive,
)
from balancer.core.message import BadMessage, ResponseHead
from balancer.core.outcome import Failure, broke_before_answer, refuses_reuse
from balancer.proxy.exchange_state import Exchange
from balancer.proxy.faults import AttemptFailed, failure_of
from balancer.proxy.handover import AnswerBegun
from balancer.proxy.idle import UpstreamConnection
from balancer.wire.chunks import ChunkReader, chunk
from balancer.wire.h11_heads import parse_response_head
from balancer.wire.streams import PeerClosed, cut, receive, receive_head, send
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
    if refuses_reuse(
        head.status,
        reused=connection.reused,
        closes=not wants_keep_alive(head.minor, head.fields),
        after_s=trio.current_time() - exchange.asked_at,
    ):
        raise AttemptFailed(Failure.STALE)
    method = exchange.record.method
    try:
        framing = response_framing(head, method)
    except BadMessage as exc:
        raise AttemptFailed(Failure.BAD_ANSWER, exc.sentence) from exc
    down = downstream_framing(framing, exchange.record.minor)
    exchange.keep_alive = (
        exchange.keep_alive
        and exchange.body_sent
        and down.kind is not BodyKind.UNTIL_CLOSE
        and not exchange.service.draining
    )
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
    )
    await _pass_body(exchange, connection, out, framing, down)
    whole = framing.kind is not BodyKind.UNTIL_CLOSE and not connection.buffer
    return head.status, whole and wants_keep_alive(head.minor, head.fields)


async def pass_rest(
    exchange: Exchange, connection: UpstreamConnection, begun: AnswerBegun
) -> tuple[int, bool]:
    """The same for an answer whose head was plain, and of which the client may have a part."""
    head = begun.head
    exchange.idle_s = exchange.pool.limits.idle_s
    exchange.answer_begun = exchange.record.answer_at is not None
    exchange.answer_begins()
    exchange.record.status = head.status
    out = begun.out
    if begun.content:
        await _to_client(exchange, out, begun.content)
        out = b""
    framing = CHUNKED if head.chunked else Framing(BodyKind.LENGTH, begun.left)
    await _pass_body(exchange, connection, out, framing, framing)
    return head.status, head.keep_alive and not connection.buffer


def _connection_option(exchange: Exchange) -> bytes | None:
    if not exchange.keep_alive:
        return b"close"
    return b"keep-alive" if exchange.record.minor == 0 else None


async def _final_head(exchange: Exchange, connection: UpstreamConnection) -> ResponseHead:
    """Pass interim answers on and return the final one's head."""
    response_s = exchange.pool.limits.response_s
    began = exchange.asked_at
    exchange.head_due = began + response_s
    for _ in range(INTERIM_MAX):
        head = await _next_head(exchange, connection, began)
        if head.switches:
            raise AttemptFailed(Failure.BAD_ANSWER, "it switched protocols though nobody asked")
        if not head.interim:
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
            await _send_to_client(exchange, interim)
            exchange.continued = True
        exchange.expect_head(response_s)
    raise AttemptFailed(Failure.BAD_ANSWER, f"more than {INTERIM_MAX} interim answers")


async def _next_head(
    exchange: Exchange, connection: UpstreamConnection, began: float
) -> ResponseHead:
    buffer = connection.buffer
    try:
        raw = await receive_head(
            connection.sock,
            exchange.waiter,
            buffer,
            limit=HEAD_BYTES_MAX,
            deadline=exchange.answer_deadline,
            too_large=502,
        )
        return parse_response_head(raw)
    except BadMessage as exc:
        raise AttemptFailed(Failure.BAD_ANSWER, exc.sentence) from exc
    except Interrupted as exc:
        raise AttemptFailed(failure_of(exc, Failure.RESPONSE_TIMEOUT)) from exc
    except (OSError, PeerClosed) as exc:
        failure = broke_before_answer(
            reused=connection.reused,
            after_s=trio.current_time() - began,
            answer_bytes=len(buffer),
        )
        raise AttemptFailed(failure) from exc


async def _pass_body(
    exchange: Exchange,
    connection: UpstreamConnection,
    out: bytes,
    framing: Framing,
    down: Framing,
) -> None:
    """Send the head `out` and then the body, the head with what has come of the body already."""
    try:
        if framing.kind is BodyKind.CHUNKED:
            await _pass_chunks(exchange, connection, out, down)
        elif framing.kind is BodyKind.UNTIL_CLOSE:
            await _pass_until_close(exchange, connection, out, down)
        else:
            await _pass_length(exchange, connection, out, framing.length)
    except BaseException:
        if down.kind is BodyKind.UNTIL_CLOSE and exchange.answer_begun:
            # Only a reset tells this client that what it has is not the whole.
            cut(exchange.sock)
        raise


async def _pass_length(
    exchange: Exchange, connection: UpstreamConnection, out: bytes, left: int
) -> None:
    buffer = connection.buffer
    piece = bytes(buffer[:left])
    del buffer[: len(piece)]
    left -= len(piece)
    await _to_client(exchange, out + piece, len(piece))
    while left:
        piece = await _from_backend(exchange, connection)
        if not piece:
            raise AttemptFailed(Failure.BODY_CUT)
        if len(piece) > left:
            buffer += piece[left:]
            piece = piece[:left]
        left -= len(piece)
        await _to_client(exchange, piece, len(piece))


async def _pass_chunks(
    exchange: Exchange, connection: UpstreamConnection, out: bytes, down: Framing
) -> None:
    reader = ChunkReader()
    chunked = down.kind is BodyKind.CHUNKED
    while True:
        try:
            piece = reader.take(connection.buffer)
        except BadMessage as exc:
            # Nothing of it shown yet: still to be hidden behind another backend's answer.
            failure = Failure.BODY_CUT if exchange.answer_begun else Failure.BAD_ANSWER
            raise AttemptFailed(failure, exc.sentence) from exc
        if piece:
            out += chunk(piece) if chunked else piece
        if reader.done and chunked:
            out += trailer_bytes(reader.trailers)
        if out:
            await _to_client(exchange, out, len(piece))
            out = b""
        if reader.done:
            return
        if not reader.hungry:
            continue
        arrived = await _from_backend(exchange, connection)
        if not arrived:
            raise AttemptFailed(Failure.BODY_CUT)
        connection.buffer += arrived


async def _pass_until_close(
    exchange: Exchange, connection: UpstreamConnection, out: bytes, down: Framing
) -> None:
    chunked = down.kind is BodyKind.CHUNKED
    piece = bytes(connection.buffer)
    connection.buffer.clear()
    if piece:
        out += chunk(piece) if chunked else piece
    await _to_client(exchange, out, len(piece))
    while piece := await _from_backend(exchange, connection):
        await _to_client(exchange, chunk(piece) if chunked else piece, len(piece))
    if chunked:
        await _to_client(exchange, trailer_bytes(()))


async def _from_backend(exchange: Exchange, connection: UpstreamConnection) -> bytes:
    try:
        return await receive(connection.sock, exchange.waiter, exchange.answer_deadline())
    except Interrupted as exc:
        raise AttemptFailed(failure_of(exc, Failure.BODY_STALLED)) from exc
    except OSError as exc:
        raise AttemptFailed(Failure.BODY_CUT) from exc


async def _to_client(exchange: Exchange, data: bytes, content: int = 0) -> None:
    if not exchange.answer_begun:
        exchange.answer_begun = True
        exchange.record.answer_at = trio.current_time()
    await _send_to_client(exchange, data)
    exchange.record.bytes_down += content


async def _send_to_client(exchange: Exchange, data: bytes) -> None:
    try:
        await send(exchange.sock, exchange.waiter, data, exchange.service.limits.body_s)
    except Interrupted as exc:
        raise AttemptFailed(failure_of(exc, Failure.CLIENT_STALLED)) from exc
    except OSError as exc:
        raise AttemptFailed(Failure.CLIENT_LEFT) from exc
