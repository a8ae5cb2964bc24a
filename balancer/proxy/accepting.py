"""The accept loop: every connection that the kernel has ready goes into the lane."""

import errno
import socket
from contextlib import suppress

import trio
import trio.lowlevel

from balancer.core.replies import Reply, reply_bytes
from balancer.proxy.arrival import Arrival, arrival_of
from balancer.proxy.client_connection import ClientConnection
from balancer.proxy.prelude import TurnedAway, count_address
from balancer.proxy.service import ListenerRules, Service
from balancer.wire.network import Sock
from balancer.wire.options import no_delay
from balancer.wire.streams import READ_BYTES_MAX

# Accept in batches, but let the connections just accepted have their turn.
BATCH = 64
# A full backlog of 4,096 and what comes meanwhile.
EMPTY_BATCHES_MAX = 128
# accept(2): the error of a connection that died in the queue; the next one is worth a try at once.
OF_THE_CONNECTION = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH}
)


async def accept_connections(
    service: Service, bind: str, listener: Sock, nursery: trio.Nursery
) -> None:
    """Accept at a socket of the listener `bind` until cancelled; connections live in `nursery`.

    Only as many as there are places for: all others wait in the kernel's queue, not at our expense.
    """
    room, door = service.room, service.room.door(bind)
    while True:
        door.most = service.listeners[bind].connections_max
        left, more = room.left_at(door), False
        if left > 0:
            try:
                more = accept_ready(service, bind, listener, nursery, min(left, BATCH))
            except OSError as exc:
                if exc.errno in OF_THE_CONNECTION:
                    await trio.lowlevel.checkpoint()
                else:
                    await room.run_short(exc)
                continue
            room.accepted()
        if more:
            await trio.lowlevel.checkpoint()
            continue
        await service.network.wait_readable(listener)
        if room.left_at(door) <= 0:  # only now does somebody wait for a place
            await room.wait(door)


def accept_ready(
    service: Service, bind: str, listener: Sock, nursery: trio.Nursery, most: int = BATCH
) -> bool:
    """Accept at most so many connections that wait; whether there may be more."""
    rules = service.listeners[bind]
    for _ in range(most):
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
    arrival: Arrival | None = None
    connection: ClientConnection | None = None
    try:
        no_delay(sock)
        terminator = service.terminators.get(rules.bind)
        arrival = arrival_of(rules, peer, _name_of(sock), terminator)
        if not rules.proxy_protocol and not _admitted(service, sock, arrival):
            return
        connection = ClientConnection(service, sock, arrival)
        service.lane.adopt(connection, nursery, walking=rules.prelude)
    except Exception as exc:  # noqa: BLE001 - the wall between connections
        service.crashed("", exc)
        if connection is not None:
            connection.end()
            return
        if arrival is not None:
            service.room.gone(arrival.counted_as)
        sock.close()


def _admitted(service: Service, sock: Sock, arrival: Arrival) -> bool:
    """Whether the client's address may have one more connection; if not, it is told and closed."""
    try:
        count_address(service, arrival)
    except TurnedAway as exc:
        service.turned_away(arrival.rules.bind, arrival.client, str(exc))
        if not arrival.rules.prelude:
            _say_too_many(service, sock, str(exc))
        sock.close()
        return False
    return True


def _say_too_many(service: Service, sock: Sock, sentence: str) -> None:
    """Answer what has come or may come, if it can be answered now: nobody waits for such a client."""
    answer = reply_bytes(
        Reply(status=429, sentence=sentence),
        request=None,
        request_id=service.new_request_id(),
        close=True,
        date=service.http_date(),
    )
    with suppress(OSError):
        sock.send(answer)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(READ_BYTES_MAX)  # what is left unread would reset the answer on its way


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
