"""No byte that is left in a pipe reaches anybody else: transfers broken at random, pipes shared.

Each body is a piece of noise that no other has, so a reader knows a stranger's byte at once.
"""

import contextlib
import gc
import os
import random
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
import trio

from balancer.wire.network import KernelNetwork, Sock
from balancer.wire.pipes import IDLE_MAX, splice_works
from balancer.wire.splice import UNTIL_END, SinkBroke, SourceBroke, Splice, finish
from balancer.wire.streams import cut
from balancer.wire.waiting import Interrupted, Timekeeper, Waiter
from tests.support.kernel_pairs import Lines, body_of, read_to_end, send_all

pytestmark = pytest.mark.skipif(not splice_works(), reason="no splice() here: bodies are copied")

AT_ONCE = 12
SIZE_MAX = 400_000
ENDINGS = (
    "whole",
    "whole, until the end",
    "source ends early",
    "source resets",
    "source stalls",
    "reader resets",
    "reader closes",
    "reader stalls",
    "interrupted",
    "cancelled",
)


class Ended(Interrupted):
    """Somebody ended it."""


class Chaos:
    """What all transfers share, and what is counted over them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.network = KernelNetwork()
        self.keeper = Timekeeper(self.network)
        self.ends: Counter[str] = Counter()
        self.whole = 0
        self.left_in_a_pipe = 0
        self.lines = [Lines(self.network, buffers=size) for size in (None, 8192, 65536)]

    async def run(self, transfers: int) -> None:
        keys = iter(range(transfers))
        async with trio.open_nursery() as keeping:
            keeping.start_soon(self.keeper.run)
            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(self._one_after_the_other, keys)
            keeping.cancel_scope.cancel()

    async def _one_after_the_other(self, keys: Iterator[int]) -> None:
        for key in keys:
            lines = self.rng.choice(self.lines)
            giver, source = await lines.pair()
            reader, sink = await lines.pair()
            await Transfer(self, key, giver, source, sink, reader).run()
            lines.release(giver, source, sink, reader)


class Transfer:
    """One body on its way, and how it ends."""

    def __init__(
        self, chaos: Chaos, key: int, giver: Sock, source: Sock, sink: Sock, reader: Sock
    ) -> None:
        self.chaos = chaos
        self.giver, self.source, self.sink, self.reader = giver, source, sink, reader
        rng = chaos.rng
        self.body = body_of(key, rng.randint(1, SIZE_MAX))
        self.ending = rng.choice(ENDINGS)
        self.at = rng.randint(0, len(self.body))
        self.taken_first = 0
        self.passed = 0
        self.waiter = Waiter(chaos.keeper)
        self.got = bytearray()
        self.has_read = trio.Event()

    async def run(self) -> None:
        chaos = self.chaos
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._give)
            nursery.start_soon(self._read)
            how = await self._move()
            chaos.ends[f"{self.ending}: {how}"] += 1
            self.sink.close()
            with trio.move_on_after(5):
                await self.has_read.wait()
            nursery.cancel_scope.cancel()
        assert self.got == self.body[: len(self.got)], f"{self.ending}: not its own bytes"
        assert len(self.got) <= self.passed
        if self.ending.startswith("whole"):
            assert how == "moved"
            assert self.got == self.body
            chaos.whole += 1

    def _until(self, stall: str) -> float:
        return trio.current_time() + (0.004 if self.ending == stall else 5)

    async def _move(self) -> str:
        chaos = self.chaos
        pipes = chaos.network.pipes(self.source, self.sink)
        assert pipes is not None
        size = UNTIL_END if self.ending.endswith("until the end") else len(self.body)
        with trio.CancelScope() as scope:
            if self.ending == "cancelled":
                scope.deadline = trio.current_time() + chaos.rng.random() * 0.003
            try:
                await finish(
                    Splice(self.source, self.sink, pipes, size, self._passed),
                    self.waiter,
                    source_ready=lambda: self.waiter.readable(
                        self.source, self._until("source stalls")
                    ),
                    sink_ready=lambda: self.waiter.writable(
                        self.sink, self._until("reader stalls")
                    ),
                )
            except SourceBroke:
                return "source broke"
            except SinkBroke:
                chaos.left_in_a_pipe += 1
                return "sink broke"
        return "cancelled" if scope.cancelled_caught else "moved"

    def _passed(self, count: int) -> None:
        self.passed += count
        if self.ending == "interrupted" and self.passed >= self.at:
            self.waiter.interrupt(Ended())

    async def _give(self) -> None:
        early = self.ending in ("source ends early", "source resets", "source stalls")
        data = self.body[: self.at] if early else self.body
        with contextlib.suppress(OSError):
            await send_all(self.chaos.network, self.giver, data)
            if self.ending == "source resets":
                cut(self.giver)
                self.giver.close()
            elif self.ending != "source stalls":
                self.giver.shutdown(socket.SHUT_WR)

    async def _read(self) -> None:
        if "reader" in self.ending:
            await self._read_some()
        else:
            await read_to_end(self.chaos.network, self.reader, self.got)
        self.has_read.set()

    async def _read_some(self) -> None:
        network, reader = self.chaos.network, self.reader
        while len(self.got) < self.at:
            try:
                data = reader.recv(1 << 16)
            except BlockingIOError:
                await network.wait_readable(reader)
                continue
            if not data:
                return
            self.got += data
        if self.ending == "reader resets":
            cut(reader)
        if self.ending != "reader stalls":
            reader.close()


@pytest.mark.parametrize(
    ("seed", "transfers"), [(1, 2_500), pytest.param(2, 30_000, marks=pytest.mark.long)]
)
async def test_each_reader_gets_a_beginning_of_its_own_body(seed: int, transfers: int) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    chaos = Chaos(seed)
    try:
        await chaos.run(transfers)
        pipes = chaos.network.pipes(*await chaos.lines[0].pair())
    finally:
        for lines in chaos.lines:
            lines.close()
    assert pipes is not None
    assert pipes.in_use == 0
    assert pipes.idle <= IDLE_MAX
    pipes.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert chaos.whole > transfers / 10, "pipes must go from broken transfers to whole ones"
    assert chaos.left_in_a_pipe > transfers / 20, chaos.ends
