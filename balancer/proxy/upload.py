"""The rest of a request on its way up, in a task of its own: copied while it is kept, then moved.

Tells what breaks by side: the client's failures end the attempt, the backend's are told by its
answer or the lack of one.
"""

import trio

from balancer.core.fields import trailer_bytes
from balancer.core.outcome import Failure
from balancer.proxy.exchange_state import Exchange
from balancer.proxy.faults import AttemptFailed, Stopped, failure_behind, failure_of
from balancer.proxy.idle import UpstreamConnection
from balancer.wire.splice import SPLICE_BYTES_MIN, SinkBroke, SourceBroke, splice
from balancer.wire.streams import send
from balancer.wire.waiting import Interrupted, Waiter


async def upload(exchange: Exchange, connection: UpstreamConnection, rest: bytes) -> None:
    """Send `rest` and what the client still sends of the request; cancelled when it is answered.

    Raises nothing: `exchange` is told of the end.
    """
    waiter = Waiter(exchange.service.timekeeper)
    try:
        await _send_rest(exchange, connection, waiter, rest)
        exchange.body_sent = True
    except AttemptFailed as exc:
        exchange.upload_failed(Stopped(exc.failure, exc.detail))
    except Interrupted as exc:
        exchange.upload_failed(Stopped(failure_of(exc, Failure.SEND_STALLED)))
    except OSError:
        pass
    exchange.upload_ended(exchange.pool.limits.response_s)


async def _send_rest(
    exchange: Exchange, connection: UpstreamConnection, waiter: Waiter, rest: bytes
) -> None:
    body, idle_s = exchange.body, exchange.pool.limits.idle_s
    end_sent = body.complete
    if rest:
        await send(connection.sock, waiter, rest, idle_s)
    pause_s = exchange.service.limits.body_s
    if exchange.client_waits:
        pause_s += exchange.pool.limits.response_s  # the backend's time to say 100 comes first
    while piece := await body.next(waiter, pause_s):
        exchange.body_begun()
        pause_s = exchange.service.limits.body_s
        await send(connection.sock, waiter, body.encoded(piece), idle_s)
        exchange.record.bytes_up = body.bytes_taken
        if body.unkept >= SPLICE_BYTES_MIN:
            await _splice_rest(exchange, connection, waiter)
    if body.chunked and not end_sent:
        await send(connection.sock, waiter, trailer_bytes(body.trailers), idle_s)


async def _splice_rest(exchange: Exchange, connection: UpstreamConnection, waiter: Waiter) -> None:
    """Let the kernel move what need not be kept; where it cannot, leave it to the caller."""
    pipes = exchange.service.network.pipes(exchange.sock, connection.sock)
    if pipes is None:
        return
    body, record, pause_s = exchange.body, exchange.record, exchange.service.limits.body_s

    def passed(count: int) -> None:
        record.bytes_up += count

    try:
        left = await splice(
            exchange.sock,
            connection.sock,
            pipes,
            body.unkept,
            waiter,
            read_deadline=lambda: trio.current_time() + pause_s,
            write_s=exchange.pool.limits.idle_s,
            passed=passed,
        )
    except SourceBroke as exc:
        body.passed_by(exc.left)
        failure = failure_behind(
            exc.cause, timed_out=Failure.CLIENT_STALLED, broken=Failure.CLIENT_LEFT
        )
        raise AttemptFailed(failure) from exc
    except SinkBroke as exc:
        body.passed_by(exc.left)
        raise exc.cause from None
    body.passed_by(left)
