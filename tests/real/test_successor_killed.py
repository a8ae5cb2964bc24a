"""A process that took over dies while the one before it still finishes what it runs."""

import os
import signal
import socket
import struct
from pathlib import Path

from tests.real.test_upgrade import supervisor, wait_for
from tests.support.installation import nobody_left
from tests.support.real_balancer import Balancer, processes_of, running


def ask_slowly(balancer: Balancer) -> socket.socket:
    """A client whose answer takes a minute, and whose request has reached its backend."""
    client = socket.create_connection(("127.0.0.1", balancer.port))
    client.sendall(b"GET /slow?s=60 HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_for(lambda: sum(row["in_flight"] for row in balancer.status().values()) == 1)
    return client


def reset(client: socket.socket) -> None:
    """Be gone at once: one who only closes may still be waiting for his answer."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_who_has_handed_over_keeps_nobody_from_starting(tmp_path: Path) -> None:
    """It is not found at the admin socket any more, where it would never answer."""
    with nobody_left(tmp_path), running(tmp_path, 1, top="workers = 1") as (balancer, _):
        first = balancer.process
        with ask_slowly(balancer) as client:
            assert balancer.cli("upgrade").returncode == 0
            os.kill(supervisor(balancer), signal.SIGKILL)
            wait_for(lambda: balancer.cli("status").returncode == 3, 5)
            balancer.start()
            assert supervisor(balancer) == balancer.process.pid
            assert balancer.cli("status").returncode == 0
            assert first.poll() is None, "it finishes what it runs"
            reset(client)
        assert first.wait(20) == 0


def test_a_stop_reaches_those_whose_successor_was_killed(tmp_path: Path) -> None:
    """The third one knows of them by the rows of the board that they write."""
    top = 'workers = 1\nshutdown_timeout = "1s"'
    with nobody_left(tmp_path), running(tmp_path, 1, top=top) as (balancer, _):
        first = balancer.process
        with ask_slowly(balancer):
            assert balancer.cli("upgrade").returncode == 0
            os.kill(supervisor(balancer), signal.SIGKILL)
            wait_for(lambda: balancer.cli("status").returncode == 3, 5)
            balancer.start()
            assert first.poll() is None, "it finishes what it runs"
            assert balancer.cli("stop").returncode == 0
            assert first.wait(10) == 0
            wait_for(lambda: not processes_of(tmp_path), 10)


def test_logs_are_reopened_by_those_too_who_have_handed_over(tmp_path: Path) -> None:
    with nobody_left(tmp_path), running(tmp_path, 1, top="workers = 1") as (balancer, _):
        with ask_slowly(balancer) as client:
            assert balancer.cli("upgrade").returncode == 0
            balancer.access.rename(balancer.folder / "access.log.1")
            os.kill(supervisor(balancer), signal.SIGUSR1)
            wait_for(balancer.access.exists)
            reset(client)
        assert balancer.process.wait(20) == 0
        [line] = balancer.access_lines()
        assert line["path"] == "/slow?s=60"


def test_the_manager_is_told_by_the_parent_of_who_died(tmp_path: Path) -> None:
    """The manager itself is told of the end of its own children alone."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(20)
    env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    with nobody_left(tmp_path), manager, running(tmp_path, 1, top="workers = 1", env=env) as pair:
        balancer, _ = pair
        with ask_slowly(balancer) as client:
            assert balancer.cli("upgrade").returncode == 0
            os.kill(supervisor(balancer), signal.SIGKILL)
            while not manager.recv(1000).startswith(b"WATCHDOG=trigger"):
                pass
            reset(client)
