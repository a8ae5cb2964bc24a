"""Heads as real programs send them: some taken from the wire, others from what is published of them.

The files hold one head after another, each below a line `=== who sends it`, with plain line feeds;
`[not plain]` behind it says that the strict reader leaves it to h11.
"""

import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent.parent / "core" / "recorded_heads"
_TITLE = re.compile(r"^=== (.*?)( \[not plain\])?\n", re.MULTILINE)


class Recorded(NamedTuple):
    sender: str
    plain: bool
    raw: bytes


def recorded(pattern: str) -> list[Recorded]:
    """Every head of the files whose names match."""
    heads = []
    for path in sorted(FOLDER.glob(pattern)):
        _, *parts = _TITLE.split(path.read_text(encoding="latin-1"))
        for sender, mark, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            lines = text.rstrip("\n").split("\n")
            raw = "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")
            heads.append(Recorded(sender, mark is None, raw))
    return heads


REQUESTS = recorded("requests_*.txt")
ANSWERS = recorded("answers.txt")
