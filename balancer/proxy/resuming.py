"""What the plain path has begun, as an exchange of the general flow that goes on from there.

Decides nothing: from here on the exchange holds what the plain path held, and is where that was.
"""

from balancer.core.framing import BodyKind, Framing
from balancer.proxy.arrival import Arrival
from balancer.proxy.exchange_state import Exchange
from balancer.proxy.handover import Begun
from balancer.proxy.plain_exchange import PlainClient
from balancer.proxy.request_body import RequestBody


def resumed(client: PlainClient, begun: Begun, arrival: Arrival) -> Exchange:
    """The exchange; what the client has sent behind the request is in its buffer."""
    request, data, service = begun.request, begun.data, client.service
    buffer = bytearray(data[request.size : request.size + request.length])
    exchange = Exchange(
        service, client.sock, buffer, client.waiter, begun.record, begun.request_id, arrival
    )
    exchange.pool = begun.pool
    exchange.begin_attempt(begun.view, begun.attempt)
    if begun.connection is not None:
        exchange.upstream_sock = begun.connection.sock
    if begun.answer is not None and begun.answer.splice is not None:
        exchange.splices.append(begun.answer.splice)
    exchange.body = RequestBody(buffer, Framing(BodyKind.LENGTH, request.length), service.limits)
    exchange.body.waited_s = begun.attempt.began - begun.record.head_at
    exchange.body.take_arrived()
    buffer += client.pending
    client.pending = b""
    exchange.plain_head = data[: request.size]
    exchange.upstream_head = begun.sent_head
    exchange.keep_alive = (
        request.keep_alive and not service.draining and begun.record.began < client.leaves_at
    )
    exchange.answer_begun = begun.record.answer_at is not None
    return exchange
