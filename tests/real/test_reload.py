"""Reloads of a running balancer under load: no client may notice any of them."""

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

import pytest

from tests.support.real_balancer import ROOT, START_S, free_port, wait_for, wait_until_listening

LOAD = [sys.executable, "-m", "tests.support.reload_load"]
MIB = 1024 * 1024


@dataclass
class Edge:
    """A balancer whose file changes, with the ports of its backends and listeners."""

    folder: Path
    workers: int = 2
    port: int = field(default_factory=free_port)
    extra: list[int] = field(default_factory=lambda: [free_port(), free_port()])
    backends: list[int] = field(default_factory=lambda: [free_port() for _ in range(6)])
    more: str = ""

    def __post_init__(self) -> None:
        self.socket = self.folder / "admin.sock"
        self.config = self.folder / "edge.toml"

    def write(self, turn: int) -> None:
        """The file of one turn: each differs from the last in a backend, a weight and a listener."""
        stay, go = self.backends[:3], self.backends[3:]
        weights = [1 + turn % 5, 1, 1, 1]
        listed = ", ".join(
            f'{{ address = "127.0.0.1:{port}", weight = {weight} }}'
            for port, weight in zip([*stay, go[turn % len(go)]], weights, strict=True)
        )
        self.config.write_text(f"""
workers = {self.workers}
shutdown_timeout = "5s"
[[listeners]]
bind = "127.0.0.1:{self.port}"
[[listeners]]
bind = "127.0.0.1:{self.extra[turn % 2]}"
[admin]
socket = "{self.socket}"
state = "{self.folder / "state.json"}"
[log]
access = "{self.folder / "access.log"}"
[pools.web]
backends = [{listed}]
[pools.web.health]
path = "/health"
interval = "1s"
timeout = "2s"
[pools.web.connections]
idle_timeout = "1s"
[pools.web.tunnels]
protocols = ["echo"]
drain_timeout = "1h"
{self.more}
""")

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "balancer", "run", str(self.config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
            )  # fmt: skip
        end = time.monotonic() + START_S
        while "instance.started" not in self.log():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.05)

    def cli(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "balancer", "--admin", str(self.socket), *words],
            capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
        )  # fmt: skip

    def reload(self, turn: int) -> str:
        """Write the file of a turn and have it obeyed; what was said."""
        self.write(turn)
        done = self.cli("reload")
        assert done.returncode == 0, done.stderr + self.log()
        return done.stdout

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.cli("status", "--json").stdout)
        return status

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.status()["pools"]["web"]["backends"]
        return rows

    def processes(self) -> list[int]:
        """The supervisor and its workers."""
        return [self.process.pid, *(int(worker["pid"]) for worker in self.status()["workers"])]

    def descriptors(self) -> list[int]:
        """All but pipes, of which workers keep some for the next bodies."""
        return [_descriptors_of(pid) for pid in self.processes()]

    def memory_kib(self) -> int:
        """Memory of their own; what they share is of a fixed size."""
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in self.processes()]
        return sum(int(text.split("RssAnon:")[1].split()[0]) for text in texts)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _descriptors_of(pid: int) -> int:
    there = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            there += not os.readlink(link).startswith("pipe:")
    return there


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    """A balancer that serves, before six backends of which it uses four at a time."""
    edge = Edge(tmp_path)
    backends = subprocess.Popen([*LOAD, "backends", *map(str, edge.backends)], cwd=ROOT)
    try:
        wait_until_listening(edge.backends[-1], backends)
        edge.write(0)
        edge.start()
        try:
            yield edge
        finally:
            edge.end()
    finally:
        backends.kill()
        backends.wait()


@contextlib.contextmanager
def load(edge: Edge, *, kept: int, new_per_s: int, big: int) -> Iterator[dict[str, Any]]:
    """Clients for the time of the block; filled with what they saw afterwards."""
    seen: dict[str, Any] = {}
    words = [*LOAD, "clients", str(edge.port), str(kept), str(new_per_s), str(big)]
    with subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as clients:
        try:
            time.sleep(1)  # all of them are there
            yield seen
        finally:
            said, _ = clients.communicate(timeout=START_S)
    seen.update(json.loads(said))


def settled(edge: Edge) -> list[int]:
    """The descriptors when nothing rests any more, and between two probes."""
    time.sleep(2)  # resting connections have been swept
    looks = []
    for _ in range(6):
        looks.append(edge.descriptors())
        time.sleep(0.1)
    return [min(each) for each in zip(*looks, strict=True)]


@pytest.mark.parametrize(
    ("turns", "kept", "new_per_s", "big"),
    [
        pytest.param(6, 20, 20, 64 * MIB, id="short"),
        pytest.param(50, 200, 200, 1024 * MIB, id="whole", marks=pytest.mark.long),
    ],
)
@pytest.mark.timeout(600)
def test_reloads_under_load_are_noticed_by_nobody(
    edge: Edge, turns: int, kept: int, new_per_s: int, big: int
) -> None:
    """Each changes a backend, a weight and a listener."""
    edge.reload(2)  # what is made once is there
    descriptors = settled(edge)
    memory = 0
    with load(edge, kept=kept, new_per_s=new_per_s, big=big) as seen:
        for turn in range(3, 3 + turns):
            said = edge.reload(turn)
            assert "1 backend added, 1 backend removed, 1 weight changed" in said
            assert f"listener 127.0.0.1:{edge.extra[turn % 2]} added" in said
            assert f"listener 127.0.0.1:{edge.extra[(turn + 1) % 2]} removed" in said
            if turn == 3 + turns // 3:
                memory = edge.memory_kib()
            time.sleep(0.1)
        grown = edge.memory_kib() - memory
    assert seen["failures"] == []
    assert seen["failed"] == 0
    assert seen["requests"] > kept * turns * 0.3
    assert seen["connections"] > new_per_s * turns * 0.3
    assert seen["download_bytes"] > 0
    # On the backends that go as well: whoever is removed may finish.
    assert seen["tunnels"] == 5
    assert seen["words"] > 5 * turns
    # The log of changes fills until it is full: some KiB a reload. A plan kept would be more.
    assert grown < 2048 + 16 * turns, f"{grown} KiB more after {turns * 2 // 3} reloads"
    wait_for(
        lambda: [(row["in_flight"], row["health"]) for row in edge.rows()] == [(0, "healthy")] * 4
    )
    edge.reload(2 if turns % 2 else 4)
    wait_for(lambda: edge.descriptors() == descriptors)


def test_a_listener_comes_and_goes_with_its_connections_served(edge: Edge) -> None:
    """Who has connected before it went is served, whether he was accepted yet or not."""
    gone, come = edge.extra
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", gone), 5)) for _ in range(20)
        ]
        edge.reload(1)
        for client in clients:
            client.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", gone), 5)
        fresh = stack.enter_context(socket.create_connection(("127.0.0.1", come), 5))
        fresh.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert fresh.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_listener_widens_to_all_addresses_and_narrows_again_at_the_same_port(edge: Edge) -> None:
    edge.write(0)
    narrow = edge.config.read_text()
    one = f'"127.0.0.1:{edge.port}"'
    for place, elsewhere in ((f'"0.0.0.0:{edge.port}"', True), (one, False)):
        edge.config.write_text(narrow.replace(one, place))
        done = edge.cli("reload")
        assert (done.returncode, done.stderr) == (0, "")
        for host in ("127.0.0.1", *(["127.0.0.2"] if elsewhere else [])):
            with socket.create_connection((host, edge.port), 5) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.recv(12) == b"HTTP/1.1 200"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", edge.port), 5)


def test_hup_reloads_and_a_file_with_errors_changes_nothing(edge: Edge) -> None:
    good = edge.config.read_text()
    edge.config.write_text(good.replace("workers = 2", 'workers = "many"\nfoo = 1'))
    done = edge.cli("reload")
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert f"{edge.config}:2: workers" in done.stderr
    assert f"{edge.config}:3: " in done.stderr
    before = edge.rows()
    edge.config.write_text(good.replace("weight = 1", "weight = 7"))
    edge.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + START_S
    while not any(row["weight"] == 7 for row in edge.rows()):
        assert time.monotonic() < end, edge.log()
        time.sleep(0.1)
    assert [row["requests"] for row in edge.rows()] == [row["requests"] for row in before]
    assert edge.cli("reload").stdout == "edge.toml: nothing changed\n"


def test_an_instance_without_a_file_says_so(tmp_path: Path) -> None:
    path, port = tmp_path / "admin.sock", free_port()
    words = ["run", "--listen", f"127.0.0.1:{port}", "--to", "127.0.0.1:1", "--admin", str(path)]
    with subprocess.Popen(
        [sys.executable, "-m", "balancer", *words], cwd=ROOT, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until_listening(port, process)
            done = subprocess.run(
                [sys.executable, "-m", "balancer", "--admin", str(path), "reload"],
                capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
            )  # fmt: skip
            assert done.returncode == 1
            assert "there is no file to reload" in done.stderr
        finally:
            process.terminate()
