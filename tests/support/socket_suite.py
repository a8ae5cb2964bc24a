"""One suite of socket behaviour, written against the network seam only.

Every case runs on the kernel's loopback and on the memory network, and asserts the same results,
errnos and order on both. A `Bench` is a network and the few things that a seam cannot ask for.
"""

import errno
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from balancer.wire.network import Network, Sock, SockAddr

SMALL = 4096
LINGER_RESET = struct.pack("ii", 1, 0)


class Bench(Protocol):
    """What a case runs on."""

    network: Network

    async def settle(self) -> None:
        """Return when everything sent has arrived."""
        ...

    def hide(self, *socks: Sock) -> None:
        """From now on these sockets receive no packet at all: their hosts have vanished."""
        ...

    def show(self, *socks: Sock) -> None:
        """Undo hide()."""
        ...


Case = Callable[[Bench], Awaitable[None]]
CASES: list[Case] = []


def case(function: Case) -> Case:
    CASES.append(function)
    return function


def attempt(call: Callable[..., object], *args: object) -> object:
    """The result of a call, or the name of its errno."""
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def listening(bench: Bench, *, backlog: int = 5, small: bool = False) -> tuple[Sock, SockAddr]:
    listener = bench.network.socket(socket.AF_INET)
    if small:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(backlog)
    return listener, listener.getsockname()  # type: ignore[return-value]


async def connected(bench: Bench, address: SockAddr, *, small: bool = False) -> Sock:
    sock = bench.network.socket(socket.AF_INET)
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    assert sock.connect_ex(address) == errno.EINPROGRESS
    await bench.network.wait_writable(sock)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    return sock


async def pair(bench: Bench, *, small: bool = False) -> tuple[Sock, Sock]:
    """A connected client and its accepted other end."""
    listener, address = listening(bench, small=small)
    client = await connected(bench, address, small=small)
    await bench.network.wait_readable(listener)
    accepted, _ = listener.accept()
    listener.close()
    if isinstance(accepted, socket.socket):
        accepted.setblocking(False)
    return client, accepted


def refusing_address(bench: Bench) -> SockAddr:
    listener, address = listening(bench)
    listener.close()
    return address


def close_all(*socks: Sock) -> None:
    for sock in socks:
        sock.close()


def fill(sock: Sock) -> int:
    """Send until it would block; how many bytes went."""
    total = 0
    while True:
        sent = attempt(sock.send, b"x" * 1024)
        if not isinstance(sent, int):
            assert sent == "EAGAIN"
            return total
        total += sent


async def drained(bench: Bench, sock: Sock, size: int) -> None:
    """Read exactly `size` bytes."""
    while size:
        await bench.network.wait_readable(sock)
        size -= len(sock.recv(size))


async def is_ready(
    wait: Callable[[Sock], Awaitable[None]], sock: Sock, within: float = 0.02
) -> bool:
    with trio.move_on_after(within):
        await wait(sock)
        return True
    return False


# Connecting


@case
async def connect_is_in_progress_first_then_zero_then_already_done(bench: Bench) -> None:
    listener, address = listening(bench)
    client = await connected(bench, address)
    assert client.connect_ex(address) == 0
    assert client.connect_ex(address) == errno.EISCONN
    assert client.getpeername() == address
    close_all(client, listener)


@case
async def connect_to_nobody_is_refused_and_says_so_once(bench: Bench) -> None:
    client = bench.network.socket(socket.AF_INET)
    address = refusing_address(bench)
    assert client.connect_ex(address) == errno.EINPROGRESS
    await bench.network.wait_writable(client)
    assert bench.network.has_left(client)
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert attempt(client.getpeername) == "ENOTCONN"
    assert client.connect_ex(address) == errno.ECONNABORTED
    client.close()


@case
async def a_refused_socket_gives_its_error_to_the_first_call_that_asks(bench: Bench) -> None:
    client = bench.network.socket(socket.AF_INET)
    client.connect_ex(refusing_address(bench))
    await bench.network.wait_readable(client)
    assert attempt(client.recv, 1) == "ECONNREFUSED"
    assert attempt(client.recv, 1) == b""
    assert attempt(client.send, b"x") == "EPIPE"
    client.close()


@case
async def a_connect_that_nobody_answers_hangs(bench: Bench) -> None:
    listener, address = listening(bench)
    bench.hide(listener)
    client = bench.network.socket(socket.AF_INET)
    assert client.connect_ex(address) == errno.EINPROGRESS
    assert not await is_ready(bench.network.wait_writable, client, 0.1)
    assert client.connect_ex(address) == errno.EALREADY
    assert attempt(client.recv, 1) == "EAGAIN"
    assert attempt(client.send, b"x") == "EAGAIN"
    assert attempt(client.getpeername) == "ENOTCONN"
    assert not bench.network.has_left(client)
    close_all(client, listener)


@case
async def a_hung_connect_succeeds_with_the_repeated_syn_once_the_way_is_free(bench: Bench) -> None:
    listener, address = listening(bench)
    bench.hide(listener)
    client = bench.network.socket(socket.AF_INET)
    client.connect_ex(address)
    began = trio.current_time()
    await trio.sleep(0.1)
    bench.show(listener)
    await bench.network.wait_writable(client)
    assert 0.9 < trio.current_time() - began < 1.3
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    close_all(client, listener)


@case
async def a_connect_beyond_the_backlog_hangs_until_there_is_room(bench: Bench) -> None:
    """A backlog of 1 holds two; the third SYN is dropped and repeated after a second."""
    listener, address = listening(bench, backlog=1)
    held = [await connected(bench, address), await connected(bench, address)]
    third = bench.network.socket(socket.AF_INET)
    began = trio.current_time()
    assert third.connect_ex(address) == errno.EINPROGRESS
    assert not await is_ready(bench.network.wait_writable, third, 0.1)
    first, _ = listener.accept()
    await bench.network.wait_writable(third)
    assert 0.9 < trio.current_time() - began < 1.3
    assert first.getpeername() == held[0].getsockname()
    close_all(first, third, listener, *held)


@case
async def connections_are_accepted_in_the_order_they_came(bench: Bench) -> None:
    listener, address = listening(bench)
    clients = [await connected(bench, address) for _ in range(3)]
    await bench.settle()
    accepted = [listener.accept()[0] for _ in clients]
    assert [a.getpeername() for a in accepted] == [c.getsockname() for c in clients]
    assert attempt(listener.accept) == "EAGAIN"
    close_all(listener, *clients, *accepted)


@case
async def a_client_that_reset_before_accept_is_accepted_and_then_reset(bench: Bench) -> None:
    listener, address = listening(bench)
    client = await connected(bench, address)
    client.send(b"early")
    await bench.settle()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    client.close()
    await bench.settle()
    accepted, _ = listener.accept()
    if isinstance(accepted, socket.socket):
        accepted.setblocking(False)
    assert bench.network.has_left(accepted)
    assert [attempt(accepted.recv, 9) for _ in range(3)] == [b"early", "ECONNRESET", b""]
    close_all(accepted, listener)


@case
async def closing_a_listener_resets_those_it_has_not_accepted(bench: Bench) -> None:
    listener, address = listening(bench)
    client = await connected(bench, address)
    await bench.settle()
    listener.close()
    await bench.settle()
    assert bench.network.has_left(client)
    assert attempt(client.recv, 1) == "ECONNRESET"
    client.close()


@case
async def two_listeners_need_reuseport_for_one_port(bench: Bench) -> None:
    listener, address = listening(bench)
    second = bench.network.socket(socket.AF_INET)
    assert attempt(second.bind, address) == "EADDRINUSE"
    second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    assert attempt(second.bind, address) == "EADDRINUSE"
    close_all(listener, second)
    shared = [bench.network.socket(socket.AF_INET) for _ in range(2)]
    for sock in shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.listen(1)
    close_all(*shared)


@case
async def an_address_of_another_host_cannot_be_bound(bench: Bench) -> None:
    sock = bench.network.socket(socket.AF_INET)
    assert attempt(sock.bind, ("192.0.2.1", 0)) == "EADDRNOTAVAIL"
    sock.close()


@case
async def a_socket_in_the_wrong_state_says_which(bench: Bench) -> None:
    fresh = bench.network.socket(socket.AF_INET)
    listener, address = listening(bench)
    assert attempt(fresh.recv, 1) == "ENOTCONN"
    assert attempt(fresh.send, b"x") == "EPIPE"
    assert attempt(fresh.getpeername) == "ENOTCONN"
    assert attempt(fresh.shutdown, socket.SHUT_WR) == "ENOTCONN"
    assert attempt(fresh.accept) == "EINVAL"
    assert bench.network.has_left(fresh)
    assert attempt(listener.recv, 1) == "ENOTCONN"
    assert attempt(listener.send, b"x") == "EPIPE"
    assert listener.connect_ex(address) == errno.EISCONN
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    assert not bench.network.has_left(listener)
    listener.shutdown(socket.SHUT_RDWR)
    assert attempt(listener.accept) == "EINVAL"
    close_all(fresh, listener)
    assert fresh.fileno() == -1
    for call, args in ((fresh.recv, (1,)), (fresh.send, (b"x",)), (fresh.getsockname, ())):
        assert attempt(call, *args) == "EBADF"
    fresh.close()


# Bytes


@case
async def bytes_arrive_in_order_and_peeking_leaves_them(bench: Bench) -> None:
    client, accepted = await pair(bench)
    assert attempt(accepted.recv, 9) == "EAGAIN"
    assert attempt(accepted.recv, 9, socket.MSG_PEEK) == "EAGAIN"
    client.send(b"abc")
    client.send(memoryview(b"def"))
    await bench.settle()
    assert accepted.recv(4, socket.MSG_PEEK) == b"abcd"
    assert accepted.recv(99, socket.MSG_PEEK) == b"abcdef"
    assert accepted.recv(2) == b"ab"
    assert accepted.recv(99) == b"cdef"
    assert attempt(accepted.recv, 9) == "EAGAIN"
    close_all(client, accepted)


@case
async def peeking_at_the_end_sees_the_end_again_and_again(bench: Bench) -> None:
    client, accepted = await pair(bench)
    client.send(b"z")
    client.close()
    await bench.settle()
    assert accepted.recv(9, socket.MSG_PEEK) == b"z"
    assert accepted.recv(9) == b"z"
    assert [accepted.recv(9, socket.MSG_PEEK) for _ in range(2)] == [b"", b""]
    assert accepted.recv(9) == b""
    accepted.close()


@case
async def a_full_buffer_would_block_until_the_peer_reads(bench: Bench) -> None:
    client, accepted = await pair(bench, small=True)
    sent = 0
    while more := fill(client):
        sent += more
        await bench.settle()
    assert sent >= SMALL
    assert not await is_ready(bench.network.wait_writable, client)
    await drained(bench, accepted, sent)
    assert await is_ready(bench.network.wait_writable, client, 1)
    assert client.send(b"y") == 1
    await bench.network.wait_readable(accepted)
    assert accepted.recv(9) == b"y"
    close_all(client, accepted)


@case
async def what_was_sent_before_close_arrives_though_the_buffers_were_full(bench: Bench) -> None:
    client, accepted = await pair(bench, small=True)
    sent = 0
    while more := fill(client):
        sent += more
        await bench.settle()
    client.close()
    await drained(bench, accepted, sent)
    await bench.network.wait_readable(accepted)
    assert accepted.recv(1) == b""
    accepted.close()


# The end of a conversation


@case
async def a_half_close_ends_one_way_only(bench: Bench) -> None:
    client, accepted = await pair(bench)
    client.send(b"question")
    client.shutdown(socket.SHUT_WR)
    await bench.settle()
    assert [accepted.recv(99), accepted.recv(99)] == [b"question", b""]
    assert not bench.network.has_left(accepted)
    assert not bench.network.has_left(client)
    assert attempt(client.send, b"x") == "EPIPE"
    assert attempt(client.recv, 9) == "EAGAIN"
    accepted.send(b"answer")
    await bench.settle()
    assert client.recv(99) == b"answer"
    accepted.shutdown(socket.SHUT_WR)
    await bench.settle()
    assert client.recv(99) == b""
    assert bench.network.has_left(client)
    assert bench.network.has_left(accepted)
    assert attempt(client.getpeername) == "ENOTCONN"
    assert attempt(client.shutdown, socket.SHUT_WR) == "ENOTCONN"
    close_all(client, accepted)


@case
async def the_accepted_side_can_half_close_too(bench: Bench) -> None:
    client, accepted = await pair(bench)
    accepted.shutdown(socket.SHUT_WR)
    await bench.settle()
    assert client.recv(9) == b""
    assert client.send(b"still") == 5
    await bench.settle()
    assert accepted.recv(9) == b"still"
    assert not bench.network.has_left(client)
    close_all(client, accepted)


@case
async def a_full_close_looks_like_a_half_close_until_something_is_sent(bench: Bench) -> None:
    client, accepted = await pair(bench)
    accepted.close()
    await bench.settle()
    assert client.recv(9) == b""
    assert not bench.network.has_left(client)
    assert client.send(b"into the void") == 13
    await bench.settle()
    assert bench.network.has_left(client)
    assert attempt(client.send, b"x") == "EPIPE"
    assert attempt(client.send, b"x") == "EPIPE"
    assert attempt(client.recv, 9) == b""
    client.close()


@case
async def closing_with_unread_data_resets(bench: Bench) -> None:
    client, accepted = await pair(bench)
    client.send(b"unread")
    await bench.settle()
    accepted.close()
    await bench.settle()
    assert bench.network.has_left(client)
    assert attempt(client.send, b"x") == "ECONNRESET"
    assert attempt(client.send, b"x") == "EPIPE"
    assert attempt(client.recv, 9) == b""
    client.close()


@case
async def what_came_before_a_reset_can_be_read_and_then_the_reset(bench: Bench) -> None:
    client, accepted = await pair(bench)
    accepted.send(b"partial answer")
    client.send(b"unread")
    await bench.settle()
    accepted.close()
    await bench.settle()
    assert client.recv(7, socket.MSG_PEEK) == b"partial"
    assert client.recv(99) == b"partial answer"
    assert [attempt(client.recv, 9) for _ in range(2)] == ["ECONNRESET", b""]
    assert attempt(client.send, b"x") == "EPIPE"
    client.close()


@case
async def a_reset_before_any_data_is_seen_by_the_first_call(bench: Bench) -> None:
    client, accepted = await pair(bench)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    accepted.close()
    await bench.network.wait_readable(client)
    assert bench.network.has_left(client)
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
    assert attempt(client.recv, 9) == b""
    assert attempt(client.send, b"x") == "EPIPE"
    client.close()


@case
async def a_reset_wakes_a_sender_whose_buffer_is_full(bench: Bench) -> None:
    client, accepted = await pair(bench, small=True)
    while fill(client):
        await bench.settle()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.network.wait_writable, client)
        await bench.settle()
        accepted.close()
    assert attempt(client.send, b"x") == "ECONNRESET"
    assert attempt(client.send, b"x") == "EPIPE"
    client.close()


@case
async def a_reset_after_a_half_close_of_the_peer_is_a_broken_pipe(bench: Bench) -> None:
    client, accepted = await pair(bench)
    accepted.shutdown(socket.SHUT_WR)
    await bench.settle()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    accepted.close()
    await bench.settle()
    assert client.recv(9) == b""
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EPIPE
    client.close()


@case
async def shutting_down_and_closing_with_unread_data_resets_too(bench: Bench) -> None:
    client, accepted = await pair(bench)
    client.send(b"unread")
    await bench.settle()
    accepted.shutdown(socket.SHUT_WR)
    await bench.settle()
    assert client.recv(9) == b""
    accepted.close()
    await bench.settle()
    assert attempt(client.send, b"x") == "EPIPE"
    client.close()


@case
async def data_for_a_socket_that_was_shut_both_ways_is_answered_by_reset(bench: Bench) -> None:
    client, accepted = await pair(bench)
    accepted.shutdown(socket.SHUT_RDWR)
    await bench.settle()
    assert client.send(b"x") == 1
    await bench.settle()
    assert attempt(client.send, b"x") == "EPIPE"
    assert [attempt(accepted.recv, 1) for _ in range(2)] == ["ECONNRESET", b""]
    close_all(client, accepted)


@case
async def a_socket_shut_for_reading_reads_what_still_comes(bench: Bench) -> None:
    client, accepted = await pair(bench)
    accepted.shutdown(socket.SHUT_RD)
    assert accepted.recv(9) == b""
    client.send(b"late")
    await bench.settle()
    assert [accepted.recv(9), accepted.recv(9)] == [b"late", b""]
    assert not bench.network.has_left(accepted)
    close_all(client, accepted)


# Waiting


@case
async def a_reader_is_woken_by_data_and_by_the_end(bench: Bench) -> None:
    client, accepted = await pair(bench)
    seen: list[object] = []

    async def reader() -> None:
        while True:
            await bench.network.wait_readable(accepted)
            seen.append(accepted.recv(9))
            if seen[-1] == b"":
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await bench.settle()
        client.send(b"one")
        await bench.settle()
        client.shutdown(socket.SHUT_WR)
    assert seen == [b"one", b""]
    close_all(client, accepted)


@case
async def a_reader_and_a_writer_wait_on_one_socket_but_not_two_readers(bench: Bench) -> None:
    client, accepted = await pair(bench, small=True)
    while fill(client):
        await bench.settle()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.network.wait_readable, client)
        nursery.start_soon(bench.network.wait_writable, client)
        await bench.settle()
        for wait in (bench.network.wait_readable, bench.network.wait_writable):
            try:
                await wait(client)
            except trio.BusyResourceError:
                continue
            raise AssertionError("a second waiter was let in")
        accepted.send(b"x")
        nursery.start_soon(drained, bench, accepted, SMALL * 2)
        await bench.settle()
        await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    close_all(client, accepted)


async def _outcome_of_wait(
    wait: Callable[[Sock], Awaitable[None]], sock: Sock, seen: list[str]
) -> None:
    try:
        await wait(sock)
    except trio.ClosedResourceError:
        seen.append("closed")
    except trio.Cancelled:
        seen.append("cancelled")
        raise
    else:
        seen.append("ready")


@case
async def notify_closing_wakes_the_waiter_of_a_socket_that_is_then_closed(bench: Bench) -> None:
    client, accepted = await pair(bench)
    seen: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_outcome_of_wait, bench.network.wait_readable, client, seen)
        await bench.settle()
        bench.network.notify_closing(client)
        client.close()
    assert seen == ["closed"]
    accepted.close()


@case
async def after_notify_closing_one_may_wait_again(bench: Bench) -> None:
    client, accepted = await pair(bench)
    seen: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_outcome_of_wait, bench.network.wait_readable, client, seen)
        await bench.settle()
        bench.network.notify_closing(client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_outcome_of_wait, bench.network.wait_readable, client, seen)
        await bench.settle()
        accepted.send(b"x")
    assert seen == ["closed", "ready"]
    assert client.recv(9) == b"x"
    close_all(client, accepted)


@case
async def close_without_notify_closing_leaves_the_waiter_asleep(bench: Bench) -> None:
    client, accepted = await pair(bench)
    seen: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_outcome_of_wait, bench.network.wait_readable, client, seen)
        await bench.settle()
        client.close()
        await trio.sleep(0.05)
        assert seen == []
        nursery.cancel_scope.cancel()
    assert seen == ["cancelled"]
    await bench.settle()
    assert accepted.recv(9) == b""
    accepted.close()


@case
async def waiting_on_a_closed_socket_is_refused(bench: Bench) -> None:
    client, accepted = await pair(bench)
    close_all(client, accepted)
    for call in (bench.network.wait_readable, bench.network.wait_writable):
        try:
            await call(client)
        except ValueError as error:
            assert "negative" in str(error)
        else:
            raise AssertionError("it waited")


@case
async def closing_a_listener_wakes_its_acceptor(bench: Bench) -> None:
    listener, _ = listening(bench)
    seen: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_outcome_of_wait, bench.network.wait_readable, listener, seen)
        await bench.settle()
        bench.network.notify_closing(listener)
        listener.close()
    assert seen == ["closed"]


# A peer that has vanished


@case
async def a_vanished_peer_is_silence(bench: Bench) -> None:
    client, accepted = await pair(bench)
    bench.hide(client, accepted)
    accepted.send(b"never seen")
    assert client.send(b"into the dark") == 13
    await bench.settle()
    assert attempt(client.recv, 9) == "EAGAIN"
    assert not bench.network.has_left(client)
    assert not await is_ready(bench.network.wait_readable, client)
    for sock in (client, accepted):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    close_all(client, accepted)


@case
async def what_a_partition_held_back_arrives_after_it_heals(bench: Bench) -> None:
    client, accepted = await pair(bench)
    bench.hide(client, accepted)
    client.send(b"held ")
    client.send(b"back")
    client.shutdown(socket.SHUT_WR)
    await trio.sleep(0.1)
    assert attempt(accepted.recv, 99) == "EAGAIN"
    bench.show(client, accepted)
    received = b""
    while not received.endswith(b"back"):
        await bench.network.wait_readable(accepted)
        received += accepted.recv(99)
    await bench.network.wait_readable(accepted)
    assert (received, accepted.recv(9)) == (b"held back", b"")
    close_all(client, accepted)


@case
async def unanswered_data_ends_with_a_timeout_when_the_user_set_one(bench: Bench) -> None:
    client, accepted = await pair(bench)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
    bench.hide(client, accepted)
    client.send(b"anybody there?")
    await bench.network.wait_readable(client)
    assert bench.network.has_left(client)
    assert attempt(client.recv, 9) == "ETIMEDOUT"
    assert attempt(client.recv, 9) == b""
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    close_all(client, accepted)


@case
async def a_full_buffer_towards_a_vanished_peer_stays_full(bench: Bench) -> None:
    client, accepted = await pair(bench, small=True)
    bench.hide(client, accepted)
    assert fill(client) > 0
    await bench.settle()
    assert attempt(client.send, b"x") == "EAGAIN"
    assert not await is_ready(bench.network.wait_writable, client, 0.1)
    for sock in (client, accepted):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    close_all(client, accepted)
