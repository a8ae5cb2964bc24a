"""What an HTTP answer has to look like to pass.

Judges a status, and what was read of a body; how the bytes come is no concern of it, and nothing is
judged that was not asked for.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from healthcheck.core.verdict import Outcome, Verdict

StatusRanges = tuple[tuple[int, int], ...]
"""Both ends of a range are in it."""


@dataclass(frozen=True, slots=True)
class BodyWish:
    """What a body shall have. `found` sees all that was read so far, and how much of it is new."""

    found: Callable[[bytes | bytearray, int], bool]
    complaint: str
    early: bool  # a find in part of the body is a find


def containing(text: str) -> BodyWish:
    """The text as UTF-8, anywhere."""
    needle = text.encode()

    def found(body: bytes | bytearray, new: int) -> bool:
        return body.find(needle, max(0, len(body) - new - len(needle))) >= 0

    return BodyWish(found, f'body does not contain "{text}"', early=True)


def matching(regex: str) -> BodyWish:
    """The regex, searched anywhere in the body read as UTF-8, whatever that yields."""
    pattern = re.compile(regex)

    def found(body: bytes | bytearray, _new: int) -> bool:
        return pattern.search(body.decode(errors="replace")) is not None

    return BodyWish(found, f'body does not match "{regex}"', early=False)  # `$`: only at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """`body_limit`: how much of the body is looked at, in bytes."""

    status: StatusRanges
    body: BodyWish | None
    body_limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BodySeen:
    """What was read of a body. `broken`: why it ended before its end. `coding`: it came encoded."""

    data: bytes
    whole: bool
    broken: str | None
    coding: str | None


def body_matters(status: int, expectation: Expectation) -> bool:
    """Whether the verdict depends on the body: not when the status decides alone."""
    return expectation.body is not None and _expected(status, expectation.status)


def judge_answer(status: int, body: BodySeen, expectation: Expectation) -> Verdict:
    """PASS, or FAIL with what is wrong first."""
    if not _expected(status, expectation.status):
        return _fail(f"status {status}, expected {ranges_words(expectation.status)}")
    wish = expectation.body
    if wish is None:
        return Verdict(Outcome.PASS, f"status {status}")
    if body.broken and not wish.early:
        return _fail(body.broken)
    if wish.found(body.data, len(body.data)):
        return Verdict(Outcome.PASS, f"status {status}")
    if body.broken:
        return _fail(body.broken)
    cut = "" if body.whole else f" in the first {expectation.body_limit} bytes"
    coded = f" (it came in {body.coding}, which was not asked for)" if body.coding else ""
    return _fail(f"{wish.complaint}{cut}{coded}")


def ranges_words(status: StatusRanges) -> str:
    """`200-299, 404`."""
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in status)


def _expected(status: int, ranges: StatusRanges) -> bool:
    return any(low <= status <= high for low, high in ranges)


def _fail(reason: str) -> Verdict:
    return Verdict(Outcome.FAIL, reason)
