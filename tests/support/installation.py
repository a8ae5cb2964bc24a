"""A balancer that is installed somewhere of its own, so that a test can install another one over it.

A `current` link leads to the copy of the packages that is installed now, as an operator's link or a
package manager would have it; a script starts it.
"""

import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.real_balancer import ROOT, processes_of

# Notes every module that a process looks for after the file `serving` has appeared.
SITE = """
import os, sys
HERE = {folder!r}
def note(event, given):
    if event == "import" and os.path.exists(HERE + "/serving"):
        with open(HERE + "/imports", "a") as file:
            print(os.getpid(), given[0], file=file)
sys.addaudithook(note)
"""
SCRIPT = """#!{python}
from balancer.cli.main import main
main()
"""


class Installation:
    """Where a balancer is installed, below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "bin" / "balancer"
        self.current = folder / "current"
        site = folder / "site"
        for each in (site, self.script.parent):
            each.mkdir()
        (site / "sitecustomize.py").write_text(SITE.format(folder=str(folder)))
        self.write_script(SCRIPT.format(python=sys.executable))
        self.env = {**os.environ, "PYTHONPATH": f"{site}:{self.current}"}
        self.install("first")

    def install(self, name: str, **changes: tuple[str, str]) -> Path:
        """Let a copy of this program be the installed one.

        `changes`: what to write instead of what, by module, whose name has `__` for its dots.
        """
        copy = self.folder / name
        for package in ("balancer", "healthcheck"):
            shutil.copytree(ROOT / package, copy / package)
        for module, (old, new) in changes.items():
            path = copy / (module.replace("__", "/") + ".py")
            text = path.read_text()
            assert old in text, f"{module} has no {old!r}"
            path.write_text(text.replace(old, new))
        link = self.folder / "next"
        link.symlink_to(copy)
        link.replace(self.current)
        return copy

    def write_script(self, text: str) -> None:
        """Replace what starts the program."""
        fresh = self.script.with_name("fresh")
        fresh.write_text(text)
        fresh.chmod(fresh.stat().st_mode | stat.S_IXUSR)
        fresh.replace(self.script)

    def note_imports(self) -> None:
        """From now on every import is noted."""
        (self.folder / "serving").touch()

    def forget_what_was_loaded(self, pids: set[int]) -> None:
        """Return when each has what logs are written with, which comes late, and has been quiet since."""
        before, end = [""], time.monotonic() + 30
        while (now := self.imports_of(pids)) != before or not all(
            f"{pid} structlog" in now for pid in pids
        ):
            assert time.monotonic() < end, "they never end to import"
            before = now
            time.sleep(0.7)
        (self.folder / "imports").unlink()

    def imports_of(self, pids: set[int]) -> list[str]:
        """What these processes have imported since."""
        with suppress(FileNotFoundError):
            lines = (self.folder / "imports").read_text().splitlines()
            return [line for line in lines if int(line.split()[0]) in pids]
        return []


@contextmanager
def nobody_left(place: Path) -> Iterator[None]:
    """End every process that was started with something below `place`, at the end of the block."""
    try:
        yield
    finally:
        end = time.monotonic() + 10
        while left := processes_of(place):
            number = signal.SIGTERM if time.monotonic() < end - 5 else signal.SIGKILL
            for pid in left:
                with suppress(OSError):
                    os.kill(pid, number)
            assert time.monotonic() < end, left
            time.sleep(0.2)
