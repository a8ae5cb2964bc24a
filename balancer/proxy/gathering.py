"""What is still to come of a request, waited for in the lane: the rest of its head, a little body.

Many clients send a head and its body apart, and heads with large cookies take more than one segment;
and whoever sends a head byte by byte is to cost as little as can be. Decides only for how long to
wait: what is odd or late goes to the general flow, which judges it as if all had come at once.
"""

from collections.abc import Generator

from balancer.core.client_limits import ClientLimits
from balancer.core.message import BadMessage
from balancer.proxy.handover import Handover, Short, Unread
from balancer.proxy.plain_exchange import PlainClient, plain_exchange
from balancer.wire.h11_heads import check_request_line
from balancer.wire.lane import Watch
from balancer.wire.streams import READ_BYTES_MAX, HeadSoFar
from balancer.wire.tls_socket import WantsTurn
from balancer.wire.waiting import Interrupted

# A client with Nagle's algorithm sends its body a round trip after its head. Slower ones have their
# bodies passed on as they come.
BODY_S = 0.1


class _NotHere(Exception):
    """It has not come, for a reason that the general flow meets, too."""


def head_of(buffer: bytearray, limits: ClientLimits) -> HeadSoFar:
    """The head of a request that comes into `buffer`."""
    return HeadSoFar(
        buffer, limit=limits.head_bytes_max, too_large=431, check_start=check_request_line
    )


def gathered(
    client: PlainClient, watch: Watch, so_far: Unread | Short
) -> Generator[Watch | None, None, Handover | None]:
    """Serve a request when the rest of it is here; as `plain_exchange`, which had this much of it."""
    data = so_far.data
    began = head_at = client.now()
    if isinstance(so_far, Unread):
        if b"\r\n\r\n" in data or data[:1] in (b"\r", b"\n"):
            return so_far
        came = bytearray(data)
        head = head_of(came, client.service.limits)
        deadline = began + client.service.limits.header_s
        try:
            while not head.size():
                came += yield from _more(client, watch, deadline)
        except (BadMessage, _NotHere):
            return Unread(bytes(came), began)
        data, head_at = bytes(came), client.now()
        handover = yield from plain_exchange(client, data, (began, head_at))
        if isinstance(handover, Unread):
            return Unread(data, began)
        if not isinstance(handover, Short):
            return handover
        so_far = handover
    came = bytearray(data)
    try:
        while len(came) < so_far.size:
            came += yield from _more(client, watch, head_at + BODY_S)
    except _NotHere:
        pass
    handover = yield from plain_exchange(client, bytes(came), (began, head_at), waits=False)
    assert not isinstance(handover, Short)
    return handover


def _more(
    client: PlainClient, watch: Watch, deadline: float
) -> Generator[Watch | None, None, bytes]:
    """What comes next; _NotHere."""
    waiter = client.waiter
    while True:
        waiter.move_deadline(deadline)
        try:
            yield watch
            data = client.sock.recv(READ_BYTES_MAX)
        except WantsTurn:
            raise _NotHere from None
        except BlockingIOError:
            continue
        except (Interrupted, OSError):
            raise _NotHere from None
        if not data:
            raise _NotHere
        if len(data) == READ_BYTES_MAX:
            watch.ready = True
        return data
