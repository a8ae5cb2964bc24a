"""TLS with backends, as processes on real sockets: bodies both ways, probes, reuse, and a changed file."""

import http.client
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme

from tests.support.certificates import authority, server_context
from tests.support.real_balancer import Balancer, wait_for

HEALTH = '[pools.web.health]\npath = "/"\ninterval = "200ms"\nfails = 1\n'
SIZE = 3_000_000


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(os.urandom(1) * int(self.headers.get("X-Size", 5)))

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Connection", str(self.client_address[1]))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A handshake that was refused is what some tests are about."""


class TlsBackend:
    def __init__(self, server: _Server) -> None:
        self.address = f"127.0.0.1:{server.server_address[1]}"


@contextmanager
def tls_backend() -> Iterator[TlsBackend]:
    server = _Server(("127.0.0.1", 0), _Echo)
    server.socket = server_context("127.0.0.1").wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield TlsBackend(server)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(
    balancer: Balancer, method: str = "GET", body: bytes = b"", size: int = 5
) -> tuple[int, bytes, str]:
    connection = http.client.HTTPConnection("127.0.0.1", balancer.port, timeout=30)
    try:
        connection.request(method, "/", body or None, {"X-Size": str(size)})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers.get("X-Connection", "")
    finally:
        connection.close()


def test_bodies_pass_both_ways_and_connections_are_kept(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(authority().cert_pem.bytes())
    tls = f'[pools.web.tls]\nca = "{tmp_path / "ca.pem"}"\n'
    with tls_backend() as backend:
        balancer = Balancer(tmp_path, [backend], pool=tls + HEALTH, top="workers = 1")
        try:
            first = ask(balancer)
            assert first[0] == 200
            assert ask(balancer)[2] == first[2], "one connection for both"
            assert len(ask(balancer, size=SIZE)[1]) == SIZE
            body = os.urandom(SIZE)
            assert ask(balancer, "POST", body)[1] == body
        finally:
            balancer.end()


def test_a_ca_that_changes_is_taken_up_while_running(tmp_path: Path) -> None:
    place = tmp_path / "ca.pem"
    place.write_bytes(trustme.CA().cert_pem.bytes())
    with tls_backend() as backend:
        balancer = Balancer(tmp_path, [backend], pool=f'[pools.web.tls]\nca = "{place}"\n')
        try:
            status, told, _ = ask(balancer)
            assert status == 502
            assert b"TLS failed" in told
            wait_for(balancer.access_lines)
            assert "TLS failed: certificate: " in balancer.access_lines()[0]["fault"]
            fresh = tmp_path / "fresh.pem"
            fresh.write_bytes(authority().cert_pem.bytes())
            fresh.rename(place)
            end = time.monotonic() + 30
            while ask(balancer)[0] != 200:
                assert time.monotonic() < end, "never taken up"
                time.sleep(0.2)
        finally:
            balancer.end()
