"""Bytes in and out of a socket: heads cut out of streams, progress under back-pressure, last words."""

import errno
import socket
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from balancer.core.message import BadMessage
from balancer.rehearsal.memory_network import MemoryNetwork
from balancer.wire.h11_heads import check_request_line
from balancer.wire.network import Sock
from balancer.wire.streams import (
    LINGER_BYTES_MAX,
    LINGER_S,
    READ_BYTES_MAX,
    HeadSoFar,
    PeerClosed,
    cut,
    linger,
    receive,
    receive_head,
    send,
    send_now,
)
from balancer.wire.waiting import NEVER, Interrupted, TimedOut, Timekeeper, Waiter
from tests.support.sock_pair import sock_pair


class Bench:
    """A connection: `near` is ours, `far` belongs to the other side."""

    def __init__(self, network: MemoryNetwork, near: Sock, far: Sock) -> None:
        self.network = network
        self.near = near
        self.far = far
        self.keeper = Timekeeper(network)
        self.waiter = Waiter(self.keeper)

    async def head(
        self, buffer: bytearray, *, limit: int = 100, timeout_s: float = 5, too_large: int = 431
    ) -> bytes:
        deadline = trio.current_time() + timeout_s
        head = HeadSoFar(buffer, limit=limit, too_large=too_large, check_start=check_request_line)
        return await receive_head(self.near, self.waiter, buffer, head, lambda: deadline)

    async def drip(self, data: bytes, every_s: float) -> None:
        for byte in data:
            await trio.sleep(every_s)
            self.far.send(bytes([byte]))

    async def read_far(self, most: int = READ_BYTES_MAX) -> bytes:
        await self.network.wait_readable(self.far)
        return self.far.recv(most)


@pytest.fixture
async def bench(nursery: trio.Nursery) -> AsyncIterator[Bench]:
    network = MemoryNetwork(seed=1)
    near, far = await sock_pair(network)
    bench = Bench(network, near, far)
    nursery.start_soon(bench.keeper.run)
    yield bench
    near.close()
    far.close()


async def test_receive_gives_what_is_there_and_then_the_end(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.far.send(b"abc")
    bench.far.shutdown(socket.SHUT_WR)
    assert await receive(bench.near, bench.waiter, 1) == b"abc"
    assert await receive(bench.near, bench.waiter, 1) == b""


async def test_receive_waits_and_no_longer_than_its_deadline(
    bench: Bench, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(bench.drip, b"a", 2)
    assert await receive(bench.near, bench.waiter, 3) == b"a"
    assert trio.current_time() == 2
    with pytest.raises(TimedOut):
        await receive(bench.near, bench.waiter, 3)
    assert trio.current_time() == 3


async def test_receive_tells_a_reset_as_the_kernel_does(
    bench: Bench, autojump_clock: MockClock
) -> None:
    cut(bench.far)
    bench.far.close()
    await trio.sleep(1)
    with pytest.raises(ConnectionResetError):
        await receive(bench.near, bench.waiter, NEVER)


# ---- heads ---------------------------------------------------------------------------------------

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("short_reads", [False, True])
async def test_a_head_is_cut_out_of_the_stream_and_the_rest_stays(
    bench: Bench, short_reads: bool, autojump_clock: MockClock
) -> None:
    bench.network.set_short_reads(short_reads)
    bench.near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    stream = HEAD + HEAD + b"body"
    while stream:
        stream = stream[bench.far.send(stream) :]
    buffer = bytearray()
    assert await bench.head(buffer) == HEAD
    assert await bench.head(buffer) == HEAD
    while len(buffer) < 4:
        buffer += await receive(bench.near, bench.waiter, 5)
    assert buffer == b"body"


async def test_a_head_that_comes_byte_by_byte_is_the_same(
    bench: Bench, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(bench.drip, HEAD, 0.01)
    assert await bench.head(bytearray()) == HEAD


async def test_a_head_in_the_buffer_needs_no_socket(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.near.close()
    buffer = bytearray(HEAD + b"x")
    assert await bench.head(buffer) == HEAD
    assert buffer == b"x"


async def test_a_slow_head_ends_at_its_deadline_however_busy_it_is(
    bench: Bench, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """One byte a second keeps no connection open (slowloris)."""
    nursery.start_soon(bench.drip, b"GET / HTTP/1.1", 1)
    buffer = bytearray()
    with pytest.raises(TimedOut):
        await bench.head(buffer, timeout_s=5.5)
    assert trio.current_time() == 5.5
    assert buffer == b"GET /"


async def test_an_early_end_is_told_from_a_head(bench: Bench, autojump_clock: MockClock) -> None:
    bench.far.send(HEAD[:-1])
    bench.far.shutdown(socket.SHUT_WR)
    with pytest.raises(PeerClosed):
        await bench.head(bytearray())


@pytest.mark.parametrize("ended", [True, False])
async def test_a_head_is_no_longer_than_its_limit(
    bench: Bench, ended: bool, autojump_clock: MockClock
) -> None:
    bench.far.send(b"x" * 101 + (b"\r\n\r\n" if ended else b""))
    with pytest.raises(BadMessage) as caught:
        await bench.head(bytearray(), limit=100, too_large=502)
    assert caught.value.status == 502
    assert trio.current_time() == 0


async def test_a_long_body_behind_a_short_head_is_no_long_head(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.far.send(HEAD + b"x" * 1000)
    assert await bench.head(bytearray()) == HEAD


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / HTTP/1.1\r\nA: 1\n", 400),
        (b"GET / HTTP/1.1\r\nA: 1\rB: 2", 400),
        (b"\n", 400),
        (b"\0", 400),
        (b"GET / HTTP/1.1\r\nA: \x0b", 400),
        (b"\x7f", 400),
        (b"GET /\r\n", 400),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 400),
    ],
)
@pytest.mark.parametrize("every_s", [0, 0.01])
async def test_what_never_becomes_a_head_is_not_waited_for(
    bench: Bench,
    nursery: trio.Nursery,
    stream: bytes,
    status: int,
    every_s: float,
    autojump_clock: MockClock,
) -> None:
    if every_s:
        nursery.start_soon(bench.drip, stream, every_s)
    else:
        bench.far.send(stream)
    with pytest.raises(BadMessage) as caught:
        await bench.head(bytearray())
    assert caught.value.status == status
    assert trio.current_time() < 1


# ---- sending -------------------------------------------------------------------------------------


def narrow(bench: Bench) -> None:
    bench.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    bench.far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


async def test_all_of_it_arrives_in_order_through_a_narrow_socket(
    bench: Bench, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    narrow(bench)
    bench.network.set_short_reads(True)
    data = bytes(range(256)) * 200
    nursery.start_soon(send, bench.near, bench.waiter, data, 5)
    arrived = b""
    while len(arrived) < len(data):
        arrived += await bench.read_far(1000)
    assert arrived == data


async def test_a_reader_that_makes_progress_is_waited_for_as_long_as_it_takes(
    bench: Bench, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    narrow(bench)
    data = b"x" * 60_000

    async def read_slowly() -> None:
        while True:
            await trio.sleep(4)
            bench.far.recv(9000)

    nursery.start_soon(read_slowly)
    await send(bench.near, bench.waiter, data, 5)
    assert trio.current_time() > 10


async def test_a_reader_that_stands_still_is_not(bench: Bench, autojump_clock: MockClock) -> None:
    narrow(bench)
    with pytest.raises(TimedOut):
        await send(bench.near, bench.waiter, b"x" * 100_000, 5)
    assert trio.current_time() == 5


async def test_sending_to_a_broken_connection_fails(
    bench: Bench, autojump_clock: MockClock
) -> None:
    cut(bench.far)
    bench.far.close()
    await trio.sleep(1)
    with pytest.raises(OSError) as caught:
        await send(bench.near, bench.waiter, b"x", 5)
    assert caught.value.errno in (errno.ECONNRESET, errno.EPIPE)


async def test_send_now_takes_what_fits_and_says_how_much(
    bench: Bench, autojump_clock: MockClock
) -> None:
    narrow(bench)
    first = send_now(bench.near, b"x" * 100_000)
    assert 0 < first < 100_000
    while send_now(bench.near, b"x" * 100_000):
        pass
    assert send_now(bench.near, b"x") == 0


async def test_an_interruption_surfaces_where_the_task_stands(
    bench: Bench, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def interrupt() -> None:
        for _ in range(2):
            await trio.sleep(1)
            bench.waiter.interrupt(Interrupted())

    nursery.start_soon(interrupt)
    with pytest.raises(Interrupted):
        await receive(bench.near, bench.waiter, 9)
    assert trio.current_time() == 1
    narrow(bench)
    with pytest.raises(Interrupted):
        await send(bench.near, bench.waiter, b"x" * 100_000, 9)
    assert trio.current_time() == 2


# ---- the end -------------------------------------------------------------------------------------


async def test_lingering_lets_a_client_that_still_sends_read_our_last_words(
    bench: Bench, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A close with unread bytes would be a reset, and a reset takes the answer away."""
    bench.near.send(b"413")

    async def client() -> bytes:
        bench.far.send(b"x" * 30_000)
        await trio.sleep(0.5)
        bench.far.send(b"x" * 30_000)
        words = await bench.read_far()
        assert await bench.read_far() == b""
        bench.far.shutdown(socket.SHUT_WR)
        return words

    async def ours() -> None:
        await linger(bench.near, bench.waiter)
        bench.near.close()

    nursery.start_soon(ours)
    assert await client() == b"413"
    await trio.sleep(1)
    [left] = bench.network.own_host.open_sockets()
    assert left.number == bench.far.fileno()


async def test_lingering_ends_with_the_client(
    bench: Bench, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    bench.far.shutdown(socket.SHUT_WR)
    await linger(bench.near, bench.waiter)
    assert trio.current_time() == 0


async def test_lingering_has_an_end(bench: Bench, autojump_clock: MockClock) -> None:
    await linger(bench.near, bench.waiter)
    assert trio.current_time() == LINGER_S


async def test_lingering_swallows_only_so_much(
    bench: Bench, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await bench.network.wait_writable(bench.far)
            sent += send_now(bench.far, b"x" * 65536)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as flooding:
            flooding.start_soon(flood)
            await linger(bench.near, bench.waiter)
            scope.cancel()
    assert LINGER_BYTES_MAX <= sent < 2 * LINGER_BYTES_MAX
    assert trio.current_time() < LINGER_S


async def test_lingering_on_a_broken_connection_is_over_at_once(
    bench: Bench, autojump_clock: MockClock
) -> None:
    cut(bench.far)
    bench.far.close()
    await trio.sleep(1)
    await linger(bench.near, bench.waiter)
    assert trio.current_time() == 1


async def test_a_cut_connection_ends_in_a_reset(bench: Bench, autojump_clock: MockClock) -> None:
    cut(bench.near)
    bench.near.close()
    await trio.sleep(1)
    with pytest.raises(ConnectionResetError):
        bench.far.recv(9)


async def test_cutting_what_is_closed_is_nothing(bench: Bench, autojump_clock: MockClock) -> None:
    bench.near.close()
    cut(bench.near)
