"""The Python peers' own venv: made when one of them is wanted, kept apart from ours.

It is named for its lock file and its Python, so that a changed lock makes a new one.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

LOCK = Path(__file__).with_name("requirements-bench.lock")


class Unavailable(Exception):
    """The venv cannot be made; the message says why."""


@cache
def bench_python() -> Path:
    """The venv's interpreter; the first call makes the venv, from pinned and hashed wheels."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    stamp = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    venv = Path(cache_home) / "balancer-bench" / stamp
    python = venv / "bin" / "python"
    finished = venv / "finished"
    if finished.exists() and python.exists():
        return python
    print("bench: making a venv for aiohttp, uvloop and python-pyproxy", file=sys.stderr)
    shutil.rmtree(venv, ignore_errors=True)
    pip = [
        str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet",
        "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(LOCK),
    ]  # fmt: skip
    for command in ([sys.executable, "-m", "venv", str(venv)], pip):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(venv, ignore_errors=True)
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise Unavailable(f"its venv could not be made: {' '.join(last)}")
    finished.touch()
    return python
