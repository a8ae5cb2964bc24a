"""Workers as processes: how they are started, watched to their end, and found by their channel."""

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import trio

import balancer.worker
from balancer.wire.network import KernelNetwork, Sock
from balancer.worker.channel import KernelChannel
from balancer.worker.memory import board_in

WORKER = "balancer.worker"
# That there are no descriptors left lasts.
NO_DESCRIPTORS_S = 0.1
ENDED = -1


class ChildProcess:
    """A worker that we have started."""

    def __init__(self, child: trio.Process) -> None:
        self._child = child

    @property
    def pid(self) -> int:
        return self._child.pid

    async def wait(self) -> str:
        code = await self._child.wait()
        if code < 0:
            return f"(process {self.pid}) was killed by {_name_of(-code)}"
        return f"(process {self.pid}) ended with exit code {code}"

    def kill(self) -> None:
        self._child.kill()


class AdoptedProcess:
    """A worker that a supervisor before us has started: nobody's child any more."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    async def wait(self) -> str:
        # A pidfd becomes readable when its process ends (pidfd_open(2)).
        while not _is_readable(self._descriptor):
            await trio.lowlevel.wait_readable(self._descriptor)
        self.forget()
        return f"(process {self.pid}) has ended"

    def forget(self) -> None:
        """Let go of it, whether it has ended or not."""
        descriptor, self._descriptor = self._descriptor, ENDED
        os.close(descriptor)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send it; nothing where the process has ended already."""
        # By descriptor, since its number may be somebody else's when it has ended.
        if self._descriptor != ENDED:
            with suppress(OSError):
                signal.pidfd_send_signal(self._descriptor, number)


# What workers are told of TLS beside their plan; an operator's own OPENSSL_CONF comes first.
OPENSSL_CONF = Path(balancer.worker.__file__).with_name("openssl.cnf")


class ProcessCrew:
    """Implements `balancer.supervisor.crew.Crew`: workers that dial `path`, where `listener` is.

    `first`: where it is until we have taken over, and `settle` says that we have.
    """

    def __init__(
        self, path: Path, listener: Sock, memory: int, *, first: Path | None = None
    ) -> None:
        self.memory: object = memory
        self.board = board_in(memory)
        self._paths = [path] if first is None else [path, first]
        self._listener = listener

    def settle(self) -> None:
        """From now on workers find us where they will always find us."""
        del self._paths[1:]

    async def launch(self, slot: int) -> ChildProcess:
        # This process's interpreter and options, so that the same code is found; a process group of
        # its own, since what a terminal sends to us is not for workers.
        child = await trio.lowlevel.open_process(
            [sys.executable, *_options(), "-m", WORKER, str(slot), *map(str, self._paths)],
            stdin=subprocess.DEVNULL,
            process_group=0,
            env={"OPENSSL_CONF": str(OPENSSL_CONF)} | os.environ,
        )
        return ChildProcess(child)

    def lives(self, pid: int) -> bool:
        return lives(pid)

    async def next_channel(self) -> KernelChannel:
        return await next_channel(self._listener)


async def next_channel(listener: Sock) -> KernelChannel:
    """The next channel that a worker dials."""
    network = KernelNetwork()
    while True:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            await network.wait_readable(listener)
        except OSError:
            await trio.sleep(NO_DESCRIPTORS_S)
        else:
            return KernelChannel(sock)  # type: ignore[arg-type]


def lives(pid: int) -> bool:
    """Whether that process has not ended; one that nobody has waited for yet has."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        return not _is_readable(descriptor)
    finally:
        os.close(descriptor)


def _options() -> list[str]:
    """The interpreter's options that decide which code is found."""
    flags = sys.flags
    options = {"-I": flags.isolated, "-E": flags.ignore_environment, "-s": flags.no_user_site}
    return [option for option, given in options.items() if given]


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()  # select() refuses descriptors from 1024 on
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
