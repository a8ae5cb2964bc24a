"""The Autobahn test suite against a WebSocket server, directly and through the balancer."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.real_balancer import ROOT, Balancer, free_port, wait_until_listening

# Framing, control frames, reserved bits, opcodes, fragments, text that is none, and closing.
USUAL = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*")
# Messages of 16 MiB, in one frame and in many, and all of compression.
LIMITS_AND_COMPRESSION = ("9.*", "12.*", "13.*")
FIT = ("OK", "NON-STRICT", "INFORMATIONAL")
# The suite wants a close code of the server's that its authors have thought better of.
NOT_FIT_ANYWAY: dict[int, list[str]] = {247: ["7.1.5"], 270: []}
# Three cases are OK or NON-STRICT by whether a first echo is out before a wrong frame is read. Where a
# verdict differs, the server is asked again directly, this often.
LOOKS_MORE = 6


@dataclass
class Echo:
    """A WebSocket server as a process of its own."""

    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.address = f"127.0.0.1:{self.port}"
        words = [sys.executable, "-m", "tests.support.websocket_echo", str(self.port)]
        self.process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.DEVNULL)
        wait_until_listening(self.port, self.process)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    try:
        yield echo
    finally:
        echo.kill()


def verdicts(port: int, cases: tuple[str, ...]) -> dict[str, list[object]]:
    """Of each case: how it went, how it was closed, and with which code."""
    words = [sys.executable, "-m", "tests.support.autobahn_cases", str(port), "4", *cases]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[object]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("cases", "count"),
    [
        pytest.param(USUAL, 247, id="usual"),
        pytest.param(LIMITS_AND_COMPRESSION, 270, id="large", marks=pytest.mark.long),
    ],
)
@pytest.mark.timeout(2400)
def test_the_autobahn_suite_has_the_same_verdicts_through_the_balancer(
    tmp_path: Path, echo: Echo, cases: tuple[str, ...], count: int
) -> None:
    direct = verdicts(echo.port, cases)
    balancer = Balancer(tmp_path, [echo], top="workers = 1")
    try:
        through = verdicts(balancer.port, cases)
    finally:
        balancer.end()
    assert len(direct) == count
    seen = {case: [verdict] for case, verdict in direct.items()}
    for _ in range(LOOKS_MORE):
        differing = tuple(case for case in seen if through[case] not in seen[case])
        if not differing:
            break
        for case, verdict in verdicts(echo.port, differing).items():
            seen[case].append(verdict)
    assert {case: through[case] for case in seen if through[case] not in seen[case]} == {}
    # What the server is not fit for would say nothing about the balancer.
    assert [case for case in direct if direct[case][0] not in FIT] == NOT_FIT_ANYWAY[count]
