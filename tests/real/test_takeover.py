"""A supervisor that is killed: its workers serve on, and the next one takes over from them."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import nobody_left
from tests.support.kept_clients import clients
from tests.support.real_balancer import Balancer, processes_of, running, wait_for

TWO = "workers = 2"
# With fair coins, all of them come to the same worker once in four million.
SLOW = 23
POOL = "passive = { consecutive_failures = 2, base_ejection = '60s', max_ejected_ratio = 0.7 }"


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> Iterator[None]:
    with nobody_left(tmp_path):
        yield


def both_serve(balancer: Balancer) -> bool:
    return len(balancer.pids()) == 2


def events(balancer: Balancer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in balancer.log().splitlines()]


def ask(balancer: Balancer, path: str = "/") -> bytes:
    with socket.create_connection(("127.0.0.1", balancer.port), 10) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_nobody_notices_that_a_supervisor_was_killed_and_another_came(tmp_path: Path) -> None:
    with running(tmp_path, 3, top=TWO, pool=POOL) as (balancer, backends):
        wait_for(lambda: both_serve(balancer))
        assert balancer.cli("drain", "web", backends[0].address).returncode == 0
        backends[1].kill()
        wait_for(lambda: ask(balancer) and balancer.status()[backends[1].address]["ejected"])
        workers, before = balancer.pids(), balancer.status()
        with clients(balancer.port, size=3_000_000) as them:
            wait_for(lambda: them.answers > 50)
            balancer.kill()
            time.sleep(0.5)
            orphaned = them.answers
            balancer.start()
            wait_for(lambda: them.answers > orphaned + 50)
            them.finish_download()
        assert them.failures == []
        assert them.told == 0, "no kept connection has ended"
        wait_for(lambda: balancer.pids() == workers)
        after = balancer.status()
        assert after[backends[0].address]["admin"] == "draining"
        assert after[backends[1].address]["ejected"]
        for address, row in before.items():
            assert after[address]["requests"] >= row["requests"], "counters never go down"
        wait_for(lambda: balancer.in_flight() == 0)
        assert balancer.cli("ready", "web", backends[0].address).returncode == 0
        assert balancer.cli("reload").returncode == 0
        assert balancer.cli("stop").returncode == 0
        assert balancer.process.wait(20) == 0
        wait_for(lambda: processes_of(tmp_path) == {})


def test_what_a_worker_had_in_flight_that_died_with_its_supervisor_is_forgotten(
    tmp_path: Path,
) -> None:
    with running(tmp_path, 1, top=TWO) as (balancer, _):
        wait_for(lambda: both_serve(balancer))
        with balancer.asked_slowly(SLOW):
            workers = balancer.pids()
            balancer.kill()
            os.kill(workers[0], signal.SIGKILL)
            for _ in range(10):
                assert b" 200 " in ask(balancer), "the other one accepts at its sockets as well"
            balancer.start()
            wait_for(lambda: 0 < balancer.in_flight() < SLOW)
        wait_for(lambda: balancer.in_flight() == 0)
        wait_for(lambda: both_serve(balancer))
        assert balancer.pids()[1] == workers[1]


def test_a_stranger_who_dials_neither_hinders_nor_gets_anything(tmp_path: Path) -> None:
    """One who says nothing, one who says what makes no sense, one who says he is another process."""
    with running(tmp_path, 1, top=TWO) as (balancer, _):
        wait_for(lambda: both_serve(balancer))
        path = f"{balancer.socket}.workers"
        assert Path(path).stat().st_mode & 0o777 == 0o600
        workers = balancer.pids()
        balancer.kill()
        stop = threading.Event()
        strangers: list[socket.socket] = []

        def dial() -> None:
            while not stop.wait(0.02):
                try:
                    strangers.append(socket.socket(socket.AF_UNIX))
                    strangers[-1].connect(path)
                    strangers[-1].sendall([b"", b"nonsense" * 9][len(strangers) % 2])
                except OSError:
                    continue

        thread = threading.Thread(target=dial)
        thread.start()
        try:
            balancer.start()
            wait_for(lambda: balancer.pids() == workers)
        finally:
            stop.set()
            thread.join()
            for sock in strangers:
                sock.close()
        assert ask(balancer)


def test_an_orphan_ends_when_nobody_comes(tmp_path: Path) -> None:
    with running(tmp_path, 1, top='workers = 2\norphan_timeout = "1s"') as (balancer, _):
        wait_for(lambda: both_serve(balancer))
        began = time.monotonic()
        balancer.kill()
        wait_for(lambda: processes_of(tmp_path) == {})
        assert time.monotonic() - began > 0.9
        last = events(balancer)[-1]
        assert last["event"] == "worker.leaves"
        balancer.start()
        assert b" 200 " in ask(balancer)


def test_a_supervisor_killed_again_and_again(tmp_path: Path) -> None:
    with running(tmp_path, 1, top=TWO) as (balancer, _):
        wait_for(lambda: both_serve(balancer))
        workers = balancer.pids()
        with clients(balancer.port, kept=6, visits_per_s=30) as them:
            for _ in range(3):
                balancer.kill()
                balancer.start()
            wait_for(lambda: both_serve(balancer))
        assert them.failures == []
        assert balancer.pids() == workers
        held = {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in workers.values()}
        time.sleep(0.5)
        balancer.kill()
        balancer.start()
        wait_for(lambda: both_serve(balancer))
        wait_for(
            lambda: all(len(os.listdir(f"/proc/{pid}/fd")) <= held[pid] for pid in held)
        )  # no worker keeps what it was handed again


def test_the_admin_answers_while_nothing_is_known_yet(tmp_path: Path) -> None:
    """A backend that hangs keeps a new supervisor from knowing, and clients from nothing."""
    with running(tmp_path, 1, top='workers = 2\nstart_timeout = "2s"') as (balancer, _):
        wait_for(lambda: both_serve(balancer))
        with socket.create_server(("127.0.0.1", 0)) as silent:
            text = balancer.config.read_text()
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            more = f'[pools.other]\nbackends = ["{address}"]\nhealth = {{ timeout = "5s" }}\n'
            routes = '[[routes]]\npath = "/other"\npool = "other"\n[[routes]]\npool = "web"\n'
            balancer.config.write_text(text + more + routes)
            with clients(balancer.port, kept=4, visits_per_s=30) as them:
                balancer.kill()
                balancer.start()
                assert balancer.status()
            assert them.failures == []
        reached = subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{balancer.port}/"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert reached.stdout == "200"
