"""The exchange of keys at the beginning of a coded connection, with a deadline of its own.

Decides nothing: the context says who is believed, and whoever calls what a failure means.
"""

from balancer.wire.network import TlsSock
from balancer.wire.tls_socket import WantsWrite
from balancer.wire.waiting import Waiter


async def handshake(sock: TlsSock, waiter: Waiter, deadline: float) -> None:
    """Exchange keys with the peer. TlsBroken says what was wrong; OSError, TimedOut, Interrupted."""
    while True:
        try:
            sock.do_handshake()
        except WantsWrite:
            await waiter.writable(sock, deadline)
        except BlockingIOError:
            await waiter.readable(sock, deadline)
        else:
            return
