"""A balancer under a service manager, which a test plays: what it hears, and the sockets it hands over."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.real_balancer import ROOT, free_port


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(30)
        yield sock


def config(folder: Path, port: int, more: str = "") -> Path:
    path = folder / "edge.toml"
    path.write_text(f"""
workers = 1
[[listeners]]
bind = "127.0.0.1:{port}"
[admin]
socket = "{folder / "admin.sock"}"
state = ""
[log]
access = "off"
{more}
[pools.web]
backends = ["127.0.0.1:{free_port()}"]
""")
    return path


@contextlib.contextmanager
def started(path: Path, *, given: socket.socket | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A balancer as systemd would start it; descriptor 3 is the socket that is given."""
    script = 'exec "$@"' if given is None else f'LISTEN_PID=$$ exec "$@" 3<&{given.fileno()}'
    env = {
        **os.environ,
        "NOTIFY_SOCKET": str(path.parent / "notify"),
        "WATCHDOG_USEC": "1000000",
        **({} if given is None else {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}),
    }
    with (path.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", sys.executable, "-m", "balancer", "run", str(path)],
            env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            pass_fds=[] if given is None else [given.fileno()],
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def heard(manager: socket.socket, wanted: str) -> dict[str, str]:
    """The next word that has this in it; what comes before, such as signs of life, is let go."""
    end = time.monotonic() + 30
    while time.monotonic() < end:  # signs of life come for ever
        lines = manager.recv(65536).decode().splitlines()
        if wanted in lines:
            return dict(line.split("=", 1) for line in lines)
    raise AssertionError(f"{wanted} was not said")


def asked_to_reload(place: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(place))
        sock.sendall(b"POST /v1/reload HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_every_change_is_told_in_its_order(tmp_path: Path, manager: socket.socket) -> None:
    port = free_port()
    path = config(tmp_path, port)
    with started(path) as process:
        assert heard(manager, "READY=1")["STATUS"] == "serving"
        with socket.create_connection(("127.0.0.1", port), 5):
            pass  # it was no empty promise
        assert heard(manager, "WATCHDOG=1") == {"WATCHDOG": "1"}
        config(tmp_path, port, more='level = "warning"')
        process.send_signal(signal.SIGHUP)
        assert int(heard(manager, "RELOADING=1")["MONOTONIC_USEC"]) > 0
        done = heard(manager, "READY=1")["STATUS"]
        assert done.startswith("serving; reloaded edge.toml: pool web: 1 backend added, 1 backend")
        path.write_text("foo = 1")
        process.send_signal(signal.SIGHUP)
        heard(manager, "RELOADING=1")
        refused = heard(manager, "READY=1")["STATUS"]
        assert refused.startswith("serving; reload refused: edge.toml is not valid; nothing was")
        config(tmp_path, port)
        assert b" 200 OK" in asked_to_reload(tmp_path / "admin.sock")
        heard(manager, "RELOADING=1")
        assert "reloaded edge.toml" in heard(manager, "READY=1")["STATUS"], "whoever asked for it"
        process.terminate()
        heard(manager, "STOPPING=1")
    assert process.returncode == 0


def test_a_socket_that_is_given_is_used_and_stays_open(
    tmp_path: Path, manager: socket.socket
) -> None:
    with socket.socket() as given:
        given.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        given.bind(("127.0.0.1", 0))
        given.listen()
        port = given.getsockname()[1]
        early = socket.create_connection(("127.0.0.1", port), 5)
        for _ in range(2):
            with started(config(tmp_path, port), given=given):
                heard(manager, "READY=1")
                early.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                early.settimeout(20)
                assert early.recv(4096).startswith(b"HTTP/1.1 502 ")
                early.close()
            early = socket.create_connection(("127.0.0.1", port), 5)  # waits for the next one
        early.close()


def test_a_socket_that_no_listener_wants_refuses_the_start(
    tmp_path: Path, manager: socket.socket
) -> None:
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        given.listen()
        with started(config(tmp_path, free_port()), given=given) as process:
            assert process.wait(20) == 1
        said = (tmp_path / "log").read_text()
        port = given.getsockname()[1]
        assert f"a socket on 127.0.0.1:{port} (http) was given, and no listener" in said
