"""Taking over from a supervisor that was killed: its workers serve on and dial us.

Finds out whether there are any, and gathers the board, the sockets and the workers from them. It
tells them nothing: until our pools know enough, they are better off with what they have.
"""

import fcntl
import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from balancer.core.board import Board, OtherLayout
from balancer.supervisor.introductions import Introduction, introduced
from balancer.supervisor.processes import AdoptedProcess, lives
from balancer.supervisor.rows import Elder
from balancer.supervisor.slots import Process
from balancer.worker.channel import Channel, ChannelClosed
from balancer.worker.messages import Hello, SocketKey
from balancer.worker.process import LOCK_ENDING

# Workers look for a supervisor ten times a second.
GATHER_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A worker that is there already: its place, its process, and what it has said so far."""

    slot: int
    row: int
    process: Process
    channel: Channel
    introduction: Introduction


@dataclass(slots=True, kw_only=True)
class Orphans:
    """Workers without a supervisor, and what they hold; the handles are ours."""

    memory: int
    board: Board
    sockets: dict[SocketKey, int] = field(default_factory=dict)
    workers: list[tuple[Channel, Introduction]] = field(default_factory=list)

    def adopted(self) -> list[Adopted]:
        """The workers that still live, have a plan, and go by it."""
        found = []
        for channel, introduction in self.workers:
            process = _process(channel, introduction.hello)
            if process is None:
                introduction.close()
                channel.close()  # it dials again, and is told to end
                continue
            slot, row = introduction.hello.slot, introduction.hello.row
            assert row is not None
            found.append(
                Adopted(
                    slot=slot, row=row, process=process, channel=channel, introduction=introduction
                )
            )
        return found

    def strays(self, adopted: Iterable[Adopted]) -> dict[int, Elder]:
        """Who else still lives of those that have signed the board, by row."""
        rows = {each.row for each in adopted}
        found: dict[int, Elder] = {}
        for row in range(1, self.board.used):
            pid = self.board.pid(row)
            if pid and row not in rows:
                with suppress(OSError):
                    found[row] = AdoptedProcess(pid)
        return found


def _process(channel: Channel, hello: Hello) -> AdoptedProcess | None:
    """The process behind a channel, if it is there and to be kept."""
    if hello.row is None or hello.draining:
        return None
    try:
        process = AdoptedProcess(hello.pid)
    except OSError:
        return None
    # Who still holds his end lived until now, so the number was still his.
    if channel.is_open:
        return process
    process.forget()
    return None


def orphans_are_left(path: Path) -> bool:
    """Whether workers live that dial `path`: each holds a share of the lock beside it."""
    try:
        descriptor = os.open(f"{path}{LOCK_ENDING}", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


async def gather(
    next_channel: Callable[[], Awaitable[Channel]], board_of: Callable[[int], Board]
) -> Orphans | None:
    """Hear every worker out that dials in time; None where none does, or none of our version."""
    gathering = _Gathering(board_of)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gathering.take, next_channel)
        with trio.move_on_after(GATHER_S):
            await gathering.complete.wait()
        nursery.cancel_scope.cancel()
    return gathering.found


class _Gathering:
    """Hears all who dial at once, so that nobody who says nothing keeps another from being heard."""

    def __init__(self, board_of: Callable[[int], Board]) -> None:
        self._board_of = board_of
        self.found: Orphans | None = None
        self.complete = trio.Event()

    async def take(self, next_channel: Callable[[], Awaitable[Channel]]) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._hear, await next_channel())

    async def _hear(self, channel: Channel) -> None:
        kept = False
        try:
            introduction = await introduced(channel)
            kept = self._keep(channel, introduction)
        except ChannelClosed:
            pass
        finally:
            if not kept:
                channel.close()

    def _keep(self, channel: Channel, introduction: Introduction) -> bool:
        """Whether it is one of those whose board and sockets we take over."""
        if self.found is None:
            self.found = _opened(introduction, self._board_of)
        if self.found is None or introduction.hello.row is None:
            introduction.close()
            return False
        _take_sockets(self.found, introduction)
        self.found.workers.append((channel, introduction))
        if _is_complete(self.found):
            self.complete.set()
        return True


def _opened(introduction: Introduction, board_of: Callable[[int], Board]) -> Orphans | None:
    memory, introduction.memory = introduction.memory, None
    if not isinstance(memory, int):
        return None
    try:
        return Orphans(memory=memory, board=board_of(memory))
    except OtherLayout:
        os.close(memory)
        return None


def _take_sockets(found: Orphans, introduction: Introduction) -> None:
    """One handle of each socket; the introduction keeps, and will close, what is there already."""
    for key in introduction.sockets.keys() - found.sockets.keys():
        handle = introduction.sockets.pop(key)
        assert isinstance(handle, int), "between processes, handles are descriptors"
        found.sockets[key] = handle


def _is_complete(found: Orphans) -> bool:
    """Whether everybody who has signed the board, and still lives, has been heard."""
    heard = {introduction.hello.pid for _, introduction in found.workers}
    signed = {found.board.pid(row) for row in range(1, found.board.used)} - {0}
    return not any(lives(pid) for pid in signed - heard)
