"""The two ends of one connection on a memory network."""

import errno
import socket
from typing import cast

from balancer.rehearsal.memory_network import HostNetwork
from balancer.wire.network import Sock, SockAddr


async def sock_pair(network: HostNetwork) -> tuple[Sock, Sock]:
    """The end that connected, and the end that was accepted."""
    listener = network.socket(socket.AF_INET)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    near = network.socket(socket.AF_INET)
    if near.connect_ex(cast(SockAddr, listener.getsockname())) == errno.EINPROGRESS:
        await network.wait_writable(near)
    await network.wait_readable(listener)
    far, _ = listener.accept()
    listener.close()
    return near, far
