"""How values, keys and paths of a config read in a message.

Everything that came from a file or the environment passes through here, so no control character
and no endless value reaches a terminal.
"""

import difflib
import json
import re
from collections.abc import Collection, Iterable
from datetime import date, datetime, time

from balancer.config.errors import Place

_SHOWN_MAX = 60
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# Exact types: True is no whole number here, and a date-time no date.
_KINDS: dict[type, str] = {
    dict: "a table",
    list: "a list",
    tuple: "a list",
    datetime: "a date and time",
    date: "a date",
    time: "a time of day",
}


def shown(value: object) -> str:
    """A value as a message quotes it: short, printable, with its kind where that is the point."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _shortened(repr(value))
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of too many digits"
    return _KINDS.get(type(value)) or _shortened(repr(value))


def printable(text: str) -> str:
    """The text with everything that could steer a terminal spelled out."""
    return "".join(ch if ch.isprintable() else f"\\x{ord(ch):02x}" for ch in text)


def dotted(path: Place) -> str:
    """`pools.web.backends[2]`; positions count from 0, odd keys stand in quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _BARE_KEY.fullmatch(part) else _shortened(json.dumps(part))
            text += f".{key}" if text else key
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'weight'?`, or nothing when no known word is near, or two are equally."""
    by_lower = {each.lower(): each for each in known}
    given = word[:_SHOWN_MAX].lower()
    near = difflib.get_close_matches(given, by_lower, n=2, cutoff=0.6)
    if (
        len(near) > 1
        and len({difflib.SequenceMatcher(None, each, given).ratio() for each in near}) == 1
    ):
        return ""
    return f"; did you mean '{by_lower[near[0]]}'?" if near else ""


def one_of(words: Collection[str]) -> str:
    """`'a', 'b' or 'c'`."""
    *others, last = [f"'{word}'" for word in words]
    return f"{', '.join(others)} or {last}" if others else last


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…"
