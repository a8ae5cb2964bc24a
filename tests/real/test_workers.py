"""Workers as processes: killed, stopped, told to leave, while clients are served."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import nobody_left
from tests.support.kept_clients import Clients, clients
from tests.support.real_balancer import Balancer, processes_of, running, wait_for

TWO = "workers = 2"
# Of 95 visits in a hundred, and of the very worst, on a machine that does other things as well.
USUAL_S, WORST_S = 0.3, 2.0
# Who rests longer than the grace of a drain (0.5 s) may send just when its connection is closed; and
# who asks without pause keeps a busy machine from letting others send in time.
THINKS_S = (0.1,)


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> Iterator[None]:
    with nobody_left(tmp_path):
        yield


def both_serve(balancer: Balancer) -> bool:
    return len(balancer.pids()) == 2


def loops(balancer: Balancer) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in balancer.log().splitlines()]
    return [line for line in lines if line["event"] == "worker.loops"]


def waited_for_long(them: Clients) -> list[float]:
    return sorted(them.times)[int(0.95 * len(them.times)) :]


@contextmanager
def killed_whenever_it_serves(balancer: Balancer, slot: int) -> Iterator[list[int]]:
    """Every process of that slot is killed as soon as it is there."""
    killed: list[int] = []
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.02):
            for row in balancer.workers():
                pid = row["pid"]
                if row["worker"] == slot and pid is not None and pid not in killed:
                    killed.append(pid)
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


# ---- killed


def test_a_worker_killed_again_and_again_is_hardly_noticed(tmp_path: Path) -> None:
    """Also while nobody follows it for a while: whoever connects to its sockets does not wait."""
    with running(tmp_path, 2, top=TWO) as (balancer, _):
        wait_for(lambda: both_serve(balancer))
        with clients(balancer.port, kept=0, visits_per_s=100) as them:
            time.sleep(0.5)
            with killed_whenever_it_serves(balancer, 0) as killed:
                wait_for(lambda: len(killed) >= 5)
                time.sleep(0.5)
        # A visit takes milliseconds, so that about one is in flight.
        assert len(them.failures) <= 2 * len(killed)
        assert them.visits > 100
        late = waited_for_long(them)
        assert late[0] < USUAL_S, late
        assert late[-1] < WORST_S, late
        wait_for(lambda: loops(balancer))
        assert "times in a row soon after its start" in loops(balancer)[-1]["because"]
        assert loops(balancer)[-1]["level"] == "warning"
        wait_for(lambda: both_serve(balancer))


def test_kept_connections_of_other_workers_do_not_notice(tmp_path: Path) -> None:
    with running(tmp_path, 2, top=TWO) as (balancer, _):
        wait_for(lambda: both_serve(balancer))
        with clients(balancer.port, kept=20, visits_per_s=20) as them:
            wait_for(lambda: sum(row["connections"] for row in balancer.workers()) >= 20)
            time.sleep(1)
            theirs = {row["worker"]: row["connections"] for row in balancer.workers()}
            os.kill(balancer.pids()[0], signal.SIGKILL)
            time.sleep(1.5)
            wait_for(lambda: both_serve(balancer))
            wait_for(lambda: them.answers > 50 and them.failures)
        assert len(them.failures) <= theirs[0] + 2, "its own connections, and no other"


def test_twenty_kills_leak_nothing(tmp_path: Path) -> None:
    with running(tmp_path, 1, top="workers = 4") as (balancer, _):
        wait_for(lambda: len(balancer.pids()) == 4)

        def held() -> tuple[int, int]:
            descriptors = len(os.listdir(f"/proc/{balancer.process.pid}/fd"))
            return descriptors, len(processes_of(tmp_path))

        def all_anew(before: dict[int, int]) -> bool:
            now = balancer.pids()
            return len(now) == 4 and not set(now.values()) & set(before.values())

        time.sleep(0.5)
        seen = [held() for _ in range(20)]
        first = min(descriptors for descriptors, _ in seen), seen[-1][1]
        for _ in range(5):
            before = balancer.pids()
            for pid in before.values():
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda before=before: all_anew(before))  # type: ignore[misc]
        wait_for(lambda: held() == first)


# ---- stopped, told to leave


def test_a_worker_that_hangs_is_covered_for_and_replaced(tmp_path: Path) -> None:
    with running(tmp_path, 2, top=TWO) as (balancer, _):
        wait_for(lambda: both_serve(balancer))
        time.sleep(0.6)
        with clients(balancer.port, kept=0, visits_per_s=30) as them:
            time.sleep(0.3)
            hung = balancer.pids()[0]
            os.kill(hung, signal.SIGSTOP)
            began = time.monotonic()
            wait_for(lambda: balancer.pids().get(0, hung) != hung)
            assert time.monotonic() - began < 8
        assert len(them.failures) <= 4, "what it had accepted"
        assert max(them.times) < 4, "until others accept at its sockets"


def test_a_worker_told_to_end_drains_and_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path, 2, top=TWO) as (balancer, _):
        wait_for(lambda: both_serve(balancer))
        before = balancer.pids()
        with clients(balancer.port, kept=12, visits_per_s=50, thinks_s=THINKS_S) as them:
            time.sleep(0.5)
            os.kill(before[0], signal.SIGTERM)
            wait_for(lambda: balancer.pids().get(0) not in {None, before[0]})
            wait_for(lambda: before[0] not in processes_of(tmp_path))
            time.sleep(0.5)
        assert them.failures == []
        assert balancer.pids()[1] == before[1]


# ---- sharing, ending


def test_two_workers_share_the_load(tmp_path: Path) -> None:
    with running(tmp_path, 1, top=TWO) as (balancer, _):
        wait_for(lambda: both_serve(balancer))
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", balancer.port)) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                while sock.recv(10_000):
                    pass
        wait_for(lambda: sum(row["exchanges"] for row in balancer.workers()) == 200)
        # With fair coins, fewer than 60 of 200 come once in 100 million.
        assert min(row["exchanges"] for row in balancer.workers()) >= 60


def test_term_under_load_fails_nobody_who_heeds_connection_close(tmp_path: Path) -> None:
    with running(tmp_path, 2, top='workers = 2\nshutdown_timeout = "5s"') as (balancer, _):
        wait_for(lambda: both_serve(balancer))
        with clients(balancer.port, visits_per_s=1, thinks_s=THINKS_S) as them:
            time.sleep(1)
            balancer.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert balancer.process.wait(20) == 0
            assert time.monotonic() - began < 10
        refused = [text for text in them.failures if "all attempts to connect" in text]
        assert refused == them.failures, "only those who came when it was over"
        assert them.told >= 24
        assert processes_of(tmp_path) == {}


def test_ctrl_c_reaches_the_whole_group_and_is_the_supervisors_to_obey(tmp_path: Path) -> None:
    command = ("setsid", sys.executable, "-m", "balancer")
    with running(tmp_path, 1, top=TWO, command=command) as (balancer, _):
        wait_for(lambda: both_serve(balancer))
        workers = balancer.pids().values()
        curl = subprocess.Popen(
            ["curl", "-sS", f"http://127.0.0.1:{balancer.port}/slow?s=2"],
            stdout=subprocess.PIPE,
        )
        wait_for(lambda: balancer.in_flight() == 1)
        for pid in workers:
            os.kill(pid, signal.SIGINT)  # as if they were in that group
        os.killpg(balancer.process.pid, signal.SIGINT)
        out, _ = curl.communicate(timeout=20)
        assert curl.returncode == 0
        assert out
        assert balancer.process.wait(20) == 0
        assert processes_of(tmp_path) == {}
