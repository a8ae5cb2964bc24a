"""What the other workers have in flight, read from the board.

Decides which cells to look at and whether anything has changed since the last look; when to look is
for the pool to decide.
"""

from collections.abc import Iterable

from balancer.core.board import USED_AT, BoardRow

# Up to so many counts are read before every pick; where there are more, every 10 ms.
FRESH_MAX = 32


class Elsewhere:
    """All rows but one, at the cells of one pool."""

    def __init__(self, row: BoardRow) -> None:
        self._board = row.board
        self._header = row.board.header
        self._own = row.number
        self._cells = 0
        self._end = 0
        self._used = 0
        self._rows: list[memoryview] = []
        self._seen: list[bytes] = []
        self.start = 0

    def watch(self, cells: Iterable[int]) -> None:
        """Look at these cells from now on; the next look is news."""
        known = [cell for cell in cells if cell >= 0]
        self._cells = len(known)
        self.start, self._end = (min(known), max(known) + 1) if known else (0, 0)
        self._find_rows()

    def _find_rows(self) -> None:
        self._used = self._board.used
        others = [n for n in range(1, self._used) if n != self._own] if self._cells else []
        self._rows = [self._board.parts(n)[1][self.start : self._end] for n in others]
        self._seen = []

    @property
    def sees_any(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self._rows) or self._header[USED_AT] != self._used

    @property
    def is_large(self) -> bool:
        """Whether to look costs too much to do so before every pick."""
        return self._cells * len(self._rows) > FRESH_MAX

    def news(self) -> list[int] | None:
        """What is in flight elsewhere, by cell from `start` on; None when all is as last time."""
        if self._header[USED_AT] != self._used:
            self._find_rows()
        rows = self._rows
        if not rows:
            return None
        # Bytes compare in no time; most looks find nothing new.
        seen = [row.tobytes() for row in rows]
        if seen == self._seen:
            return None
        self._seen = seen
        if len(rows) == 1:
            return rows[0].tolist()
        return [sum(column) for column in zip(*(row.tolist() for row in rows), strict=True)]
