"""How foreign text and unknown names read in the messages of this package."""

import difflib
from collections.abc import Sequence

LISTED_MAX = 5
SHOWN_CHARS_MAX = 80


def shown(value: object) -> str:
    """A value as a message quotes it: printable and short, whatever it holds."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "…"


def did_you_mean(wrong: str, known: Sequence[str], have: str) -> str:
    """How a message about an unknown name goes on: the nearest one, or else the first few."""
    near = difflib.get_close_matches(wrong[:SHOWN_CHARS_MAX], known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {shown(near[0])}?"
    if not known:
        return f"; {have} none"
    more = f" and {len(known) - LISTED_MAX} more" if len(known) > LISTED_MAX else ""
    return f"; {have} {', '.join(known[:LISTED_MAX])}{more}"
