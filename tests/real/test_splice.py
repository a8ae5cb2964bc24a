"""Bodies moved by the kernel: what passes, what breaks, and what a pipe may be used for again."""

import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import trio

from balancer.wire import pipes as pipes_module
from balancer.wire.network import KernelNetwork, Sock
from balancer.wire.pipes import IDLE_MAX, Pipe, Pipes, splice_works
from balancer.wire.splice import UNTIL_END, SinkBroke, SourceBroke, Splice, finish
from balancer.wire.streams import cut
from balancer.wire.waiting import Interrupted, TimedOut, Timekeeper, Waiter
from tests.support.kernel_pairs import Lines, body_of, read_to_end, send_all

pytestmark = pytest.mark.skipif(not splice_works(), reason="no splice() here: bodies are copied")
SIZE = 700_000


class Ended(Interrupted):
    """Somebody ended it."""


@dataclass
class Passage:
    """Two connections with a splice between them: far -> near, source | sink, far -> near."""

    network: KernelNetwork
    giver: Sock
    source: Sock
    sink: Sock
    reader: Sock
    waiter: Waiter
    pipes: Pipes = field(default_factory=Pipes)
    passed: int = 0
    pipes_at_pause: tuple[int, int] | None = None

    async def move(self, left: int, *, read_s: float = 5.0, write_s: float = 5.0) -> int:
        return await finish(
            Splice(self.source, self.sink, self.pipes, left, self._passed),
            self.waiter,
            source_ready=lambda: self._more(trio.current_time() + read_s),
            sink_ready=lambda: self.waiter.writable(self.sink, trio.current_time() + write_s),
        )

    async def _more(self, deadline: float) -> None:
        self.pipes_at_pause = self.pipes.in_use, self.pipes.idle
        await self.waiter.readable(self.source, deadline)

    def _passed(self, count: int) -> None:
        self.passed += count

    async def received(self) -> bytes:
        """All that the reader gets until the end, which follows now."""
        self.sink.close()
        data = bytearray()
        await read_to_end(self.network, self.reader, data)
        return bytes(data)


@asynccontextmanager
async def passage(*, buffers: int | None = None) -> AsyncIterator[Passage]:
    network = KernelNetwork()
    lines = Lines(network, buffers=buffers)
    keeper = Timekeeper(network)
    try:
        giver, source = await lines.pair()
        reader, sink = await lines.pair()
        way = Passage(network, giver, source, sink, reader, Waiter(keeper))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.run)
            yield way
            nursery.cancel_scope.cancel()
        assert way.pipes.in_use == 0
        way.pipes.close()
    finally:
        lines.close()


async def give(way: Passage, data: bytes, *, end: bool = False) -> None:
    with contextlib.suppress(OSError):
        await send_all(way.network, way.giver, data)
        if end:
            way.giver.shutdown(socket.SHUT_WR)


# ---- what passes


async def test_a_body_passes_and_the_pipe_is_used_again() -> None:
    async with passage() as way, trio.open_nursery() as nursery:
        got = bytearray()
        nursery.start_soon(read_to_end, way.network, way.reader, got)
        for key in range(3):
            nursery.start_soon(give, way, body_of(key, SIZE))
            assert await way.move(SIZE) == 0
            assert way.pipes.idle == 1
        assert way.passed == 3 * SIZE
        way.sink.close()
    assert got == b"".join(body_of(key, SIZE) for key in range(3))


async def test_what_follows_the_body_stays_where_it_is() -> None:
    async with passage() as way:
        await give(way, body_of(1, 100_000) + b"next")
        assert await way.move(100_000) == 0
        assert way.source.recv(100) == b"next"
        assert await way.received() == body_of(1, 100_000)


async def test_the_end_of_the_source_is_told_by_what_is_left() -> None:
    async with passage() as way:
        await give(way, body_of(1, 90_000), end=True)
        assert await way.move(100_000) == 10_000
        assert await way.move(UNTIL_END) == UNTIL_END
        assert way.source.recv(100) == b""  # an end is still there for who reads on
        assert way.pipes.idle == 1
        assert await way.received() == body_of(1, 90_000)


async def test_between_unix_sockets_too() -> None:
    network, keeper = KernelNetwork(), Timekeeper(KernelNetwork())
    giver, source = socket.socketpair()
    sink, reader = socket.socketpair()
    with giver, source, sink, reader:
        for sock in (giver, source, sink, reader):
            sock.setblocking(False)
        assert network.pipes(source, sink) is not None
        way = Passage(network, giver, source, sink, reader, Waiter(keeper))
        giver.send(body_of(1, 80_000))
        assert await way.move(80_000) == 0
        assert await way.received() == body_of(1, 80_000)
        way.pipes.close()


# ---- what breaks


async def test_a_source_that_breaks_is_told_from_a_sink_that_breaks() -> None:
    async with passage() as way:
        await give(way, body_of(1, 90_000))
        cut(way.giver)
        way.giver.close()
        with pytest.raises(SourceBroke) as source_broke:
            await way.move(100_000)
        assert isinstance(source_broke.value.cause, ConnectionResetError)
        assert way.pipes.idle == 0
    async with passage() as way:
        await give(way, body_of(1, 90_000))
        cut(way.reader)
        way.reader.close()
        with pytest.raises(SinkBroke) as sink_broke:
            await way.move(100_000)
        assert isinstance(sink_broke.value.cause, OSError)
        assert sink_broke.value.left == 10_000
        assert way.pipes.idle == 0


async def test_a_source_that_pauses_too_long_holds_no_pipe() -> None:
    async with passage() as way:
        await give(way, body_of(1, 90_000))
        with pytest.raises(SourceBroke) as broke:
            await way.move(100_000, read_s=0.2)
        assert isinstance(broke.value.cause, TimedOut)
        assert broke.value.left == 10_000
        assert way.passed == 90_000
        assert way.pipes_at_pause == (0, 1)


async def test_a_sink_that_takes_nothing_for_too_long_loses_its_pipe() -> None:
    async with passage(buffers=8192) as way, trio.open_nursery() as nursery:
        nursery.start_soon(give, way, body_of(1, SIZE))
        with pytest.raises(SinkBroke) as broke:
            await way.move(SIZE, write_s=0.2)
        assert isinstance(broke.value.cause, TimedOut)
        assert way.pipes.idle == 0
        nursery.cancel_scope.cancel()
        got = await way.received()
        assert got == body_of(1, SIZE)[: way.passed]


@pytest.mark.parametrize("reads", [False, True], ids=["the sink is full", "the source pauses"])
async def test_an_interruption_ends_it(reads: bool) -> None:
    async with passage(buffers=8192) as way, trio.open_nursery() as nursery:
        nursery.start_soon(give, way, body_of(1, 200_000))
        if reads:
            nursery.start_soon(read_to_end, way.network, way.reader, bytearray())
        nursery.start_soon(_interrupt_later, way)
        with pytest.raises(SourceBroke if reads else SinkBroke) as broke:
            await way.move(SIZE)
        assert isinstance(broke.value.cause, Ended)
        nursery.cancel_scope.cancel()


async def _interrupt_later(way: Passage) -> None:
    """When nothing has passed for a while."""
    before = -1
    while before != way.passed or not way.waiter.waiting:
        before = way.passed
        await trio.sleep(0.1)
    way.waiter.interrupt(Ended())


async def test_who_never_has_to_wait_is_interrupted_and_lets_others_run() -> None:
    """At most 1 MiB, and the pipe that is under way, before everybody else has a turn."""
    async with passage(buffers=4 << 20) as way, trio.open_nursery() as nursery:
        await give(way, bytes(3 << 20))
        turns: list[int] = []
        nursery.start_soon(_note_turns, way, turns)
        way.waiter.interrupt(Ended())
        with pytest.raises(SourceBroke) as broke:
            await way.move(1 << 30)
        assert isinstance(broke.value.cause, Ended)
        assert 1 << 18 <= way.passed <= 2 << 20
        with pytest.raises(SourceBroke):
            await way.move(1 << 30, read_s=0.1)
        assert way.passed == 3 << 20
        nursery.cancel_scope.cancel()
    assert max(later - earlier for earlier, later in pairwise(turns)) <= 2 << 20


async def _note_turns(way: Passage, turns: list[int]) -> None:
    while True:
        turns.append(way.passed)
        await trio.lowlevel.checkpoint()


# ---- pipes


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_without_a_pipe_all_is_left_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    async with passage() as way:
        with no_more_descriptors():
            assert await way.move(SIZE) == SIZE
        monkeypatch.setattr(pipes_module, "SIZE_BYTES", 4096)  # as past a user's limit
        assert await way.move(SIZE) == SIZE
        monkeypatch.setattr(pipes_module, "PIPES_MAX", 0)
        assert await way.move(SIZE) == SIZE


def test_a_pipe_with_a_byte_in_it_is_never_lent_again() -> None:
    pipes = Pipes()
    pipe = pipes.take()
    assert pipe is not None
    os.write(pipe.inlet, b"x")
    pipes.give(pipe)
    assert (pipes.in_use, pipes.idle) == (0, 0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.read(pipe.outlet, 1)


def test_pipes_are_bounded_in_use_and_idle() -> None:
    before = descriptors()
    pipes = Pipes()
    taken: list[Pipe] = []
    while (pipe := pipes.take()) is not None:
        taken.append(pipe)
    assert len(taken) == pipes.in_use <= pipes_module.PIPES_MAX
    for pipe in taken:
        pipes.give(pipe)
    assert (pipes.in_use, pipes.idle) == (0, min(IDLE_MAX, len(taken)))
    pipes.close()
    assert descriptors() == before


def test_what_is_no_plain_socket_of_the_kernel_is_copied() -> None:
    class Coded(socket.socket):
        """A socket whose bytes are not what the kernel has, as with TLS."""

    network = KernelNetwork()
    with Coded() as coded, socket.socket() as plain:
        assert network.pipes(plain, plain) is not None
        assert network.pipes(plain, coded) is None
        assert network.pipes(coded, plain) is None


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
