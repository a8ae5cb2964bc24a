"""Taking over from a supervisor that was killed: its workers serve on and dial us.

Finds out whether there are any, and gathers the board, the sockets and the workers from them. It
tells them nothing: until our pools know enough, they are better off with what they have.
"""

import fcntl
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from balancer.core.board import Board, OtherLayout
from balancer.supervisor.introductions import Introduction, introduced
from balancer.supervisor.processes import AdoptedProcess
from balancer.supervisor.slots import Process
from balancer.worker.channel import Channel, ChannelClosed
from balancer.worker.messages import SocketKey
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
    found: Orphans | None = None
    with trio.move_on_after(GATHER_S):
        while found is None or not _complete(found):
            channel = await next_channel()
            introduction = await _heard(channel)
            if introduction is None:
                continue
            if found is None:
                found = _opened(introduction, board_of)
            if found is None:
                introduction.close()
                channel.close()
                continue
            _keep(found, introduction)
            found.workers.append((channel, introduction))
    return found


async def _heard(channel: Channel) -> Introduction | None:
    try:
        return await introduced(channel)
    except ChannelClosed:
        channel.close()
        return None


def _opened(introduction: Introduction, board_of: Callable[[int], Board]) -> Orphans | None:
    memory, introduction.memory = introduction.memory, None
    if not isinstance(memory, int):
        return None
    try:
        return Orphans(memory=memory, board=board_of(memory))
    except OtherLayout:
        os.close(memory)
        return None


def _keep(found: Orphans, introduction: Introduction) -> None:
    """One handle of each socket; the introduction keeps, and will close, what is there already."""
    for key in introduction.sockets.keys() - found.sockets.keys():
        handle = introduction.sockets.pop(key)
        assert isinstance(handle, int), "between processes, handles are descriptors"
        found.sockets[key] = handle


def _complete(found: Orphans) -> bool:
    """Whether everybody who has signed the board, and still lives, has been heard."""
    heard = {introduction.hello.pid for _, introduction in found.workers}
    signed = {found.board.pid(row) for row in range(1, found.board.used)} - {0}
    return not any(_lives(pid) for pid in signed - heard)


def _lives(pid: int) -> bool:
    with suppress(OSError):
        os.kill(pid, 0)
        return True
    return False


def adopted(orphans: Orphans) -> list[Adopted]:
    """The workers among them that still live and have a plan."""
    found = []
    for channel, introduction in orphans.workers:
        hello = introduction.hello
        try:
            process = AdoptedProcess(hello.pid)
        except OSError:
            channel.close()
            continue
        assert hello.row is not None, "who hands a board over has a row on it"
        found.append(
            Adopted(
                slot=hello.slot,
                row=hello.row,
                process=process,
                channel=channel,
                introduction=introduction,
            )
        )
    return found
