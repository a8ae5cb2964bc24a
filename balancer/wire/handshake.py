"""The exchange of keys at the beginning of a coded connection, with a deadline of its own.

Decides nothing: the context says who is believed, and whoever calls what a failure means.
"""

import contextlib
import socket

import trio

from balancer.wire.network import TlsSock
from balancer.wire.streams import LINGER_BYTES_MAX, LINGER_S, READ_BYTES_MAX
from balancer.wire.tls_socket import WantsWrite
from balancer.wire.waiting import Interrupted, Waiter


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


async def let_alert_arrive(sock: TlsSock, waiter: Waiter) -> None:
    """After a refusal: a reset for what the peer has sent meanwhile would destroy what it was told."""
    with contextlib.suppress(OSError, Interrupted):
        sock.shut_below(socket.SHUT_WR)
        deadline, drained = trio.current_time() + LINGER_S, 0
        while drained < LINGER_BYTES_MAX:
            try:
                data = sock.recv_below(READ_BYTES_MAX)
            except BlockingIOError:
                await waiter.readable(sock, deadline)
                continue
            if not data:
                return
            drained += len(data)
