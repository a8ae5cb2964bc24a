"""A measured program: its processes, their CPU and memory, its start and its end.

Decides what counts as "the proxy": the process that was started and everything below it. CPU is
read from each process's own clock (nanoseconds, threads that ended included), not from the
10 ms ticks of /proc/PID/stat. Knows nothing of what the program does.
"""

import os
import signal
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

START_S = 30.0  # with 1,000 backends, on a machine that does other things as well
ENDING_S = 10.0
ANSWER_S = 1.0
ASK = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"


class CannotStart(Exception):
    """The program did not come up; the message is the end of what it said."""


def descendants(leader: int) -> list[int]:
    """The processes below `leader`, it not included."""
    below = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name in parentheses may hold anything, so count from its end.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                below[int(fields[1])].append(int(entry.name))
    found: list[int] = []
    wanted = [leader]
    while wanted:
        children = below[wanted.pop()]
        found += children
        wanted += children
    return sorted(found)


def cpu_s(pid: int) -> float:
    """Seconds of CPU that `pid` has used so far; 0 when it is gone.

    The number of another process's clock is made as the kernel's MAKE_PROCESS_CPUCLOCK does.
    """
    with suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)
    return 0.0


def memory_kib(pid: int) -> tuple[int, int]:
    """Resident memory of `pid`, and its proportional part where pages are shared (RSS, PSS)."""
    found = {}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in ("Rss", "Pss"):
                found[name] = int(rest.split()[0])
    return found.get("Rss", 0), found.get("Pss", 0)


class Program:
    """One started program that listens on `port`."""

    def __init__(self, command: list[str], port: int, folder: Path, *, log: Path) -> None:
        self.port = self.load_port = port
        self.log = log
        with log.open("ab") as output:
            self.started_at = time.monotonic()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                start_new_session=True,
            )

    def cpu(self) -> dict[int, float]:
        """Seconds of CPU so far by process; the one that was started comes first."""
        return {pid: cpu_s(pid) for pid in self.pids()}

    def memory(self) -> tuple[int, int]:
        """KiB over all processes: RSS (shared pages counted in each) and PSS (counted once)."""
        each = [memory_kib(pid) for pid in self.pids()]
        return sum(rss for rss, _ in each), sum(pss for _, pss in each)

    def pids(self) -> list[int]:
        return [self.process.pid, *descendants(self.process.pid)]

    def wait_until_serving(self, poll_s: float = 0.02) -> float:
        """Return the seconds from its start to its first answer of 200."""
        while not answers(self.port):
            if self.process.poll() is not None:
                raise CannotStart(f"ended with {self.process.returncode}: {self.last_words()}")
            if time.monotonic() - self.started_at > START_S:
                raise CannotStart(f"no answer for {START_S:.0f} s: {self.last_words()}")
            time.sleep(poll_s)
        return time.monotonic() - self.started_at

    def last_words(self) -> str:
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-3:])

    def end(self) -> None:
        """TERM to the one that was started; KILL to whatever of it is left after a while."""
        pids = self.pids()
        self.process.terminate()
        try:
            self.process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def programs_ended() -> Iterator[list[Program]]:
    """A list of programs, each of which is ended when the block is left."""
    programs: list[Program] = []
    try:
        yield programs
    finally:
        for program in reversed(programs):
            program.end()


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), ANSWER_S) as sock:
        sock.settimeout(ANSWER_S)
        sock.sendall(ASK)
        return sock.recv(64).startswith(b"HTTP/1.1 200")
    return False


class Ports:
    """Free ports, one after the other, so that two benches at once do not meet."""

    def __init__(self, first: int = 20000, last: int = 20999) -> None:
        self.numbers = list(range(first, last + 1))
        turn = os.getpid() * 37 % len(self.numbers)
        self.numbers = self.numbers[turn:] + self.numbers[:turn]

    def take(self) -> int:
        while self.numbers:
            port = self.numbers.pop(0)
            with suppress(OSError), socket.socket() as sock:
                sock.bind(("0.0.0.0", port))  # noqa: S104 - whether it is free everywhere; never listens
                return port
        raise CannotStart("no free port from 20000 to 20999")


class OthersCpu:
    """How much of the machine somebody else used while we measured."""

    def __init__(self) -> None:
        self.start = self.now()

    @staticmethod
    def now() -> tuple[float, float, float]:
        tick = os.sysconf("SC_CLK_TCK")
        first = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        user, nice, system, _idle, _waiting, irq, softirq = (int(word) / tick for word in first[:7])
        ours = os.times()
        mine = ours.user + ours.system + ours.children_user + ours.children_system
        return time.monotonic(), user + nice + system + irq + softirq, mine

    def share(self) -> float:
        """Of all processors, from 0 to 1; right once every program of ours has ended."""
        wall, busy, mine = (b - a for a, b in zip(self.start, self.now(), strict=True))
        return max(0.0, (busy - mine) / (wall * (os.cpu_count() or 1)))
