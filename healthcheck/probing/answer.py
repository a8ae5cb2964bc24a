"""Reads an HTTP answer as far as it takes to judge it; knows no library.

Holds no more of a body than the limit plus what one read of the socket brings beyond it.
"""

import math
from collections.abc import AsyncIterable
from dataclasses import dataclass

import trio

from healthcheck.core.expectation import (
    BodySeen,
    BodyWish,
    Expectation,
    body_matters,
    judge_answer,
)
from healthcheck.core.verdict import Verdict

# A body that nobody judges is read for a moment only, so that the target sees an orderly end.
FAREWELL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The head of an answer, and its body to come, as sent."""

    status: int
    coding: str | None
    body: AsyncIterable[bytes]


class BodyBroken(Exception):
    """The body ended before its end; the argument is why, in words."""


async def judge(answer: Answer, expectation: Expectation) -> Verdict:
    """The verdict; raises what reading raises."""
    if body_matters(answer.status, expectation):
        seen = await _read(answer, expectation.body_limit, expectation.body)
    else:
        seen = await _read(answer, expectation.body_limit, None, within_s=FAREWELL_S)
    return judge_answer(answer.status, seen, expectation)


async def _read(
    answer: Answer, limit: int, wish: BodyWish | None, within_s: float = math.inf
) -> BodySeen:
    """The body up to `limit`, or until a wish that may be fulfilled early is, or time is over."""
    body = bytearray()
    whole, broken = True, None
    # Leaving by cancellation, not by `break`, also unwinds the generators that the body is made of.
    with trio.move_on_after(within_s) as reading:
        try:
            async for chunk in answer.body:
                body += chunk
                found = wish is not None and wish.early and wish.found(body, len(chunk))
                if found or len(body) >= limit:
                    whole = False
                    reading.cancel()
        except BodyBroken as error:
            broken = str(error)
    whole = whole and not reading.cancelled_caught
    return BodySeen(data=bytes(body[:limit]), whole=whole, broken=broken, coding=answer.coding)
