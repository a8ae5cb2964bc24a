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
    """Keeps the records of all workers, until their process is dead."""

    def __init__(self, records: list[ExchangeRecord]) -> None:
        self._records = records
        self.dead = False
        self.reopened = 0

    def access(self, record: ExchangeRecord) -> None:
        if not self.dead:
            self._records.append(record)

    def obey(self, plan: LogPlan) -> None:
        """Nothing to open."""

    def reopen(self) -> None:
        self.reopened += 1


class VirtualProcess:
    """One worker's task, with the handles that a process has.

    `may_crash`: a crash of its own is the end of the process, and not of the rehearsal.
    """

    def __init__(self, around: Surroundings, board: Board, lines: VirtualLines) -> None:
        self.pid = around.pid
        self.slot = around.slot
        self.link = Link(around)
        self.channel: MemoryChannel | None = None
        self.may_crash = False
        self._board = board
        self._lines = lines
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._left_behind: list[tuple[memoryview, bytes]] = []
        self._how = "ended with exit code 0"

    async def run(self) -> None:
        try:
            with self._scope:
                await self.link.run()
        except Exception:
            if not self.may_crash:
                raise
            self._how = "ended with exit code 1"
        finally:
            for part, words in self._left_behind:
                part.cast("B")[:] = words
            self._ended.set()

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    async def wait(self) -> str:
        await self._ended.wait()
        return f"(process {self.pid}) {self._how}"

    def kill(self) -> None:
        """SIGKILL: the task is gone, with every connection that it had.

        What it does on its way out did not happen: it says no word, and the board stays as it is.
        """
        if self._lines.dead:
            return
        self._how = "was killed by SIGKILL"
        self._lines.dead = True
        self.hang_up()
        for number in range(1, self._board.used):
            if self._board.pid(number) == self.pid:
                parts = self._board.parts(number)
                self._left_behind = [(part, part.tobytes()) for part in parts]
        self._scope.cancel()

    def hang_up(self) -> None:
        """The channel breaks; the worker dials again."""
        if self.channel is not None:
            self.channel.close()

    def terminate(self) -> None:
        """SIGTERM."""
        self.link.leave()


class VirtualCrew:
    """Implements `balancer.supervisor.crew.Crew` in the nursery it is given.

    `unattended`: whether nobody listens where workers dial.
    """

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
        self.unattended = False
        self._network = network
        self._nursery = nursery
        self._records = records
        self._wall = wall
        self._seed = seed
        self._pids = count(FIRST_PID)
        self._dialled, self._to_hear = trio.open_memory_channel[MemoryChannel](1024)

    async def launch(self, slot: int) -> Process:
        pid = next(self._pids)
        lines = VirtualLines(self._records)
        around = Surroundings(
            slot=slot,
            pid=pid,
            network=self._network,
            # Each its own, or the order of tasks would say who gets which number.
            rng=random.Random(self._seed + pid - FIRST_PID),
            wall=self._wall,
            dial=lambda: self._dial(process),
            board_of=_board_of,
            sock_of=_sock_of,
            lines=lines,
        )
        process = VirtualProcess(around, self.board, lines)
        self.processes.append(process)
        self._nursery.start_soon(process.run)
        return process

    async def _dial(self, process: VirtualProcess) -> MemoryChannel:
        if self.unattended:
            raise ConnectionRefusedError
        theirs, process.channel = MemoryChannel.pair()
        await self._dialled.send(theirs)
        return process.channel

    def lives(self, pid: int) -> bool:
        return any(each.pid == pid and not each.has_ended for each in self.processes)

    async def next_channel(self) -> MemoryChannel:
        return await self._to_hear.receive()


def _board_of(handle: object) -> Board:
    assert isinstance(handle, bytearray)
    return Board(handle)


def _sock_of(handle: object) -> Sock:
    assert isinstance(handle, TcpSock | UnixSock)
    return Duplicate(handle)  # type: ignore[return-value]
