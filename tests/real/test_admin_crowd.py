"""The admin server answers in time, whatever a crowd does on its own socket."""

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from balancer.admin import server
from tests.support.admin_instance import AdminInstance, admin_instance
from tests.support.fake_control import A

# An answer takes a millisecond; the rest is for a loaded machine. Whoever waited for one of the crowd
# would wait for ten seconds at least.
SOON_S = 8.0
CROWD = 300
ASK = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[AdminInstance]:
    with admin_instance(tmp_path / "admin.sock") as running:
        yield running


def connect(instance: AdminInstance) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(instance.path))
    sock.settimeout(SOON_S)
    return sock


def ask(instance: AdminInstance) -> float:
    """How long one question on a connection of its own takes; it is answered."""
    began = time.monotonic()
    with connect(instance) as sock:
        sock.sendall(ASK)
        assert sock.recv(4096).endswith(b"ok\n")
    return time.monotonic() - began


def silent(_sock: socket.socket) -> None:
    pass


def half_a_head(sock: socket.socket) -> None:
    sock.sendall(ASK[:-2])


def half_a_body(sock: socket.socket) -> None:
    sock.sendall(b"POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")


def at_rest(sock: socket.socket) -> None:
    sock.sendall(ASK)


def reads_nothing(sock: socket.socket) -> None:
    sock.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n" * 2)


@pytest.mark.parametrize("does", [silent, half_a_head, half_a_body, at_rest, reads_nothing])
def test_hundreds_that_hold_a_connection_keep_nobody_out(
    instance: AdminInstance, does: Callable[[socket.socket], None]
) -> None:
    instance.control.rows[A]["reason"] = "x" * 300_000  # more than a socket takes at once
    with contextlib.ExitStack() as stack:
        for _ in range(CROWD):
            does(stack.enter_context(connect(instance)))
        waits = [ask(instance) for _ in range(20)]
    print(f"{does.__name__}: slowest {max(waits) * 1000:.0f} ms")
    assert max(waits) < SOON_S


def test_a_crowd_that_keeps_coming_keeps_nobody_out(instance: AdminInstance) -> None:
    over = threading.Event()

    def come() -> None:
        held: list[socket.socket] = []
        while not over.is_set():
            with contextlib.suppress(OSError):
                sock = connect(instance)
                held.append(sock)
                half_a_head(sock)
            if len(held) > CROWD:
                held.pop(0).close()
        for sock in held:
            sock.close()

    threads = [threading.Thread(target=come) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        waits = [ask(instance) for _ in range(20)]
    finally:
        over.set()
        for thread in threads:
            thread.join()
    print(f"slowest {max(waits) * 1000:.0f} ms")
    assert max(waits) < SOON_S


def test_one_that_asks_without_a_pause_lets_others_have_their_turn(instance: AdminInstance) -> None:
    """Its next request is always there already, so nothing of it ever waits."""
    over = threading.Event()
    with connect(instance) as busy:
        busy.settimeout(0.2)

        def send() -> None:
            for _ in itertools.takewhile(lambda _: not over.is_set(), itertools.count()):
                with contextlib.suppress(OSError):
                    busy.sendall(ASK * 200)

        def read() -> None:
            while not over.is_set():
                with contextlib.suppress(OSError):
                    busy.recv(1 << 20)

        threads = [threading.Thread(target=each) for each in (send, read)]
        for thread in threads:
            thread.start()
        try:
            waits = [ask(instance) for _ in range(20)]
        finally:
            over.set()
            for thread in threads:
                thread.join()
    assert max(waits) < SOON_S


def test_the_one_waited_for_the_longest_leaves_and_is_told_why(instance: AdminInstance) -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(connect(instance))
        half_a_head(first)
        ask(instance)  # by now the first one is in
        others = [stack.enter_context(connect(instance)) for _ in range(server.CONNECTIONS_MAX)]
        others[-1].sendall(ASK)
        assert others[-1].recv(4096).endswith(b"ok\n")
        assert b"others needed the place" in first.recv(4096)
