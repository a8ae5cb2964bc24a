"""The balancer as a process: real sockets, real clients, real signals."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.installation import nobody_left
from tests.support.real_balancer import Balancer, free_port, reset, running, wait_for

HEALTH = '[pools.web.health]\npath = "/health"\ninterval = "300ms"\ntimeout = "2s"\nfails = 2\n'
MIB = 1024 * 1024
LARGE = 'workers = 1\nclient = { body_timeout = "300s", max_body = "16GiB" }'
# What logs are written with may come meanwhile; nothing that grows with a body does.
MORE_KIB = 24 * 1024

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def curl(balancer: Balancer, *words: str) -> "subprocess.CompletedProcess[bytes]":
    url = f"http://127.0.0.1:{balancer.port}"
    return subprocess.run(
        ["curl", "-sS", "--max-time", "60", *(word.replace("URL", url) for word in words)],
        capture_output=True, check=False,
    )  # fmt: skip


# ---- clients


@needs_curl
def test_curl_gets_posts_and_asks_for_heads(tmp_path: Path) -> None:
    with running(tmp_path, 1) as (balancer, _):
        assert b"hello from" in curl(balancer, "URL/").stdout
        assert curl(balancer, "-d", "some form", "URL/").stdout == b"some form"
        head = curl(balancer, "-I", "URL/bytes?n=12345").stdout
        assert b"Content-Length: 12345" in head
        chunked = curl(balancer, "-H", "Transfer-Encoding: chunked", "-d", "in pieces", "URL/")
        assert chunked.stdout == b"in pieces"
        old = curl(balancer, "--http1.0", "-i", "URL/").stdout
        assert b"Connection: close" in old


@needs_curl
def test_curl_waits_for_100_continue_and_gets_it(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"c" * (2 * MIB))
    with running(tmp_path, 1) as (balancer, _):
        done = curl(
            balancer, "-v", "-H", "Expect: 100-continue", "--data-binary", f"@{body}", "URL/"
        )
        assert b"100 Continue" in done.stderr
        assert done.stdout == body.read_bytes()


@needs_curl
def test_curl_reuses_its_connection(tmp_path: Path) -> None:
    with running(tmp_path, 1) as (balancer, _):
        done = curl(balancer, "-v", "URL/", "URL/bytes?n=100000", "URL/", "-o", "/dev/null")
        assert done.stderr.count(b"Re-using existing connection") == 2


def test_a_raw_client_pipelines_and_half_closes(tmp_path: Path) -> None:
    with running(tmp_path, 2) as (balancer, _):
        with socket.create_connection(("127.0.0.1", balancer.port), 10) as sock:
            sock.sendall(
                b"GET /slow?s=0.2 HTTP/1.1\r\nHost: a\r\n\r\n"
                b"GET /bytes?n=3 HTTP/1.1\r\nHost: a\r\n\r\n"
                b"GET /status?code=404 HTTP/1.1\r\nHost: a\r\n\r\n"
            )
            sock.shutdown(socket.SHUT_WR)
            received = b""
            while data := sock.recv(65536):
                received += data
        statuses = re.findall(rb"HTTP/1.1 (\d+)", received)
        assert statuses == [b"200", b"200", b"404"]


# ---- killed backends, killed balancers


def _hammer(port: int, stop: threading.Event, wrong: list[str], counts: list[int]) -> None:
    """One client: GETs on a kept connection until told to stop; notes everything but a 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    count = 0
    while not stop.is_set():
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200 or not body.startswith(b"hello from"):
                wrong.append(f"{answer.status} {body[:100]!r}")
        except (OSError, http.client.HTTPException) as error:
            wrong.append(repr(error))
            connection.close()
        count += 1
    counts.append(count)
    connection.close()


def test_a_sigkilled_backend_fails_no_get_of_fifty_clients(tmp_path: Path) -> None:
    with running(tmp_path, 3, pool=HEALTH) as (balancer, backends):
        stop, wrong, counts = threading.Event(), list[str](), list[int]()
        clients = [
            threading.Thread(target=_hammer, args=(balancer.port, stop, wrong, counts))
            for _ in range(50)
        ]
        for client in clients:
            client.start()
        victim = backends[1]
        try:
            time.sleep(1)
            victim.kill()
            _wait_for(balancer, victim.address, available=False)
            victim.start()
            _wait_for(balancer, victim.address, available=True)
            time.sleep(1)
        finally:
            stop.set()
            for client in clients:
                client.join()
        assert wrong == []
        assert sum(counts) > 500
        wait_for(lambda: balancer.in_flight() == 0)


def _wait_for(balancer: Balancer, address: str, *, available: bool) -> None:
    end = time.monotonic() + 30
    while balancer.status()[address]["available"] is not available:
        assert time.monotonic() < end, balancer.log()
        time.sleep(0.1)


def test_orders_survive_a_sigkill_of_the_balancer(tmp_path: Path) -> None:
    with running(tmp_path, 2, pool=HEALTH) as (balancer, backends):
        first, second = (backend.address for backend in backends)
        assert balancer.cli("drain", "web", first).returncode == 0
        assert balancer.cli("weight", "web", second, "5").returncode == 0
        balancer.kill()
        balancer.start()
        status = balancer.status()
        assert status[first]["admin"] == "draining"
        assert status[second]["weight"] == 5
        assert balancer.cli("ready", "web", first).returncode == 0
        _wait_for(balancer, first, available=True)


def test_a_second_instance_is_refused_and_the_holder_named(tmp_path: Path) -> None:
    with running(tmp_path, 1) as (balancer, _):
        done = subprocess.run(
            [sys.executable, "-m", "balancer", "run", balancer.config.name],
            capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 1
        assert f"process {balancer.process.pid}, running {balancer.config} since" in done.stderr
        assert "Traceback" not in done.stderr
        assert balancer.readyz() == 200


# ---- operating it


def test_drain_wait_returns_when_the_last_exchange_has_ended(tmp_path: Path) -> None:
    with running(tmp_path, 1) as (balancer, backends):
        words = ["drain", "web", backends[0].address, "--wait", "--admin", str(balancer.socket)]
        with (
            balancer.asked_slowly() as clients,
            subprocess.Popen(
                [sys.executable, "-m", "balancer", *words], stdout=subprocess.PIPE, text=True
            ) as draining,
        ):
            assert draining.stdout is not None
            assert any("GET /slow" in line for line in draining.stdout)
            assert draining.poll() is None
            reset(clients[0])
            assert draining.wait(20) == 0


def test_remove_names_what_it_would_cut(tmp_path: Path) -> None:
    with running(tmp_path, 2) as (balancer, backends):
        with balancer.asked_slowly():
            results = [balancer.cli("remove", "web", backend.address) for backend in backends]
        assert sorted(done.returncode for done in results) == [0, 1]
        refused = next(done for done in results if done.returncode)
        assert "/slow" in refused.stderr + refused.stdout


def _get(port: int, target: str) -> tuple[int, bytes]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as client:
        client.request("GET", target)
        answer = client.getresponse()
        return answer.status, answer.read()


def test_term_finishes_what_runs_and_exits_0(tmp_path: Path) -> None:
    with running(tmp_path, 1) as (balancer, _):
        with socket.create_connection(("127.0.0.1", balancer.port), 20) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst")
            wait_for(lambda: balancer.in_flight() == 1)
            balancer.process.send_signal(signal.SIGTERM)
            wait_for(lambda: balancer.readyz() == 503)
            sock.sendall(b" last")
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b" last" in answer
        assert balancer.process.wait(20) == 0
        assert "Traceback" not in balancer.log()


def test_term_after_quit_sets_a_limit_and_one_more_cuts(tmp_path: Path) -> None:
    with running(tmp_path, 1) as (balancer, _):
        with balancer.asked_slowly():
            for number, said in (
                (signal.SIGQUIT, "may take as long as they need"),
                (signal.SIGTERM, "have 10 s to finish"),
                (signal.SIGTERM, "running exchanges are cut"),
            ):
                balancer.process.send_signal(number)
                wait_for(lambda said=said: said in balancer.log())  # type: ignore[misc]
            assert balancer.process.wait(20) == 0
        assert "1 exchange was cut" in balancer.log()


def test_signals_that_mean_nothing_here_end_nothing(tmp_path: Path) -> None:
    with nobody_left(tmp_path), running(tmp_path, 1) as (balancer, _):
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGUSR1):
            balancer.process.send_signal(number)
        time.sleep(0.3)
        assert _get(balancer.port, "/")[0] == 200


def test_a_taken_port_is_named_and_nothing_starts(tmp_path: Path) -> None:
    with running(tmp_path, 1) as (balancer, _):
        other = tmp_path / "other.toml"
        text = balancer.config.read_text()
        other.write_text(
            text.replace("admin.sock", "b.sock").replace("state.json", "b.json")
            .replace("health = ", "#")
        )  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "balancer", "run", str(other)],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert f"cannot listen on 127.0.0.1:{balancer.port}" in done.stderr
        assert "Traceback" not in done.stderr


def test_access_lines_are_json_whatever_the_client_sends(tmp_path: Path) -> None:
    with running(tmp_path, 1) as (balancer, _):
        with socket.create_connection(("127.0.0.1", balancer.port), 10) as sock:
            sock.sendall(b'GET /"%0a\\x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
            sock.recv(65536)
        balancer.end()
        line = balancer.access_lines()[-1]
        assert line["path"] == '/"%0a\\x'
        assert line["attempts"][0]["outcome"] == "status 200"
        assert {"head_ms", "answer_ms", "total_ms", "id", "bytes_down"} <= line.keys()


# ---- memory


def _download(port: int, size: int) -> int:
    """Read a body of `size` bytes and forget it; how many came."""
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.sendall(b"GET /bytes?n=%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % size)
        buffer = bytearray(MIB)
        received = sock.recv_into(buffer)
        body = received - buffer.index(b"\r\n\r\n") - 4
        while count := sock.recv_into(buffer):
            body += count
        return body


def _upload(port: int, size: int) -> int:
    """Send a body of `size` bytes to an echo and read it back; how many bytes came back."""
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.sendall(
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
        )
        sender = threading.Thread(target=_send_zeros, args=(sock, size))
        sender.start()
        total = 0
        while data := sock.recv(MIB):
            total += len(data)
        sender.join()
        return total


def _send_zeros(sock: socket.socket, size: int) -> None:
    piece = bytes(MIB)
    for _ in range(size // MIB):
        sock.sendall(piece)


@pytest.mark.parametrize("size", [256 * MIB, pytest.param(10 * 1024 * MIB, marks=pytest.mark.long)])
def test_a_body_of_any_size_passes_in_constant_memory(tmp_path: Path, size: int) -> None:
    with running(tmp_path, 1, top=LARGE) as (balancer, _):
        _download(balancer.port, 16 * MIB)
        _upload(balancer.port, 16 * MIB)
        before = balancer.resident_kib()
        assert _download(balancer.port, size) == size
        assert _upload(balancer.port, size // 4) >= size // 4
        assert balancer.resident_kib() - before < MORE_KIB


def test_a_slow_reader_holds_back_the_backend(tmp_path: Path) -> None:
    """Back-pressure: what the client does not read stays with the backend, not in memory."""
    with running(tmp_path, 1, top=LARGE) as (balancer, _):
        _download(balancer.port, 16 * MIB)
        before = balancer.resident_kib()
        with socket.create_connection(("127.0.0.1", balancer.port), 30) as sock:
            sock.sendall(b"GET /bytes?n=%d HTTP/1.1\r\nHost: a\r\n\r\n" % (1024 * MIB))
            sock.recv(1000)
            time.sleep(1)
            assert balancer.resident_kib() - before < MORE_KIB
            row = next(iter(balancer.status().values()))
            assert row["in_flight"] == 1


def test_a_pipe_that_nobody_reads_yet_may_be_the_access_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "access.log")
    with running(tmp_path, 1, top="workers = 1") as (balancer, _):
        wait_for(lambda: "access_log.unread" in balancer.log())
        with socket.create_connection(("127.0.0.1", balancer.port)) as sock:
            sock.sendall(b"GET /early HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        with balancer.access.open("rb", buffering=0) as reader:
            assert json.loads(reader.read(1000))["path"] == "/early"


def test_no_file_is_needed(tmp_path: Path) -> None:
    with running(tmp_path, 1) as (_balancer, backends):
        port = free_port()
        command = ["-m", "balancer", "run", "--listen", f"127.0.0.1:{port}"]
        command += ["--to", backends[0].address, "--admin", str(tmp_path / "other.sock")]
        process = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            end = time.monotonic() + 30
            while True:
                try:
                    assert _get(port, "/")[0] == 200
                    break
                except OSError:
                    assert time.monotonic() < end
                    time.sleep(0.1)
        finally:
            process.terminate()
            out, _ = process.communicate(timeout=20)
        assert process.returncode == 0
        assert json.loads(out.splitlines()[0])["status"] == 200
