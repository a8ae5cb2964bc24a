"""What comes before HTTP on a connection, where its listener wants something: taken to the byte.

Decides who is let in by it, and completes the `Arrival` from what is said. Nothing that belongs to
what comes after is read here. What is no part of a connection's beginning may not live here.
"""

import socket
from contextlib import suppress

import trio

from balancer.core.message import RequestHead
from balancer.core.replies import WITHOUT_TLS, reply_bytes
from balancer.core.trust import trusting
from balancer.proxy.arrival import Arrival
from balancer.proxy.room import TooMany
from balancer.proxy.service import Service
from balancer.wire.handshake import handshake, let_alert_arrive
from balancer.wire.network import Sock, TlsSock
from balancer.wire.proxy_protocol import V2_BYTES_MAX, BadHeader, Introduction, introduction
from balancer.wire.streams import PeerClosed
from balancer.wire.tls_contexts import Terminator
from balancer.wire.tls_socket import SpeaksHttp, TlsBroken
from balancer.wire.waiting import Interrupted, TimedOut, Waiter


class TurnedAway(Exception):
    """The connection is to be closed; the text says why, for the log."""


async def begin(service: Service, sock: Sock, waiter: Waiter, arrival: Arrival) -> Sock | None:
    """Take what comes before HTTP; the socket that HTTP is spoken on, and `arrival` is complete.

    None: it does not come, and who was turned away has been noted. The caller closes the socket.
    """
    try:
        return await _begun(service, sock, waiter, arrival)
    except TurnedAway as exc:
        service.turned_away(arrival.rules.bind, arrival.client, str(exc))
    except (OSError, Interrupted, PeerClosed):
        pass
    return None


async def _begun(service: Service, sock: Sock, waiter: Waiter, arrival: Arrival) -> Sock:
    if arrival.rules.proxy_protocol:
        await _introduced(service, sock, waiter, arrival)
        count_address(service, arrival)
    if arrival.terminator is not None:
        return await _coded(service, sock, waiter, arrival, arrival.terminator)
    return sock


def count_address(service: Service, arrival: Arrival) -> None:
    """Count the client by its address, as soon as that is known. TurnedAway: it has too many."""
    try:
        arrival.counted_as = service.room.admit(arrival.client, service.limits.per_address_max)
    except TooMany as exc:
        raise TurnedAway(str(exc)) from exc


async def _coded(
    service: Service, sock: Sock, waiter: Waiter, arrival: Arrival, terminator: Terminator
) -> Sock:
    """Agree on keys with the client, and hear who it is."""
    coded = service.network.coded(sock, terminator.context, server_side=True)
    service.resting[waiter] = trio.current_time(), service.room.door(arrival.rules.bind)
    try:
        await _agreed(service, coded, waiter, terminator.rules.handshake_s)
        arrival.at = terminator.chosen(coded.engine.context)
        arrival.tls = coded.engine.version() or ""
        arrival.certificate = terminator.told_of(coded.engine)
    except BaseException:
        coded.close()
        raise
    finally:
        service.resting.pop(waiter, None)
    return coded


async def _agreed(service: Service, coded: TlsSock, waiter: Waiter, timeout_s: float) -> None:
    try:
        await handshake(coded, waiter, trio.current_time() + timeout_s)
    except TlsBroken as exc:
        broken = exc
    except TimedOut as exc:
        raise TurnedAway(f"it has not agreed on TLS within {timeout_s:g} s") from exc
    else:
        return
    if isinstance(broken, SpeaksHttp):
        _say_that_it_is_tls(service, coded)
    await let_alert_arrive(coded, waiter)
    raise TurnedAway(f"TLS: {broken}") from broken


def _say_that_it_is_tls(service: Service, coded: TlsSock) -> None:
    """Answer a request that came without it, by its first bytes alone; a new connection has room."""
    is_head = coded.engine.undecoded.startswith(b"HEAD ")
    answer = reply_bytes(
        WITHOUT_TLS,
        request=RequestHead(method="HEAD", target="/", minor=1, fields=()) if is_head else None,
        request_id=service.new_request_id(),
        close=True,
        date=service.http_date(),
    )
    with suppress(OSError):
        coded.send_below(answer)


async def _introduced(service: Service, sock: Sock, waiter: Waiter, arrival: Arrival) -> None:
    """Hear of the client from the proxy that carries its connection."""
    if not trusting(arrival.rules.proxy_protocol_from)(arrival.client):
        raise TurnedAway("it is not among those who may send a PROXY header here")
    timeout_s = service.limits.header_s
    door = service.room.door(arrival.rules.bind)
    service.resting[waiter] = trio.current_time(), door
    try:
        said = await _introduction(sock, waiter, trio.current_time() + timeout_s)
    except BadHeader as exc:
        raise TurnedAway(str(exc)) from exc
    except TimedOut as exc:
        raise TurnedAway(f"it sent no whole PROXY header within {timeout_s:g} s") from exc
    finally:
        service.resting.pop(waiter, None)
    arrival.introduce(said.of)


async def _introduction(sock: Sock, waiter: Waiter, deadline: float) -> Introduction:
    """Read a PROXY header and not a byte more."""
    header = b""
    while True:
        try:
            ahead = sock.recv(V2_BYTES_MAX, socket.MSG_PEEK)
        except BlockingIOError:
            await waiter.readable(sock, deadline)
            continue
        if not ahead:
            raise PeerClosed
        said = introduction(header + ahead)
        # What is not whole yet is taken all the same: else there would be no wait for the rest.
        size = len(ahead) if said is None else said.size - len(header)
        header += sock.recv(size)
        if said is not None:
            return said
