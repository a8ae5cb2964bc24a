"""Durations and sizes as operators write them, into seconds and bytes and back.

`"1m30s"` or a number of seconds; `"64KiB"` or a number of bytes. What can be read two ways
(`"10"`, `"64kb"`) is refused with both readings. Writing and reading again gives the same number.
"""

import math
import re
from decimal import Decimal

from balancer.config.errors import Unfit
from balancer.config.wording import shown

DURATION_HELP = 'expected a duration such as "250ms", "10s" or "1m30s", or seconds as a number'
SIZE_HELP = 'expected a size such as "512B", "64KiB" or "1MiB", or bytes as a whole number'

# Largest first: the order in which the parts of one duration must stand.
_SECONDS = {
    "d": Decimal(86400),
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
_BYTES = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[dhms])")
_SIZE = re.compile(r"([0-9]+) ?([A-Za-z]+)")
# The smallest float needs 341 of them; more say nothing.
_DIGITS_MAX = 400


def parse_duration(value: object) -> float:
    """Seconds. Raises Unfit for anything else than a duration string or a number from 0 up."""
    if isinstance(value, str):
        return _duration_of(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unfit(f"{DURATION_HELP}, got {shown(value)}")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds) or seconds < 0:
        raise Unfit(f"{DURATION_HELP} from 0 up, got {shown(value)}")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest string that `parse_duration` reads as exactly these seconds."""
    exact = Decimal(repr(seconds))
    milliseconds = exact * 1000
    if milliseconds != milliseconds.to_integral_value() or exact >= 100 * _SECONDS["d"]:
        return f"{exact:f}s"
    rest, parts = exact, ""
    for unit, size in _SECONDS.items():
        count = int(rest // size)
        rest -= count * size
        # Days are read but not written: "36h" is compared with other hours at a glance.
        if unit == "d":
            rest += count * size
        elif count:
            parts += f"{count}{unit}"
    return parts or "0s"


def parse_size(value: object) -> int:
    """Bytes. Raises Unfit for anything else than a size string or a whole number from 0 up."""
    if isinstance(value, str):
        return _size_of(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unfit(f"{SIZE_HELP}, got {shown(value)}")
    if value < 0:
        raise Unfit(f"{SIZE_HELP} from 0 up, got {shown(value)}")
    return value


def format_size(size: int) -> str:
    """The size in the largest unit that divides it."""
    if not size:
        return "0B"
    return next(f"{size // each}{unit}" for unit, each in _BYTES.items() if size % each == 0)


def _duration_of(text: str) -> float:
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise Unfit(f"{DURATION_HELP}, got {shown(text)}{_duration_hint(text)}")
    units = [unit for _, unit in parts]
    if units != [unit for unit in _SECONDS if unit in units]:
        raise Unfit(
            f"{DURATION_HELP}, got {shown(text)}: each unit once, the largest first (d, h, m, s, ms)"
        )
    long = max(len(number) for number, _ in parts) > _DIGITS_MAX
    seconds = math.inf if long else float(sum(Decimal(n) * _SECONDS[unit] for n, unit in parts))
    if seconds == math.inf:
        raise Unfit(f"{DURATION_HELP}, got {shown(text)}: too many digits")
    return seconds


def _duration_hint(text: str) -> str:
    bare = text.strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", bare) and len(bare) <= _DIGITS_MAX:
        return f'; a number in quotes needs a unit: "{bare}s"'
    if bare.startswith("-"):
        return "; it cannot be negative"
    compact = re.sub(r"\s+", "", text.lower())
    for long, short in (("milliseconds", "ms"), ("seconds", "s"), ("minutes", "m"), ("hours", "h")):
        compact = compact.replace(long, short).replace(long[:-1], short)
    compact = re.sub(r"sec(s?)|min(s?)", lambda found: found.group()[0], compact)
    if compact != text and _PART.fullmatch(compact):
        return f'; did you mean "{compact}"?'
    return "; the units are d, h, m, s and ms"


def _size_of(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None or len(found[1]) > _DIGITS_MAX:
        digits = text.strip()
        bare = digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_MAX
        hint = f'; a number in quotes needs a unit: "{digits}B"' if bare else ""
        raise Unfit(f"{SIZE_HELP}, got {shown(text)}{hint}")
    number, unit = int(found[1]), found[2]
    if unit in _BYTES:
        return number * _BYTES[unit]
    meant = next((ours for ours in _BYTES if ours[0].lower() == unit[0].lower()), None)
    hint = f'; did you mean "{number}{meant}"?' if meant else ""
    raise Unfit(f"{SIZE_HELP}, got {shown(text)}: the units are B, KiB, MiB and GiB{hint}")
