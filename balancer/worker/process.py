"""A worker as a process of its own: signals, the line to its supervisor, and an end.

Started by exec, with the number of its slot and the path of the supervisor's socket; everything else
it is told over that socket. A supervisor that is about to take over listens elsewhere until it has,
which is a third argument. It imports no configuration, no probes and no command line.
"""

import fcntl
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import trio

from balancer.telemetry.logs import get_logger
from balancer.wire.network import KernelNetwork, Sock
from balancer.worker.channel import Channel, KernelChannel
from balancer.worker.lines import FileLines
from balancer.worker.link import Link
from balancer.worker.memory import board_in
from balancer.worker.surroundings import Surroundings

# The supervisor decides; a terminal's Ctrl-C and hang-up reach it as well.
LEFT_TO_THE_SUPERVISOR = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2)
LOCK_ENDING = ".lock"


def main() -> int:
    """Be the worker that the command line says; the exit code."""
    slot, paths = int(sys.argv[1]), sys.argv[2:]
    for number in LEFT_TO_THE_SUPERVISOR:
        signal.signal(number, signal.SIG_IGN)
    sys.unraisablehook = not_of_names
    lock = mark_as_there(paths[0])
    try:
        return trio.run(_main, slot, paths)
    finally:
        os.close(lock)


def not_of_names(unraisable: "sys.UnraisableHookArgs") -> None:
    """Say nothing of a name that a client asks for in bytes that are no text.

    `ssl` has no other way to tell of it than a traceback, which a client could fill the log with. The
    handshake fails, and who was turned away is told once.
    """
    if not isinstance(unraisable.exc_value, UnicodeDecodeError):
        sys.__unraisablehook__(unraisable)


def mark_as_there(path: str) -> int:
    """Hold a share of the lock by which a new supervisor knows that workers are left."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path + LOCK_ENDING, flags, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


async def _main(slot: int, paths: list[str]) -> int:
    code = 0
    lines = FileLines()
    dialler = Dialler(*paths)
    link = Link(
        Surroundings(
            slot=slot,
            pid=os.getpid(),
            network=KernelNetwork(),
            rng=random.Random(),
            wall=time.time,
            dial=dialler.dial,
            board_of=lambda handle: board_in(_descriptor(handle)),
            sock_of=lambda handle: listening_socket(_descriptor(handle)),
            lines=lines,
        )
    )
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGUSR1) as signals:
        async with trio.open_nursery() as writing:
            writing.start_soon(lines.run)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_obey, signals, link, lines)
                try:
                    await link.run()
                except Exception as exc:  # noqa: BLE001 - told as every other crash is told
                    effect = "ending; the supervisor starts another worker"
                    get_logger().error("worker.crashed", slot=slot, effect=effect, exc_info=exc)
                    code = 1
                nursery.cancel_scope.cancel()
            writing.cancel_scope.cancel()
    return code


async def _obey(signals: AsyncIterator[int], link: Link, lines: FileLines) -> None:
    async for number in signals:
        if number == signal.SIGUSR1:
            lines.reopen()
        else:
            link.leave()


class Dialler:
    """Finds the supervisor: `first`, where it has not taken over yet, and from then on at `path`.

    So the worker of one that has not come to take over ends up with the one that goes on, which
    has it end.
    """

    def __init__(self, path: str, first: str | None = None) -> None:
        self._path = path
        self._first = first

    async def dial(self) -> Channel:
        """A channel; OSError where nobody is."""
        first, self._first = self._first, None
        if first is not None:
            with suppress(OSError):
                return await dialled(first)
        return await dialled(self._path)


async def dialled(path: str) -> KernelChannel:
    """A channel to whoever listens at `path`; OSError where nobody does."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        await trio.lowlevel.checkpoint()
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return KernelChannel(sock)


def listening_socket(descriptor: int) -> Sock:
    """The socket behind a descriptor that was handed over; it owns the descriptor now."""
    return KernelNetwork().adopted(descriptor)


def _descriptor(handle: object) -> int:
    assert isinstance(handle, int), "between processes, handles are descriptors"
    return handle
