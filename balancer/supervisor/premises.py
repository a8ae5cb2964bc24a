"""What a process holds before anything runs in it: its locks, and the sockets at its admin path.

Opened on one's own, or taken over from the process before; what is taken over is used and erased by
the other one until `settle`. Decides nothing about what is done there.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from balancer.admin.control import NotApplied
from balancer.admin.socket_file import SocketFile, open_socket_file
from balancer.config.settings import Admin
from balancer.supervisor.bequest import ADMIN, LOCK, Handle
from balancer.supervisor.heritage import CannotTakeOver, Heritage
from balancer.supervisor.instance_lock import (
    Held,
    Holder,
    closing_locks,
    hold,
    is_vacant,
    lock_files,
)
from balancer.supervisor.successor import Command, Successor, start_successor
from balancer.wire.network import KernelNetwork

WORKERS_ENDING = ".workers"
# One that ends with the first process of a container takes all others with it.
FIRST_PROCESS = 1


class Premises:
    """Implements `balancer.supervisor.succession.Outside`. `workers_path`: where workers dial."""

    def __init__(
        self, *, admin: SocketFile, workers: SocketFile, locks: Held, command: Command
    ) -> None:
        self.admin = admin
        self.workers = workers
        self.workers_path = _workers_path(admin.path)
        self._locks = locks
        self._command = command

    @property
    def beside(self) -> Path | None:
        """Where workers find us as long as another process is where they dial."""
        return None if self.workers.path == self.workers_path else self.workers.path

    def settle(self, holder: Holder) -> None:
        """From now on all of this is ours. OSError."""
        self.workers.move(self.workers_path)
        self._locks.sign(holder)
        self.admin.ours = True

    # ---- handing over

    async def start(self) -> Successor:
        """Start the installed program. OSError, NotApplied."""
        if os.getpid() == FIRST_PROCESS:
            raise NotApplied(
                "this is the first process of a container, with which all others end; replace the"
                " container"
            )
        return await start_successor(self._command, os.environ)

    def handles(self) -> list[tuple[Handle, object]]:
        """The admin socket and the locks."""
        locks = self._locks.descriptors.items()
        return [
            (Handle(ADMIN), self.admin.sock),
            *((Handle(LOCK, path), descriptor) for path, descriptor in locks),
        ]

    def leave(self) -> None:
        """Let another process have them, and erase nothing on the way out."""
        self.admin.ours = self.workers.ours = False
        # Should the other process die, whoever comes must find nobody here, rather than one who
        # never answers.
        self.admin.sock.close()
        self._locks.leave()

    def is_vacant(self) -> bool:
        """Whether nobody is here any more, after we have left."""
        return is_vacant(self.admin.path)

    def clear(self, pid: int) -> None:
        """Remove what a process left that was to take over and did not."""
        _beside(self.workers_path, pid).unlink(missing_ok=True)


@contextmanager
def own_premises(admin: Admin, holder: Holder, command: Command) -> Iterator[Premises]:
    """Lock and open everything, for the time of the block.

    Raises AlreadyRunning, NoPlace, SocketPlaceTaken, OSError.
    """
    network, path = KernelNetwork(), Path(admin.socket)
    with ExitStack() as stack:
        locks = stack.enter_context(hold(state=_state(admin), socket=path, holder=holder))
        files = [
            stack.enter_context(closing(open_socket_file(network, place)))
            for place in (path, _workers_path(path))
        ]
        yield Premises(admin=files[0], workers=files[1], locks=locks, command=command)


@contextmanager
def inherited_premises(admin: Admin, heritage: Heritage, command: Command) -> Iterator[Premises]:
    """What the process before us has handed over, for the time of the block. CannotTakeOver."""
    network, path = KernelNetwork(), Path(admin.socket)
    with ExitStack() as stack:
        locks = stack.enter_context(closing_locks(Held(heritage.take_all(LOCK))))
        if locks.descriptors.keys() != lock_files(state=_state(admin), socket=path):
            there = ", ".join(sorted(name.removesuffix(".lock") for name in locks.descriptors))
            raise CannotTakeOver(
                "admin.socket and admin.state cannot change in an upgrade; the process before us"
                f" has {there}"
            )
        sock = heritage.take_sock(ADMIN)
        if sock is None:
            raise CannotTakeOver("the process before us has handed over no admin socket")
        listener = SocketFile(sock, path, ours=False)
        stack.enter_context(closing(listener))
        beside = _beside(_workers_path(path), os.getpid())
        workers = stack.enter_context(closing(open_socket_file(network, beside)))
        yield Premises(admin=listener, workers=workers, locks=locks, command=command)


def _state(admin: Admin) -> Path | None:
    return Path(admin.state) if admin.state else None


def _workers_path(path: Path) -> Path:
    return path.with_name(path.name + WORKERS_ENDING)


def _beside(path: Path, pid: int) -> Path:
    return path.with_name(f"{path.name}.{pid}")
