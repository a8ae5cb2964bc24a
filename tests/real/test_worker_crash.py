"""A worker that crashes itself: what its process says, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path

CRASHING = """
import sys
from balancer.worker import process
from balancer.worker.messages import LogPlan

async def run(link):
    plan = LogPlan("off", access_json=True, json=True, colours=False, level="info")
    link._around.lines.obey(plan)
    raise RuntimeError("a bug")

process.Link.run = run
sys.exit(process.main())
"""


def test_a_worker_that_crashes_says_so_in_its_log_and_ends_with_1(tmp_path: Path) -> None:
    """One line as any other, instead of a traceback in between."""
    arguments = [sys.executable, "-c", CRASHING, "3", str(tmp_path / "workers.sock")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    [line] = [json.loads(line) for line in done.stderr.splitlines()]
    assert (line["event"], line["slot"]) == ("worker.crashed", 3)
    assert "RuntimeError: a bug" in line["exception"]
