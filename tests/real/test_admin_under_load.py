"""Operators are answered while the data path has no idle moment, and while its workers stand still."""

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from balancer.admin.server import CONNECTIONS_MAX
from tests.support.real_balancer import ROOT, Balancer, running, wait_for

# Answers take milliseconds; the rest is for a machine with as many busy processes as it likes.
SOON_S = 5.0
# An order would wait so long for workers; what only reads must not.
ORDER_S = 2.0
BUSY_CONNECTIONS = 128
CROWD = 300
HALF = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@contextlib.contextmanager
def saturated(balancer: Balancer) -> Iterator[None]:
    """Clients without a pause between their requests; afterwards, workers that had none either."""
    load = subprocess.Popen(
        [sys.executable, "-m", "tests.support.saturating", str(balancer.port), str(BUSY_CONNECTIONS)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        time.sleep(0.5)  # until all of its connections are there
        pids, began = list(balancer.pids().values()), time.monotonic()
        before = [wanted_s(pid) for pid in pids]
        yield
        elapsed_s = time.monotonic() - began
        shares = [
            (wanted_s(pid) - earlier) / elapsed_s for pid, earlier in zip(pids, before, strict=True)
        ]
        answers, _ = load.communicate("", timeout=10)
    finally:
        load.kill()
        load.wait()
    print(f"workers busy {[round(share, 2) for share in shares]}, {int(answers)} answers")
    assert min(shares) > 0.7, "that was no load"


def wanted_s(pid: int) -> float:
    """How long a process has run, or waited for a processor."""
    ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return (int(ran) + int(waited)) / 1e9


def times(ask: Callable[[], object], count: int) -> list[float]:
    spent = []
    for _ in range(count):
        began = time.monotonic()
        ask()
        spent.append(time.monotonic() - began)
    median, worst = statistics.median(spent), max(spent)
    print(f"{ask.__name__}: median {median * 1000:.1f} ms, worst {worst * 1000:.1f} ms")
    return spent


def asks_of(balancer: Balancer) -> list[Callable[[], None]]:
    def status() -> None:
        assert balancer.asked("/v1/status").startswith(b"HTTP/1.1 200 ")

    def readyz() -> None:
        assert balancer.readyz() == 200

    def metrics() -> None:
        with socket.create_connection(("127.0.0.1", balancer.health_port), 5) as sock:
            sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert b"".join(iter(lambda: sock.recv(65536), b"")).startswith(b"HTTP/1.1 200 ")

    def order() -> None:
        assert ordered(balancer, "drain")[0] == 200
        assert ordered(balancer, "ready")[0] == 200

    return [status, readyz, metrics, order]


def ordered(balancer: Balancer, what: str) -> tuple[int, bytes]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(balancer.socket))
        path = "/v1/pools/web/backends/127.0.0.1%3A9"
        sock.sendall(f"POST {path}/{what} HTTP/1.0\r\n\r\n".encode())
        reply = b"".join(iter(lambda: sock.recv(65536), b""))
        return int(reply.split()[1]), reply


@pytest.fixture
def balancer(tmp_path: Path) -> Iterator[Balancer]:
    """One that answers 503 itself, so that workers are all that is busy."""
    with running(tmp_path, backends=0, top="workers = 2") as (started, _):
        assert started.cli("add", "web", "127.0.0.1:9", "--weight", "0").returncode == 0
        wait_for(lambda: len(started.pids()) == 2)
        yield started


def test_operators_are_answered_in_time_while_workers_are_saturated(balancer: Balancer) -> None:
    with saturated(balancer):
        spent = [each for ask in asks_of(balancer) for each in times(ask, 10)]
    assert max(spent) < SOON_S


def test_and_while_hundreds_hold_connections_to_the_admin_and_the_health_address_as_well(
    balancer: Balancer,
) -> None:
    with contextlib.ExitStack() as crowd, saturated(balancer):
        for number in range(CROWD):
            sock = crowd.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(str(balancer.socket))
            at_health = ("127.0.0.1", balancer.health_port)
            other = crowd.enter_context(socket.create_connection(at_health, 5))
            if number % 2:
                sock.sendall(HALF)
                other.sendall(HALF)
        spent = [each for ask in asks_of(balancer) for each in times(ask, 10)]
        held = len(os.listdir(f"/proc/{balancer.process.pid}/fd"))
    assert max(spent) < SOON_S
    assert held < 2 * CONNECTIONS_MAX + 100


def test_workers_that_stand_still_delay_no_reading_and_are_named_after_an_order(
    balancer: Balancer,
) -> None:
    """An order is durable at once, and says within its two seconds who has not confirmed it."""
    pids = list(balancer.pids().values())
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        status, readyz, metrics, _ = asks_of(balancer)
        assert max(t for ask in (status, readyz, metrics) for t in times(ask, 5)) < ORDER_S
        code, reply = ordered(balancer, "drain")
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    assert code == 202
    assert reply.count(b"worker ") == 2
