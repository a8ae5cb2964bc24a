"""Socket options of the data path, for sockets that may not know them (unix, in-memory)."""

import contextlib
import socket

from balancer.wire.network import Sock


def no_delay(sock: Sock) -> None:
    """Send small pieces at once: heads and last pieces must not wait for an acknowledgement."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
