"""A venv apart from the project's own, for what only one script needs: made when it is wanted.

It is named for its lock file and its Python, so that a changed lock makes a new one.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

SCRIPTS = Path(__file__).parent


class Unavailable(Exception):
    """The venv cannot be made; the message says why."""


@cache
def python_apart(script: str, what: str) -> Path:
    """Its interpreter; the first call makes the venv, from the pinned and hashed wheels of `what`.

    Raises Unavailable.
    """
    lock = SCRIPTS / f"requirements-{script}.lock"
    cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    stamp = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:16]
    venv = Path(cache_home) / f"balancer-{script}" / stamp
    python = venv / "bin" / "python"
    finished = venv / "finished"
    if finished.exists() and python.exists():
        return python
    print(f"{script}: making a venv for {what}", file=sys.stderr)
    shutil.rmtree(venv, ignore_errors=True)
    pip = [
        str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet",
        "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(lock),
    ]  # fmt: skip
    for command in ([sys.executable, "-m", "venv", str(venv)], pip):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(venv, ignore_errors=True)
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise Unavailable(f"its venv could not be made: {' '.join(last)}")
    finished.touch()
    return python
