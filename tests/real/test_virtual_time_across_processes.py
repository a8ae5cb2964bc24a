"""A virtual run is the same in another process, whatever Python's hash seed is there."""

import os
import subprocess
import sys

_PROGRAM = """
from balancer.rehearsal.virtual_time import run_virtual
from tests.virtual.test_virtual_time import busy_scene
import sys
sys.stdout.buffer.write(run_virtual(busy_scene, 3, seed=3))
"""


def _run(hash_seed: str) -> bytes:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, check=True
    )
    return done.stdout


def test_two_processes_see_the_same_run_byte_for_byte():
    first = _run("1")
    assert first
    assert _run("2") == first
