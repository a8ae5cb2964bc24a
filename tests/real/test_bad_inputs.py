"""Hostile and odd bytes through a real balancer: every case of `badinputs/cases.jsonl` ends as it must.

The runner is a program of its own, with a recording backend of its own; several of them, each in
front of a balancer of its own, share the cases, since most of their time is spent waiting.
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.real_balancer import Balancer, free_port

CASES_FILE = Path(__file__).parent / "badinputs" / "cases.jsonl"
CASES = [json.loads(line) for line in CASES_FILE.read_text(encoding="utf-8").splitlines()]
RUNNERS = 4
# The cases that stall are over within these times; honest ones stay far below them.
TIMES = """workers = 1
[client]
header_timeout = "4s"
idle_timeout = "4s"
body_timeout = "4s"
"""
# Bad answers must not take the only backend out.
NO_EJECTION = "passive = { enabled = false }"


@dataclass(frozen=True)
class RecordingBackend:
    """The address at which a runner records what reaches it."""

    address: str


def judged(folder: Path, cases: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the runner says of each of these cases."""
    folder.mkdir()
    backend = RecordingBackend(f"127.0.0.1:{free_port()}")
    listed, out = folder / "cases.jsonl", folder / "judged.json"
    listed.write_text("".join(json.dumps(case) + "\n" for case in cases), encoding="utf-8")
    balancer = Balancer(folder, [backend], pool=NO_EJECTION, top=TIMES)
    try:
        done = subprocess.run(
            [
                sys.executable, str(CASES_FILE.with_name("run.py")), "--slow",
                "--proxy", f"127.0.0.1:{balancer.port}", "--backend", backend.address,
                "--cases", str(listed), "--out", str(out),
            ],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    finally:
        balancer.end()
    assert out.is_file(), done.stdout + done.stderr
    assert "Traceback" not in done.stderr + balancer.log()
    found: dict[str, dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("badinputs")
    shares = [CASES[number::RUNNERS] for number in range(RUNNERS)]
    with ThreadPoolExecutor(RUNNERS) as pool:
        folders = [folder / str(number) for number in range(RUNNERS)]
        found = list(pool.map(judged, folders, shares))
    return {name: verdict for one in found for name, verdict in one.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_case_ends_as_it_must(
    verdicts: dict[str, dict[str, Any]], case: dict[str, Any]
) -> None:
    verdict = verdicts[case["name"]]
    assert verdict["ok"], f"wanted {case['expect']}, got {verdict['got']}: {verdict['why']}"


def test_no_case_is_left_out(verdicts: dict[str, dict[str, Any]]) -> None:
    assert len(CASES) == len(verdicts) == 224
