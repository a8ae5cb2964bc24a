"""One attempt: a connection to the backend, the request up, the answer down.

Where the whole request has come already, one task does it all. Only a body that still comes in is
sent by a second task, so that an early answer reaches the client while the body goes up.
"""

from collections.abc import Awaitable

import trio

from balancer.core.backend import BackendView
from balancer.core.fields import trailer_bytes
from balancer.core.outcome import broke_before_answer
from balancer.proxy.answer import pass_answer, pass_rest
from balancer.proxy.dialling import new_connection
from balancer.proxy.exchange_state import Exchange
from balancer.proxy.faults import AttemptFailed
from balancer.proxy.handover import Begun
from balancer.proxy.idle import UpstreamConnection
from balancer.proxy.upload import Upload
from balancer.wire.streams import send_now


async def run_attempt(exchange: Exchange, view: BackendView, rest_max_s: float) -> int:
    """Have the request answered by one backend; the answer's status once the client has it whole.

    A resting connection is used only if it rested at most `rest_max_s`. Raises AttemptFailed. The
    exchange holds the connection until it rests again; what it still holds is closed at the end of
    the attempt.
    """
    connection = await _connection_to(exchange, view, rest_max_s)
    return await _ended(exchange, connection, _talk(exchange, connection))


async def go_on(exchange: Exchange, begun: Begun, rest_max_s: float) -> int:
    """`run_attempt` for one that the plain path has begun, from where it stands."""
    connection = begun.connection
    if connection is None:
        return await run_attempt(exchange, begun.view, rest_max_s)
    return await _ended(exchange, connection, _go_on(exchange, begun, connection))


async def _ended(
    exchange: Exchange, connection: UpstreamConnection, talk: Awaitable[tuple[int, bool]]
) -> int:
    """The answer's status, and the connection put where it belongs."""
    status, reusable = await talk
    if reusable and exchange.pool.keeps_idle(connection.backend.address):
        exchange.upstream_sock = None
        exchange.service.idle.give(connection, exchange.pool.limits, trio.current_time())
    return status


async def _connection_to(
    exchange: Exchange, view: BackendView, rest_max_s: float
) -> UpstreamConnection:
    attempt = exchange.attempt
    assert attempt is not None, "an attempt was begun"
    now = attempt.began
    client = None if exchange.pool.limits.proxy_protocol is None else exchange.arrival
    idle = exchange.service.idle
    connection = idle.take(view.id, now, rest_max_s, client) if rest_max_s else None
    if connection is not None:
        exchange.upstream_sock = connection.sock
        attempt.reused = True
    else:
        attempt.reused = False
        connection = await new_connection(exchange, view, now)
        attempt.connected = trio.current_time()
    connection.requests += 1
    return connection


async def _talk(exchange: Exchange, connection: UpstreamConnection) -> tuple[int, bool]:
    """Send the request and pass its answer on: the status, and whether the connection may rest."""
    body = exchange.body
    first = exchange.upstream_head + body.encoded(body.restart())
    if body.complete and body.chunked:
        first += trailer_bytes(body.trailers)
    exchange.record.bytes_up = body.bytes_taken
    return await _send_first(exchange, connection, first)


async def _go_on(
    exchange: Exchange, begun: Begun, connection: UpstreamConnection
) -> tuple[int, bool]:
    if not begun.written:
        return await _send_first(exchange, connection, begun.unsent)
    exchange.written = True
    exchange.asked_at = begun.attempt.began
    if begun.unsent:
        exchange.uploading = True
        return await _talk_both_ways(
            exchange, connection, Upload(exchange, connection, begun.unsent)
        )
    exchange.body_sent = True
    if begun.answer is not None:
        return await pass_rest(exchange, connection, begun.answer)
    return await pass_answer(exchange, connection)


async def _send_first(
    exchange: Exchange, connection: UpstreamConnection, first: bytes
) -> tuple[int, bool]:
    body = exchange.body
    try:
        sent = send_now(connection.sock, first)
    except OSError as exc:
        failure = broke_before_answer(reused=connection.reused, after_s=0, answer_bytes=0)
        raise AttemptFailed(failure) from exc
    exchange.written = True
    if sent == len(first) and body.complete:
        upload = None
        exchange.body_sent = True
    else:
        upload = Upload(exchange, connection, first[sent:])
        exchange.body_sent = upload.send_arrived()
    exchange.asked_at = trio.current_time()
    if upload is None or exchange.body_sent:
        return await pass_answer(exchange, connection)
    exchange.uploading = True
    return await _talk_both_ways(exchange, connection, upload)


async def _talk_both_ways(
    exchange: Exchange, connection: UpstreamConnection, upload: Upload
) -> tuple[int, bool]:
    """The same with the rest of the request going up in a task of its own."""
    failed: AttemptFailed | None = None
    answered = (0, False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload.run)
        try:
            answered = await pass_answer(exchange, connection)
        except AttemptFailed as exc:
            failed = exc
        # An answer that is whole ends the exchange: what the client still sends is not waited for.
        nursery.cancel_scope.cancel()
    if failed is not None:
        raise failed
    status, reusable = answered
    if not exchange.body_sent:
        exchange.keep_alive = False
    return status, reusable and exchange.body_sent
