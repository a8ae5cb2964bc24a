"""The process that is to take over from this one: how it is started, heard, and ended if it fails.

The program is the one that is installed now, wherever the command that started us leads by now.
Decides nothing about when it takes over.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from balancer.supervisor import bequest
from balancer.supervisor.notify import environment_for_successor
from balancer.telemetry.logs import get_logger

# What a program says on its way down: the end of it is what matters.
SAID_BYTES_MAX = 4096
SAID_LINES_TOLD = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How to start the installed program: its words, and the folder to start it in."""

    words: tuple[str, ...]
    folder: str


def command_of_this_process(env: Mapping[str, str]) -> Command:
    """What this process was started with; to be asked before anything changes the folder.

    A script is started by its name, so that the interpreter is the one that the script of today
    names. `$PWD` rather than the folder itself: where a link was replaced, it leads to the new one.
    """
    script = Path(sys.argv[0])
    by_script = script.is_file() and os.access(script, os.X_OK)
    words = sys.argv if by_script else [sys.executable, *sys.orig_argv[1:]]
    folder = os.getcwd()
    with suppress(OSError, KeyError):
        if os.path.samefile(env["PWD"], folder):
            folder = env["PWD"]
    return Command(words=tuple(words), folder=folder)


class Successor:
    """A process that was started to take over."""

    def __init__(self, process: trio.Process, channel: bequest.Channel, said: int) -> None:
        self.channel = channel
        self._process = process
        self._stderr = trio.lowlevel.FdStream(said)
        self._said = b""
        self.heard_out = trio.Event()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def listen(self) -> None:
        """Keep what it says on standard error, until it writes to ours; log it."""
        async with self._stderr:
            while data := await self._stderr.receive_some():
                self._said = (self._said + bytes(data))[-SAID_BYTES_MAX:]
        self.heard_out.set()
        for line in self.last_words():
            get_logger().warning("successor.said", process=self.pid, line=line)

    def last_words(self) -> list[str]:
        """The last lines that it said on standard error."""
        return self._said.decode(errors="replace").strip().splitlines()[-SAID_LINES_TOLD:]

    async def wait(self) -> str:
        """Return when it has ended: how, in words."""
        code = await self._process.wait()
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    @property
    def ended_in_order(self) -> bool:
        """Whether it has ended as one does that was told to."""
        return self._process.returncode == 0

    def send_signal(self, number: int) -> None:
        """Send it; nothing where it has ended already."""
        self._process.send_signal(number)

    async def end(self) -> None:
        """End it at once. Its workers end when they find us in its place."""
        self.channel.close()
        self._process.kill()
        await self._process.wait()


async def start_successor(command: Command, env: Mapping[str, str]) -> Successor:
    """Start the installed program, so that it takes over. OSError.

    Its standard error is ours to hear until it is far enough to say by the channel what is wrong.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    said, says = os.pipe2(os.O_CLOEXEC)
    try:
        process = await _open_process(command, env, theirs.fileno(), says)
    except BaseException:
        ours.close()
        os.close(said)
        raise
    finally:
        theirs.close()
        os.close(says)
    ours.setblocking(False)
    return Successor(process, bequest.Channel(ours, bequest.said), said)


async def _open_process(
    command: Command, env: Mapping[str, str], channel: int, stderr: int
) -> trio.Process:
    real_stderr = os.dup(2)
    try:
        # A process group of its own, since what a terminal sends to us is not for who follows us.
        return await trio.lowlevel.open_process(
            list(command.words),
            cwd=command.folder,
            env=environment_for_successor(env) | {bequest.VARIABLE: f"{channel},{real_stderr}"},
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=(channel, real_stderr),
            process_group=0,
        )
    finally:
        os.close(real_stderr)
