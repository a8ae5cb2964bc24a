"""scripts/setup says what is missing, and knows when there is nothing to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """As much of a fresh clone as setup reads."""
    (tmp_path / "clone" / "scripts").mkdir(parents=True)
    for name in ("setup", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "clone" / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "clone")
    return tmp_path / "clone"


def python_that(place: Path, *cases: str) -> Path:
    """A stand-in interpreter: shell cases over its arguments, then the real one."""
    path = place / "python3"
    path.write_text(
        f'#!/bin/sh\ncase "$*" in\n{os.linesep.join(cases)}\nesac\nexec {sys.executable} "$@"\n'
    )
    path.chmod(0o755)
    return path


def run_setup(clone: Path, python: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [clone / "scripts" / "setup", *arguments],
        env={**os.environ, "PYTHON": str(python)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_python_without_venv_is_named_with_the_command_that_completes_it(
    clone: Path, tmp_path: Path
) -> None:
    ran = run_setup(clone, python_that(tmp_path, "*ensurepip*) exit 1;;"))
    assert ran.returncode == 1
    assert "virtual environments" in ran.stderr
    assert "Get it with:" in ran.stderr
    assert not (clone / ".venv").exists()


def test_a_python_too_old_is_named_with_its_version(clone: Path, tmp_path: Path) -> None:
    old = python_that(tmp_path, "-V) echo Python 3.9.2; exit 0;;", "*) exit 1;;")
    ran = run_setup(clone, old)
    assert ran.returncode == 1
    assert f"needs Python 3.11 or newer; found {old} (Python 3.9.2)" in ran.stderr


def test_no_python_at_all_is_said(clone: Path) -> None:
    ran = run_setup(clone, "no-such-python")
    assert ran.returncode == 1
    assert "needs Python 3.11 or newer; found none" in ran.stderr


def test_an_unknown_option_is_a_wrong_usage(clone: Path) -> None:
    assert run_setup(clone, sys.executable, "--fast").returncode == 2


def test_an_interrupted_setup_starts_anew(clone: Path, tmp_path: Path) -> None:
    """The marker of an unfinished installation makes the next run remove what is there."""
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "unfinished").touch()
    (clone / ".venv" / "half-installed").touch()
    ran = run_setup(clone, python_that(tmp_path, "*ensurepip*) exit 1;;"))
    assert "an earlier setup was interrupted; starting anew" in ran.stderr
    assert not (clone / ".venv" / "half-installed").exists()


def test_a_venv_from_another_place_is_not_believed(clone: Path, tmp_path: Path) -> None:
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "activate").write_text("VIRTUAL_ENV=/elsewhere/.venv\n")
    ran = run_setup(clone, python_that(tmp_path, "*ensurepip*) exit 1;;"))
    assert "moved or is broken; starting anew" in ran.stderr
