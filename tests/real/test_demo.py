"""The demo of scripts/run: it serves, it tells of a killed backend, and it leaves nothing behind."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.real_balancer import free_port

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "scripts" / "demo.py"
BACKEND = ROOT / "scripts" / "demo_backend.py"
PATIENCE_S = 20.0


def eventually(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """No such process, or one that nobody has waited for yet (a container may have no init)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def get(port: int, path: str = "/", **options: object) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request(str(options.pop("method", "GET")), path, **options)  # type: ignore[arg-type]
        answer = connection.getresponse()
        return answer.status, answer.read()


class RunningDemo:
    def __init__(self, process: "subprocess.Popen[str]", output: Path, ports: list[int]) -> None:
        self.process = process
        self.output = output
        self.port, *self.backends, _ = ports

    def said(self) -> str:
        return self.output.read_text()

    def backend_pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"kill -9 (\d+)", self.said())]

    def all_pids(self) -> list[int]:
        """Its children: the balancer, the backends, and the guard of the balancer."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


@contextmanager
def running_demo(tmp_path: Path) -> Iterator[RunningDemo]:
    """The demo on free ports, its output in a file, so without a table."""
    ports = [free_port() for _ in range(5)]
    config = (ROOT / "configs" / "demo.toml").read_text()
    for old, new in zip((8080, 9001, 9002, 9003, 8081), ports, strict=True):
        config = config.replace(f":{old}", f":{new}")
    (tmp_path / "demo.toml").write_text(config)
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, str(DEMO), "--config", str(tmp_path / "demo.toml")],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path), "NO_COLOR": "1"},
        )
    try:
        demo = RunningDemo(process, output, ports)
        eventually(lambda: "Ctrl-C ends" in demo.said() or process.poll() is not None, "serving")
        assert process.poll() is None, demo.said()
        yield demo
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(PATIENCE_S)


def test_every_backend_serves_and_a_killed_one_costs_nothing(tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        everybody = {
            (200, f"hello from backend-{port} on port {port}\n".encode()) for port in demo.backends
        }
        # It serves from the first passed probe on; those of the others follow.
        eventually(lambda: {get(demo.port) for _ in range(9)} == everybody, "all three serve")
        os.kill(demo.backend_pids()[0], signal.SIGKILL)
        answers = {get(demo.port) for _ in range(30)}
        assert {status for status, _ in answers} == {200}
        eventually(lambda: f"{demo.backends[0]} has ended" in demo.said(), "the end is told")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_of_it_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    with running_demo(tmp_path) as demo:
        started = demo.all_pids()
        assert len(started) >= 5
        demo.process.send_signal(number)
        eventually(lambda: all(gone(pid) for pid in started), f"{started} have ended")
    if number is not signal.SIGKILL:
        assert demo.process.returncode == 0
        assert not list(tmp_path.glob("balancer-demo-*"))


def test_a_port_that_is_taken_is_named_with_its_holder(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "demo.toml").write_text(
        f'[[listeners]]\nbind = "127.0.0.1:{port}"\n[pools.web]\nbackends = ["127.0.0.1:1"]\n'
    )
    with socket.create_server(("127.0.0.1", port)):
        ran = subprocess.run(
            [sys.executable, DEMO, "--config", tmp_path / "demo.toml"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert ran.returncode == 1
    assert f"cannot use 127.0.0.1:{port}" in ran.stderr
    assert f"by process {os.getpid()}" in ran.stderr


@contextmanager
def running_backend() -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    port = free_port()
    with subprocess.Popen(
        [sys.executable, BACKEND, str(port), "--name", "b"], stdin=subprocess.PIPE
    ) as process:
        try:
            eventually(lambda: listening(port), "listening")
            yield port, process
        finally:
            process.terminate()


def test_a_demo_backend_answers() -> None:
    with running_backend() as (port, _):
        assert get(port) == (200, f"hello from b on port {port}\n".encode())
        assert get(port, "/health") == (200, b"ok\n")
        assert get(port, "/status?code=503")[0] == 503
        assert len(get(port, "/bytes?n=200000")[1]) == 200_000
        assert get(port, "/", method="HEAD") == (200, b"")
        assert get(port, "/", method="POST", body=b"x" * 100_000) == (200, b"x" * 100_000)
        assert get(port, "/", method="POST", body=iter([b"a", b"b"])) == (200, b"ab")


def test_a_demo_backend_ends_with_the_program_that_started_it() -> None:
    with running_backend() as (_, process):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0
