"""Fewer workers, and other changes of who listens: whoever has begun to connect is served."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from balancer.supervisor.steering import HANDSHAKE_S
from tests.support.installation import nobody_left
from tests.support.real_balancer import Balancer, running, wait_for
from tests.support.slow_handshakes import slow_handshakes


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> Iterator[None]:
    with nobody_left(tmp_path):
        yield


@contextmanager
def three_serve(folder: Path) -> Iterator[Balancer]:
    with running(folder, 1, top="workers = 3") as (balancer, _):
        wait_for(lambda: len(balancer.pids()) == 3)
        yield balancer


def write(balancer: Balancer, many: int) -> None:
    text = balancer.config.read_text()
    balancer.config.write_text(f"workers = {many}\n" + text.partition("\n")[2])


def with_workers(balancer: Balancer, many: int, how: str = "reload") -> None:
    """So many from now on; returns when so many serve."""
    write(balancer, many)
    done = balancer.cli(how)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: len(balancer.pids()) == many)


def replace_first(balancer: Balancer) -> None:
    """Tell a worker to leave; returns when another one serves in its place."""
    before = balancer.pids()
    os.kill(before[min(before)], signal.SIGTERM)
    wait_for(lambda: balancer.pids().keys() == before.keys() and balancer.pids() != before)


def every_worker_is_connected_to(balancer: Balancer) -> bool:
    """Whether the next clients come to all of them."""
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", balancer.port)))
        time.sleep(1)  # they count on the board twice a second
        rows = [row for row in balancer.workers() if row["state"] == "serving"]
        return all(row["connections"] > 5 for row in rows)


def test_whoever_has_begun_to_connect_is_served_when_there_are_to_be_fewer_workers(
    tmp_path: Path,
) -> None:
    """Two in three of those under way have begun at a socket that is closed."""
    with three_serve(tmp_path) as balancer, slow_handshakes(balancer.port) as seen:
        with_workers(balancer, 1)
    assert seen.keys() == {"200"}


@pytest.mark.long
def test_and_so_he_is_however_often_there_are_more_and_fewer(tmp_path: Path) -> None:
    """Also where a worker has been replaced, and a number is not free again."""
    with three_serve(tmp_path) as balancer, slow_handshakes(balancer.port) as seen:
        for many in (1, 3, 2, 4, 1, 2, 3, 2):
            with_workers(balancer, many)
            replace_first(balancer)
        wait_for(lambda: every_worker_is_connected_to(balancer))
    assert seen.keys() == {"200"}


@pytest.mark.long
def test_and_in_upgrades_whatever_the_number_of_workers(tmp_path: Path) -> None:
    with three_serve(tmp_path) as balancer, slow_handshakes(balancer.port) as seen:
        for many in (3, 1, 3, 2):
            with_workers(balancer, many, "upgrade")
            time.sleep(HANDSHAKE_S + 1)
        with_workers(balancer, 1)
        with_workers(balancer, 3)
        wait_for(lambda: every_worker_is_connected_to(balancer))
    assert seen.keys() == {"200"}


@pytest.mark.long
def test_an_upgrade_keeps_the_numbers_of_the_sockets_that_are_there(tmp_path: Path) -> None:
    """Where workers that drain still have the first numbers, those of their followers are others."""
    with three_serve(tmp_path) as balancer, ExitStack() as stack:
        for _ in range(60):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", balancer.port)))
            slow.sendall(b"GET /slow?s=30 HTTP/1.1\r\nHost: a\r\n\r\n")
        with_workers(balancer, 1)
        with_workers(balancer, 3)
        assert balancer.pids().keys() == {0, 3, 4}
        with slow_handshakes(balancer.port) as seen:
            with_workers(balancer, 2, "upgrade")
            assert balancer.pids().keys() == {0, 3}
            time.sleep(HANDSHAKE_S + 1)
            with_workers(balancer, 3)
            assert balancer.pids().keys() == {0, 3, 4}
            with_workers(balancer, 1)
        assert seen.keys() == {"200"}
        balancer.cli("stop", "--now")


@pytest.mark.long
def test_and_where_the_next_supervisor_wants_fewer_workers(tmp_path: Path) -> None:
    with three_serve(tmp_path) as balancer, slow_handshakes(balancer.port) as seen:
        balancer.kill()
        write(balancer, 1)
        balancer.start()
        wait_for(lambda: len(balancer.workers()) == 1)
        time.sleep(HANDSHAKE_S + 1)
    assert seen.keys() == {"200"}


@pytest.mark.long
def test_a_supervisor_that_is_killed_meanwhile_leaves_nothing_behind(tmp_path: Path) -> None:
    """Just then nobody begins at two sockets any more; under the next one they do as before."""
    with three_serve(tmp_path) as balancer, slow_handshakes(balancer.port) as seen:
        write(balancer, 1)
        reload = threading.Thread(target=balancer.cli, args=("reload",))
        reload.start()
        wait_for(lambda: any(row["state"] == "draining" for row in balancer.workers()))
        balancer.kill()
        reload.join()
        write(balancer, 3)
        balancer.start()
        wait_for(lambda: len(balancer.pids()) == 3)
        wait_for(lambda: every_worker_is_connected_to(balancer))
        with_workers(balancer, 1)
    assert seen.keys() == {"200"}


@pytest.mark.long
def test_whoever_has_begun_at_the_socket_of_a_worker_that_is_killed_is_served_by_others(
    tmp_path: Path,
) -> None:
    with three_serve(tmp_path) as balancer:
        killed = balancer.pids()[1]
        os.kill(killed, signal.SIGSTOP)  # so that all that it has accepted is older
        with slow_handshakes(balancer.port) as seen:
            time.sleep(1)
            os.kill(killed, signal.SIGKILL)
            wait_for(lambda: killed not in balancer.pids().values() and len(balancer.pids()) == 3)
        assert seen.keys() == {"200"}
