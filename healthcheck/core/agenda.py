"""Who is due when: the soonest first, and several together where that costs nobody anything.

Takes points in time and gives them back; whoever waits for them has the clock.
"""

import math
from heapq import heapify, heappop, heappush

# Entries that were dropped stay in the heap until it is worth sweeping them out.
DROPPED_MAX = 64


class Agenda:
    """Each target has at most one entry; a new one replaces it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, float]] = []
        self._current: dict[str, int] = {}
        self._entries = 0

    def put(self, target: str, due: float, early_s: float) -> None:
        """`target` is due at `due`, or up to `early_s` before where others are due anyway."""
        self._entries += 1
        self._current[target] = self._entries
        heappush(self._heap, (due, self._entries, target, early_s))
        if len(self._heap) > 2 * len(self._current) + DROPPED_MAX:
            self._heap = [entry for entry in self._heap if self._stands(entry)]
            heapify(self._heap)

    def drop(self, target: str) -> None:
        """`target` is not due any more; nothing happens where it was not."""
        self._current.pop(target, None)

    def next_due(self) -> float:
        """When the soonest is due; never (infinity) where nobody is."""
        self._clear_head()
        return self._heap[0][0] if self._heap else math.inf

    def take_due(self, now: float) -> list[str]:
        """Who is due now, the soonest first; they have no entry from here on."""
        found = []
        self._clear_head()
        while self._heap:
            due, _, target, early_s = self._heap[0]
            if due - early_s > now:
                break
            del self._current[target]
            found.append(target)
            self._clear_head()
        return found

    def _clear_head(self) -> None:
        while self._heap and not self._stands(self._heap[0]):
            heappop(self._heap)

    def _stands(self, entry: tuple[float, int, str, float]) -> bool:
        return self._current.get(entry[2]) == entry[1]
