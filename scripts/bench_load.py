"""The load: wrk for traffic, and a crowd of connections that only stay.

Decides nothing about what is measured; it says what the client saw. wrk's own report is made to
read, so a script of ours has it print one line of numbers instead.
"""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

WRK_TIMEOUT_S = 10
ANSWER_S = 10.0
ASK = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"

# Latencies and the duration are in microseconds.
SCRIPT = """
wrk.method = "{method}"
{body}
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("bench: requests=%d bytes=%d us=%d p50=%d p99=%d connect=%d read=%d write=%d status=%d timeout=%d\\n",
    summary.requests, summary.bytes, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
"""
ERRORS = ("connect", "read", "write", "status", "timeout")


class LoadFailed(Exception):
    """wrk gave no numbers; the message is what it said instead."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the clients of one round saw."""

    requests: int
    bytes_read: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: dict[str, int]  # only kinds that happened


@dataclass(frozen=True, slots=True)
class Traffic:
    """What wrk shall ask for."""

    path: str = "/"
    upload_bytes: int = 0  # above 0: POST
    connections: int = 8
    tls: bool = False
    handshakes: bool = False  # connections instead of requests, each with keys of its own

    def script(self) -> str:
        if not self.upload_bytes:
            return SCRIPT.format(method="GET", body="")
        body = f'wrk.body = string.rep("x", {self.upload_bytes})'
        return SCRIPT.format(method="POST", body=body)


def seen_from(text: str) -> Seen:
    """Read the line of our script in wrk's output.

    Raises:
        LoadFailed: There is none.
    """
    line = re.search(r"^bench: (.*)$", text, flags=re.MULTILINE)
    if line is None:
        raise LoadFailed(" ".join(text.split())[-200:] or "wrk said nothing")
    number = {name: int(value) for name, value in re.findall(r"(\w+)=(-?\d+)", line[1])}
    return Seen(
        requests=number["requests"],
        bytes_read=number["bytes"],
        seconds=number["us"] / 1e6,
        p50_ms=number["p50"] / 1e3,
        p99_ms=number["p99"] / 1e3,
        errors={kind: number[kind] for kind in ERRORS if number[kind]},
    )


def drive(traffic: Traffic, port: int, seconds: float, folder: Path) -> Seen:
    """Load `port` for a whole number of seconds, at least one.

    Raises:
        LoadFailed: wrk told nothing that we can read.
    """
    if traffic.handshakes:
        return shake_hands(port, seconds)
    script = folder / f"{traffic.upload_bytes}.lua"
    script.write_text(traffic.script())
    whole = max(1, round(seconds))
    command = [
        "wrk", "-t1", f"-c{traffic.connections}", f"-d{whole}s", f"--timeout={WRK_TIMEOUT_S}s",
        "-s", str(script), f"http{'s' * traffic.tls}://127.0.0.1:{port}{traffic.path}",
    ]  # fmt: skip
    limit_s = whole + WRK_TIMEOUT_S + 10
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"wrk did not end within {limit_s} s") from None
    return seen_from(done.stdout + done.stderr)


def shake_hands(port: int, seconds: float) -> Seen:
    """Connect again and again, one connection at a time; nothing is asked, nothing is resumed.

    Raises:
        LoadFailed: openssl told nothing that we can read.
    """
    whole = max(1, round(seconds))
    command = ["openssl", "s_time", "-new", "-connect", f"127.0.0.1:{port}", "-time", str(whole)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=whole + 20)
    found = re.search(r"^(\d+) connections in (\d+) real seconds", done.stdout, flags=re.MULTILINE)
    if found is None:
        raise LoadFailed(" ".join(done.stderr.split())[-200:] or "openssl said nothing")
    made, took_s = int(found[1]), max(1, int(found[2]))
    return Seen(requests=made, bytes_read=0, seconds=took_s, p50_ms=0, p99_ms=0, errors={})


@contextmanager
def resting(port: int, count: int) -> Iterator[list[socket.socket]]:
    """`count` connections that have each had one answer and now wait for a next request."""
    with ExitStack() as all_closed:
        crowd: list[socket.socket] = []
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port), ANSWER_S)
            all_closed.enter_context(sock)
            sock.sendall(ASK)
            if not sock.recv(4096).startswith(b"HTTP/1.1 200"):
                raise LoadFailed(f"connection {len(crowd) + 1} of {count} got no 200")
            crowd.append(sock)
        yield crowd


def still_open(crowd: list[socket.socket]) -> int:
    """How many the other side has not closed meanwhile."""
    alive = 0
    for sock in crowd:
        sock.setblocking(False)
        with suppress(ConnectionError):
            try:
                alive += bool(sock.recv(1))
            except BlockingIOError:
                alive += 1
    return alive
