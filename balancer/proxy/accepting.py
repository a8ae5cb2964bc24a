"""The accept loop: every connection that the kernel has ready goes into the lane."""

import errno

import trio

from balancer.proxy.arrival import arrival_of
from balancer.proxy.client_connection import ClientConnection
from balancer.proxy.service import ListenerRules, Service
from balancer.wire.network import Sock
from balancer.wire.options import no_delay

# Accept in batches, but let the connections just accepted have their turn.
BATCH = 64
# A full backlog of 4,096 and what comes meanwhile.
EMPTY_BATCHES_MAX = 128
# accept(2): the error of a connection that died in the queue; the next one is worth a try at once.
OF_THE_CONNECTION = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH}
)
# Anything else (no descriptors, no memory, a filter) lasts; trio pauses as long.
PAUSE_S = 0.1


async def accept_connections(
    service: Service, bind: str, listener: Sock, nursery: trio.Nursery
) -> None:
    """Accept at a socket of the listener `bind` until cancelled; connections live in `nursery`."""
    while True:
        try:
            more = accept_ready(service, bind, listener, nursery)
        except OSError as exc:
            await trio.sleep(0 if exc.errno in OF_THE_CONNECTION else PAUSE_S)
            continue
        if more:
            await trio.lowlevel.checkpoint()
        else:
            await service.network.wait_readable(listener)


def accept_ready(service: Service, bind: str, listener: Sock, nursery: trio.Nursery) -> bool:
    """Accept at most BATCH connections that wait; whether there may be more."""
    rules = service.listeners[bind]
    for _ in range(BATCH):
        try:
            sock, peer = listener.accept()
        except BlockingIOError:
            return False
        _take_in(service, rules, sock, peer, nursery)
    return True


def _take_in(
    service: Service, rules: ListenerRules, sock: Sock, peer: object, nursery: trio.Nursery
) -> None:
    """Begin to serve a client; a crash in here is the end of its connection, not of the loop."""
    connection: ClientConnection | None = None
    try:
        no_delay(sock)
        connection = ClientConnection(service, sock, arrival_of(rules, peer, _name_of(sock)))
        service.lane.adopt(connection, nursery, walking=rules.prelude)
    except Exception as exc:  # noqa: BLE001 - the wall between connections
        service.crashed("", exc)
        if connection is None:
            sock.close()
        else:
            connection.end()


def empty(service: Service, bind: str, listener: Sock, nursery: trio.Nursery) -> None:
    """Accept what still waits in the queue of a listener that is about to be closed.

    Bounded: who connects faster than this is not kept out by a close that never comes.
    """
    for _ in range(EMPTY_BATCHES_MAX):
        try:
            if not accept_ready(service, bind, listener, nursery):
                return
        except OSError as exc:
            if exc.errno not in OF_THE_CONNECTION:
                return


def _name_of(sock: Sock) -> object:
    try:
        return sock.getsockname()
    except OSError:
        return None
