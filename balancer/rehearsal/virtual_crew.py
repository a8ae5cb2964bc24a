"""Workers as tasks of this trio run: the real ones, with their surroundings virtual.

They share nothing with the supervisor but what processes would: a channel and the board.
"""

import random
from collections.abc import Callable
from itertools import count

import trio

from balancer.core.board import Board, board_bytes, lay_out
from balancer.rehearsal.duplicate import Duplicate
from balancer.rehearsal.memory_channel import MemoryChannel
from balancer.rehearsal.tcp_socket import TcpSock
from balancer.rehearsal.unix_socket import UnixSock
from balancer.supervisor.slots import Process
from balancer.telemetry.record import ExchangeRecord
from balancer.wire.network import Network, Sock
from balancer.worker.link import Link
from balancer.worker.messages import LogPlan
from balancer.worker.surroundings import Surroundings

# A rehearsal's board is small, so that a thousand rehearsals are.
ROWS, CELLS = 17, 2048
FIRST_PID = 1001


class VirtualLines:
    """Keeps the records of all workers."""

    def __init__(self, records: list[ExchangeRecord]) -> None:
        self.access = records.append
        self.reopened = 0

    def obey(self, plan: LogPlan) -> None:
        """Nothing to open."""

    def reopen(self) -> None:
        self.reopened += 1


class VirtualProcess:
    """One worker's task, with the handles that a process has."""

    def __init__(self, pid: int, link: Link) -> None:
        self.pid = pid
        self.link = link
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._how = f"(process {pid}) ended with exit code 0"

    async def run(self) -> None:
        try:
            with self._scope:
                await self.link.run()
        finally:
            self._ended.set()

    async def wait(self) -> str:
        await self._ended.wait()
        return self._how

    def kill(self) -> None:
        """SIGKILL: the task is gone, with every connection that it had."""
        self._how = f"(process {self.pid}) was killed by SIGKILL"
        self._scope.cancel()


class VirtualCrew:
    """Implements `balancer.supervisor.crew.Crew` in the nursery it is given."""

    def __init__(
        self,
        network: Network,
        nursery: trio.Nursery,
        records: list[ExchangeRecord],
        *,
        wall: Callable[[], float],
        seed: int,
    ) -> None:
        self.memory: object = bytearray(board_bytes(ROWS, CELLS))
        self.board = lay_out(self.memory, ROWS, CELLS)
        self.processes: list[VirtualProcess] = []
        self._network = network
        self._nursery = nursery
        self._lines = VirtualLines(records)
        self._wall = wall
        self._seed = seed
        self._pids = count(FIRST_PID)
        self._dialled, self._to_hear = trio.open_memory_channel[MemoryChannel](1024)

    async def launch(self, slot: int) -> Process:
        pid = next(self._pids)
        around = Surroundings(
            slot=slot,
            pid=pid,
            network=self._network,
            # Each its own, or the order of tasks would say who gets which number.
            rng=random.Random(self._seed + pid - FIRST_PID),
            wall=self._wall,
            dial=self._dial,
            board_of=_board_of,
            sock_of=_sock_of,
            lines=self._lines,
        )
        process = VirtualProcess(pid, Link(around))
        self.processes.append(process)
        self._nursery.start_soon(process.run)
        return process

    async def _dial(self) -> MemoryChannel:
        theirs, ours = MemoryChannel.pair()
        await self._dialled.send(theirs)
        return ours

    async def next_channel(self) -> MemoryChannel:
        return await self._to_hear.receive()


def _board_of(handle: object) -> Board:
    assert isinstance(handle, bytearray)
    return Board(handle)


def _sock_of(handle: object) -> Sock:
    assert isinstance(handle, TcpSock | UnixSock)
    return Duplicate(handle)  # type: ignore[return-value]
