"""The rest of a request on its way up: copied while it is kept for a repeat, then moved by the kernel.

Tells what breaks by side: the client's failures end the attempt, the backend's are told by its
answer or the lack of one.
"""

import trio

from balancer.core.fields import trailer_bytes
from balancer.core.outcome import Failure
from balancer.proxy.exchange_state import Exchange
from balancer.proxy.faults import AttemptFailed, Stopped, ended_behind, ended_by
from balancer.proxy.idle import UpstreamConnection
from balancer.wire.pacing import Paced
from balancer.wire.splice import SinkBroke, SourceBroke, Splice, Stand, finish, splice_between
from balancer.wire.streams import send
from balancer.wire.waiting import Interrupted, Waiter


class Upload:
    """What has not gone up yet: `rest`, and what the client still sends; `run` sends it all."""

    def __init__(self, exchange: Exchange, connection: UpstreamConnection, rest: bytes) -> None:
        self._exchange = exchange
        service = exchange.service
        pace = service.limits.upload_pace()
        pace.waited(exchange.body.waited_s)
        self._source = Paced(service.network, exchange.sock, pace)
        self._connection = connection
        self._rest = rest
        self._splice: Splice | None = None
        self._sink_broke = False

    def send_arrived(self) -> bool:
        """Send what the kernel can move without a wait; whether that was all. AttemptFailed.

        A large body has often come by the time its head is read. Then there is no need of a task.
        """
        splice = None if self._rest else self._new_splice()
        if splice is None:
            return False
        self._exchange.body_begun()
        try:
            stand = splice.go_on()
        except SourceBroke as exc:
            raise self._client_broke(exc) from exc
        except SinkBroke:
            self._sink_broke = True
            return False
        finally:
            # Also what was lost in the pipe is gone from the client's connection.
            self._exchange.body.passed_by(splice.left)
        if stand is not Stand.OVER:
            self._splice = splice
            self._exchange.splices.append(splice)
        return self._exchange.body.complete

    async def run(self) -> None:
        """Send all of it, as a task beside the answer's; cancelled when the answer is whole.

        Raises nothing: the exchange is told of the end.
        """
        exchange = self._exchange
        waiter = Waiter(exchange.service.timekeeper)
        try:
            if not self._sink_broke:
                await self._send_rest(waiter)
                exchange.body_sent = True
        except AttemptFailed as exc:
            exchange.upload_failed(Stopped(exc.failure, exc.detail))
        except Interrupted as exc:
            failed = ended_by(exc, Failure.SEND_STALLED)
            exchange.upload_failed(Stopped(failed.failure, failed.detail))
        except OSError:
            pass
        exchange.upload_ended(exchange.pool.limits.response_s)

    async def _send_rest(self, waiter: Waiter) -> None:
        exchange, sock = self._exchange, self._connection.sock
        body, idle_s = exchange.body, exchange.pool.limits.idle_s
        end_sent = body.complete
        if self._rest:
            await send(sock, waiter, self._rest, idle_s)
        await self._finish_splice(waiter)
        # The backend's time to say 100 comes first.
        grace_s = exchange.pool.limits.response_s if exchange.client_waits else 0.0
        while piece := await body.next(self._source, waiter, grace_s=grace_s):
            exchange.body_begun()
            grace_s = 0.0
            await send(sock, waiter, body.encoded(piece), idle_s)
            exchange.record.bytes_up = body.bytes_taken
            self._splice = self._new_splice()
            await self._finish_splice(waiter)
        if body.chunked and not end_sent:
            await send(sock, waiter, trailer_bytes(body.trailers), idle_s)

    def _new_splice(self) -> Splice | None:
        exchange = self._exchange
        return splice_between(
            exchange.service.network,
            exchange.sock,
            self._connection.sock,
            exchange.body.unkept,
            exchange.record.count_up,
        )

    async def _finish_splice(self, waiter: Waiter) -> None:
        """Bring the transfer under way to its end; what it could not move is for the caller."""
        exchange, splice = self._exchange, self._splice
        if splice is None:
            return
        left, idle_s = splice.left, exchange.pool.limits.idle_s

        async def client_ready() -> None:
            nonlocal left
            passed, left = left - splice.left, splice.left
            self._source.pace.moved(passed)
            await self._source.readable(waiter)

        try:
            await finish(
                splice,
                waiter,
                source_ready=client_ready,
                sink_ready=lambda: waiter.writable(splice.sink, trio.current_time() + idle_s),
            )
        except SourceBroke as exc:
            raise self._client_broke(exc) from exc
        except SinkBroke as exc:
            raise exc.cause from None
        finally:
            exchange.body.passed_by(splice.left)
            self._splice = None

    def _client_broke(self, broke: SourceBroke) -> AttemptFailed:
        return ended_behind(
            broke.cause,
            timed_out=Failure.CLIENT_STALLED,
            broken=Failure.CLIENT_LEFT,
            detail=self._exchange.service.limits.sends_too_slowly(),
        )
