"""What the network will do later, in order of virtual time.

Decides when a packet, a retry or a give-up happens, never what it does. One system task sleeps
until the next of them and ends when none is left, so an idle network has no task and no timer.
"""

import heapq
import math
from collections.abc import Callable
from itertools import count

import trio


class Deliveries:
    """A timetable of calls; calls for the same moment run in the order they were made."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._alarm: trio.CancelScope | None = None
        self._running = False

    def now(self) -> float:
        """The virtual time; zero outside of a trio run, where nothing can be late."""
        return trio.current_time() if trio.lowlevel.in_trio_run() else 0.0

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Run `call` at `when`, at the earliest in the next pass of the scheduler."""
        heapq.heappush(self._due, (when, next(self._order), call))
        if self._alarm is not None:
            self._alarm.deadline = min(self._alarm.deadline, when)
        if not self._running:
            trio.lowlevel.spawn_system_task(self._deliver, name="memory network deliveries")
            self._running = True

    async def _deliver(self) -> None:
        try:
            while self._due:
                with trio.CancelScope(deadline=self._due[0][0]) as self._alarm:
                    await trio.sleep(math.inf)
                self._alarm = None
                now = trio.current_time()
                while self._due and self._due[0][0] <= now:
                    heapq.heappop(self._due)[2]()
        finally:
            self._alarm = None
            self._running = False
            self._due.clear()
