"""The files of this repository and their syntax trees, read once for every architecture test."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("balancer", "healthcheck")


@cache
def modules(*folders: str) -> tuple[Path, ...]:
    """Every Python file below `folders` (by default: the two packages), as paths from the root."""
    return tuple(
        sorted(
            path.relative_to(ROOT)
            for folder in folders or PACKAGES
            for path in (ROOT / folder).rglob("*.py")
            if "__pycache__" not in path.parts
        )
    )


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


@cache
def texts() -> tuple[Path, ...]:
    """Every text file that belongs to the repository, as paths from the root."""
    ours = ("balancer", "healthcheck", "tests", "configs", "scripts", ".ci")
    found = [path for folder in ours for path in (ROOT / folder).rglob("*") if path.is_file()]
    found += [path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".")]
    return tuple(
        sorted(
            path.relative_to(ROOT)
            for path in found
            if not {"__pycache__", "fuzz_corpus"} & set(path.parts) and b"\0" not in head(path)
        )
    )


def head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1024)
