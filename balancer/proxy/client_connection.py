"""One client connection: request after request, in order, until one side has had enough."""

import contextlib

import trio

from balancer.core.message import BadMessage
from balancer.core.outcome import CONSEQUENCES, Failure
from balancer.core.replies import Reply
from balancer.proxy.exchange import refuse, serve_exchange
from balancer.proxy.exchange_state import Exchange
from balancer.proxy.service import Service
from balancer.wire.network import Sock
from balancer.wire.streams import PeerClosed, linger, receive, receive_head
from balancer.wire.waiting import Interrupted, Waiter

# One is usual; more in pieces is somebody playing.
EMPTY_LINES_MAX = 16


class ClientConnection:
    """Owns the client's socket; `serve` closes it however it ends."""

    def __init__(self, service: Service, sock: Sock, client: str, local: str) -> None:
        self._service = service
        self._sock = sock
        self._client = client
        self._local = local
        self._waiter = Waiter(service.timekeeper)
        self._buffer = bytearray()
        self._exchange: Exchange | None = None

    async def serve(self) -> None:
        """Answer requests until the connection ends. A crash in here ends this connection only."""
        self._service.connections += 1
        try:
            if await self._serve_requests():
                self._waiter.calm()
                await linger(self._sock, self._waiter)
        except Exception as exc:  # noqa: BLE001 - the wall between connections
            await self._crashed(exc)
        finally:
            self._service.connections -= 1
            self._sock.close()

    async def _serve_requests(self) -> bool:
        """Whether the client should be given time to read our last words."""
        while await self._first_bytes():
            began = trio.current_time()
            exchange = Exchange(
                self._service,
                self._sock,
                self._buffer,
                self._waiter,
                self._client,
                local=self._local,
                began=began,
            )
            self._exchange = exchange
            try:
                raw = await self._head(began)
            except BadMessage as exc:
                await refuse(exchange, exc.status, exc.sentence)
                return True
            except (OSError, PeerClosed):
                return False
            if not await serve_exchange(exchange, raw):
                return not exchange.broken
            self._exchange = None
        return False

    async def _first_bytes(self) -> bool:
        """Rest until the next request begins; False when there will be none.

        Empty lines before a request line are forgiven, a few of them (RFC 9112 2.2), and are no
        request: old clients end a body with one too many.
        """
        for _ in range(EMPTY_LINES_MAX):
            while self._buffer[:2] == b"\r\n":
                del self._buffer[:2]
            if self._buffer and self._buffer != b"\r":
                return True
            arrived = await self._resting()
            if not arrived:
                return False
            self._buffer += arrived
        return True

    async def _resting(self) -> bytes:
        resting = self._service.resting
        resting.add(self._waiter)
        try:
            return await self._rest()
        finally:
            resting.discard(self._waiter)
            self._waiter.calm()

    async def _rest(self) -> bytes:
        deadline = trio.current_time() + self._service.limits.idle_s
        try:
            return await receive(self._sock, self._waiter, deadline)
        except Interrupted:
            pass
        except OSError:
            return b""
        # What came while the wait was ended is still served.
        try:
            return self._sock.recv(self._service.limits.head_bytes_max)
        except OSError:
            return b""

    async def _head(self, began: float) -> bytes:
        limits = self._service.limits
        deadline = began + limits.header_s
        try:
            return await receive_head(
                self._sock,
                self._waiter,
                self._buffer,
                limit=limits.head_bytes_max,
                deadline=lambda: deadline,
                too_large=431,
            )
        except Interrupted:
            raise BadMessage(408, f"no whole request head within {limits.header_s:g} s") from None
        except BadMessage as exc:
            if b"\n" not in self._buffer and len(self._buffer) > limits.head_bytes_max:
                raise BadMessage(414, "the request target is too long") from exc
            raise

    async def _crashed(self, exc: Exception) -> None:
        exchange = self._exchange
        self._service.crashed(exchange.request_id.decode() if exchange else "", exc)
        if exchange is not None and not exchange.answer_begun:
            crashed = CONSEQUENCES[Failure.CRASHED]
            reply = Reply(
                status=crashed.status,
                sentence=Failure.CRASHED.value,
                proxy_error=crashed.proxy_error,
            )
            with contextlib.suppress(Exception):  # whatever crashed may crash again
                await exchange.reply(reply)
