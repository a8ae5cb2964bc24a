"""The inputs that were worth keeping: a file a target, an input a line, written as bytes in Python."""

import ast
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"


def kept(target: str) -> list[bytes]:
    """The inputs kept for a target."""
    lines = (FOLDER / f"{target}.txt").read_text(encoding="ascii").splitlines()
    return [bytes(ast.literal_eval(line)) for line in lines]


def keep(target: str, inputs: Iterable[bytes]) -> None:
    """Have these for a target from now on, and no others."""
    lines = sorted({line_of(data) for data in inputs}, key=lambda line: (len(line), line))
    text = "".join(f"{line}\n" for line in lines)
    (FOLDER / f"{target}.txt").write_text(text, encoding="ascii")


def line_of(data: bytes) -> str:
    """How an input stands in the file."""
    return repr(data)
