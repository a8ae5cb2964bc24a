"""Whether our own loop was late, so that a backend is not blamed for it.

Decides from the wake-ups of a ticker that runs beside the probes; the monitor owns the ticker and
tells the times. Sees every lag longer than the limit by one tick, wherever in a probe it fell.
"""

import math
from dataclasses import replace

from healthcheck.core.verdict import Outcome, Verdict
from healthcheck.core.wording import seconds


class LoopLag:
    """Remembers the latest lag above `limit_s`; only times with a tick due are judged."""

    def __init__(self, limit_s: float) -> None:
        self._tick_s = limit_s / 2
        self._limit_s = limit_s
        self._due = math.inf
        self._seen_at = -math.inf
        self._seen_s = 0.0

    def expect(self, now: float) -> float:
        """Make sure that a tick is due from here on; returns when it is."""
        self._note(now)
        if math.isinf(self._due):
            self._due = now + self._tick_s
        return self._due

    def tick(self, now: float) -> None:
        """The ticker woke up; no tick is due until the next `expect`."""
        self._note(now)
        self._due = math.inf

    def excuse(self, verdict: Verdict, *, began: float, now: float) -> Verdict:
        """The verdict of a probe from `began` to `now`, but a FAIL is void if the loop was late.

        Right also for a probe that ends before the ticker wakes up.
        """
        self._note(now)
        if verdict.outcome is not Outcome.FAIL or self._seen_at <= began:
            return verdict
        reason = f"our own loop was {seconds(self._seen_s)} late: {verdict.reason}"
        return replace(verdict, outcome=Outcome.VOID, reason=reason)

    def _note(self, now: float) -> None:
        late = now - self._due
        if late > self._limit_s:
            self._seen_at, self._seen_s = now, late
            self._due = now + self._tick_s  # told once: what begins now was not in it
