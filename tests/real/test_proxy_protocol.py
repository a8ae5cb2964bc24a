"""PROXY headers from and to HAProxy, whose protocol it is: the same client at every station."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.real_balancer import Balancer, free_port, wait_until_listening

HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = pytest.mark.skipif(
    HAPROXY is None and not os.environ.get("CI"), reason="haproxy is not installed"
)
CLIENT = "127.0.0.9"
FRONT = """
listen front
  bind 127.0.0.1:{port}
  mode tcp
  server edge 127.0.0.1:{edge} {send}
"""
# Says who asks, as it was told by the header.
BACK = """
frontend back
  bind 127.0.0.1:{port} accept-proxy
  mode http
  http-request return status 200 content-type text/plain lf-string "%[src] %[dst_port]"
"""


@dataclass
class Station:
    """A place where HAProxy listens, for those who only need to know it."""

    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def haproxy(folder: Path, port: int, config: str) -> Iterator[None]:
    assert HAPROXY is not None, "haproxy is not installed"
    file = folder / f"haproxy-{port}.cfg"
    timeouts = "timeout client 20s\n  timeout server 20s\n  timeout connect 5s"
    file.write_text(f"defaults\n  {timeouts}\n{config}")
    with (folder / "haproxy.log").open("ab") as log:
        process = subprocess.Popen([HAPROXY, "-db", "-f", str(file)], stdout=log, stderr=log)
    try:
        wait_until_listening(port, process)
        yield
    finally:
        process.kill()
        process.wait()


def ask(port: int) -> tuple[bytes, bytes]:
    """What two requests on one connection of CLIENT are told."""
    with socket.create_connection(("127.0.0.1", port), 10, (CLIENT, 0)) as sock:
        bodies = []
        for _ in range(2):
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            data = b""
            while b"127.0.0." not in data.partition(b"\r\n\r\n")[2]:
                piece = sock.recv(65536)
                assert piece, data
                data += piece
            bodies.append(data.partition(b"\r\n\r\n")[2])
    return bodies[0], bodies[1]


@pytest.mark.parametrize(
    ("send", "pool"),
    [
        ("send-proxy", "v1"),
        ("send-proxy-v2 proxy-v2-options crc32c,unique-id", "v2"),
    ],
)
def test_a_client_is_the_same_before_and_behind_the_edge(
    tmp_path: Path, send: str, pool: str
) -> None:
    front, back, edge = free_port(), free_port(), free_port()
    listener = (
        f'[[listeners]]\nbind = "127.0.0.1:{edge}"\nproxy_protocol = "required"\n'
        'proxy_protocol_from = ["127.0.0.1/32"]\n'
    )
    checks = f'proxy_protocol = "{pool}"\n[pools.web.health]\ninterval = "1s"\nfails = 1\n'
    with (
        haproxy(tmp_path, back, BACK.format(port=back)),
        haproxy(tmp_path, front, FRONT.format(port=front, edge=edge, send=send)),
    ):
        balancer = Balancer(tmp_path, [Station(back)], pool=checks, top=listener)
        try:
            expected = f"{CLIENT} {front}".encode()
            assert ask(front) == (expected, expected)
            assert [row["health"] for row in balancer.status().values()] == ["healthy"]
        finally:
            balancer.process.terminate()
            balancer.process.wait(20)
        assert balancer.access.read_text().count(CLIENT) >= 2
