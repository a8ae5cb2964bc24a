"""Serves the admin API on listening sockets: the unix socket whole, the health address in part.

Bounded in connections, sizes and time, and open all the same: who is waited for the longest leaves
when somebody new comes. One connection's crash is its own: a 500 and a log line.
"""

import errno
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from balancer.admin.connection import NEVER, AdminConnection, refusal_of
from balancer.admin.messages import AdminReply, AdminRequest, error_reply
from balancer.core.message import BadMessage
from balancer.telemetry.logs import get_logger
from balancer.wire.network import Network, Sock

Answer: TypeAlias = Callable[[AdminRequest], Awaitable[AdminReply]]
"""`api.answer` with its Control bound, or `health.PublicSide.answer`."""

# An operator, a few followers of events, a scraper: 64 is plenty, and bounds what they cost.
CONNECTIONS_MAX = 64
# Those who follow events stay for as long as they like, so they never fill the house.
FOLLOWERS_MAX = 32
# Out of descriptors or memory: wait for others to end instead of spinning (as trio does).
OVERLOAD = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
OVERLOAD_PAUSE_S = 0.1

log = get_logger()


class Door:
    """Whether callers are let in. Shut, they wait in the queue of the socket; who is in stays."""

    def __init__(self) -> None:
        self._opened = trio.Event()
        self._opened.set()
        self._letting_in = trio.CancelScope()

    def shut(self) -> None:
        self._opened = trio.Event()
        self._letting_in.cancel()

    def open(self) -> None:
        self._opened.set()

    async def accepted(self, listener: Sock, network: Network) -> Sock | None:
        """The next connection; None when there was none after all, which passes."""
        await self._opened.wait()
        with trio.CancelScope() as self._letting_in:
            return await _accepted(listener, network)
        return None


class Places:
    """Who is in, of at most so many, and who leaves when somebody new comes."""

    def __init__(self) -> None:
        self._taken: set[AdminConnection] = set()

    def take(self, connection: AdminConnection) -> bool:
        """A place for one more, be it at the cost of whoever is waited for the longest.

        False when every place is taken by somebody who is being answered, or who follows.
        """
        if len(self._taken) >= CONNECTIONS_MAX:
            idlest = min(self._taken, key=lambda each: each.waiting_since, default=None)
            if idlest is None or idlest.waiting_since == NEVER:
                return False
            self._taken.discard(idlest)
            idlest.end_early()
        self._taken.add(connection)
        return True

    def leave(self, connection: AdminConnection) -> None:
        self._taken.discard(connection)

    def may_follow(self) -> bool:
        return sum(each.following for each in self._taken) < FOLLOWERS_MAX


async def serve(listener: Sock, network: Network, answer: Answer, door: Door | None = None) -> None:
    """Accept and answer until cancelled; the caller made the listening socket and closes it."""
    places = Places()
    door = door or Door()
    async with trio.open_nursery() as nursery:
        while True:
            sock = await door.accepted(listener, network)
            if sock is None:
                continue
            connection = AdminConnection(sock, network)
            if not places.take(connection):
                sentence = f"{CONNECTIONS_MAX} admin connections are open already; close one"
                connection.say_at_once(error_reply(503, sentence))
                sock.close()
                continue
            nursery.start_soon(_serve_one, sock, network, connection, answer, places)


async def _accepted(listener: Sock, network: Network) -> Sock | None:
    """The next connection; None when there was none after all, which passes."""
    await network.wait_readable(listener)
    try:
        sock, _ = listener.accept()
    except OSError as error:
        if error.errno in OVERLOAD:
            log.warning("admin.accept_failed", because=str(error), effect="trying again")
            await trio.sleep(OVERLOAD_PAUSE_S)
        return None
    return sock


async def _serve_one(
    sock: Sock, network: Network, connection: AdminConnection, answer: Answer, places: Places
) -> None:
    try:
        with connection.scope as scope:
            await _requests(connection, answer, places)
        if scope.cancelled_caught:
            connection.say_why_cut()
    except* OSError:
        pass  # the client has gone, which is its right
    except* Exception:
        log.exception("admin.crashed", effect="this connection is closed")
    finally:
        places.leave(connection)
        network.notify_closing(sock)
        sock.close()


async def _requests(connection: AdminConnection, answer: Answer, places: Places) -> None:
    """Answer request after request; what cannot be read is answered and ends the connection."""
    keep_alive = True
    while keep_alive:
        try:
            received = await connection.next_request()
        except BadMessage as error:
            connection.say_at_once(refusal_of(error))
            return
        if received is None:
            return
        request, keep_alive = received
        reply = await _contained(request, answer)
        if reply.stream is not None and not places.may_follow():
            reply = error_reply(503, f"{FOLLOWERS_MAX} others follow events already; end one")
        head_only = request.method == "HEAD"
        await connection.reply(reply, head_only=head_only, close=not keep_alive)


async def _contained(request: AdminRequest, answer: Answer) -> AdminReply:
    try:
        return await answer(request)
    except Exception:
        log.exception("admin.crashed", method=request.method, path=request.path)
        return error_reply(500, "the instance failed to answer; its log says why")
