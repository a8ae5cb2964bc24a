"""How an instance ends: what was asked, how long what runs may take, and what is told of it.

Decides that being asked again can only shorten the time. It owns no socket and no client; the
worker drains.
"""

from collections.abc import Awaitable, Callable
from enum import IntEnum

import trio

from balancer.supervisor.events import EventKind, EventLog

NO_LIMIT = float("inf")


class Haste(IntEnum):
    """How much time what runs has, from all to none."""

    NOT_ASKED = 0
    NO_LIMIT = 1
    LIMITED = 2
    NOW = 3


class Ending:
    """One end. `asked` is set when it has been asked for."""

    def __init__(self, *, limit_s: Callable[[], float], events: EventLog) -> None:
        self.asked = trio.Event()
        self._limit_s = limit_s
        self._events = events
        self._haste = Haste.NOT_ASKED
        self._before = trio.CancelScope()
        self._draining = trio.CancelScope()
        self._end_at = NO_LIMIT

    def ask(self, haste: Haste) -> None:
        """End so; changes nothing where as much haste was asked for already."""
        if haste <= self._haste:
            return
        again = self._haste is not Haste.NOT_ASKED
        self._haste = haste
        if haste is Haste.NOW:
            self._before.cancel()
        self._end_at = self._deadline()
        self._draining.cancel()
        cause = "asked again to stop" if again else "asked to stop"
        effect = f"not ready for new traffic; {self._what_runs()}"
        self._events.add(EventKind.INSTANCE_STOPPING, cause=cause, effect=effect)
        self.asked.set()

    def pass_on(self) -> None:
        """End without limit and without delay, because somebody else serves from now on."""
        self._haste = Haste.NO_LIMIT
        self._before.cancel()
        self.asked.set()

    def ask_sooner(self) -> None:
        """End within the limit; where that changes nothing, now."""
        self.ask(Haste.LIMITED if self._haste < Haste.LIMITED else Haste.NOW)

    async def carry_out(
        self, drain: Callable[[float], Awaitable[int]], *, delay_s: float, places: str | None
    ) -> int:
        """Wait for whoever sends traffic to look elsewhere, then drain; how many were cut.

        `drain` is told the time that is left, and again where somebody asks for less. `places`: where
        nobody listens then; None where somebody does.
        """
        with self._before:
            await trio.sleep(delay_s)
        if places is not None:
            self._events.add(EventKind.LISTENER_CLOSED, cause=f"no longer listening on {places}")
        self._end_at = self._deadline()
        while (left_s := self._end_at - trio.current_time()) > 0:
            with trio.CancelScope(deadline=self._end_at) as self._draining:
                return await drain(left_s)
        return await drain(0)

    def _deadline(self) -> float:
        now = trio.current_time()
        return {Haste.LIMITED: now + self._limit_s(), Haste.NOW: now}.get(self._haste, NO_LIMIT)

    def _what_runs(self) -> str:
        limit = f"{self._limit_s():g} s"
        return {
            Haste.NO_LIMIT: "running exchanges may take as long as they need; "
            f"TERM or Ctrl-C gives them {limit}",
            Haste.LIMITED: f"running exchanges have {limit} to finish; "
            "one more TERM or Ctrl-C cuts them",
            Haste.NOW: "running exchanges are cut",
        }[self._haste]


def cut_in_words(count: int) -> str:
    """How the exchanges of a drain have ended."""
    if not count:
        return "every exchange has ended"
    return "1 exchange was cut" if count == 1 else f"{count} exchanges were cut"
