"""Tunnels through real processes: moved by the kernel, drained, listed, and cut."""

import contextlib
import hashlib
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.raw_tunnels import EchoBackend, exactly, tunnel
from tests.support.real_balancer import ROOT, Balancer, wait_for

POOL = 'tunnels = { protocols = ["websocket", "echo"], drain_timeout = "1s" }'
GOING_AWAY = b"\x88\x02\x03\xe9"
MIB = 1024 * 1024


@dataclass
class Edge:
    balancer: Balancer
    backends: list[EchoBackend]


@contextlib.contextmanager
def started(folder: Path, count: int) -> Iterator[Edge]:
    backends = [EchoBackend() for _ in range(count)]
    balancer = Balancer(folder, backends, pool=POOL, top="workers = 1")
    try:
        yield Edge(balancer, backends)
    finally:
        balancer.end()
        for backend in backends:
            backend.kill()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Shared, so every test leaves it as it was."""
    with started(tmp_path_factory.mktemp("edge"), 1) as edge:
        yield edge


def noted(edge: Edge, path: str) -> dict[str, Any]:
    """The access line of the only tunnel of that path."""

    def lines() -> list[dict[str, Any]]:
        return [line for line in edge.balancer.access_lines() if line["path"] == path]

    wait_for(lines)
    return lines()[0]


def frames(rng: random.Random, size: int) -> bytes:
    """A stream of masked frames of all lengths, close to `size` bytes, none of them a close frame."""
    out = bytearray()
    while len(out) < size:
        length = rng.choice([0, 5, 125, 126, 5000, 65_535, 65_536, 300_000, 2 * MIB])
        short = length if length < 126 else 126 if length < 65_536 else 127
        wide = b"" if length < 126 else length.to_bytes(2 if length < 65_536 else 8)
        out += bytes([rng.choice([0x81, 0x02, 0x80, 0x89]), 0x80 | short]) + wide + b"mask"
        out += rng.randbytes(length)
    return bytes(out)


@pytest.mark.parametrize("protocol", ["echo", "websocket"])
def test_every_byte_comes_back_and_each_side_ends_by_itself(edge: Edge, protocol: str) -> None:
    sent = frames(random.Random(1), 40 * MIB)
    with tunnel(edge.balancer.port, protocol, f"/{protocol}") as sock:

        def send() -> None:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=send)
        sending.start()
        got = exactly(sock, len(sent))
        assert sock.recv(1) == b""
        sending.join()
    assert hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()
    line = noted(edge, f"/{protocol}")
    assert line["status"] == 101
    assert line["bytes_up"] == line["bytes_down"] == len(sent)
    assert line["attempts"][0]["outcome"] == f"{protocol} ended by the client"
    wait_for(lambda: edge.balancer.in_flight() == 0)


def test_a_slow_drip_of_bytes_passes_as_it_comes(edge: Edge) -> None:
    with tunnel(edge.balancer.port, "websocket") as sock:
        for octet in b"\x81\x85mask" + b"hello" + b"\x8a\x80mask":
            sock.sendall(bytes([octet]))
            assert sock.recv(1) == bytes([octet])


def test_an_idle_tunnel_costs_no_time(edge: Edge) -> None:
    pid = edge.balancer.pids()[0]

    def spent() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    with tunnel(edge.balancer.port) as sock, tunnel(edge.balancer.port, "websocket") as other:
        for each in (sock, other):
            each.sendall(b"\x81\x80mask")
            assert exactly(each, 6) == b"\x81\x80mask"
        before = spent()
        time.sleep(1.5)
        assert spent() - before <= 5, "ticks of ten milliseconds"


def test_drain_lists_it_and_waits_until_it_has_been_closed(edge: Edge) -> None:
    (backend,) = edge.backends
    try:
        with tunnel(edge.balancer.port, "websocket", "/chat") as sock:
            words = [sys.executable, "-m", "balancer", "--admin", str(edge.balancer.socket)]
            words += ["drain", "web", backend.address, "--wait", "--timeout", "20s"]
            with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as draining:
                assert exactly(sock, 4) == GOING_AWAY
                sock.sendall(b"\x88\x82mask\x6e\x88")
                assert sock.recv(1) == b""
                said, _ = draining.communicate(timeout=30)
        assert draining.returncode == 0
        assert "GET /chat as websocket from 127.0.0.1" in said
        assert "nothing runs on web" in said
        assert noted(edge, "/chat")["fault"] == "closed because its backend leaves"
        # Masked, as from a client.
        wait_for(lambda: [said[:2] for said in backend.said[-1:]] == [b"\x88\x82"])
    finally:
        edge.balancer.cli("ready", "web", backend.address)


def test_a_removal_by_force_resets_and_a_stop_closes_in_its_time(tmp_path: Path) -> None:
    with (
        started(tmp_path, 2) as edge,
        tunnel(edge.balancer.port) as cut,
        tunnel(edge.balancer.port, "websocket") as closed,
    ):
        rows = edge.balancer.status()
        assert [row["in_flight"] for row in rows.values()] == [1, 1], "least connections sees them"
        cut.sendall(b"x")
        assert cut.recv(1) == b"x"
        first = next(each for each in edge.backends if each.tunnels["echo"])
        assert edge.balancer.cli("remove", "web", first.address).returncode == 1
        assert "1 cut" in edge.balancer.cli("remove", "web", first.address, "--force").stdout
        with pytest.raises(ConnectionResetError):
            cut.recv(1)
        edge.balancer.process.terminate()
        assert exactly(closed, 4) == GOING_AWAY
        closed.sendall(b"\x88\x82mask\x6e\x88")
        assert closed.recv(1) == b""
        assert edge.balancer.process.wait(20) == 0
        assert "every exchange has ended" in edge.balancer.log()
