"""Real processes on loopback: demo backends and a balancer, each ended with the test."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# How long a process may take to come up on a loaded machine.
START_S = 30.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_until_listening(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, f"ended with {process.returncode}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on port {port}")


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


@dataclass
class Balancer:
    """A balancer as a process of its own, and the places it was given."""

    folder: Path
    backends: list[Backend]
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
        return (self.folder / "log").read_text()

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

    def access_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.access.read_bytes().splitlines()]

    def resident_kib(self) -> int:
        """Memory that the process holds now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def kill(self) -> None:
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


def _ended(stack: contextlib.ExitStack, backend: Backend) -> Backend:
    stack.callback(backend.kill)
    return backend
