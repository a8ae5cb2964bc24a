"""The accept loop: every connection that the kernel has ready, a task for each."""

import errno

import trio

from balancer.proxy.client_connection import ClientConnection
from balancer.proxy.service import Service
from balancer.wire.network import Sock
from balancer.wire.options import no_delay

# Accept in batches, but let the connections just accepted have their turn.
BATCH = 64
# Out of descriptors or memory: existing connections will end; trio waits as long.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE_S = 0.1


async def accept_connections(service: Service, listener: Sock, nursery: trio.Nursery) -> None:
    """Accept until cancelled; connections live in `nursery`."""
    while True:
        try:
            more = accept_ready(service, listener, nursery)
        except OSError as exc:
            # A connection that died in the queue, or no room: neither ends the listener.
            await trio.sleep(PAUSE_S if exc.errno in EXHAUSTED else 0)
            continue
        if more:
            await trio.lowlevel.checkpoint()
        else:
            await service.network.wait_readable(listener)


def accept_ready(service: Service, listener: Sock, nursery: trio.Nursery) -> bool:
    """Accept at most BATCH connections that wait; whether there may be more."""
    for _ in range(BATCH):
        try:
            sock, peer = listener.accept()
        except BlockingIOError:
            return False
        no_delay(sock)
        connection = ClientConnection(service, sock, _host_of(peer), _name_of(sock))
        nursery.start_soon(connection.serve)
    return True


def _host_of(peer: object) -> str:
    return str(peer[0]) if isinstance(peer, tuple) else "unix"


def _name_of(sock: Sock) -> str:
    try:
        name = sock.getsockname()
    except OSError:
        return "localhost"
    if not isinstance(name, tuple):
        return "localhost"
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
