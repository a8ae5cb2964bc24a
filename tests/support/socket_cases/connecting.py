"""Connecting, accepting and what a socket in the wrong state says."""

import errno
import socket

import trio

from balancer.wire.network import Sock, SockAddr
from tests.support.socket_bench import (
    LINGER_RESET,
    Bench,
    attempt,
    case,
    close_all,
    connected,
    is_ready,
    listening,
    refusing_address,
)


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
async def connects_can_be_steered_to_those_that_began_to_listen_first(bench: Bench) -> None:
    shared = [shared_listener(bench, ("127.0.0.1", 0))]
    address: SockAddr = shared[0].getsockname()  # type: ignore[assignment]
    shared += [shared_listener(bench, address) for _ in range(4)]
    assert await who_is_reached(bench, shared, address) == {0, 1, 2, 3, 4}
    bench.network.steer(shared[4], 2)
    assert await who_is_reached(bench, shared, address) == {0, 1}
    shared[4].close()
    shared[2].close()
    assert await who_is_reached(bench, shared, address) == {0, 1}
    shared[0].close()  # the last one gets its number, and so it is among the first two
    assert await who_is_reached(bench, shared, address) == {1, 3}
    bench.network.steer(shared[1], 1)
    assert await who_is_reached(bench, shared, address) == {3}
    bench.network.steer(shared[1], None)
    assert await who_is_reached(bench, shared, address) == {1, 3}
    close_all(*shared)


def shared_listener(bench: Bench, address: SockAddr) -> Sock:
    sock = bench.network.socket(socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(address)
    sock.listen(200)
    return sock


async def who_is_reached(bench: Bench, shared: list[Sock], address: SockAddr) -> set[int]:
    """Which of these sockets the next clients come to."""
    clients = [await connected(bench, address) for _ in range(100)]
    await bench.settle()
    reached = set()
    for number, sock in enumerate(shared):
        while sock.fileno() >= 0 and not isinstance(taken := attempt(sock.accept), str):
            reached.add(number)
            taken[0].close()  # type: ignore[index]
    close_all(*clients)
    return reached


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
