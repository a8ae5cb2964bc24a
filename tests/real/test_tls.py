"""TLS of real processes: curl and openssl as clients, files that change, and what the wire shows."""

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.certificates import authority, certificate, client_context, pem_of
from tests.support.real_balancer import Backend, Balancer, free_port, wait_for

MISSING = [name for name in ("curl", "openssl") if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING) and not os.environ.get("CI"), reason=f"{', '.join(MISSING)} not installed"
)


ASK = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
LONG_ASK = b"GET / HTTP/1.1\r\nHost: a.test\r\nCookie: " + b"c" * 1000 + b"\r\n\r\n"


class Edge:
    """A balancer with TLS at `port`, client certificates wanted at `port_of_known`."""

    def __init__(self, folder: Path, backend: Backend) -> None:
        self.folder = folder
        self.port, self.port_of_known = free_port(), free_port()
        self.write("edge", *pem_of(certificate("a.test")))
        rsa = authority().issue_cert("a.test", key_type=trustme.KeyType.RSA)
        self.write("edge-rsa", *pem_of(rsa))
        self.write("other", *pem_of(certificate("*.b.test")))
        self.write("alice", *pem_of(certificate("alice@a.test")))
        self.write("ca", authority().cert_pem.bytes(), b"")
        listed = ", ".join(
            f'{{ certificate = "{folder}/{name}.pem", key = "{folder}/{name}.key" }}'
            for name in ("edge", "edge-rsa", "other")
        )
        self.balancer = Balancer(
            folder,
            [backend],
            top=f"""
workers = 1
[[listeners]]
bind = "127.0.0.1:{self.port}"
[listeners.tls]
certificates = [{listed}]
hsts = "1d"
[[listeners]]
bind = "127.0.0.1:{self.port_of_known}"
[listeners.tls]
certificates = [{listed}]
client_auth = "required"
client_ca = "{folder}/ca.pem"
""",
        )

    def write(self, name: str, chain: bytes, key: bytes) -> None:
        (self.folder / f"{name}.pem").write_bytes(chain)
        (self.folder / f"{name}.key").write_bytes(key)

    def curl(self, *options: str, host: str = "a.test", port: int | None = None) -> str:
        port = port or self.port
        url = f"https://{host}:{port}/"
        command = ["curl", "-sSi", "--max-time", "20", "--cacert", f"{self.folder}/ca.pem"]
        command += ["--resolve", f"{host}:{port}:127.0.0.1", *options, url]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        return ran.stdout + ran.stderr

    def openssl(self, *options: str) -> str:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{self.port}"]
        command += ["-servername", "a.test", "-CAfile", f"{self.folder}/ca.pem", *options]
        ran = subprocess.run(
            command, input="", capture_output=True, text=True, check=False, timeout=20
        )
        return ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    backend = Backend()
    edge = Edge(tmp_path_factory.mktemp("edge"), backend)
    yield edge
    edge.balancer.end()
    backend.kill()


def test_curl_is_served_by_the_certificate_of_the_name(edge: Edge) -> None:
    for host in ("a.test", "x.b.test"):
        said = edge.curl("--http1.1", host=host)
        assert said.startswith("HTTP/1.1 200")
        assert "strict-transport-security: max-age=86400" in said.lower()


def test_a_host_of_another_certificate_is_misdirected(edge: Edge) -> None:
    assert edge.curl("-H", "Host: x.b.test").startswith("HTTP/1.1 421")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_who_shows_no_certificate_where_one_is_wanted_is_told_so(edge: Edge, version: str) -> None:
    options = ["--tls-max", version, "--tlsv1.2"]
    said = edge.curl(*options, port=edge.port_of_known)
    assert "HTTP/1.1" not in said
    assert re.search(r"alert|certificate required|handshake", said), said
    shown = ["--cert", f"{edge.folder}/alice.pem", "--key", f"{edge.folder}/alice.key"]
    assert edge.curl(*options, *shown, port=edge.port_of_known).startswith("HTTP/1.1 200")


@pytest.mark.parametrize("options", [["-tls1_2"], ["-tls1_3"]])
def test_what_is_agreed_on_is_modern(edge: Edge, options: list[str]) -> None:
    said = edge.openssl(*options, "-alpn", "h2,http/1.1")
    assert "Verify return code: 0 (ok)" in said
    assert "ALPN protocol: http/1.1" in said
    assert "Compression: NONE" in said
    assert re.search("Server Temp Key: X25519", said)


@pytest.mark.parametrize(
    "options",
    [
        ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256"],
        ["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"],
        ["-groups", "X448"],
        ["-groups", "P-521"],
    ],
)
def test_what_mozilla_does_not_recommend_is_refused(edge: Edge, options: list[str]) -> None:
    said = edge.openssl(*options)
    assert "Cipher is (NONE)" in said, said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_of_two_certificates_each_client_is_shown_one_that_it_can_verify(
    edge: Edge, version: str
) -> None:
    rsa, ecdsa = "RSA-PSS+SHA256", "ECDSA+SHA256"
    for usable, shown in ((rsa, "RSA-PSS"), (ecdsa, "ECDSA"), (f"{rsa}:{ecdsa}", "ECDSA")):
        said = edge.openssl(version, "-sigalgs", usable)
        assert "Verify return code: 0 (ok)" in said
        assert f"Peer signature type: {shown}\n" in said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_is_resumed(edge: Edge, version: str) -> None:
    """By the same worker, as long as it has the same certificates."""
    kept = edge.folder / f"session{version}"
    ask = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.port}", version, "-quiet"]
    command += ["-servername", "a.test", "-CAfile", f"{edge.folder}/ca.pem"]
    subprocess.run(
        [*command, "-sess_out", str(kept)], input=ask, capture_output=True, text=True, check=False
    )
    again = edge.openssl(version, "-sess_in", str(kept))
    assert "Reused, TLSv1." in again


def test_a_file_that_changes_is_taken_up(edge: Edge) -> None:
    def serial() -> str:
        return subprocess.run(
            ["openssl", "x509", "-noout", "-serial"],
            input=edge.openssl(), capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    before = serial()
    edge.write("edge", *pem_of(authority().issue_cert("a.test")))
    end = time.monotonic() + 40
    while serial() == before:
        assert time.monotonic() < end, edge.balancer.log()
        time.sleep(0.5)
    wait_for(lambda: "certificates.loaded" in edge.balancer.log())


def test_a_name_that_is_no_text_fills_no_log(edge: Edge) -> None:
    context = client_context()
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    asks = context.wrap_bio(came, goes, server_hostname="abcd.test")
    with pytest.raises(ssl.SSLWantReadError):
        asks.do_handshake()
    hello = goes.read().replace(b"abcd.test", b"\xff\xfecd.test")
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", edge.port), 10) as sock:
            sock.sendall(hello)
            while sock.recv(4096):
                pass
    wait_for(lambda: "TLS: callback failed" in edge.balancer.log())
    log = edge.balancer.log()
    assert "Traceback" not in log
    assert log.count("TLS: callback failed") == 1


def test_what_comes_with_the_last_of_the_handshake_is_served(edge: Edge) -> None:
    """No edge tells of bytes that were read from the kernel along with others."""
    assert answers(edge, ASK, 1) == 1


def test_more_requests_than_one_read_takes_are_all_answered(edge: Edge) -> None:
    asks = 200 * 1024 // len(LONG_ASK)
    assert answers(edge, LONG_ASK * asks, asks) == asks


def test_a_request_without_tls_is_told_so(edge: Edge) -> None:
    for more in ([], ["--data-binary", f"@{sys.executable}"]):
        command = ["curl", "-si", "--max-time", "20", *more, f"http://127.0.0.1:{edge.port}/"]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        assert said.startswith("HTTP/1.1 400 Bad Request\n")
        assert "this port speaks TLS, and the request came without it; use https\n" in said


def answers(edge: Edge, said: bytes, most: int) -> int:
    """How many come, of so many, to what is sent in one piece with the end of the handshake."""
    sent, heard, told = ssl.MemoryBIO(), ssl.MemoryBIO(), b""
    client = client_context().wrap_bio(heard, sent, server_hostname="a.test")
    with socket.create_connection(("127.0.0.1", edge.port), 5) as sock:
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
                break
            sock.sendall(sent.read())
            heard.write(sock.recv(1 << 16))
        client.write(said)
        sock.sendall(sent.read())
        while (count := told.count(b"HTTP/1.1 200")) < most:
            try:
                told += client.read(1 << 16)
            except ssl.SSLWantReadError:
                heard.write(sock.recv(1 << 16))
    return count
