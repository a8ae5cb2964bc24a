"""Real processes on loopback: demo backends and a balancer, each ended with the test."""

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[2]
# How long a process may take to come up on a loaded machine.
START_S = 30.0
# Below those that outgoing connections are given (ip(7)). In turn, from anywhere: whoever is told of
# two that he binds later must not be told of one twice.
_PORTS = itertools.islice(itertools.cycle(range(12_000, 32_000)), random.randrange(20_000), None)


def free_port() -> int:
    """A port that nobody listens on, and that nobody else here is told of."""
    while True:
        port = next(_PORTS)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_until_listening(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, f"ended with {process.returncode}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on port {port}")


def whole_lines(path: Path) -> bytes:
    """What a file holds, without the end of a line that is being written."""
    data = path.read_bytes()
    return data[: data.rfind(b"\n") + 1]


def processes_of(place: Path) -> dict[int, str]:
    """Every process whose command names something below `place`."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                raw = (folder / "cmdline").read_bytes()
                command = raw.replace(b"\0", b" ").decode(errors="replace")
                if str(place) in command:
                    found[int(folder.name)] = command
    return found


class Backend:
    """A demo backend as a process of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(ROOT / "scripts" / "demo_backend.py"), str(self.port)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until_listening(self.port, self.process)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Addressed(Protocol):
    """What a balancer has to know of a backend."""

    @property
    def address(self) -> str: ...


@dataclass
class Balancer:
    """A balancer as a process of its own, and the places it was given."""

    folder: Path
    backends: Sequence[Addressed]
    pool: str = ""
    top: str = ""
    port: int = field(default_factory=free_port)
    health_port: int = field(default_factory=free_port)
    command: tuple[str, ...] = (sys.executable, "-m", "balancer")
    cwd: Path = ROOT
    env: dict[str, str] | None = None

    def __post_init__(self) -> None:
        self.socket = self.folder / "admin.sock"
        self.access = self.folder / "access.log"
        self.config = self.folder / "edge.toml"
        addresses = ", ".join(f'"{backend.address}"' for backend in self.backends)
        self.config.write_text(f"""{self.top}
[[listeners]]
bind = "127.0.0.1:{self.port}"
[admin]
socket = "{self.socket}"
state = "{self.folder / "state.json"}"
health = "127.0.0.1:{self.health_port}"
[log]
access = "{self.access}"
[pools.web]
backends = [{addresses}]
{self.pool}
""")
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "run", str(self.config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.cwd, env=self.env,
            )  # fmt: skip
        end = time.monotonic() + START_S
        while self.readyz() != 200:
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.05)

    def log(self) -> str:
        return whole_lines(self.folder / "log").decode()

    def readyz(self) -> int:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.health_port), 5) as sock,
        ):
            sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return int(sock.recv(4096).split(b" ")[1])
        return 0

    def cli(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "balancer", "--admin", str(self.socket), *words],
            capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
        )  # fmt: skip

    def status(self) -> dict[str, dict[str, Any]]:
        done = self.cli("status", "--json")
        assert done.returncode == 0, done.stderr
        backends = json.loads(done.stdout)["pools"]["web"]["backends"]
        return {row["address"]: row for row in backends}

    def asked(self, path: str) -> bytes:
        """The answer of the admin socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(self.socket))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: sock.recv(65536), b""))

    def workers(self) -> list[dict[str, Any]]:
        """What the status says of each worker."""
        body = self.asked("/v1/status").partition(b"\r\n\r\n")[2]
        return list(json.loads(body)["workers"])

    def pids(self) -> dict[int, int]:
        """The process of each worker that serves, by slot."""
        return {row["worker"]: row["pid"] for row in self.workers() if row["state"] == "serving"}

    def access_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in whole_lines(self.access).splitlines()]

    def in_flight(self) -> int:
        """How many attempts run on the backends of the pool."""
        body = json.loads(self.asked("/v1/status").partition(b"\r\n\r\n")[2])
        return sum(int(row["in_flight"]) for row in body["pools"]["web"]["backends"])

    @contextlib.contextmanager
    def asked_slowly(self, count: int = 1) -> Iterator[list[socket.socket]]:
        """So many clients whose answer takes a minute, and whose requests have reached a backend.

        They are gone at the end.
        """
        with contextlib.ExitStack() as stack:
            clients, before = [], self.in_flight()
            for _ in range(count):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", self.port)))
                client.sendall(b"GET /slow?s=60 HTTP/1.1\r\nHost: a\r\n\r\n")
                clients.append(client)
            wait_for(lambda: self.in_flight() == before + count)
            yield clients
            for client in clients:
                if client.fileno() >= 0:
                    reset(client)

    def resident_kib(self) -> int:
        """Memory that the supervisor and its workers hold now, each for itself."""
        pids = (self.process.pid, *self.pids().values())
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
        return sum(int(text.split("RssAnon:")[1].split()[0]) for text in texts)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._end_orphans()

    def _end_orphans(self) -> None:
        """Workers outlive a supervisor that was killed; a test leaves none behind."""
        ours = processes_of(self.folder)
        for pid, command in ours.items():
            with contextlib.suppress(OSError):
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                if "balancer.worker" in command and parent not in ours:
                    os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL of the supervisor; its workers serve on."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def running(
    folder: Path, backends: int = 3, **given: Any
) -> Iterator[tuple[Balancer, list[Backend]]]:
    """A balancer that accepts clients, in front of so many demo backends; `given`: its fields."""
    with contextlib.ExitStack() as stack:
        started = [_ended(stack, Backend()) for _ in range(backends)]
        balancer = Balancer(folder, started, **given)
        stack.callback(balancer.end)
        yield balancer, started


def reset(client: socket.socket) -> None:
    """Be gone at once: one who only closes may still be waiting for his answer."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def wait_for(what: Callable[[], object], within_s: float = 20.0) -> None:
    """Return when it has come true; an error where it does not in time."""
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end, f"not within {within_s:g} s"
        time.sleep(0.02)


def _ended(stack: contextlib.ExitStack, backend: Backend) -> Backend:
    stack.callback(backend.kill)
    return backend
