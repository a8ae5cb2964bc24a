"""An upload whose backend breaks while the kernel moves it: what was lost in the pipe is not repeated."""

import random

import pytest

from balancer.core.backend import BackendId
from balancer.core.client_limits import ClientLimits
from balancer.core.field_names import FieldRules
from balancer.core.framing import BodyKind, Framing
from balancer.core.routes import RouteTable
from balancer.proxy.arrival import Arrival
from balancer.proxy.exchange_state import NO_EXCHANGE, Exchange
from balancer.proxy.idle import UpstreamConnection
from balancer.proxy.request_body import KEPT_BYTES_MAX, RequestBody
from balancer.proxy.service import ListenerRules, Service
from balancer.proxy.upload import Upload
from balancer.wire.network import KernelNetwork, Sock
from balancer.wire.pipes import splice_works
from balancer.wire.streams import cut
from balancer.wire.waiting import Timekeeper, Waiter
from tests.support.kernel_pairs import Lines, body_of, send_all

pytestmark = pytest.mark.skipif(not splice_works(), reason="no splice() here: bodies are copied")
SIZE = 300_000


def an_exchange(network: KernelNetwork, sock: Sock, buffer: bytearray) -> Exchange:
    """A request of SIZE bytes from `sock`, the beginning of which is in `buffer`."""
    service = Service(
        network=network,
        timekeeper=Timekeeper(network),
        limits=ClientLimits(header_s=5, idle_s=5, body_s=5, head_bytes_max=65536),
        listeners={},
        routes=RouteTable(()),
        pools={},
        trusts=lambda _client: False,
        fields=FieldRules(),
        targets=lambda _backend: (),
        access=lambda _record: None,
        crashed=lambda _id, _exc: None,
        turned_away=lambda *_: None,
        http_date=lambda: b"",
        rng=random.Random(1),
    )
    arrival = Arrival(ListenerRules(bind="a"), client="unix", client_port=0, local="localhost")
    exchange = Exchange(
        service, sock, buffer, Waiter(service.timekeeper), NO_EXCHANGE, b"", arrival
    )
    exchange.body = RequestBody(buffer, Framing(BodyKind.LENGTH, SIZE), service.limits)
    exchange.body.take_arrived()
    return exchange


async def test_what_a_pipe_had_taken_is_missing_from_no_repeat() -> None:
    """Otherwise the client's next request would be taken for the end of this one's body."""
    network = KernelNetwork()
    lines = Lines(network)
    try:
        client, ours = await lines.pair()
        near, backend = await lines.pair()
        body, kept = body_of(3, SIZE), KEPT_BYTES_MAX // 2
        exchange = an_exchange(network, ours, bytearray(body[:kept]))
        upload = Upload(exchange, UpstreamConnection(near, BackendId("web", "a:1"), 0.0), b"")
        await send_all(network, client, body[kept:] + b"GET /next")
        assert exchange.body.replayable
        cut(backend)
        backend.close()
        assert not upload.send_arrived()
        left = SIZE - exchange.body.bytes_taken
        assert left < SIZE - kept, "nothing was in the pipe"
        assert ours.recv(1 << 20) == body[SIZE - left :] + b"GET /next"
        assert not exchange.body.replayable
    finally:
        lines.close()
