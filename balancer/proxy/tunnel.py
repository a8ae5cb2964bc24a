"""A tunnel: what an exchange becomes with a 101, bytes both ways until one side has had enough.

Counted and listed as the exchange that it was. Owns neither of the two sockets, but says how each is
to be closed. When it has to end, and why, is decided in `balancer.core.tunnels`.
"""

import trio

from balancer.core.fields import response_bytes
from balancer.core.framing import UNTIL_CLOSE
from balancer.core.message import ResponseHead
from balancer.core.outcome import Failure, evidence_of_status
from balancer.core.tunnels import END_OF, Lifetime, TunnelEnd, TunnelLimits, graver
from balancer.core.upgrades import WEBSOCKET, Offer, with_upgrade
from balancer.core.websocket_frames import going_away
from balancer.proxy.answer_body import to_client
from balancer.proxy.exchange_state import Exchange
from balancer.proxy.faults import Stopped, ended_by
from balancer.proxy.idle import UpstreamConnection
from balancer.proxy.tunnel_way import Source, Way
from balancer.wire.streams import cut, taken

MASK_BYTES = 4


async def pass_tunnel(
    exchange: Exchange, connection: UpstreamConnection, head: ResponseHead, offer: Offer
) -> int:
    """Pass the 101 on, and everything that follows; its status when the tunnel is over."""
    out = response_bytes(
        head,
        UNTIL_CLOSE,
        request_id=exchange.request_id,
        connection=None,
        head_length=None,
        panic=False,
    )
    request_id = b"X-Request-ID: " + exchange.request_id
    exchange.keep_alive = False
    exchange.answer_begins()
    exchange.record.status = head.status
    try:
        await to_client(exchange, with_upgrade(out, offer.protocol, request_id))
        await _become_tunnel(exchange, connection, offer, head.status)
    except BaseException:
        # With a 101, and without a word in the other protocol, only a reset is no end.
        cut(exchange.sock)
        cut(connection.sock)
        raise
    return head.status


async def _become_tunnel(
    exchange: Exchange, connection: UpstreamConnection, offer: Offer, status: int
) -> None:
    if (interruption := exchange.waiter.taken_interruption()) is not None:
        raise ended_by(interruption, Failure.CLIENT_STALLED)
    tunnel = exchange.tunnel = Tunnel(exchange, connection, offer.protocol)
    # It may last for days: what it says of the backend is said now.
    began = exchange.record.attempts[-1].began
    exchange.pool.record(connection.backend, evidence_of_status(status), f"status {status}", began)
    await tunnel.run()


class Tunnel:
    """One tunnel. Its times are looked at by whichever direction waits, or has just moved bytes."""

    def __init__(self, exchange: Exchange, connection: UpstreamConnection, protocol: str) -> None:
        service, now = exchange.service, trio.current_time()
        self.protocol = protocol
        self._exchange = exchange
        self._connection = connection
        self._lifetime = Lifetime(began=now, moved=now, share=service.rng.random())
        self._look_at = now
        self._end: TunnelEnd | None = None
        self._scope = trio.CancelScope()
        self._framed = protocol == WEBSOCKET
        mask = service.rng.randbytes(MASK_BYTES)
        client, backend = exchange.sock, connection.sock
        self._up = Way(
            self,
            service,
            Source(client, TunnelEnd.BY_CLIENT, TunnelEnd.CLIENT_BROKE),
            backend,
            count=self._count_up,
            last_frame=going_away(mask) if self._framed else None,
        )
        self._down = Way(
            self,
            service,
            Source(backend, TunnelEnd.BY_BACKEND, TunnelEnd.BACKEND_BROKE),
            client,
            count=self._count_down,
            last_frame=going_away(None) if self._framed else None,
        )
        self._up.opposite, self._down.opposite = self._down, self._up

    async def run(self) -> None:
        """Until it is over. A side that has not been told of the end as of an end is reset."""
        exchange, from_backend = self._exchange, self._connection.buffer
        number, tunnels = exchange.record.number, exchange.service.tunnels
        early_up = taken(exchange.buffer, len(exchange.buffer))
        early_down = taken(from_backend, len(from_backend))
        tunnels[number] = self
        try:
            self.review()
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._up.run, early_up)
                    await self._down.run(early_down)
        finally:
            del tunnels[number]
        if not self._down.in_order:
            cut(exchange.sock)
            exchange.broken = True
        if not self._up.in_order:
            cut(self._connection.sock)
        if not self.end.ordinary:
            exchange.record.fault = self.end.value

    @property
    def end(self) -> TunnelEnd:
        """How it has ended; a backend that takes nothing more and says nothing has broken it."""
        return self._end or TunnelEnd.BACKEND_BROKE

    @property
    def told(self) -> str:
        """How it has ended, for the access log."""
        return f"{self.protocol} {self.end.value}"

    # ---- ended from outside

    def stop(self, stopped: Stopped) -> None:
        """End it at once; a WebSocket still with a close frame, if it need not be waited for."""
        self._up.last_word()
        self._down.last_word()
        self.over(END_OF[stopped.failure])

    def notice_leaving(self) -> None:
        """End it if the client has gone while nothing is read from it, because of the backend."""
        exchange = self._exchange
        # Whom we have told of an end may close in order, with bytes of his still to be passed on.
        if not self._down.in_order and exchange.service.network.has_left(exchange.sock):
            self.over(TunnelEnd.CLIENT_BROKE)

    def review(self) -> None:
        """Look whether its backend leaves, or this worker, or whether that is no longer so."""
        service, pool = self._exchange.service, self._exchange.pool
        stays = service.pools.get(pool.name) is pool
        stays = stays and self._connection.backend.address in pool.staying
        self._lifetime.leave(
            trio.current_time(),
            backend_leaves=not stays,
            worker=service.leave,
            drain_s=self._limits.drain_s,
        )
        self._hurry(self.next_look())

    # ---- asked and told by its two directions: `balancer.proxy.tunnel_way.Passage`

    @property
    def closing(self) -> bool:
        return self._lifetime.closing is not None

    def next_look(self) -> float:
        return self._lifetime.next_look(self._limits)

    def look(self) -> None:
        """Close it, or end it, if it is time."""
        now = trio.current_time()
        if now < self._look_at:
            return
        end = self._lifetime.due(self._limits, now)
        if end is not None and self._framed and not self.closing:
            self._end = graver(end, self._end)
            self._lifetime.close(end, now)
        elif end is not None:
            self.over(end)
        self._look_at = self.next_look()

    def note(self, end: TunnelEnd) -> None:
        self._end = graver(end, self._end)

    def over(self, end: TunnelEnd) -> None:
        self.note(end)
        self._scope.cancel()

    def _hurry(self, until: float) -> None:
        self._look_at = min(self._look_at, until)
        self._up.hurry(until)
        self._down.hurry(until)

    @property
    def _limits(self) -> TunnelLimits:
        return self._exchange.pool.limits.tunnels

    def _count_up(self, passed: int) -> None:
        self._lifetime.moved = trio.current_time()
        self._exchange.record.count_up(passed)

    def _count_down(self, passed: int) -> None:
        self._lifetime.moved = trio.current_time()
        self._exchange.record.count_down(passed)
