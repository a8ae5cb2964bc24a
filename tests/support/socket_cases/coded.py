"""Coded connections: what TLS on a socket keeps of what sockets promise, and what it adds."""

import errno
import os
import socket
import ssl
from contextlib import suppress

import pytest
import trio

from balancer.wire.handshake import handshake
from balancer.wire.network import ENDED, TlsSock
from balancer.wire.options import no_delay
from balancer.wire.streams import cut
from balancer.wire.tls_engine import QUIET_RECORDS_MAX
from balancer.wire.tls_socket import (
    RECORDS_AT_ONCE,
    Coded,
    SpeaksHttp,
    TlsBroken,
    Truncated,
    WantsTurn,
)
from balancer.wire.waiting import TimedOut, Timekeeper, Waiter
from tests.support.certificates import client_context, server_context
from tests.support.socket_bench import Bench, attempt, case, close_all, is_ready, pair

# More than the buffers of both sockets.
BODY = os.urandom(256 * 1024)


async def coded_pair(
    bench: Bench,
    *,
    small: bool = False,
    server: ssl.SSLContext | None = None,
    client: ssl.SSLContext | None = None,
) -> tuple[Coded, Coded]:
    """A client and a server that have exchanged keys."""
    below, accepted = await pair(bench, small=small)
    for sock in (below, accepted):
        no_delay(sock)
    theirs = bench.network.coded(
        below, client or client_context(), server_side=False, server_hostname="edge.test"
    )
    ours = bench.network.coded(accepted, server or server_context(), server_side=True)
    await shake_hands(bench, theirs, ours)
    assert isinstance(theirs, Coded)
    assert isinstance(ours, Coded)
    return theirs, ours


async def shake_hands(bench: Bench, *socks: TlsSock) -> None:
    keeper = Timekeeper(bench.network)
    async with trio.open_nursery() as nursery:
        for sock in socks:
            nursery.start_soon(handshake, sock, Waiter(keeper), trio.current_time() + 5)
    await bench.settle()


@case
async def both_sides_know_what_was_agreed(bench: Bench) -> None:
    theirs, ours = await coded_pair(bench)
    assert theirs.engine.version() == ours.engine.version() == "TLSv1.3"
    assert theirs.engine.cipher() == ours.engine.cipher()
    assert theirs.engine.getpeercert(True)
    assert ours.engine.getpeercert(True) is None
    close_all(theirs, ours)


@case
async def coded_bytes_arrive_in_order_and_what_is_short_is_all(bench: Bench) -> None:
    theirs, ours = await coded_pair(bench)
    assert attempt(ours.recv, 9) == "EAGAIN"
    for piece in (b"abc", memoryview(b"def"), bytearray(b"ghi")):
        theirs.send(piece)
    await bench.settle()
    assert ours.recv(4) == b"abcd"
    assert ours.recv(99) == b"efghi", "three records are one read"
    assert attempt(ours.recv, 9) == "EAGAIN"
    assert ours.send(b"xyz") == 3
    await bench.settle()
    assert theirs.recv(99) == b"xyz"
    close_all(theirs, ours)


@case
async def tickets_are_no_answer_that_nobody_asked_for(bench: Bench) -> None:
    theirs, ours = await coded_pair(bench)
    assert await is_ready(bench.network.wait_readable, theirs), "tickets have come"
    assert attempt(theirs.recv, 1, socket.MSG_PEEK) == "EAGAIN"
    ours.send(b"early")
    await bench.settle()
    assert theirs.recv(1, socket.MSG_PEEK) == b"e"
    assert theirs.recv(1, socket.MSG_PEEK) == b"e"
    ours.send(b" and more")
    await bench.settle()
    assert theirs.recv(99) == b"early and more"
    close_all(theirs, ours)


@case
async def records_without_data_are_taken_a_few_at_a_time(bench: Bench) -> None:
    """A peer that only ever changes keys, or sends tickets, would keep us reading for ever."""
    for tickets in (QUIET_RECORDS_MAX, QUIET_RECORDS_MAX + 1):
        server = server_context()
        server.num_tickets = tickets
        theirs, ours = await coded_pair(bench, server=server)
        for _ in range(2):
            if tickets == QUIET_RECORDS_MAX:
                assert attempt(theirs.recv, 99) == "EAGAIN"
            else:
                with pytest.raises(TlsBroken, match="too many records without data"):
                    theirs.recv(99)
        close_all(theirs, ours)


@case
async def records_of_a_byte_are_taken_in_turns(bench: Bench) -> None:
    theirs, ours = await coded_pair(bench)
    count, turns, received = 3 * RECORDS_AT_ONCE, 0, b""
    for _ in range(count):
        theirs.send(b"x")
    await bench.settle()
    while not received:
        try:
            received = ours.recv(1 << 16)
        except WantsTurn:
            turns += 1
    assert (len(received), turns) == (count, 3)
    close_all(theirs, ours)


@case
async def a_whole_end_is_an_end_though_the_connection_below_goes_on(bench: Bench) -> None:
    theirs, ours = await coded_pair(bench)
    edges = bench.network.edges()
    edges.add(ours)
    await bench.settle()
    edges.poll(9)
    theirs.send(b"question")
    theirs.shutdown(socket.SHUT_WR)
    await bench.settle()
    assert [ours.recv(99) for _ in range(3)] == [b"question", b"", b""]
    assert ours.send(b"answer") == 6
    await bench.settle()
    assert theirs.recv(99) == b"answer"
    assert attempt(theirs.send, b"x") == "EPIPE"
    ours.close()
    await bench.settle()
    assert [theirs.recv(9), theirs.recv(9)] == [b"", b""]
    theirs.close()


@case
async def an_end_that_came_with_bytes_is_told_after_them(bench: Bench) -> None:
    """A lane reads once and waits for an edge: the end must be one, though no FIN comes."""
    theirs, ours = await coded_pair(bench)
    edges = bench.network.edges()
    edges.add(ours)
    theirs.send(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        theirs.engine.unwrap()
    await bench.settle()
    edges.poll(9)
    assert ours.recv(99) == b"last"
    assert [bool(mask & ENDED) for _, mask in edges.poll(9)] == [True]
    assert ours.recv(99) == b""
    close_all(theirs, ours)


@case
async def an_end_without_a_word_is_a_truncation_after_what_had_come(bench: Bench) -> None:
    theirs, ours = await coded_pair(bench)
    theirs.send(b"half an ")
    await bench.settle()
    theirs.shut_below(socket.SHUT_WR)
    await bench.settle()
    assert ours.recv(99) == b"half an "
    for _ in range(2):
        with pytest.raises(Truncated, match="close_notify"):
            ours.recv(99)
    close_all(theirs, ours)


@case
async def a_cut_says_no_end(bench: Bench) -> None:
    theirs, ours = await coded_pair(bench)
    ours.send(b"half")
    await bench.settle()
    cut(ours)
    ours.close()
    await bench.settle()
    assert theirs.recv(99) == b"half"
    assert attempt(theirs.recv, 9) == "ECONNRESET"
    theirs.close()


@case
async def what_had_come_is_still_there_after_we_have_said_that_we_end(bench: Bench) -> None:
    theirs, ours = await coded_pair(bench)
    for piece in (b"one", b"two"):
        theirs.send(piece)
        await bench.settle()
    ours.shutdown(socket.SHUT_WR)
    theirs.send(b"three")
    await bench.settle()
    assert ours.recv(4) == b"onet"
    assert ours.recv(99) == b"wothree"
    close_all(theirs, ours)


@case
async def a_full_socket_takes_coded_bytes_when_they_are_offered_again(bench: Bench) -> None:
    theirs, ours = await coded_pair(bench, small=True)
    view, blocked, received = memoryview(BODY), 0, b""
    while view:
        try:
            view = view[ours.send(view) :]
        except BlockingIOError:
            blocked += 1
            if blocked == 1:
                with pytest.raises(TlsBroken, match="other bytes"):
                    ours.send(b"something else")
            await bench.settle()
            with suppress(BlockingIOError):
                received += theirs.recv(1 << 20)
    while len(received) < len(BODY):
        await bench.network.wait_readable(theirs)
        with suppress(BlockingIOError):
            received += theirs.recv(1 << 20)
    assert received == BODY
    assert blocked
    close_all(theirs, ours)


@case
async def reads_of_full_size_leave_the_rest_for_the_next(bench: Bench) -> None:
    theirs, ours = await coded_pair(bench)
    theirs.send(BODY[:40000])
    await bench.settle()
    assert [ours.recv(15000), ours.recv(15000), ours.recv(15000)] == [
        BODY[:15000],
        BODY[15000:30000],
        BODY[30000:40000],
    ]
    close_all(theirs, ours)


@case
async def who_says_nothing_holds_nobody_beyond_the_deadline(bench: Bench) -> None:
    client, accepted = await pair(bench)
    ours = bench.network.coded(accepted, server_context(), server_side=True)
    keeper = Timekeeper(bench.network)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        with pytest.raises(TimedOut):
            await handshake(ours, Waiter(keeper), began + 0.05)
        nursery.cancel_scope.cancel()
    assert 0.05 <= trio.current_time() - began < 1
    close_all(client, ours)


@case
async def what_is_no_tls_is_told_in_words(bench: Bench) -> None:
    client, accepted = await pair(bench)
    ours = bench.network.coded(accepted, server_context(), server_side=True)
    client.send(b"SSH-2.0-OpenSSH_9.9\r\n")
    with pytest.raises(TlsBroken, match="wrong version number: it speaks no TLS"):
        await handshake(ours, Waiter(Timekeeper(bench.network)), trio.current_time() + 1)
    close_all(client, ours)


@case
async def what_is_http_is_known_by_its_first_bytes_and_can_be_answered_so(bench: Bench) -> None:
    words = ("GET /", "HEAD *", "POST /", "PUT /", "DELETE /", "PATCH /", "OPTIONS *", "TRACE /")
    for word in (*words, "CONNECT a:1", "PRI * HTTP/2.0"):
        client, accepted = await pair(bench)
        ours = bench.network.coded(accepted, server_context(), server_side=True)
        said = word.encode()
        client.send(said)
        with pytest.raises(SpeaksHttp, match="http request: it speaks HTTP without TLS"):
            await handshake(ours, Waiter(Timekeeper(bench.network)), trio.current_time() + 1)
        assert ours.engine.undecoded == said
        assert ours.send_below(b"answer") == 6
        await bench.settle()
        assert client.recv(99) == b"answer", "and nothing before it"
        close_all(client, ours)


@case
async def a_certificate_that_nobody_vouches_for_is_told_on_both_sides(bench: Bench) -> None:
    below, accepted = await pair(bench)
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs = bench.network.coded(below, stranger, server_side=False, server_hostname="edge.test")
    ours = bench.network.coded(accepted, server_context(), server_side=True)
    said: list[str] = []

    async def shake(sock: TlsSock) -> None:
        try:
            await handshake(sock, Waiter(Timekeeper(bench.network)), trio.current_time() + 5)
        except TlsBroken as exc:
            said.append(str(exc))
            sock.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake, theirs)
        nursery.start_soon(shake, ours)
    assert "certificate: unable to get local issuer certificate" in said[0]
    assert "alert unknown ca" in said[1]


@case
async def a_closed_coded_socket_says_so(bench: Bench) -> None:
    theirs, ours = await coded_pair(bench)
    assert bench.network.pipes(theirs, ours) is None
    assert not bench.network.has_left(ours)
    assert ours.getpeername() == theirs.getsockname()
    assert theirs.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert theirs.connect_ex(("127.0.0.1", 1)) == errno.EISCONN
    close_all(theirs, ours)
    assert ours.fileno() == ours.below.fileno() == -1
    assert attempt(ours.recv, 9) == "EBADF"
    assert attempt(theirs.send, b"x") == "EPIPE"
    ours.close()
