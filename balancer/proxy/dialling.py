"""A new connection to a backend: dialled, introduced where the pool wants that, and coded.

Decides what a failure on the way means. Who is dialled, and what is said then, is decided elsewhere.
"""

import errno

from balancer.core.address import parse_address
from balancer.core.backend import BackendId, BackendView
from balancer.core.outcome import Failure, lacks_descriptors
from balancer.proxy.exchange_state import Exchange
from balancer.proxy.faults import AttemptFailed, ended_by
from balancer.proxy.idle import UpstreamConnection
from balancer.wire.dial import DialFailed, dial
from balancer.wire.handshake import handshake
from balancer.wire.network import Sock
from balancer.wire.proxy_protocol import header
from balancer.wire.streams import send_now
from balancer.wire.tls_socket import TlsBroken
from balancer.wire.waiting import Interrupted

# So many connections that rest make room for one that is needed, and for some that come next.
RELEASED = 8


async def new_connection(exchange: Exchange, view: BackendView, now: float) -> UpstreamConnection:
    """A connection on which a request can be sent; the exchange holds it. AttemptFailed."""
    limits = exchange.pool.limits
    deadline = now + limits.connect_s
    try:
        sock = await _dialled(exchange, view, deadline)
    except DialFailed as exc:
        raise AttemptFailed(exc.failure) from exc
    except Interrupted as exc:
        raise ended_by(exc, Failure.CONNECT_TIMEOUT) from exc
    client = None
    if limits.proxy_protocol is not None:
        client = exchange.arrival
        try:
            _introduce_client(sock, header(limits.proxy_protocol, client.ends))
        except OSError as exc:
            raise AttemptFailed(Failure.BROKEN) from exc
        client.backends.add(view.id)
    if limits.tls is not None:
        sock = await _coded(exchange, sock, view.id, deadline)
    return UpstreamConnection(sock, view.id, now, client=client)


async def _dialled(exchange: Exchange, view: BackendView, deadline: float) -> Sock:
    """Connect; where descriptors have run out, with those of connections that only rest."""
    service = exchange.service
    while True:
        try:
            sock = exchange.upstream_sock = await dial(
                service.network, exchange.waiter, service.targets(view.id), deadline
            )
        except DialFailed as exc:
            if not (lacks_descriptors(exc.failure) and service.idle.release(RELEASED)):
                raise
        else:
            return sock


def _introduce_client(sock: Sock, data: bytes) -> None:
    """Send a PROXY header, in one piece as its text demands; a new connection has room for it."""
    if send_now(sock, data) < len(data):
        raise OSError(errno.ENOBUFS, "a new connection did not take a PROXY header")


async def _coded(exchange: Exchange, sock: Sock, backend: BackendId, deadline: float) -> Sock:
    """`sock` with TLS on it, within what is left of the time to connect."""
    pool = exchange.pool
    assert pool.tls is not None
    assert pool.limits.tls is not None
    name = pool.limits.tls.name_of(parse_address(backend.address).host)
    coded = exchange.service.network.coded(sock, pool.tls, server_side=False, server_hostname=name)
    exchange.upstream_sock = coded
    try:
        await handshake(coded, exchange.waiter, deadline)
    except Interrupted as exc:
        raise ended_by(exc, Failure.CONNECT_TIMEOUT) from exc
    except TlsBroken as exc:
        raise AttemptFailed(Failure.TLS_REFUSED, str(exc)) from exc
    except OSError as exc:
        raise AttemptFailed(Failure.BROKEN) from exc
    return coded
